"""The training loop: one for every trainer, executor and number of workers.

A :class:`PackRun` trains replicates of one shape together and is advanced from outside: a Tune Trainable, a
Train worker or a plain loop calls :meth:`PackRun.advance` until it is done. What differs between them (ranks,
gathers, checkpoints) is in the :class:`RunContext` they pass.
"""

import functools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from study.errors import ConfigError
from study.interface.run import CurvePoint, Progress, Replicate, Result
from study.outcome import Outcome
from study.recipes.contrastive import components
from study.recipes.contrastive.config import pack_shape
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.evaluation import is_collapsed
from study.recipes.contrastive.trainers.base import in_chunks
from study.recipes.contrastive.trainers.batch import EvaluationSet, PackBatches, evaluation_set
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.downstream import measure_members
from study.recipes.contrastive.trainers.gradient_cache import CachedForward
from study.recipes.contrastive.trainers.optimizer import PackOptimizer
from study.recipes.contrastive.trainers.view_cosines import encoder_moments

_MAX_STEPS_PER_REPORT = 500
# What a checkpoint holds; another format is as good as no checkpoint.
_CHECKPOINT_FORMAT = 2
_CHECKPOINT_FIELDS = {"step", "seconds", "bad_step", "curves", "sums", "counts", "optimizer", "buffers"}


@dataclass
class _Member:
    """The mutable record of one replicate of the pack."""

    replicate: Replicate
    curves: list[CurvePoint] = field(default_factory=list)


class PackRun:
    """Train a pack: replicates that share everything but seed, learning rate and strength.

    Each member's numbers are those it gives alone, up to the rounding of a batched product. A member whose loss
    is no longer finite is marked and its numbers are dropped; members share no tensor entry, so the others go on. A
    pack of marked members alone ends with the next report: nothing that its replicates could still do is a result
    (only the steps recorded of a diverged member tell how long its pack went on).
    With a checkpoint store a pack resumes where it was, provided that its members all stand at the same step.
    """

    def __init__(self, pack: Sequence[Replicate], dataset: Dataset, context: RunContext | None = None) -> None:
        context = RunContext() if context is None else context
        assert len({pack_shape(member.config) for member in pack}) == 1, "a pack has one shape"
        self._members = [_Member(member) for member in pack]
        self._context = context
        self._config = pack[0].config
        self._trainer = components.method(self._config.trainer).trainer()
        self._num_steps = self._config.num_steps
        self._dataset = dataset
        self._device = dataset.train.labels.device
        self._batches = PackBatches(dataset, pack, context.rank, context.world_size)
        generators = [stream(member.seed, "initialisation") for member in pack]
        self.model = self._trainer.build(self._config, dataset, generators).to(self._device)
        rates = [member.config.optimizer.learning_rate for member in pack]
        self.optimizer = PackOptimizer(self.model.parameters(), rates, self._config.optimizer)
        self._wrapped = context.wrap(self.model)
        self._cached = self._gradient_cache()
        # The step whose loss was not finite, counted from 1; 0 for a member that is alive.
        self._bad_step_R = torch.zeros(len(pack), dtype=torch.long, device=self._device)
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._step = 0
        self._has_begun = False
        self._has_diverged = False
        self._seconds = 0.0
        points = self._config.evaluation.num_points
        self._evaluation_steps = {round(i * self._num_steps / points) for i in range(points + 1)}
        # Reports come at fixed steps: all workers of a distributed run must report equally often.
        self._report_interval = min(max(self._num_steps // 20, 1), _MAX_STEPS_PER_REPORT)
        self._restore()
        self._last_checkpoint = time.monotonic()

    def _gradient_cache(self) -> CachedForward | None:
        """A chunked encoder pass where the local batch is larger than one pass may be."""
        has_batch_norm = self._config.model.norm == "batch"
        if has_batch_norm and self._context.world_size > 1:
            raise ConfigError(
                "model.norm=batch needs one worker: its statistics would be those of each worker's part of the batch"
            )
        rows = self._context.encoder_rows
        all_rows = self._config.batch.train + self._config.batch.labelled
        is_small = rows is None or rows * self._context.world_size >= all_rows
        if is_small or has_batch_norm or not list(self.model.encoder.parameters()):
            return None
        assert rows is not None
        return CachedForward(self.model, rows)

    @functools.cached_property
    def _evaluation(self) -> EvaluationSet:
        """The evaluation batches, drawn and viewed when first needed, by rank 0 only."""
        return evaluation_set(self._dataset, [member.replicate for member in self._members])

    @property
    def is_done(self) -> bool:
        # A pack without a step is done once it was judged.
        return self._has_begun and (self._step >= self._num_steps or self._has_diverged)

    def advance(self) -> Progress:
        """Train until the next evaluation or report, whichever comes first."""
        start = time.monotonic()
        self._has_begun = True
        if self._step == 0 and not self._members[0].curves:
            self._evaluate()
        while not self.is_done:
            self._train_step()
            if self._step in self._evaluation_steps:
                self._evaluate()
                break
            if self._step % self._report_interval == 0:
                break
        # Asked once per report: the answer waits for the device, and is the same on all workers.
        self._has_diverged = bool((self._bad_step_R > 0).all())
        self._seconds += time.monotonic() - start
        self._maybe_checkpoint()
        return Progress(step=self._step, num_steps=self._num_steps, seconds=self._seconds)

    def _train_step(self) -> None:
        self.optimizer.zero_grad()
        loss_R = self.loss_and_gradient(self._step)
        self.optimizer.step(self._step, self._num_steps)
        self._step += 1
        is_first_bad = ~torch.isfinite(loss_R) & (self._bad_step_R == 0)
        self._bad_step_R[is_first_bad] = self._step
        if self._trainer.once and self._context.rank == 0:
            self._watch()

    @torch.no_grad()
    def _watch(self) -> None:
        once = {*self._trainer.once}
        seen = [{p.metric for p in member.curves if p.metric in once} for member in self._members]
        found = self._trainer.watch(self.model, lambda: self._evaluation, self._config, self._step, seen)
        for name, values in found.items():
            for member, value in zip(self._members, values, strict=True):
                if value is not None:
                    self._add_point(member, name, value)

    def _add_point(self, member: "_Member", metric: str, value: float) -> None:
        examples = self._step * self._config.num_images
        member.curves.append(CurvePoint(examples=examples, metric=metric, value=value))

    def loss_and_gradient(self, step: int) -> torch.Tensor:
        """Global loss of each replicate on the batch of ``step``, (R,); gradients are added to the parameters'."""
        context = self._context
        batch = self._batches.batch(step)
        model: Any = self._wrapped if self._cached is None else self._cached
        share_R, diagnostics = self._trainer.loss(model, batch, self._config, context.gather)
        if self._cached is None:
            # DDP averages gradients over workers; shares add up, so the average is undone here.
            (share_R.sum() * context.world_size).backward()
        else:
            share_R.sum().backward()
            self._cached.backward()
            for p in self.model.parameters():
                assert p.grad is not None
                p.grad.copy_(context.sum_over_workers(p.grad))
        shares = {"train_loss": share_R.detach()} | diagnostics
        totals = context.sum_over_workers(torch.stack(list(shares.values())))
        for name, total_R in zip(shares, totals, strict=True):
            self._sums[name] = self._sums.get(name, 0) + total_R
            self._counts[name] += 1
        return totals[0]

    @torch.no_grad()
    def _evaluate(self) -> None:
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, Counter()
        if self._context.rank != 0:
            return
        self.model.eval()
        measured = self._trainer.evaluate(self.model, self._evaluation, self._config) | self._measured()
        self.model.train()
        values = means | {name: value.tolist() for name, value in measured.items()}
        for name, per_member in values.items():
            for member, value in zip(self._members, per_member, strict=True):
                self._add_point(member, name, float(value))

    def _measured(self) -> dict[str, torch.Tensor]:
        """The metrics of the judged embeddings."""
        wanted = [found for found in components.embedding_metrics() if found.is_reported(self._config)]
        if not wanted:
            return {}
        inputs = self._evaluation.viewed
        z_REND = in_chunks(self.model.judged, inputs.flatten(1, 2)).unflatten(1, inputs.shape[1:3])
        return {found.metric.name: found.of(z_REND, self._evaluation) for found in wanted}

    def results(self, untrained: Sequence[Mapping[str, float]]) -> list[Result]:
        """Results of all members, on rank 0, once the run is done.

        Args:
            untrained: what :func:`measure_untrained` gives of each member.
        """
        assert self.is_done
        assert self._context.rank == 0
        start = time.monotonic()
        trained = self.downstream()
        bad_steps = self._bad_step_R.tolist()
        seconds = self._seconds + time.monotonic() - start
        results = []
        for member, bad_step, after, untrained_ in zip(self._members, bad_steps, trained, untrained, strict=True):
            first, last = member.curves[0].examples, member.curves[-1].examples
            before = {p.metric: p.value for p in member.curves if p.examples == first} | dict(untrained_)
            metrics = {
                p.metric: p.value for p in member.curves if p.examples == last or p.metric in self._trainer.once
            } | after
            outcome = _outcome(bad_step == 0, metrics)
            has_diverged = outcome is Outcome.DIVERGED
            results.append(
                Result(
                    replicate=member.replicate,
                    outcome=outcome,
                    metrics={} if has_diverged else metrics,
                    before=before,
                    curves=tuple(p for p in member.curves if math.isfinite(p.value)),
                    examples=self._step * self._config.num_images,
                    steps=self._step,
                    seconds=seconds / len(self._members),
                    note=_divergence_sentence(bad_step, self._num_steps) if has_diverged else "",
                )
            )
        return results

    def delete_checkpoints(self) -> None:
        """Drop the checkpoints of a pack whose results are safe."""
        if self._context.checkpoints is not None and self._context.rank == 0:
            for member in self._members:
                self._context.checkpoints.delete(member.replicate.key)

    def downstream(self) -> list[dict[str, float]]:
        """Nearest neighbours and linear probes of each member's embeddings as they are now."""
        pack = [member.replicate for member in self._members]
        return measure_members(self.model, pack, self._dataset, (self._bad_step_R == 0).tolist())

    def _maybe_checkpoint(self) -> None:
        context = self._context
        if context.checkpoints is None or context.rank != 0 or self.is_done:
            return
        if time.monotonic() - self._last_checkpoint < context.checkpoint_seconds:
            return
        for index, member in enumerate(self._members):
            state = {
                "format": _CHECKPOINT_FORMAT,
                "step": self._step,
                "seconds": self._seconds,
                "bad_step": int(self._bad_step_R[index]),
                "curves": [(p.examples, p.metric, p.value) for p in member.curves],
                "sums": {name: float(total[index]) for name, total in self._sums.items()},
                "counts": dict(self._counts),
                "optimizer": self.optimizer.replicate_state(index),
                "buffers": self.replicate_buffers(index),
            }
            context.checkpoints.save(member.replicate.key, state)
        self._last_checkpoint = time.monotonic()

    def replicate_buffers(self, index: int) -> list[torch.Tensor]:
        """What a member's model remembers beside its weights (anchors, running statistics), on the CPU."""
        return [self._slice(buffer, index).detach().cpu().clone() for buffer in self.model.buffers()]

    def _slice(self, buffer: torch.Tensor, index: int) -> torch.Tensor:
        """A member's part of a buffer; in a pack of one, the buffer of a library's layer is the member's whole."""
        return buffer if len(self._members) == 1 else buffer[index : index + 1]

    def _restore(self) -> None:
        if self._context.checkpoints is None:
            return
        states = [self._context.checkpoints.load(member.replicate.key) for member in self._members]
        found = [state for state in states if state is not None and state.get("format") == _CHECKPOINT_FORMAT]
        if len(found) < len(states) or any(_CHECKPOINT_FIELDS - state.keys() for state in found):
            return
        if len({state["step"] for state in found}) != 1:
            return
        for index, (member, state) in enumerate(zip(self._members, found, strict=True)):
            self.optimizer.load_replicate_state(index, state["optimizer"])
            member.curves = [CurvePoint(examples=e, metric=m, value=v) for e, m, v in state["curves"]]
            self._bad_step_R[index] = state["bad_step"]
            for buffer, saved in zip(self.model.buffers(), state["buffers"], strict=True):
                self._slice(buffer, index).copy_(saved)
        first = found[0]
        self._step, self._seconds, self._counts = first["step"], first["seconds"], Counter(first["counts"])
        self._sums = {
            name: torch.tensor([state["sums"][name] for state in found], device=self._device) for name in first["sums"]
        }


def _divergence_sentence(bad_step: int, num_steps: int) -> str:
    if not bad_step:
        return "a metric was not finite at the end"
    cause = "are the inputs or the loss's settings sound?" if bad_step == 1 else "a smaller learning rate may help"
    return f"the loss was not finite from step {bad_step} of {num_steps} on: {cause}"


def _outcome(is_alive: bool, metrics: dict[str, float]) -> Outcome:
    if not is_alive or not all(math.isfinite(value) for value in metrics.values()):
        return Outcome.DIVERGED
    if is_collapsed(metrics["mean_cosine"], metrics["effective_rank"]):
        return Outcome.COLLAPSED
    return Outcome.OK


def measure_untrained(pack: Sequence[Replicate], dataset: Dataset) -> list[dict[str, float]]:
    """The downstream measures of each member before training; they depend on seed, encoder and data only."""
    return PackRun(pack, dataset).downstream()


def measure_view_moments(pack: Sequence[Replicate], dataset: Dataset) -> list[dict[str, float]]:
    """Cosine moments of views of training images, as each member's encoder sees them before training."""
    return encoder_moments(PackRun(pack, dataset).model, len(pack), dataset, pack[0].config)


def train_pack(pack: Sequence[Replicate], dataset: Dataset, context: RunContext | None = None) -> list[Result]:
    """Train a pack to its end in this process, without any executor."""
    untrained = measure_untrained(pack, dataset)
    run = PackRun(pack, dataset, context)
    while not run.is_done:
        run.advance()
    return run.results(untrained)
