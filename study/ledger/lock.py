"""One driver at a time for a design, and for whatever else two processes may not do at once."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from study.errors import ConfigError, first_line
from study.ledger.store import Store


@contextlib.contextmanager
def only_driver(store: Store, study_hash: str) -> Iterator[str]:
    """Hold a design of a ledger on a disk; the lock goes with the process, however that ends.

    Yields what there is to say: empty, or that nobody stands guard where a file system has no locks. Object stores
    never have any. Raises :class:`ConfigError` that names who holds it.
    """
    folder = store.local_path
    if folder is None:
        yield ""
        return
    path = folder / "locks" / study_hash
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.open("a+")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({first_line(error)}): whose ledger is it?") from error
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"this study is already being run {_holder(file.read())}: wait for its end, or stop it, and run the "
                "same command again"
            ) from None
        except OSError as error:
            # Some network file systems are mounted without them.
            yield f"this storage has no locks ({first_line(error)}): do not run the same study twice at once"
            return
        file.truncate(0)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
        file.write(json.dumps(holder))
        file.flush()
        yield ""


def _holder(text: str) -> str:
    try:
        holder: dict[str, Any] = json.loads(text)
        return f"by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, TypeError, KeyError):
        # It writes its name just after it took the lock.
        return "by another process"


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
