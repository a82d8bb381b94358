"""A storage of its own for every test of a command, and a sweep without Ray."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from study.execution.queue import SweepState
from study.execution.tasks import PackTask
from study.ledger.ledger import Ledger
from tests.synthetic import ResultOf, commit


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("STUDY_STORAGE", str(tmp_path / "default"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage inside a folder that is in use."""
    (tmp_path / "kept").write_text("x")
    return tmp_path / "storage"


@pytest.fixture
def num_syncs() -> list[int]:
    """A one for every time that MLflow was brought up to date, under ``no_ray``."""
    return []


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, num_syncs: list[int]) -> Callable[[ResultOf], None]:
    """Replaces Ray by a loop that invents each pack's results, and MLflow by nothing."""
    from study.execution import on_ray as executors
    from study.execution import ray_start
    from study.tracking import live_view

    class NoTracker:
        def __init__(self, uri: str) -> None:
            pass

        def sync(self, ledger: Ledger, study_hash: str) -> None:
            num_syncs.append(1)

    def use(result_of: ResultOf) -> None:
        def run_packs(
            state: SweepState, width: int, on_event: Callable[[], None], on_pack_end: Callable[[], None]
        ) -> None:
            while (task := state.next_task(is_idle=True)) is not None:
                try:
                    for part in task.halves() if is_halved(task) else [task]:
                        commit(part, result_of)
                    state.note_complete(task)
                except OSError as error:
                    state.lose_storage(error)
                on_event()
                on_pack_end()

        def is_halved(task: PackTask) -> bool:
            return len(task.replicates) == 5 and task.config.batch.train == 16

        monkeypatch.setattr(executors, "run_packs", run_packs)
        monkeypatch.setattr(ray_start, "start_ray", lambda address, needs_dashboard, niceness: None)
        monkeypatch.setattr(ray_start, "stop_ray", lambda: None)
        monkeypatch.setattr(executors, "plan_room", lambda state, asked, share, shape, is_local: 1)
        monkeypatch.setattr(live_view, "Tracker", NoTracker)

    return use
