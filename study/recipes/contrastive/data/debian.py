"""A package of Debian's or Ubuntu's archive, unpacked without being installed: no root, no package lists needed."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# The system's sources, keys and proxies hold; only what apt-get writes, and what it would run afterwards, is replaced.
_CONFIG = """
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Timeout "15";
Acquire::https::Timeout "15";
"""
# Until the first byte of the archive arrives; until all of a command is done.
_FIRST_BYTE_SECONDS = 4.0
_WHOLE_SECONDS = 900.0
_POLL_SECONDS = 0.05


class PackageUnavailable(Exception):
    """A package could not be had: the message says why."""


@contextlib.contextmanager
def unpack_package(name: str, on_answer: Callable[[], None]) -> Iterator[Path]:
    """The files of a package under a temporary root; ``on_answer`` is called before its download.

    Raises :class:`PackageUnavailable`.
    """
    missing = [command for command in ("apt-get", "dpkg-deb") if shutil.which(command) is None]
    if missing:
        raise PackageUnavailable(f"there is no {missing[0]} on this machine")
    with tempfile.TemporaryDirectory(prefix="limit-study-apt-") as temporary:
        scratch = Path(temporary)
        for folder in ("state", "lists/partial", "cache/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        (scratch / "apt.conf").write_text(_CONFIG)
        # Some of the machine's sources may be out of reach while that of the package is not: its download tells.
        trouble = _apt(scratch, "update")
        if not _has_bytes(scratch / "lists"):
            raise PackageUnavailable(f"no package archive answers: {trouble or _complaint(scratch)}")
        on_answer()
        if trouble := _apt(scratch, "download", name):
            raise PackageUnavailable(trouble)
        package = next(scratch.glob("*.deb"), None)
        if package is None:
            raise PackageUnavailable(f"apt-get left no package {name}")
        if trouble := _run(["dpkg-deb", "--extract", package.name, "root"], scratch):
            raise PackageUnavailable(trouble)
        yield scratch / "root"


def _apt(scratch: Path, *arguments: str) -> str:
    places = {
        "Dir::State": scratch / "state",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch / "cache",
        # Where we are root, apt-get would hand over to a user who may not write here.
        "APT::Sandbox::User": "",
    }
    options = [f"--option={name}={value}" for name, value in places.items()]
    return _run(["apt-get", "--quiet", "--config-file=apt.conf", *options, *arguments], scratch)


def _run(command: Sequence[str], scratch: Path) -> str:
    """Run a command in ``scratch`` and say what went wrong, if anything; what it writes goes to ``log``.

    It is ended where the archive is silent.
    """
    started = time.monotonic()
    has_answer = False
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                seconds = time.monotonic() - started
                has_answer = has_answer or _has_bytes(scratch / "lists")
                if seconds > _FIRST_BYTE_SECONDS and not has_answer:
                    return f"nothing in {_FIRST_BYTE_SECONDS:g} s"
                if seconds > _WHOLE_SECONDS:
                    return f"{command[0]} was not complete after {_WHOLE_SECONDS:g} s"
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                # With the helpers that talk to the network.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not process.returncode:
        return ""
    return _complaint(scratch) or f"{command[0]} ended with exit code {process.returncode}"


def _has_bytes(lists: Path) -> bool:
    """Whether anything of a package list has arrived; apt-get moves its files while we look."""
    for path in lists.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_size > 0:
                return True
    return False


def _complaint(scratch: Path) -> str:
    """The first error, else the first warning, that the last command wrote."""
    lines = (scratch / "log").read_text(errors="replace").splitlines()
    return next((line[3:].strip() for mark in ("E: ", "W: ") for line in lines if line.startswith(mark)), "")
