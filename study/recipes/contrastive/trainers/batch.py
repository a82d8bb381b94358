"""Training and evaluation batches of a pack, as tensors on the device.

Shape suffixes: R replicates, M images of the global batch, B local rows, N rows of the global batch, E evaluation
batches, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from study.errors import ConfigError
from study.interface.run import Replicate
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.batches import BatchStream
from study.recipes.contrastive.data.datasets import Dataset, Split
from study.recipes.contrastive.data.labels import labelled_subset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views, draw_view_parameters


@dataclass(frozen=True, kw_only=True)
class TrainBatch:
    """Viewed local rows (R, B, ...) and the ids of the local and of all rows.

    ``labelled`` rows are those whose label the method may use. Behind the B rows, ``inputs`` holds the views of a
    labelled batch of its own, if there is one: L rows with ``extra_labels_RL``, ``num_extra`` over all workers.
    """

    inputs: torch.Tensor
    labels_RB: torch.Tensor
    all_labels_RN: torch.Tensor
    sources_RB: torch.Tensor
    all_sources_RN: torch.Tensor
    labelled_RB: torch.Tensor
    all_labelled_RN: torch.Tensor
    row_offset: int
    step: int
    extra_labels_RL: torch.Tensor | None = None
    num_extra: int = 0

    def contrast_ids(self, contrast: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(local ids, all ids) of positives: sources for InfoNCE; for SupCon classes, and sources without a label."""
        if contrast == "info_nce":
            return self.ids("source")
        return (
            torch.where(self.labelled_RB, self.labels_RB, -1 - self.sources_RB),
            torch.where(self.all_labelled_RN, self.all_labels_RN, -1 - self.all_sources_RN),
        )

    def ids(self, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(local ids, all ids) of the target: class labels or source indices."""
        if target == "class":
            return self.labels_RB, self.all_labels_RN
        return self.sources_RB, self.all_sources_RN


class PackBatches:
    """The training batches of a pack, addressed by step; each worker views its own slice of the global rows."""

    def __init__(self, dataset: Dataset, pack: Sequence[Replicate], rank: int, world_size: int) -> None:
        self._dataset = dataset
        config = pack[0].config
        self._streams = [BatchStream(dataset, member.config, member.seed) for member in pack]
        self._labelled_streams = [
            BatchStream(dataset, member.config, member.seed, is_labelled=True)
            for member in (pack if config.batch.labelled else ())
        ]
        assert config.batch.labelled % world_size == 0, "the executor shares batches evenly"
        self._num_extra = config.batch.labelled
        extra = config.batch.labelled // world_size
        self._extra_rows = slice(rank * extra, (rank + 1) * extra)
        device = dataset.train.labels.device
        assert config.num_images % world_size == 0, "the executor shares batches evenly"
        self._num_views = config.data.num_views
        local = config.batch.train // world_size
        self._rows = slice(rank * local, (rank + 1) * local)
        self._strength_R = torch.tensor([member.config.data.strength for member in pack], device=device)
        self._flip = components.dataset(config.data.name).is_flippable
        self._ranges = config.data.views
        self._is_labelled_RM = self._labelled(pack)

    def _labelled(self, pack: Sequence[Replicate]) -> torch.Tensor:
        """Which training images have a label for each member, (R, M); its subset is drawn by its own seed."""
        labels = self._dataset.train.labels
        fraction, num_classes = pack[0].config.data.label_fraction, self._dataset.num_classes
        if fraction == 1:
            return torch.ones_like(labels, dtype=torch.bool).expand(len(pack), -1)
        masks = torch.zeros(len(pack), len(labels), dtype=torch.bool)
        for mask, member in zip(masks, pack, strict=True):
            mask[labelled_subset(labels.cpu(), num_classes, fraction, member.seed)] = True
        return masks.to(labels.device)

    def batch(self, step: int) -> TrainBatch:
        """The local part of the global batch of ``step``."""
        labels = self._dataset.train.labels
        indices_RM, parameters = self._draw(self._streams, step, self._rows)
        all_sources_RN = indices_RM.repeat_interleave(self._num_views, dim=1)
        all_labels_RN = labels[all_sources_RN]
        all_labelled_RN = self._is_labelled_RM.gather(1, all_sources_RN)
        sources_RB = all_sources_RN[:, self._rows]
        inputs = self._view(sources_RB, parameters)
        extra_labels_RL = None
        if self._labelled_streams:
            extra_RM, parameters = self._draw(self._labelled_streams, step, self._extra_rows)
            extra_RL = extra_RM[:, self._extra_rows]
            extra_labels_RL = labels[extra_RL]
            inputs = torch.cat([inputs, self._view(extra_RL, parameters)], dim=1)
        return TrainBatch(
            inputs=inputs,
            labels_RB=all_labels_RN[:, self._rows],
            all_labels_RN=all_labels_RN,
            sources_RB=sources_RB,
            all_sources_RN=all_sources_RN,
            labelled_RB=all_labelled_RN[:, self._rows],
            all_labelled_RN=all_labelled_RN,
            row_offset=self._rows.start,
            step=step,
            extra_labels_RL=extra_labels_RL,
            num_extra=self._num_extra,
        )

    def _draw(self, streams: Sequence[BatchStream], step: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices (R, M) of the global draws of ``step`` and view parameters (R, B, P) of the local ``rows``."""
        draws = [one.draws(step) for one in streams]
        device = self._dataset.train.labels.device
        indices_RM = torch.stack([d.indices for d in draws]).to(device, non_blocking=True)
        parameters = torch.stack([d.parameters[rows] for d in draws]).to(device, non_blocking=True)
        return indices_RM, parameters

    def _view(self, sources_RB: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """One view of each source, (R, B, ...)."""
        rows = self._dataset.train.inputs[sources_RB].flatten(0, 1)
        strength_B = self._strength_R.repeat_interleave(sources_RB.shape[1])
        viewed = apply_views(rows, parameters.flatten(0, 1), strength_B, self._flip, self._ranges)
        return viewed.unflatten(0, sources_RB.shape)


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Exactly balanced evaluation batches of every replicate, viewed once.

    ``viewed`` has the training strength, ``clean`` strength 0; both (R, E, N, ...). Labels (N,) are the same in
    every batch; ``sources_N`` numbers the images within a batch.
    """

    viewed: torch.Tensor
    clean: torch.Tensor
    labels_N: torch.Tensor
    sources_N: torch.Tensor


def check_evaluation(config: ReplicateConfig, dataset: Dataset) -> None:
    """Raise :class:`ConfigError` where a replicate's batches, label subset or anchors cannot be drawn."""
    num_classes, num_views = dataset.num_classes, config.data.num_views
    if num_classes < 2:
        raise ConfigError(f"{dataset.name} has one class: partners and chance need at least two")
    if config.data.label_fraction < 1:
        labelled_subset(dataset.train.labels.cpu(), num_classes, config.data.label_fraction, seed=0)
    components.method(config.trainer).check_data(config, dataset)
    step = num_classes * num_views
    if config.batch.eval % step or config.batch.eval < 2 * num_classes:
        near = max(round(config.batch.eval / step), 1 if num_views > 1 else 2) * step
        raise ConfigError(
            f"batch.eval={config.batch.eval} cannot be balanced over {num_classes} classes x {num_views} view(s) with "
            f"a partner for every row: use a multiple of {step}, for example {near}"
        )
    if config.num_images > len(dataset.train):
        raise ConfigError(
            f"batch.train={config.batch.train} is larger than the data: {dataset.name} has {len(dataset.train)} "
            f"training images, so use at most {len(dataset.train) * num_views}"
        )
    split = dataset.split(config.evaluation.split)
    per_class = config.batch.eval // step
    smallest = int(torch.bincount(split.labels.cpu(), minlength=num_classes).min())
    if per_class > smallest:
        raise ConfigError(
            f"batch.eval={config.batch.eval} needs {per_class} images of every class, but the "
            f"{config.evaluation.split} split of {dataset.name} has a class with {smallest}: "
            f"use at most {smallest * step}"
        )


def evaluation_set(dataset: Dataset, pack: Sequence[Replicate]) -> EvaluationSet:
    """Draw and view the evaluation batches of each replicate from its own stream."""
    config = pack[0].config
    check_evaluation(config, dataset)
    num_views, ranges = config.data.num_views, config.data.views
    split = dataset.split(config.evaluation.split)
    num_batches, num_rows = config.evaluation.num_batches, config.batch.eval
    device = split.labels.device
    viewed: list[torch.Tensor] = []
    clean: list[torch.Tensor] = []
    for member in pack:
        indices = _balanced_indices(split, dataset.num_classes, num_batches, num_rows // num_views, member.seed)
        indices = indices.repeat_interleave(num_views, dim=1).flatten().to(device)
        generator = stream(member.seed, "evaluation-views")
        parameters = draw_view_parameters(len(indices), dataset.input_shape, generator, ranges=ranges)[0].to(device)
        inputs, flip = split.inputs[indices], components.dataset(config.data.name).is_flippable
        for strength, views in ((member.config.data.strength, viewed), (0.0, clean)):
            strengths = torch.full((len(indices),), strength, device=device)
            images = apply_views(inputs, parameters, strengths, flip, ranges)
            views.append(images.unflatten(0, (num_batches, num_rows)))
    sources_N = torch.arange(num_rows, device=device) // num_views
    return EvaluationSet(
        viewed=torch.stack(viewed),
        clean=torch.stack(clean),
        labels_N=sources_N % dataset.num_classes,
        sources_N=sources_N,
    )


def _balanced_indices(split: Split, num_classes: int, num_batches: int, num_images: int, seed: int) -> torch.Tensor:
    """(E, num_images) indices with class ``i % K`` in column i, without repeats inside a batch."""
    generator = stream(seed, "evaluation")
    per_class = num_images // num_classes
    labels = split.labels.cpu()
    members = [torch.nonzero(labels == k).flatten() for k in range(num_classes)]
    batches = []
    for _ in range(num_batches):
        columns = [m[torch.randperm(len(m), generator=generator)[:per_class]] for m in members]
        batches.append(torch.stack(columns, dim=1).flatten())
    return torch.stack(batches)
