"""Packs as executors hand them to workers, and the row of an attempt."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from study.designs.values import from_json, to_json
from study.interface.recipe import Recipe, find_recipe
from study.interface.run import Replicate
from study.ledger.addresses import without_secret
from study.ledger.artifacts import Artifacts
from study.ledger.ledger import Ledger
from study.ledger.provenance import Provenance
from study.ledger.schema import SCHEMA_VERSION
from study.ledger.store import Store
from study.outcome import Outcome
from study.rows import Row

ExecutorName = Literal["inline", "train"]


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What every pack of a sweep shares; none of it is part of a key. ``recipe`` is the address of its recipe."""

    # It may hold a secret, which no printed settings may show.
    ledger_uri: str = field(repr=False)
    recipe: str
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
    ``memory_bytes`` is what its tensors may take there.
    """

    settings: TaskSettings
    replicates: tuple[Replicate[Any], ...]
    attempts: tuple[int, ...]
    hang_seconds: float = 300.0
    num_planned: int = 0
    keep_models: tuple[bool, ...] = ()
    gpu_share: float = 1.0
    memory_bytes: float = float("inf")

    @property
    def recipe(self) -> Recipe[Any]:
        return find_recipe(self.settings.recipe)

    @property
    def config(self) -> Any:
        return self.replicates[0].config

    @property
    def num_workers(self) -> int:
        """The largest number of workers, at most those asked for, that can share a replicate."""
        return self.recipe.num_workers(self.config, self.settings.workers_per_trial)

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
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return plain | {
            "settings": dataclasses.asdict(self.settings),
            "replicates": [vars(r) | {"config": to_json(r.config)} for r in self.replicates],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PackTask":
        """The inverse of :meth:`to_dict`."""
        settings = TaskSettings(**{**data["settings"], "provenance": Provenance(**data["settings"]["provenance"])})
        config_class = find_recipe(settings.recipe).config_class
        replicates = (
            Replicate(**{**fields, "config": from_json(config_class, fields["config"])})
            for fields in data["replicates"]
        )
        # Tune may hand lists back for tuples.
        changed = {name: tuple(data[name]) for name in ("attempts", "keep_models")}
        return cls(**{**data, **changed, "settings": settings, "replicates": tuple(replicates)})


def attempt_row(
    task: PackTask,
    replicate: Replicate[Any],
    attempt: int,
    outcome: Outcome,
    started: datetime,
    error: str | None = None,
) -> Row:
    """What every attempt records, whatever came of it."""
    settings, provenance = task.settings, task.settings.provenance
    method = task.recipe.method(replicate.config)
    return {
        "key": replicate.key,
        "attempt": attempt,
        "outcome": str(outcome),
        "error": None if error is None else without_secret(error),
        "study_hash": settings.study_hash,
        "trainer": method.name,
        "seed": replicate.seed,
        "config": to_json(replicate.config),
        "data_digest": replicate.data_digest,
        "numerics_version": method.numerics,
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
