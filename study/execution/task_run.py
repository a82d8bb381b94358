"""One worker's run of a task, from its data to the rows of the ledger.

The worker that trained a pack writes its rows itself, so that a result does not wait for the driver to live.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from typing import Any

from study.errors import ConfigError
from study.execution.gpu import gpu_name, require_gpu
from study.execution.tasks import PackTask, attempt_row
from study.interface.recipe import find_recipe
from study.interface.run import Context, Data, Progress, Result
from study.ledger.artifacts import Artifacts
from study.ledger.ledger import Ledger
from study.ledger.provenance import cpu_model
from study.ledger.store import Store
from study.outcome import MEASURED_OUTCOMES
from study.rows import before_column, metric_column


class _Request:
    """Which data are wanted: equal to another request for the same ones, whatever else their configurations say."""

    def __init__(self, address: str, key: Hashable, data_root: str | None, config: Any) -> None:
        self._identity = (address, key, data_root)
        self.address, self.data_root, self.config = address, data_root, config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@functools.lru_cache(maxsize=1)
def _load(request: _Request) -> Data:
    """The data of a request, kept by a process that trains one pack after another."""
    return find_recipe(request.address).load(request.config, request.data_root)


class TaskRun:
    """A task being worked on by one worker: advances its pack, then commits rows to the ledger (rank 0)."""

    def __init__(self, task: PackTask, rank: int = 0, world_size: int = 1) -> None:
        self._task = task
        self._started = datetime.now(UTC)
        self._ledger = Ledger(Store(task.settings.ledger_uri))
        self._artifacts = Artifacts(self._ledger.store)
        settings, recipe = task.settings, task.recipe
        if settings.use_gpu:
            require_gpu()
        self._context = Context(
            rank=rank,
            world_size=world_size,
            use_gpu=settings.use_gpu,
            num_threads=settings.threads,
            memory_bytes=task.memory_bytes,
            checkpoints=self._artifacts,
            measurements=self._ledger,
        )
        data = _load(_Request(settings.recipe, recipe.data_key(task.config), settings.data_root, task.config))
        expected = task.replicates[0].data_digest
        if data.digest != expected:
            raise ConfigError(
                f"this node holds other data (digest {data.digest}) than the driver ({expected}): give every node the "
                "same files"
            )
        self._run = recipe.start(task.replicates, data, self._context)

    @property
    def is_done(self) -> bool:
        return self._run.is_done

    def advance(self) -> Progress:
        """Go on; the call that finishes the pack also commits it."""
        progress = self._run.advance()
        if self._run.is_done and self._context.rank == 0:
            self._commit(self._run.results())
            self._run.delete_checkpoints()
        return progress

    def _commit(self, results: Sequence[Result]) -> None:
        task = self._task
        declared = {metric.name for metric in task.recipe.metrics}
        device = gpu_name() if task.settings.use_gpu else "cpu"
        rows, curves = [], []
        for result, attempt in zip(results, task.attempts, strict=True):
            undeclared = sorted({*result.metrics, *result.before} - declared)
            assert not undeclared, f"{task.settings.recipe} returns metrics that it does not declare: {undeclared}"
            lacking = _lacking(task, result)
            assert not lacking, f"{task.settings.recipe} does not return finite numbers of what it reports: {lacking}"
            row = attempt_row(task, result.replicate, attempt, result.outcome, self._started)
            row |= {metric_column(name): value for name, value in result.metrics.items()}
            row |= {before_column(name): value for name, value in result.before.items()}
            row |= {
                "examples": result.examples,
                "steps": result.steps,
                "seconds": result.seconds,
                "device_seconds": result.seconds * self._context.world_size,
                "device": device,
                "cpu": cpu_model(),
                "error": result.note or None,
            }
            rows.append(row)
            for point in result.curves:
                curves.append({"key": row["key"], "attempt": attempt, **dataclasses.asdict(point)})
        self._keep_models()
        self._ledger.append_pack(rows, curves)

    def _keep_models(self) -> None:
        """Written before the commit: a committed row that is reported has its model."""
        for index, (replicate, keep) in enumerate(zip(self._task.replicates, self._task.keep_models, strict=False)):
            if keep and (model := self._run.model(index)) is not None:
                self._artifacts.save_model(replicate.key, model)


def _lacking(task: PackTask, result: Result) -> list[str]:
    """What a measured replicate should have reported and did not: its row would not count as a finding."""
    if result.outcome not in MEASURED_OUTCOMES:
        return []
    reported = task.recipe.reported(result.replicate.config)
    before = [f"{name} before training" for name in reported.judged if not _is_number(result.before.get(name))]
    return sorted([*(name for name in reported.at_end if not _is_number(result.metrics.get(name))), *before])


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def run_task(task: PackTask) -> None:
    """Work a task off in this process; failures raise."""
    run = TaskRun(task)
    while not run.is_done:
        run.advance()
