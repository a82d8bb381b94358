"""What a worker makes of a task: rows and models, halves where memory runs out, and a row for every failure."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError
from ray.exceptions import OutOfMemoryError as RayOutOfMemoryError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from study.designs.values import from_json, with_values
from study.errors import DataUnavailable
from study.execution.task_run import TaskRun
from study.execution.tasks import PackTask, TaskSettings
from study.execution.workers import NodeLeft, SpentProcess, classify, train_here, work_off
from study.interface.run import Progress, Replicate
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun
from study.rows import Row, before_column, metric_column
from tests.synthetic import PROVENANCE, commit, rise_and_fall

NUM_MEMBERS = 5


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "study")))


def task_of(ledger: Ledger, replicates: list[Replicate], **changes: Any) -> PackTask:
    settings = TaskSettings(
        ledger_uri=ledger.store.uri, recipe=CONTRASTIVE.address, study_hash="hash", provenance=PROVENANCE
    )
    return PackTask(settings=settings, replicates=tuple(replicates), attempts=(1,) * len(replicates), **changes)


@pytest.fixture
def task(ledger: Ledger) -> PackTask:
    """Five replicates that nothing real trains."""
    config = with_values(ReplicateConfig(), {"data.name": "digits", "batch.eval": 40})
    return task_of(ledger, [CONTRASTIVE.replicate(config, seed, "data") for seed in range(NUM_MEMBERS)])


@pytest.fixture
def pack(digits: Dataset, digits_config: ReplicateConfig) -> list[Replicate]:
    """Four replicates that train for six steps."""
    return [CONTRASTIVE.replicate(digits_config, seed, digits.digest) for seed in range(4)]


def work_to_the_end(task: PackTask, train: Callable[[PackTask], Iterator[float]]) -> list[float]:
    """The shares of a task in which something fails."""
    shares: list[float] = []
    with pytest.raises(SpentProcess):
        shares.extend(work_off(task, train))
    assert all(share < 1.0 for share in shares), "the process would be used again"
    return shares


class Machine:
    """Trains invented packs of at most ``capacity`` members; notes the sizes that it was given."""

    def __init__(self, capacity: int, error: Exception | None = None) -> None:
        self.capacity = capacity
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.sizes: list[int] = []

    def train(self, task: PackTask) -> Iterator[float]:
        self.sizes.append(len(task.replicates))
        yield 0.5
        if len(task.replicates) > self.capacity:
            raise self.error
        commit(task, rise_and_fall)
        yield 1.0


def sizes(rows: list[Row]) -> Counter[tuple[int, int]]:
    return Counter((row["pack_size"], row["pack_planned"]) for row in rows)


class TestHalving:
    def test_a_pack_that_fits_is_trained_as_it_is(self, task: PackTask, ledger: Ledger) -> None:
        machine = Machine(NUM_MEMBERS)
        assert list(work_off(task, machine.train)) == [0.5, 1.0]
        assert machine.sizes == [NUM_MEMBERS]

    def test_a_pack_that_runs_out_of_memory_is_halved_until_its_parts_fit(self, task: PackTask, ledger: Ledger) -> None:
        machine = Machine(2)
        list(work_off(task, machine.train))
        assert machine.sizes == [5, 2, 3, 1, 2]
        rows = ledger.read("replicates").to_pylist()
        assert sizes(rows) == {(2, 5): 4, (1, 5): 1}
        assert {(row["outcome"], row["attempt"]) for row in rows} == {("ok", 1)}
        assert {row["key"] for row in rows} == {replicate.key for replicate in task.replicates}

    def test_a_replicate_that_does_not_fit_alone_is_an_attempt_out_of_memory_and_the_others_train(
        self, task: PackTask, ledger: Ledger
    ) -> None:
        heavy = task.replicates[3].key

        def train(part: PackTask) -> Iterator[float]:
            if heavy in {replicate.key for replicate in part.replicates}:
                raise MemoryError
            commit(part, rise_and_fall)
            yield 1.0

        work_to_the_end(task, train)
        rows = ledger.read("replicates").to_pylist()
        assert {row["key"]: row["outcome"] for row in rows} == {
            r.key: "out_of_memory" if r.key == heavy else "ok" for r in task.replicates
        }
        assert len(rows) == NUM_MEMBERS
        (failed,) = (row for row in rows if row["key"] == heavy)
        assert (failed["error"], failed["pack_size"], failed["pack_planned"]) == ("MemoryError", 1, NUM_MEMBERS)
        assert "Traceback" in (ledger.store.read(f"artifacts/{heavy}/error.txt") or b"").decode()

    def test_any_other_error_fails_the_whole_pack_and_halves_nothing(self, task: PackTask, ledger: Ledger) -> None:
        machine = Machine(2, RuntimeError("shapes do not match"))
        assert work_to_the_end(task, machine.train) == [0.5]
        assert machine.sizes == [NUM_MEMBERS]
        rows = ledger.read("replicates").to_pylist()
        assert {(row["outcome"], row["error"]) for row in rows} == {("failed", "RuntimeError: shapes do not match")}

    def test_an_error_in_one_half_leaves_the_other_alone(self, task: PackTask, ledger: Ledger) -> None:
        def train(part: PackTask) -> Iterator[float]:
            if len(part.replicates) == NUM_MEMBERS:
                raise MemoryError
            if len(part.replicates) == 2:
                raise RuntimeError("broken")
            commit(part, rise_and_fall)
            yield 1.0

        work_to_the_end(task, train)
        outcomes = Counter(row["outcome"] for row in ledger.read("replicates").to_pylist())
        assert outcomes == {"failed": 2, "ok": 3}

    def test_a_process_in_which_something_failed_says_that_it_is_spent_even_if_the_rest_went_well(
        self, task: PackTask
    ) -> None:
        def train(part: PackTask) -> Iterator[float]:
            if len(part.replicates) > 1 or part.replicates[0].seed == 0:
                raise MemoryError
            commit(part, rise_and_fall)
            yield 1.0

        with pytest.raises(SpentProcess):
            list(work_off(task, train))

    @pytest.mark.parametrize("capacity", range(1, NUM_MEMBERS + 1))
    def test_progress_never_ends_early_and_always_ends(self, capacity: int, task: PackTask) -> None:
        shares = list(work_off(task, Machine(capacity).train))
        assert shares[-1] == 1.0
        assert all(share < 1.0 for share in shares[:-1])

    def test_the_memory_of_a_pack_is_free_before_its_halves_train(self, task: PackTask) -> None:
        alive: list[int] = []

        class Tensors:
            """Stands for what a pack holds; counts itself."""

            def __init__(self) -> None:
                alive.append(1)

            def __del__(self) -> None:
                alive.pop()

        def train(part: PackTask) -> Iterator[float]:
            assert not alive, "the pack before is still in memory"
            held = Tensors()
            if len(part.replicates) > 1:
                raise MemoryError
            yield 1.0
            del held

        assert list(work_off(task, train))[-1] == 1.0


class TestRealPacks:
    @pytest.fixture
    def small_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory for packs of two, which larger ones exceed amid their training; every step leaves a checkpoint."""
        monkeypatch.setenv("STUDY_CHECKPOINT_SECONDS", "0")
        advance = PackRun.advance

        def advance_in_little_memory(run: PackRun) -> Progress:
            if len(run._members) > 2 and run._step >= 2:
                raise torch.OutOfMemoryError("out of memory")
            return advance(run)

        monkeypatch.setattr(PackRun, "advance", advance_in_little_memory)

    def test_halves_go_on_from_the_checkpoints_of_their_pack_and_give_its_numbers(
        self, pack: list[Replicate], tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        whole = Ledger(Store(str(tmp_path / "whole")))
        list(work_off(task_of(whole, pack), train_here))
        request.getfixturevalue("small_machine")
        steps: list[int] = []

        def train(part: PackTask) -> Iterator[float]:
            shares = train_here(part)
            first = next(shares)
            steps.append(round(6 * first))
            yield first
            yield from shares

        halved = Ledger(Store(str(tmp_path / "halved")))
        list(work_off(task_of(halved, pack), train))
        assert steps == [1, 3, 3], "halves begin after the second step"
        expected, found = (ledger.settled() for ledger in (whole, halved))
        assert expected.keys() == found.keys()
        assert sizes(list(found.values())) == {(2, 4): 4}
        for key, row in found.items():
            assert (row["outcome"], row["attempt"], row["steps"]) == ("ok", 1, 6)
            for name in (*map(metric_column, ("p", "s_j", "mean_cosine", "train_loss")), before_column("p")):
                assert row[name] == pytest.approx(expected[key][name], abs=1e-5), name
        assert {path.rsplit("/", 1)[1] for path in halved.store.sizes("artifacts")} <= {"model.pt"}

    def test_the_reused_actor_trains_the_halves_of_one_pack_and_then_the_next_pack(
        self, pack: list[Replicate], ledger: Ledger, small_machine: None
    ) -> None:
        from study.execution.on_ray import PackTrainable

        trainable = PackTrainable({"task": task_of(ledger, pack).to_dict()})
        for again in (True, False):
            done = False
            while not done:
                result = trainable.step()
                done = result["done"]
            assert result["fraction"] == 1.0
            if again:
                retried = task_of(ledger, pack[:2]).to_dict() | {"attempts": [2, 2]}
                assert trainable.reset_config({"task": retried})
        rows = ledger.read("replicates").to_pylist()
        assert sizes(rows) == {(2, 4): 4, (2, 2): 2}
        assert {row["outcome"] for row in rows} == {"ok"}

    def test_models_of_reported_members_are_kept_and_make_the_member_anew(
        self, pack: list[Replicate], ledger: Ledger, digits: Dataset
    ) -> None:
        task = task_of(ledger, pack, keep_models=(False, True, False, True))
        list(work_off(task, train_here))
        kept = [f"artifacts/{pack[index].key}/model.pt" for index in (1, 3)]
        assert sorted(ledger.store.sizes("artifacts")) == sorted(kept)
        data = ledger.store.read(kept[0])
        assert data is not None
        model = torch.load(io.BytesIO(data), weights_only=True)
        assert from_json(ReplicateConfig, model["config"]) == pack[1].config
        run = PackRun([pack[1]], digits)
        for p, values in zip(run.model.parameters(), model["parameters"], strict=True):
            p.data.copy_(values.view_as(p))
        for buffer, values in zip(run.model.buffers(), model["buffers"], strict=True):
            buffer.copy_(values)
        run._evaluate()
        found = {point.metric: point.value for point in run._members[0].curves}
        row = ledger.settled()[pack[1].key]
        assert found["p"] == pytest.approx(row[metric_column("p")], abs=1e-5)
        assert row[metric_column("p")] != pytest.approx(row[before_column("p")], abs=1e-4)

    def test_a_diverged_replicate_says_since_which_step(self, pack: list[Replicate], ledger: Ledger) -> None:
        wild = with_values(pack[0].config, {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30})
        list(work_off(task_of(ledger, [CONTRASTIVE.replicate(wild, 0, pack[0].data_digest)]), train_here))
        (row,) = ledger.read("replicates").to_pylist()
        assert row["outcome"] == "diverged"
        assert "not finite" in row["error"]

    def test_a_replicate_that_ends_well_has_no_error(self, pack: list[Replicate], ledger: Ledger) -> None:
        list(work_off(task_of(ledger, pack[:1]), train_here))
        (row,) = ledger.read("replicates").to_pylist()
        assert (row["outcome"], row["error"]) == ("ok", None)


class GroupError(Exception):
    """Stands for Ray Train's error of a group of workers."""

    def __init__(self, **worker_failures: Exception) -> None:
        super().__init__("Training failed due to worker errors")
        self.worker_failures = worker_failures


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), Outcome.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), Outcome.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Outcome.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), Outcome.OUT_OF_MEMORY),
        (RayOutOfMemoryError("Task was killed due to the node running low on memory"), Outcome.ENVIRONMENT),
        (RayTaskError("f", "trace", MemoryError("x")).as_instanceof_cause(), Outcome.OUT_OF_MEMORY),
        (RayTaskError("f", "trace", ValueError("no")).as_instanceof_cause(), Outcome.FAILED),
        (RayTaskError("f", "trace", FileNotFoundError("x")).as_instanceof_cause(), Outcome.ENVIRONMENT),
        (ActorDiedError(), Outcome.ENVIRONMENT),
        (GroupError(a=ValueError("no"), b=ActorDiedError()), Outcome.ENVIRONMENT),
        (WorkerGroupError("x", {0: WorkerHealthCheckFailedError("x", ActorDiedError())}), Outcome.ENVIRONMENT),
        (WorkerGroupError("x", {0: ValueError("no"), 1: RuntimeError("NCCL error")}), Outcome.FAILED),
        (ControllerError(RuntimeError("no workers")), Outcome.ENVIRONMENT),
        (GroupError(a=ValueError("no"), b=RuntimeError("[gloo] Connection closed by peer")), Outcome.FAILED),
        (GroupError(a=OSError("no data"), b=RuntimeError("[gloo] Connection closed by peer")), Outcome.ENVIRONMENT),
        (NodeLeft("gone"), Outcome.INTERRUPTED),
        (DataUnavailable("no data on this node", "fetch them"), Outcome.ENVIRONMENT),
        (OSError(28, "No space left on device"), Outcome.ENVIRONMENT),
        (ModuleNotFoundError("no module of that name on this node"), Outcome.ENVIRONMENT),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), Outcome.ENVIRONMENT),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp"), Outcome.ENVIRONMENT),
        (GroupError(a=RuntimeError("connection reset"), b=torch.OutOfMemoryError("x")), Outcome.OUT_OF_MEMORY),
        (GroupError(a=RuntimeError("shapes do not match")), Outcome.FAILED),
        (ValueError("no"), Outcome.FAILED),
    ],
)
def test_errors_are_told_apart(error: Exception, outcome: Outcome) -> None:
    assert classify(error) is outcome


def test_a_failing_run_becomes_a_row_and_not_an_exception(
    ledger: Ledger, pack: list[Replicate], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: TaskRun) -> Progress:
        raise RuntimeError("a kernel failed\nand said more")

    monkeypatch.setattr(TaskRun, "advance", fail)
    assert work_to_the_end(task_of(ledger, pack), train_here) == []
    rows = ledger.read("replicates").to_pylist()
    assert {row["error"] for row in rows} == {"RuntimeError: a kernel failed"}
    assert json.loads(rows[0]["config"])["data.name"] == "digits"
