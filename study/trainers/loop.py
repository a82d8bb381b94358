"""The training loop: one for every trainer, executor and number of workers.

A :class:`PackRun` trains replicates of one shape together and is advanced from outside: a Tune Trainable, a
Train worker or a plain loop calls :meth:`PackRun.advance` until it is done. What differs between them (ranks,
gathers, checkpoints) is in the :class:`RunContext` they pass.
"""

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from study.config import EvaluationConfig, Replicate, pack_shape
from study.data.datasets import Dataset
from study.data.streams import stream
from study.evaluation import is_collapsed, knn_accuracy
from study.models.packed import Gather, identity_gather
from study.outcome import Outcome
from study.trainers.base import Trainer, embed_in_chunks
from study.trainers.batch import EvaluationSet, PackBatches, evaluation_set
from study.trainers.optimizer import PackOptimizer
from study.trainers.supervised import SupervisedTrainer
from study.trainers.transfusion import TransFusionTrainer

TRAINERS: dict[str, Trainer[Any]] = {"transfusion": TransFusionTrainer(), "supervised": SupervisedTrainer()}
_KNN_BANK_SEED = 0
_MAX_STEPS_PER_REPORT = 500


class CheckpointStore(Protocol):
    """Where the checkpoints of replicates are kept, one per key."""

    def load(self, key: str) -> dict[str, Any] | None: ...

    def save(self, key: str, state: dict[str, Any]) -> None: ...

    def delete(self, key: str) -> None: ...


def _checkpoint_seconds() -> float:
    return float(os.environ.get("STUDY_CHECKPOINT_SECONDS", "30"))


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the loop needs of its surroundings; the defaults are one process without checkpoints."""

    rank: int = 0
    world_size: int = 1
    gather: Gather = identity_gather
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    sum_over_workers: Callable[[torch.Tensor], torch.Tensor] = lambda values: values
    checkpoints: CheckpointStore | None = None
    checkpoint_seconds: float = field(default_factory=_checkpoint_seconds)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a pack stands after an :meth:`PackRun.advance`."""

    step: int
    num_steps: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One value of one metric after ``examples`` training images."""

    examples: int
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class ReplicateResult:
    """The end of a replicate: outcome, metrics at the last step (empty when diverged) and before training, curves."""

    replicate: Replicate
    outcome: Outcome
    metrics: dict[str, float]
    before: dict[str, float]
    curves: tuple[CurvePoint, ...]
    examples: int
    steps: int
    seconds: float


@dataclass
class _Member:
    """The mutable record of one replicate of the pack."""

    replicate: Replicate
    curves: list[CurvePoint] = field(default_factory=list)


class PackRun:
    """Train a pack: replicates that share everything but seed, learning rate and strength.

    Each member's numbers are those it gives alone, up to the rounding of a batched product. A member whose loss
    is no longer finite is marked and its numbers are dropped; members share no tensor entry, so the others go on.
    With a checkpoint store a pack resumes where it was, provided that its members all stand at the same step.
    """

    def __init__(self, pack: Sequence[Replicate], dataset: Dataset, context: RunContext | None = None) -> None:
        context = RunContext() if context is None else context
        assert len({pack_shape(member.config) for member in pack}) == 1, "a pack has one shape"
        self._members = [_Member(member) for member in pack]
        self._context = context
        self._config = pack[0].config
        self._trainer = TRAINERS[self._config.trainer]
        self._num_steps = self._config.num_steps
        self._dataset = dataset
        self._device = dataset.train.labels.device
        self._batches = PackBatches(dataset, pack, context.rank, context.world_size)
        generators = [stream(member.seed, "initialisation") for member in pack]
        self.model = self._trainer.build(self._config, dataset, generators).to(self._device)
        rates = [member.config.optimizer.learning_rate for member in pack]
        self.optimizer = PackOptimizer(self.model.parameters(), rates, self._config.optimizer)
        self._wrapped = context.wrap(self.model)
        self._is_alive_R = torch.ones(len(pack), dtype=torch.bool, device=self._device)
        self._sums: dict[str, torch.Tensor] = {}
        self._num_summed = 0
        self._step = 0
        self._seconds = 0.0
        points = self._config.evaluation.num_points
        self._evaluation_steps = {round(i * self._num_steps / points) for i in range(points + 1)}
        # Reports come at fixed steps: all workers of a distributed run must report equally often.
        self._report_interval = min(max(self._num_steps // 20, 1), _MAX_STEPS_PER_REPORT)
        self._restore()
        self._last_checkpoint = time.monotonic()

    @functools.cached_property
    def _evaluation(self) -> EvaluationSet:
        """The evaluation batches, drawn and viewed when first needed, by rank 0 only."""
        return evaluation_set(self._dataset, [member.replicate for member in self._members])

    @property
    def is_done(self) -> bool:
        return self._step >= self._num_steps

    def advance(self) -> Progress:
        """Train until the next evaluation or report, whichever comes first."""
        start = time.monotonic()
        if self._step == 0 and not self._members[0].curves:
            self._evaluate()
        while not self.is_done:
            self._train_step()
            if self._step in self._evaluation_steps:
                self._evaluate()
                break
            if self._step % self._report_interval == 0:
                break
        self._seconds += time.monotonic() - start
        self._maybe_checkpoint()
        return Progress(step=self._step, num_steps=self._num_steps, seconds=self._seconds)

    def _train_step(self) -> None:
        self.optimizer.zero_grad()
        loss_R = self.loss_and_gradient(self._step)
        self._is_alive_R &= torch.isfinite(loss_R)
        self.optimizer.step(self._step, self._num_steps)
        self._step += 1

    def loss_and_gradient(self, step: int) -> torch.Tensor:
        """Global loss of each replicate on the batch of ``step``, (R,); gradients are added to the parameters'."""
        context = self._context
        batch = self._batches.batch(step)
        share_R, diagnostics = self._trainer.loss(self._wrapped, batch, self._config, context.gather)
        # DDP averages gradients over workers; shares add up, so the average is undone here.
        (share_R.sum() * context.world_size).backward()
        shares = {"train_loss": share_R.detach()} | diagnostics
        totals = context.sum_over_workers(torch.stack(list(shares.values())))
        for name, total_R in zip(shares, totals, strict=True):
            self._sums[name] = self._sums.get(name, 0) + total_R
        self._num_summed += 1
        return totals[0]

    @torch.no_grad()
    def _evaluate(self) -> None:
        means = {name: (total / self._num_summed).tolist() for name, total in self._sums.items()}
        self._sums, self._num_summed = {}, 0
        if self._context.rank != 0:
            return
        self.model.eval()
        measured = self._trainer.evaluate(self.model, self._evaluation, self._config)
        self.model.train()
        values = means | {name: value.tolist() for name, value in measured.items()}
        examples = self._step * self._config.num_images
        for name, per_member in values.items():
            for member, value in zip(self._members, per_member, strict=True):
                member.curves.append(CurvePoint(examples=examples, metric=name, value=float(value)))

    def results(self, untrained_knn: Sequence[float | None]) -> list[ReplicateResult]:
        """Results of all members, on rank 0, once the run is done.

        Args:
            untrained_knn: the k-nearest-neighbour accuracy of each member before training, where measured.
        """
        assert self.is_done
        assert self._context.rank == 0
        start = time.monotonic()
        trained_knn = self.knn_accuracies()
        is_alive = self._is_alive_R.tolist()
        seconds = self._seconds + time.monotonic() - start
        results = []
        for index, member in enumerate(self._members):
            first, last = member.curves[0].examples, member.curves[-1].examples
            before = {p.metric: p.value for p in member.curves if p.examples == first}
            metrics = {p.metric: p.value for p in member.curves if p.examples == last}
            for values, knn in ((metrics, trained_knn[index]), (before, untrained_knn[index])):
                if knn is not None:
                    values["knn_accuracy"] = knn
            outcome = _outcome(is_alive[index], metrics)
            results.append(
                ReplicateResult(
                    replicate=member.replicate,
                    outcome=outcome,
                    metrics={} if outcome is Outcome.DIVERGED else metrics,
                    before=before,
                    curves=tuple(p for p in member.curves if math.isfinite(p.value)),
                    examples=self._num_steps * self._config.num_images,
                    steps=self._num_steps,
                    seconds=seconds / len(self._members),
                )
            )
        return results

    def delete_checkpoints(self) -> None:
        """Drop the checkpoints of a pack whose results are safe."""
        if self._context.checkpoints is not None and self._context.rank == 0:
            for member in self._members:
                self._context.checkpoints.delete(member.replicate.key)

    @torch.no_grad()
    def knn_accuracies(self) -> list[float | None]:
        """k-nearest-neighbour accuracy of each member's embeddings on the whole evaluation split, or None."""
        bank_size = self._config.evaluation.knn_bank
        if not bank_size:
            return [None] * len(self._members)
        train, split = self._dataset.train, self._dataset.split(self._config.evaluation.split)
        bank = _knn_bank(self._dataset, bank_size)
        self.model.eval()
        bank_RBD = self._embed_all(train.inputs[bank])
        queries_RQD = self._embed_all(split.inputs)
        self.model.train()
        is_alive = self._is_alive_R.tolist()
        return [
            knn_accuracy(
                bank_RBD[r], train.labels[bank], queries_RQD[r], split.labels, self._config.evaluation.knn_neighbours
            )
            if is_alive[r]
            else None
            for r in range(len(self._members))
        ]

    def _embed_all(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embeddings of unaugmented inputs by every member, (R, N, D)."""
        chunks = []
        for chunk in inputs.split(2048):
            ready = chunk / 255 if self._dataset.is_images else nn.functional.normalize(chunk, dim=-1)
            chunks.append(embed_in_chunks(self.model, ready.expand(len(self._members), *ready.shape)))
        return torch.cat(chunks, dim=1)

    def _maybe_checkpoint(self) -> None:
        context = self._context
        if context.checkpoints is None or context.rank != 0 or self.is_done:
            return
        if time.monotonic() - self._last_checkpoint < context.checkpoint_seconds:
            return
        for index, member in enumerate(self._members):
            state = {
                "step": self._step,
                "seconds": self._seconds,
                "is_alive": bool(self._is_alive_R[index]),
                "curves": [(p.examples, p.metric, p.value) for p in member.curves],
                "sums": {name: float(total[index]) for name, total in self._sums.items()},
                "num_summed": self._num_summed,
                "optimizer": self.optimizer.replicate_state(index),
            }
            context.checkpoints.save(member.replicate.key, state)
        self._last_checkpoint = time.monotonic()

    def _restore(self) -> None:
        if self._context.checkpoints is None:
            return
        states = [self._context.checkpoints.load(member.replicate.key) for member in self._members]
        if any(state is None for state in states):
            return
        found = [state for state in states if state is not None]
        if len({state["step"] for state in found}) != 1:
            return
        for index, (member, state) in enumerate(zip(self._members, found, strict=True)):
            self.optimizer.load_replicate_state(index, state["optimizer"])
            member.curves = [CurvePoint(examples=e, metric=m, value=v) for e, m, v in state["curves"]]
            self._is_alive_R[index] = state["is_alive"]
        first = found[0]
        self._step, self._seconds, self._num_summed = first["step"], first["seconds"], first["num_summed"]
        self._sums = {
            name: torch.tensor([state["sums"][name] for state in found], device=self._device) for name in first["sums"]
        }


def _knn_bank(dataset: Dataset, size: int) -> torch.Tensor:
    """Indices of the bank: a subset of the training split that is the same for every replicate."""
    order = torch.randperm(len(dataset.train), generator=stream(_KNN_BANK_SEED, "knn-bank"))
    return order[:size].to(dataset.train.labels.device)


def measure_raw_knn(dataset: Dataset, config: EvaluationConfig) -> float:
    """k-nearest-neighbour accuracy of the inputs themselves, with the bank and split of ``config``."""
    split, bank = dataset.split(config.split), _knn_bank(dataset, config.knn_bank)
    rows, queries = (x.flatten(1).float() for x in (dataset.train.inputs[bank], split.inputs))
    return knn_accuracy(rows, dataset.train.labels[bank], queries, split.labels, config.knn_neighbours)


def _outcome(is_alive: bool, metrics: dict[str, float]) -> Outcome:
    if not is_alive or not all(math.isfinite(value) for value in metrics.values()):
        return Outcome.DIVERGED
    if is_collapsed(metrics["mean_cosine"], metrics["effective_rank"]):
        return Outcome.COLLAPSED
    return Outcome.OK


def measure_untrained_knn(pack: Sequence[Replicate], dataset: Dataset) -> list[float | None]:
    """k-nearest-neighbour accuracy of each member before training; it depends on seed, encoder and data only."""
    return PackRun(pack, dataset).knn_accuracies()


def train_pack(pack: Sequence[Replicate], dataset: Dataset, context: RunContext | None = None) -> list[ReplicateResult]:
    """Train a pack to its end in this process, without any executor."""
    untrained = measure_untrained_knn(pack, dataset)
    run = PackRun(pack, dataset, context)
    while not run.is_done:
        run.advance()
    return run.results(untrained)
