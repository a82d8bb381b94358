"""From packs to ledger rows: the one task format of all executors, and the run of a task by one worker.

The worker that trained a pack writes its rows itself, so that a result does not wait for the driver to live.
"""

import dataclasses
import functools
import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import torch

from study.config import (
    NUMERICS_VERSION,
    ConfigError,
    DataConfig,
    Replicate,
    ReplicateConfig,
    first_line,
    flatten,
    from_json,
    pack_shape,
    to_json,
)
from study.data.datasets import Dataset, load_dataset
from study.models.encoders import max_pack_size
from study.outcome import Outcome
from study.provenance import Provenance
from study.results.ledger import Ledger, Row, measurement_hash
from study.results.schema import METRICS, REPLICATES, SCHEMA_VERSION
from study.results.store import Store
from study.trainers.loop import (
    PackRun,
    Progress,
    ReplicateResult,
    RunContext,
    measure_raw_knn,
    measure_untrained_knn,
)

ExecutorName = Literal["inline", "train"]
_COLUMNS = frozenset(column.name for column in REPLICATES)


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What every pack of a sweep shares; none of it is part of a key."""

    ledger_uri: str
    study_hash: str
    data_root: str | None
    executor: ExecutorName
    workers_per_trial: int
    threads: int
    use_gpu: bool
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """One Ray task: the replicates of a pack and the number of each one's attempt."""

    settings: TaskSettings
    replicates: tuple[Replicate, ...]
    attempts: tuple[int, ...]
    hang_seconds: float = 300.0

    @property
    def config(self) -> ReplicateConfig:
        return self.replicates[0].config

    @property
    def num_workers(self) -> int:
        """The largest number of workers, at most those asked for, that shares the images of a batch evenly."""
        images = self.config.num_images
        return next(w for w in range(self.settings.workers_per_trial, 0, -1) if images % w == 0)

    def to_dict(self) -> dict[str, Any]:
        """A plain form that survives Tune's handling of configurations."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "replicates": [
                {"key": r.key, "config": to_json(r.config), "seed": r.seed, "data_digest": r.data_digest}
                for r in self.replicates
            ],
            "attempts": list(self.attempts),
            "hang_seconds": self.hang_seconds,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PackTask":
        settings = dict(data["settings"])
        provenance = Provenance(**settings.pop("provenance"))
        return cls(
            settings=TaskSettings(**settings, provenance=provenance),
            replicates=tuple(
                Replicate(**{**fields, "config": from_json(fields["config"])}) for fields in data["replicates"]
            ),
            attempts=tuple(data["attempts"]),
            hang_seconds=data["hang_seconds"],
        )


def make_packs(replicates: Sequence[Replicate]) -> list[tuple[Replicate, ...]]:
    """Group replicates of one shape into packs of nearly equal size, the most work first."""
    groups: dict[str, list[Replicate]] = {}
    for replicate in replicates:
        groups.setdefault(pack_shape(replicate.config), []).append(replicate)
    packs = []
    for group in groups.values():
        limit = max_pack_size(group[0].config.model, group[0].config.batch.train)
        num_packs = -(-len(group) // limit)
        packs += [tuple(group[i::num_packs]) for i in range(num_packs)]
    return sorted(packs, key=lambda pack: -sum(work(r.config) for r in pack))


def work(config: ReplicateConfig) -> float:
    """Relative cost of a replicate: steps, each with a fixed part and one that grows with its rows."""
    return config.num_steps * (1 + config.batch.train / 20)


class Artifacts:
    """Checkpoints and error texts under artifacts/KEY of a ledger; a checkpoint store for the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, key: str) -> dict[str, Any] | None:
        data = self._store.read(f"artifacts/{key}/checkpoint.pt")
        return None if data is None else torch.load(io.BytesIO(data), weights_only=True)

    def save(self, key: str, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self._store.write(f"artifacts/{key}/checkpoint.pt", buffer.getvalue())

    def delete(self, key: str) -> None:
        self._store.delete(f"artifacts/{key}/checkpoint.pt")

    def save_error(self, key: str, text: str) -> None:
        """Keep the traceback of a failed attempt."""
        self._store.write(f"artifacts/{key}/error.txt", text.encode())


@functools.lru_cache(maxsize=1)
def _dataset_on(data: DataConfig, data_root: str | None, device: torch.device) -> Dataset:
    return load_dataset(data, data_root).to(device)


class TaskRun:
    """A task being worked on by one worker: advances its pack, then commits rows to the ledger (rank 0)."""

    def __init__(self, task: PackTask, device: torch.device, make_context: Callable[[Artifacts], RunContext]) -> None:
        self._task = task
        self._device = device
        self._started = datetime.now(UTC)
        self._ledger = Ledger(Store(task.settings.ledger_uri))
        self._context = make_context(Artifacts(self._ledger.store))
        if device.type == "cpu":
            torch.set_num_threads(task.settings.threads)
        # The views of a data set differ between configurations, its tensors do not.
        data = dataclasses.replace(task.config.data, strength=0.0, num_views=1, label_fraction=1.0)
        self._dataset = _dataset_on(data, task.settings.data_root, device)
        expected = task.replicates[0].data_digest
        if self._dataset.digest != expected:
            raise ConfigError(
                f"this node holds other bytes of {self._dataset.name} (digest {self._dataset.digest}) than the driver "
                f"({expected}): give every node the same files"
            )
        self._untrained_knn = self._measure_untrained() if self._context.rank == 0 else []
        self._run = PackRun(task.replicates, self._dataset, self._context)

    @property
    def is_done(self) -> bool:
        return self._run.is_done

    def advance(self) -> Progress:
        """Train on; the call that finishes the pack also commits it."""
        progress = self._run.advance()
        if self._run.is_done and self._context.rank == 0:
            self._commit(self._run.results(self._untrained_knn))
            self._run.delete_checkpoints()
        return progress

    def _measure_untrained(self) -> list[float | None]:
        """k-NN of the untrained encoders, and of the raw inputs, from the ledger where they have been measured."""
        config, digest = self._task.config, self._dataset.digest
        if not config.evaluation.knn_bank:
            return [None] * len(self._task.replicates)
        settings = {
            path: value
            for path, value in flatten(config).items()
            if path.startswith("evaluation.knn") or path == "evaluation.split"
        }
        if self._ledger.measurement(measurement_hash("raw_knn", digest, None, settings)) is None:
            raw = measure_raw_knn(self._dataset, config.evaluation)
            self._ledger.record_measurement("raw_knn", digest, None, settings, raw)
        settings |= {path: value for path, value in flatten(config).items() if path.startswith("model.")}
        hashes = [measurement_hash("untrained_knn", digest, r.seed, settings) for r in self._task.replicates]
        values = [self._ledger.measurement(h) for h in hashes]
        if any(value is None for value in values):
            values = measure_untrained_knn(self._task.replicates, self._dataset)
            for replicate, value in zip(self._task.replicates, values, strict=True):
                assert value is not None
                self._ledger.record_measurement("untrained_knn", digest, replicate.seed, settings, value)
        return values

    def _commit(self, results: Sequence[ReplicateResult]) -> None:
        device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        rows, curves = [], []
        for result, attempt in zip(results, self._task.attempts, strict=True):
            row = attempt_row(self._task, result.replicate, attempt, result.outcome, self._started)
            row |= {name: value for name, value in result.metrics.items() if name in METRICS}
            row |= {f"{name}_before": v for name, v in result.before.items() if f"{name}_before" in _COLUMNS}
            row |= {
                "examples": result.examples,
                "steps": result.steps,
                "seconds": result.seconds,
                "device_seconds": result.seconds * self._context.world_size,
                "device": device,
            }
            rows.append(row)
            for point in result.curves:
                curves.append({"key": row["key"], "attempt": attempt, **dataclasses.asdict(point)})
        self._ledger.append_pack(rows, curves)


def attempt_row(
    task: PackTask, replicate: Replicate, attempt: int, outcome: Outcome, started: datetime, error: str | None = None
) -> Row:
    """What every attempt records, whatever came of it."""
    settings, provenance = task.settings, task.settings.provenance
    return {
        "key": replicate.key,
        "attempt": attempt,
        "outcome": str(outcome),
        "error": error,
        "study_hash": settings.study_hash,
        "trainer": replicate.config.trainer,
        "seed": replicate.seed,
        "config": to_json(replicate.config),
        "data_digest": replicate.data_digest,
        "numerics_version": NUMERICS_VERSION[replicate.config.trainer],
        "node_type": provenance.node_type,
        "threads": settings.threads,
        "workers_asked": settings.workers_per_trial,
        "workers": task.num_workers,
        "pack_size": len(task.replicates),
        "executor": settings.executor,
        "commit": provenance.commit,
        "dirty": provenance.dirty,
        "source_digest": provenance.source_digest,
        "versions": provenance.versions,
        "started_at": started,
        "finished_at": datetime.now(UTC),
        "schema_version": SCHEMA_VERSION,
    }


def record_failure(task: PackTask, outcome: Outcome, error: str, started: datetime, details: str = "") -> None:
    """Record an attempt that produced nothing, for every replicate of the pack."""
    ledger = Ledger(Store(task.settings.ledger_uri))
    rows = []
    for replicate, attempt in zip(task.replicates, task.attempts, strict=True):
        rows.append(attempt_row(task, replicate, attempt, outcome, started, error))
        if details:
            Artifacts(ledger.store).save_error(replicate.key, details)
    ledger.append_pack(rows, [])


class Watchdog:
    """Ends a worker that makes no progress for ``hang_seconds``, after recording its pack as hung.

    A hung collective or kernel cannot be interrupted from Python: the process ends itself, and the executor sees
    a dead worker. Use as a context manager around the work.
    """

    def __init__(self, task: PackTask, started: datetime) -> None:
        self._task = task
        self._started = started
        self._last_progress = time.monotonic()
        self._stop = threading.Event()

    def progress(self) -> None:
        """Say that the pack is alive."""
        self._last_progress = time.monotonic()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        limit = self._task.hang_seconds
        while not self._stop.wait(min(limit / 4, 10)):
            if time.monotonic() - self._last_progress > limit:
                record_failure(self._task, Outcome.HUNG, f"no progress for {limit:.0f} s", self._started)
                os._exit(1)


def classify(error: BaseException) -> Outcome:
    """Out of memory, or anything else that failed."""
    is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
    return Outcome.OUT_OF_MEMORY if is_memory else Outcome.FAILED


def single_process_context(checkpoints: Artifacts) -> RunContext:
    """The context of a pack that one process trains."""
    return RunContext(checkpoints=checkpoints)


def device_for(use_gpu: bool) -> torch.device:
    """The first visible GPU where one was asked for, else the CPU."""
    if use_gpu and not torch.cuda.is_available():
        raise ConfigError("--use-gpu was given, but torch sees no GPU here: leave it out, or use a node with one")
    return torch.device("cuda", 0) if use_gpu else torch.device("cpu")


def run_task(task: PackTask) -> None:
    """Work a task off in this process; failures raise."""
    run = TaskRun(task, device_for(task.settings.use_gpu), single_process_context)
    while not run.is_done:
        run.advance()


def error_sentence(error: BaseException) -> str:
    """The type and first line of an error."""
    line, kind = first_line(error), type(error).__name__
    return kind if line == kind else f"{kind}: {line}"
