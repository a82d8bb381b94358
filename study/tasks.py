"""From packs to ledger rows: the one task format of all executors, and the run of a task by one worker.

The worker that trained a pack writes its rows itself, so that a result does not wait for the driver to live.
"""

import dataclasses
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import torch

from study.addresses import without_secret
from study.config import (
    NUMERICS_VERSION,
    ConfigError,
    DataConfig,
    Replicate,
    ReplicateConfig,
    flatten,
    from_json,
    to_json,
)
from study.data.datasets import Dataset, load_dataset
from study.outcome import Outcome
from study.packing import UNSEEN_GPU_BYTES, num_workers
from study.provenance import Provenance, cpu_model
from study.results.identities import encoder_settings, view_settings
from study.results.ledger import Ledger, Row
from study.results.schema import REPLICATES, SCHEMA_VERSION
from study.results.store import Store
from study.trainers.downstream import is_wanted, measure_raw
from study.trainers.effective import raw_moments
from study.trainers.loop import (
    PackRun,
    Progress,
    ReplicateResult,
    RunContext,
    measure_untrained,
    measure_view_moments,
)

ExecutorName = Literal["inline", "train"]
# What the measures of a frozen embedding depend on, beside the encoder.
_JUDGING = ("evaluation.split", "evaluation.knn_bank", "evaluation.knn_neighbours", "evaluation.linear_probe")
_MEASURED = frozenset(column.name for column in REPLICATES if column.is_metric)


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What every pack of a sweep shares; none of it is part of a key."""

    # It may hold a secret, which no printed settings may show.
    ledger_uri: str = field(repr=False)
    study_hash: str = ""
    data_root: str | None = None
    executor: ExecutorName = "inline"
    workers_per_trial: int = 1
    threads: int = 1
    use_gpu: bool = False
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """One Ray task: the replicates of a pack and the number of each one's attempt.

    ``num_planned`` is the size of the pack that this one is a part of, 0 for a whole one; ``keep_models`` says of each
    member whether its final model is kept (of none where empty); ``gpu_share`` is asked for by each worker;
    ``encoder_rows`` bounds the rows of one encoder pass (None: the whole batch).
    """

    settings: TaskSettings
    replicates: tuple[Replicate, ...]
    attempts: tuple[int, ...]
    hang_seconds: float = 300.0
    num_planned: int = 0
    keep_models: tuple[bool, ...] = ()
    gpu_share: float = 1.0
    encoder_rows: int | None = None

    @property
    def config(self) -> ReplicateConfig:
        return self.replicates[0].config

    @property
    def num_workers(self) -> int:
        """The largest number of workers, at most those asked for, that shares the images of a batch evenly."""
        return num_workers(self.config, self.settings.workers_per_trial)

    @property
    def gpus_per_worker(self) -> float:
        """The share of a GPU that Ray is asked for, 0 on CPUs."""
        return self.gpu_share if self.settings.use_gpu else 0.0

    def part(self, members: Sequence[int]) -> "PackTask":
        """A pack of some of the members, which remembers what was planned."""
        return dataclasses.replace(
            self,
            replicates=tuple(self.replicates[index] for index in members),
            attempts=tuple(self.attempts[index] for index in members),
            keep_models=tuple(self.keep_models[index] for index in members) if self.keep_models else (),
            num_planned=self.num_planned or len(self.replicates),
        )

    def halves(self) -> list["PackTask"]:
        """Two packs of half the size, none for a pack of one."""
        size = len(self.replicates)
        return [self.part(range(size // 2)), self.part(range(size // 2, size))] if size > 1 else []

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
            "num_planned": self.num_planned,
            "keep_models": list(self.keep_models),
            "gpu_share": self.gpu_share,
            "encoder_rows": self.encoder_rows,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PackTask":
        settings = dict(data["settings"])
        provenance = Provenance(**settings.pop("provenance"))
        changed = {
            "settings": TaskSettings(**settings, provenance=provenance),
            "replicates": tuple(
                Replicate(**{**fields, "config": from_json(fields["config"])}) for fields in data["replicates"]
            ),
            "attempts": tuple(data["attempts"]),
            "keep_models": tuple(data["keep_models"]),
        }
        return cls(**{**data, **changed})


class Artifacts:
    """Checkpoints, final models and error texts under artifacts/KEY of a ledger; a checkpoint store for the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, key: str) -> dict[str, Any] | None:
        """The checkpoint of a replicate; a damaged one is discarded, and training starts anew."""
        data = self._store.read(f"artifacts/{key}/checkpoint.pt")
        if data is None:
            return None
        try:
            state = torch.load(io.BytesIO(data), weights_only=True)
            return state if isinstance(state, dict) else None
        except MemoryError:
            raise
        # There is no list of what torch raises for bytes that are no checkpoint.
        except Exception:
            self.delete(key)
            return None

    def save(self, key: str, state: dict[str, Any]) -> None:
        self._write(f"artifacts/{key}/checkpoint.pt", state)

    def save_model(self, key: str, model: dict[str, Any]) -> None:
        """Keep a final model: tensors on the CPU and text, readable with ``weights_only=True``."""
        self._write(f"artifacts/{key}/model.pt", model)

    def _write(self, path: str, value: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        self._store.write(path, buffer.getvalue())

    def delete(self, key: str) -> None:
        self._store.delete(f"artifacts/{key}/checkpoint.pt")

    def save_error(self, key: str, text: str) -> None:
        """Keep the traceback of a failed attempt."""
        self._store.write(f"artifacts/{key}/error.txt", without_secret(text).encode())


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
        self._artifacts = Artifacts(self._ledger.store)
        self._context = dataclasses.replace(make_context(self._artifacts), encoder_rows=task.encoder_rows)
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
        self._untrained = self._measure_untrained() if self._context.rank == 0 else []
        self._run = PackRun(task.replicates, self._dataset, self._context)

    @property
    def is_done(self) -> bool:
        return self._run.is_done

    def advance(self) -> Progress:
        """Train on; the call that finishes the pack also commits it."""
        progress = self._run.advance()
        if self._run.is_done and self._context.rank == 0:
            self._commit(self._run.results(self._untrained))
            self._run.delete_checkpoints()
        return progress

    def _measure_untrained(self) -> list[dict[str, float]]:
        """What needs no training, of raw inputs and untrained encoders: views' cosines, and what members rise from.

        Returns the downstream measures of each member's encoder before training.
        """
        config, dataset, pack = self._task.config, self._dataset, self._task.replicates
        values, model = flatten(config), encoder_settings(config)
        for strength in sorted({replicate.config.data.strength for replicate in pack}):
            self._measure_views([replicate for replicate in pack if replicate.config.data.strength == strength])
        if not is_wanted(config.evaluation):
            return [{} for _ in pack]
        judging = {path: values[path] for path in _JUDGING}
        self._measured("raw_", [None], judging, lambda: [measure_raw(dataset, config.evaluation)])
        settings = judging | model | {"data.label_fraction": config.data.label_fraction}
        seeds = [replicate.seed for replicate in pack]
        return self._measured("untrained_", seeds, settings, lambda: measure_untrained(pack, dataset))

    def _measure_views(self, peers: Sequence[Replicate]) -> None:
        """Cosine moments of views at the strength that ``peers`` share, raw and by each one's untrained encoder."""
        config, dataset = peers[0].config, self._dataset
        views = view_settings(config)
        self._measured("raw_views_", [None], views, lambda: [raw_moments(dataset, config)])
        seeds, settings = [peer.seed for peer in peers], views | encoder_settings(config)
        self._measured("untrained_views_", seeds, settings, lambda: measure_view_moments(peers, dataset))

    def _measured(
        self,
        prefix: str,
        seeds: Sequence[int | None],
        settings: dict[str, Any],
        measure: Callable[[], list[dict[str, float]]],
    ) -> list[dict[str, float]]:
        """Measurements of every seed from the ledger; where one is missing, all are made and recorded."""
        digest = self._dataset.digest
        found = [self._ledger.measurements(prefix, digest, seed, settings) for seed in seeds]
        if not all(found):
            found = measure()
            for seed, known in zip(seeds, found, strict=True):
                self._ledger.record_measurements(prefix, digest, seed, settings, known)
        return found

    def _commit(self, results: Sequence[ReplicateResult]) -> None:
        device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        rows, curves = [], []
        for result, attempt in zip(results, self._task.attempts, strict=True):
            row = attempt_row(self._task, result.replicate, attempt, result.outcome, self._started)
            measured = result.metrics | {f"{name}_before": value for name, value in result.before.items()}
            undeclared = sorted(measured.keys() - _MEASURED)
            assert not undeclared, f"trainer {row['trainer']} returns what study/results/schema.py lacks: {undeclared}"
            row |= measured
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
            if keep:
                model = {
                    "parameters": self._run.optimizer.replicate_parameters(index),
                    "buffers": self._run.replicate_buffers(index),
                    "config": to_json(replicate.config),
                }
                self._artifacts.save_model(replicate.key, model)


def attempt_row(
    task: PackTask, replicate: Replicate, attempt: int, outcome: Outcome, started: datetime, error: str | None = None
) -> Row:
    """What every attempt records, whatever came of it."""
    settings, provenance = task.settings, task.settings.provenance
    return {
        "key": replicate.key,
        "attempt": attempt,
        "outcome": str(outcome),
        "error": None if error is None else without_secret(error),
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
        "pack_planned": task.num_planned or len(task.replicates),
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


def single_process_context(checkpoints: Artifacts) -> RunContext:
    """The context of a pack that one process trains."""
    return RunContext(checkpoints=checkpoints)


def device_for(use_gpu: bool) -> torch.device:
    """The first visible GPU where one was asked for, else the CPU."""
    if use_gpu and not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ConfigError(
            f"--use-gpu needs a GPU that torch sees where the replicates train, and here it sees none (torch "
            f"{torch.__version__} is built {built}): look at nvidia-smi and CUDA_VISIBLE_DEVICES, name a cluster that "
            "has GPUs with --address, or leave it out"
        )
    return torch.device("cuda", 0) if use_gpu else torch.device("cpu")


def gpu_memory() -> int:
    """Bytes of the first visible GPU; where the driver sees none, an assumption about the cluster's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    return UNSEEN_GPU_BYTES


def run_task(task: PackTask) -> None:
    """Work a task off in this process; failures raise."""
    run = TaskRun(task, device_for(task.settings.use_gpu), single_process_context)
    while not run.is_done:
        run.advance()
