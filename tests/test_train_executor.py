"""Nested training on several workers, what packs ask of a machine, and sweeps that lose a worker or are interrupted."""

import dataclasses
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from study.designs.values import with_values
from study.errors import ConfigError
from study.execution import on_ray as executors
from study.execution.queue import SweepState
from study.execution.tasks import PackTask, TaskSettings, attempt_row
from study.ledger.ledger import Ledger
from study.ledger.provenance import collect
from study.ledger.store import Store
from study.outcome import FINAL_OUTCOMES, Outcome
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.rows import BEFORE, Row, before_column, metric_column
from tests.synthetic import commit, known_design, open_state, rise_and_fall
from tests.tiny_project import NUM_KEYS, copy_project, rows, run_sweep, start_sweep

_TIMEOUT = 360.0
# Enough steps that a signal lands in the middle of a pack.
_LONG = ("tiny", "--set", "horizon.length=2000", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("images", "workers", "expected"), [(64, 2, 2), (64, 3, 2), (12, 8, 6), (7, 4, 1), (7, 8, 7), (4, 8, 4)]
)
def test_a_batch_that_workers_cannot_share_evenly_runs_on_fewer_and_the_row_says_so(
    images: int, workers: int, expected: int
) -> None:
    settings = TaskSettings(
        ledger_uri="unused",
        recipe=CONTRASTIVE.address,
        study_hash="unused",
        data_root=None,
        executor="train",
        workers_per_trial=workers,
        threads=1,
        use_gpu=False,
        provenance=collect(),
    )
    replicate = CONTRASTIVE.replicate(with_values(ReplicateConfig(), {"batch.train": images}), 1, "digest")
    task = PackTask(settings=settings, replicates=(replicate,), attempts=(1,))
    assert task.num_workers == expected
    row = attempt_row(task, replicate, 1, Outcome.OK, datetime.now(UTC))
    assert (row["workers_asked"], row["workers"]) == (workers, expected)


class TestRoom:
    """How many packs run at a time, with what; no GPU is needed to decide it."""

    @pytest.fixture
    def state(self, tmp_path: Path) -> SweepState:
        return open_state(Ledger(Store(str(tmp_path))), known_design())

    def room(
        self,
        state: SweepState,
        monkeypatch: pytest.MonkeyPatch,
        resources: dict[str, float],
        *,
        asked: int | None = None,
        share: float | None = None,
        is_local: bool = True,
        gpu_bytes: float = 16 * 2**30,
        **settings: Any,
    ) -> int:
        monkeypatch.setattr(executors.ray, "cluster_resources", lambda: resources)
        monkeypatch.setattr(executors, "gpu_memory", lambda: gpu_bytes)
        state.settings = dataclasses.replace(state.settings, **settings)
        images = SimpleNamespace(input_shape=(1, 8, 8))
        return executors.plan_room(state, asked, share, lambda config: images, is_local=is_local)

    def test_packs_without_a_gpu_share_the_free_memory_of_the_machine(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(executors, "available_memory", lambda: 16 * 2**30)
        assert self.room(state, monkeypatch, {"CPU": 4}) == 4
        a_quarter = state.limits.memory_bytes
        assert self.room(state, monkeypatch, {"CPU": 4}, asked=1) == 1
        assert 4 * a_quarter < state.limits.memory_bytes < 16 * 2**30
        task = state.next_task(is_idle=True)
        assert task is not None
        assert (task.gpus_per_worker, task.memory_bytes) == (0, state.limits.memory_bytes)

    def test_a_cluster_says_itself_how_much_memory_a_cpu_has(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resources = {"CPU": 8, "memory": 32 * 2**30}
        assert self.room(state, monkeypatch, resources, is_local=False) == 8
        assert 2 * 2**30 < state.limits.memory_bytes < 4 * 2**30
        self.room(state, monkeypatch, {"CPU": 0}, is_local=False)
        assert math.isinf(state.limits.memory_bytes)

    def test_small_packs_share_a_gpu_and_as_many_run_as_fit_on_it(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.room(state, monkeypatch, {"CPU": 16, "GPU": 1}, use_gpu=True) == 8
        task = state.next_task(is_idle=True)
        assert task is not None
        assert task.gpus_per_worker == 1 / 8

    def test_packs_of_a_small_gpu_get_larger_shares(self, state: SweepState, monkeypatch: pytest.MonkeyPatch) -> None:
        resources = {"CPU": 16, "GPU": 2}
        widths = [self.room(state, monkeypatch, resources, use_gpu=True, gpu_bytes=g * 2**30) for g in (16, 4, 1)]
        assert widths == [16, 8, 2]

    def test_a_share_that_was_asked_for_is_taken(self, state: SweepState, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.room(state, monkeypatch, {"CPU": 16, "GPU": 1}, use_gpu=True, share=0.5) == 2
        assert state.limits.gpu_share == 0.5

    def test_nested_packs_each_ask_for_their_own_share(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.room(state, monkeypatch, {"CPU": 16, "GPU": 1}, use_gpu=True, executor="train")
        assert state.limits.gpu_share is None
        task = state.next_task(is_idle=True)
        assert task is not None
        assert task.gpu_share == 1 / 8

    def test_workers_that_share_batches_get_whole_gpus(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resources = {"CPU": 16, "GPU": 4}
        width = self.room(state, monkeypatch, resources, use_gpu=True, executor="train", workers_per_trial=2)
        assert width == 2

    def test_more_workers_than_cpus_are_refused_with_a_sentence(
        self, state: SweepState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ConfigError, match="needs 4 CPUs and this machine has 2"):
            self.room(state, monkeypatch, {"CPU": 2}, executor="train", workers_per_trial=4)


def test_progress_is_told_at_every_report_and_the_end_of_a_pack_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_live_nodes", lambda: {"here"})
    state = open_state(Ledger(Store(str(tmp_path))), known_design())
    heard: list[str] = []
    searcher = executors.PackSearcher(state, lambda: heard.append("event"), lambda: heard.append("end"))
    assert searcher.suggest("a") is not None
    (task,) = state.running
    for fraction in (0.1, 0.5):
        searcher.on_trial_result("a", {"fraction": fraction})
    assert "end" not in heard
    commit(task, rise_and_fall)
    searcher.on_trial_complete("a", {"fraction": 1.0})
    assert heard == ["event"] * 4 + ["end"]
    assert state.running == []


@pytest.mark.parametrize(
    ("said", "left", "outcome"),
    [
        (None, {"b"}, "interrupted"),
        ("b", {"b"}, "interrupted"),
        ("a", {"b"}, "environment"),
        (None, set(), "environment"),
        ("a", set(), "environment"),
    ],
)
def test_a_dead_pack_is_lost_with_its_node_or_killed_on_one_that_stayed(
    said: str | None, left: set[str], outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the node's id, which a pack says with its first step; before that, any node that left may have held it."""
    nodes = {"a", "b"}
    monkeypatch.setattr(executors, "_live_nodes", lambda: frozenset(nodes))
    state = open_state(Ledger(Store(str(tmp_path))), known_design())
    searcher = executors.PackSearcher(state, lambda: None, lambda: None)
    searcher.suggest("pack")
    (task,) = state.running
    if said is not None:
        searcher.on_trial_result("pack", {"fraction": 0.0, "node": said})
    nodes -= left
    searcher.on_trial_complete("pack", error=True)
    rows = state.ledger.read("replicates").to_pylist()
    assert {row["outcome"] for row in rows} == {outcome}
    assert len(rows) == len(task.replicates)


def test_a_ledger_that_can_no_longer_be_written_stops_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_live_nodes", lambda: {"here"})
    state = open_state(Ledger(Store(str(tmp_path))), known_design())
    searcher = executors.PackSearcher(state, lambda: None, lambda: None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    searcher.suggest("pack")
    monkeypatch.setattr(Store, "write", full)
    searcher.on_trial_complete("pack", error=True)
    assert state.is_storage_lost
    assert "cannot be used any more ([Errno 28] No space left on device)" in state.trouble
    assert searcher.suggest("next") == executors.Searcher.FINISHED


_MEMORY_FOR_ONE = """
        if len(pack) > 1:
            raise torch.OutOfMemoryError("injected: memory for one")
"""


@pytest.mark.slow
def test_a_pack_that_does_not_fit_into_its_workers_is_trained_in_halves(tmp_path: Path) -> None:
    """One rank runs out of memory, the other waits for it: Ray Train ends both, and the halves get new workers."""
    project = copy_project(tmp_path / "project")
    loop = project / "study" / "recipes" / "contrastive" / "trainers" / "loop.py"
    mark = "        context = RunContext() if context is None else context\n"
    assert mark in loop.read_text()
    loop.write_text(loop.read_text().replace(mark, _MEMORY_FOR_ONE + mark))
    code, output = run_sweep(
        project, "tiny", "--workers-per-trial", "2", "--storage", str(tmp_path / "storage"), timeout=_TIMEOUT
    )
    assert code == 0, output
    assert output.count("a pack of 2 ran out of memory and was halved: trained as 1 + 1") == 2
    found = rows(tmp_path / "storage", "tiny")
    assert len(found) == NUM_KEYS
    assert {(row["outcome"], row["attempt"], row["pack_size"], row["pack_planned"]) for row in found} == {
        ("ok", 1, 1, 2)
    }


@pytest.mark.slow
def test_nested_training_on_two_workers_gives_the_numbers_of_one_process(project: Path, tmp_path: Path) -> None:
    """After four steps rounding has not grown yet: every number must agree, not only those before training."""
    code, output = run_sweep(
        project, "tiny", "--workers-per-trial", "2", "--storage", str(tmp_path / "train"), timeout=_TIMEOUT
    )
    assert code == 0, output
    code, output = run_sweep(project, "tiny", "--storage", str(tmp_path / "inline"), timeout=_TIMEOUT)
    assert code == 0, output
    nested = {row["key"]: row for row in rows(tmp_path / "train", "tiny")}
    alone = {row["key"]: row for row in rows(tmp_path / "inline", "tiny")}
    assert len(nested) == NUM_KEYS
    assert nested.keys() == alone.keys()
    for key, row in nested.items():
        assert (row["workers"], row["executor"], row["outcome"]) == (2, "train", "ok")
        assert (alone[key]["workers"], alone[key]["executor"]) == (1, "inline")
        before = [name for name, value in row.items() if name.startswith(BEFORE) and value is not None]
        assert before_column("p") in before
        assert {name: row[name] for name in before} == {name: alone[key][name] for name in before}
        after = [*map(metric_column, ("p", "s_j", "pair_auc", "mean_cosine", "train_loss"))]
        assert [row[name] for name in after] == pytest.approx([alone[key][name] for name in after], abs=1e-5)
    curves = [_curves(tmp_path / name) for name in ("train", "inline")]
    assert curves[0].keys() == curves[1].keys()
    assert [curves[0][at] for at in curves[1]] == pytest.approx(list(curves[1].values()), abs=1e-5)


def _curves(storage: Path) -> dict[tuple[str, str, int], float]:
    points = Ledger.open(str(storage), "tiny").read("curves").to_pylist()
    return {(point["key"], point["metric"], point["examples"]): point["value"] for point in points}


@pytest.mark.slow
def test_a_killed_worker_costs_its_pack_no_attempt_of_its_own_and_the_sweep_goes_on(
    project: Path, tmp_path: Path
) -> None:
    sweep = start_sweep(project, *_LONG, "--storage", str(tmp_path), STUDY_CHECKPOINT_SECONDS="0")
    try:
        worker = _wait_for_worker(sweep.pid, tmp_path)
        worker.kill()
        output, _ = sweep.communicate(timeout=_TIMEOUT)
    finally:
        _end(sweep.pid)
    assert sweep.returncode == 0, output
    found = rows(tmp_path, "tiny")
    lost = {row["key"] for row in found if row["outcome"] == Outcome.ENVIRONMENT}
    assert 0 < len(lost) < NUM_KEYS
    assert {(row["attempt"], row["pack_size"]) for row in found if row["key"] in lost} == {(1, 2), (2, 1)}
    _assert_settled_once(found)


@pytest.mark.slow
def test_a_killed_nested_worker_is_started_again_and_the_pack_goes_on(project: Path, tmp_path: Path) -> None:
    arguments = (*_LONG, "--executor", "train", "--storage", str(tmp_path))
    sweep = start_sweep(project, *arguments, STUDY_CHECKPOINT_SECONDS="0")
    try:
        worker = _wait_for_worker(sweep.pid, tmp_path, "RayTrainWorker")
        worker.kill()
        output, _ = sweep.communicate(timeout=_TIMEOUT)
    finally:
        _end(sweep.pid)
    assert sweep.returncode == 0, output
    found = rows(tmp_path, "tiny")
    assert {(row["outcome"], row["attempt"]) for row in found} == {("ok", 1)}
    _assert_settled_once(found)


@pytest.mark.slow
def test_an_interrupted_sweep_says_130_and_the_same_command_runs_only_what_is_missing(
    project: Path, tmp_path: Path
) -> None:
    arguments = (*_LONG, "--storage", str(tmp_path))
    sweep = start_sweep(project, *arguments, STUDY_CHECKPOINT_SECONDS="0")
    try:
        _wait_for(lambda: rows(tmp_path, "tiny"), "a finished pack")
        _wait_for_worker(sweep.pid, tmp_path)
        # The whole group, as Ctrl-C does in a terminal.
        os.killpg(sweep.pid, signal.SIGINT)
        output, _ = sweep.communicate(timeout=60)
    finally:
        _end(sweep.pid)
    assert sweep.returncode == 130, output
    assert "to go on from here:\npython -m study.sweep tiny --set horizon.length=2000" in output
    interrupted = [row["error"] for row in rows(tmp_path, "tiny") if row["outcome"] == Outcome.INTERRUPTED]
    assert set(interrupted) == {"the sweep was stopped"}
    finished = {row["key"] for row in rows(tmp_path, "tiny") if Outcome(row["outcome"]) in FINAL_OUTCOMES}
    assert 0 < len(finished) < NUM_KEYS
    code, output = run_sweep(project, *arguments, timeout=_TIMEOUT)
    assert code == 0, output
    after = rows(tmp_path, "tiny")
    assert all(count == 1 for key, count in Counter(row["key"] for row in after).items() if key in finished)
    _assert_settled_once(after)


def _assert_settled_once(attempts: Iterable[Row]) -> None:
    findings = Counter(row["key"] for row in attempts if Outcome(row["outcome"]) in FINAL_OUTCOMES)
    assert len(findings) == NUM_KEYS
    assert set(findings.values()) == {1}


def _wait_for(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {what} after {seconds:.0f} s")


def _wait_for_worker(pid: int, storage: Path, name: str = "Trainable.train") -> psutil.Process:
    """The process that trains, once it is in the middle of a pack."""
    _wait_for(lambda: list(storage.glob("tiny/artifacts/*/checkpoint.pt")), "checkpoint")
    found = [p for p in psutil.Process(pid).children(recursive=True) if name in " ".join(p.cmdline())]
    assert len(found) == 1, found
    return found[0]


def _end(pid: int) -> None:
    """Leave nothing of a sweep behind, whatever happened to the test."""
    if not psutil.pid_exists(pid):
        return
    process = psutil.Process(pid)
    for one in (*process.children(recursive=True), process):
        one.kill()
