"""The same design twice at once: the second command is refused, and a lock dies with whoever held it."""

import errno
import multiprocessing
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from study.errors import ConfigError
from study.ledger.lock import only_driver, waiting_lock
from study.ledger.store import Store
from tests.synthetic import object_store_uri


def _hold(folder: str, design: str, is_held: "multiprocessing.synchronize.Event") -> None:
    with only_driver(Store(folder), design):
        is_held.set()
        time.sleep(60)


def _start_holder(folder: Path, design: str = "hash") -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    holder = context.Process(target=_hold, args=(str(folder), design, is_held), daemon=True)
    holder.start()
    assert is_held.wait(60)
    return holder


def test_the_second_driver_is_refused_by_name_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    holder = _start_holder(tmp_path)
    with pytest.raises(ConfigError) as caught, only_driver(Store(str(tmp_path)), "hash"):
        pass
    sentence = str(caught.value)
    assert f"by process {holder.pid} on {socket.gethostname()} since 20" in sentence
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d", sentence)
    assert "\n" not in sentence
    with only_driver(Store(str(tmp_path)), "another design"):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with only_driver(Store(str(tmp_path)), "hash"):
        pass


def test_a_lock_is_free_after_its_block_and_after_an_error_in_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(RuntimeError, match="inside"), only_driver(store, "hash"):
        raise RuntimeError("inside")
    with only_driver(store, "hash"):
        pass


def test_a_storage_without_locks_is_used_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with only_driver(Store(str(tmp_path)), "hash") as warning:
        assert "has no locks" in warning


def test_an_object_store_has_no_locks_and_is_not_asked_for_one() -> None:
    store = Store(object_store_uri())
    with only_driver(store, "hash"), only_driver(store, "hash"):
        pass
    assert store.names("locks", "") == []


def _append(path: str, folder: str) -> None:
    with waiting_lock(Path(path)):
        file = Path(folder, "count")
        number = int(file.read_text()) if file.exists() else 0
        time.sleep(0.02)
        file.write_text(str(number + 1))


def test_a_waiting_lock_lets_one_after_the_other_in(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "new" / "lock"), str(tmp_path))
    others = [context.Process(target=_append, args=arguments) for _ in range(6)]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert (tmp_path / "count").read_text() == "6"
