"""Nested training on several workers, and sweeps that lose a worker or are interrupted."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from study.config import Replicate, ReplicateConfig, with_values
from study.outcome import FINAL_OUTCOMES, Outcome
from study.provenance import collect
from study.results.ledger import Ledger, Row
from study.tasks import PackTask, TaskSettings, attempt_row
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
        study_hash="unused",
        data_root=None,
        executor="train",
        workers_per_trial=workers,
        threads=1,
        use_gpu=False,
        provenance=collect(),
    )
    replicate = Replicate.of(with_values(ReplicateConfig(), {"batch.train": images}), 1, "digest")
    task = PackTask(settings=settings, replicates=(replicate,), attempts=(1,))
    assert task.num_workers == expected
    row = attempt_row(task, replicate, 1, Outcome.OK, datetime.now(UTC))
    assert (row["workers_asked"], row["workers"]) == (workers, expected)


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
        before = [name for name, value in row.items() if name.endswith("_before") and value is not None]
        assert "p_before" in before
        assert {name: row[name] for name in before} == {name: alone[key][name] for name in before}
        after = ("p", "s_j", "pair_auc", "mean_cosine", "train_loss")
        assert [row[name] for name in after] == pytest.approx([alone[key][name] for name in after], abs=1e-5)
    curves = [_curves(tmp_path / name) for name in ("train", "inline")]
    assert curves[0].keys() == curves[1].keys()
    assert [curves[0][at] for at in curves[1]] == pytest.approx(list(curves[1].values()), abs=1e-5)


def _curves(storage: Path) -> dict[tuple[str, str, int], float]:
    points = Ledger.open(str(storage), "tiny").read("curves").to_pylist()
    return {(point["key"], point["metric"], point["examples"]): point["value"] for point in points}


@pytest.mark.slow
def test_a_killed_worker_is_a_recorded_failure_and_the_same_command_finishes(project: Path, tmp_path: Path) -> None:
    arguments = (*_LONG, "--storage", str(tmp_path))
    sweep = start_sweep(project, *arguments, STUDY_CHECKPOINT_SECONDS="0")
    try:
        worker = _wait_for_worker(sweep.pid, tmp_path)
        worker.kill()
        output, _ = sweep.communicate(timeout=_TIMEOUT)
    finally:
        _end(sweep.pid)
    assert sweep.returncode == 3, output
    assert "the same command tries failed replicates again" in output
    first = rows(tmp_path, "tiny")
    lost = {row["key"] for row in first if row["outcome"] in (Outcome.FAILED, Outcome.INTERRUPTED)}
    assert 0 < len(lost) < NUM_KEYS
    code, output = run_sweep(project, *arguments, timeout=_TIMEOUT)
    assert code == 0, output
    second = rows(tmp_path, "tiny")
    assert {row["key"] for row in second if row["attempt"] == 2} == lost
    _assert_settled_once(second)


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
    assert "the same command goes on from here" in output
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


def _wait_for_worker(pid: int, storage: Path) -> psutil.Process:
    """The process that trains, once it is in the middle of a pack."""
    _wait_for(lambda: list(storage.glob("tiny/artifacts/*/checkpoint.pt")), "checkpoint")
    found = [p for p in psutil.Process(pid).children(recursive=True) if "Trainable.train" in " ".join(p.cmdline())]
    assert len(found) == 1, found
    return found[0]


def _end(pid: int) -> None:
    """Leave nothing of a sweep behind, whatever happened to the test."""
    if not psutil.pid_exists(pid):
        return
    process = psutil.Process(pid)
    for one in (*process.children(recursive=True), process):
        one.kill()
