"""Temporary folders that a killed process leaves behind, and that the next one removes."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from study.designs.values import digest

_NAME = re.compile(r"limit-study-\w+-(\d+)-(\d+)-\w+")


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder that lives as long as the block.

    Its name says whose it is: the processes that can be seen from here, id and start time.
    """
    pid = os.getpid()
    prefix = f"limit-study-{_processes_seen()}-{pid}-{_started_at(pid)}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_abandoned(parent: Path | None = None) -> list[Path]:
    """Remove the scratch folders of processes that are gone; returns them.

    Those of other machines and containers that share the temporary folder stay: who lives there is not known here.
    """
    removed = []
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"limit-study-{_processes_seen()}-*"):
        owner = _NAME.fullmatch(folder.name)
        if owner and int(owner[2]) != _started_at(int(owner[1])):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _processes_seen() -> str:
    """A name for the set of processes of which this one sees the numbers: of a machine since its start, or a container.

    Where there is no /proc nothing is ever removed.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return digest([boot, Path("/proc/self/ns/pid").stat().st_ino], length=8)
    except OSError:
        return "elsewhere"


def _started_at(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine's start: a number may be given to another one later."""
    try:
        # The name of the program, in parentheses, may hold anything; what follows is fields from the third on.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
