"""Training and evaluation batches of a pack, as tensors on the device.

Shape suffixes: R replicates, M images of the global batch, B local rows, N rows of the global batch, E evaluation
batches, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from study.config import ConfigError, Replicate, ReplicateConfig
from study.data.batches import BatchStream
from study.data.datasets import Dataset, Split
from study.data.streams import stream
from study.data.views import apply_views, draw_view_parameters

# Classes of these data sets survive a horizontal flip.
_FLIPPABLE = {"fashion_mnist", "cifar10", "cifar100"}


@dataclass(frozen=True, kw_only=True)
class TrainBatch:
    """Viewed local rows (R, B, ...) and the ids of the local and of all rows."""

    inputs: torch.Tensor
    labels_RB: torch.Tensor
    all_labels_RN: torch.Tensor
    sources_RB: torch.Tensor
    all_sources_RN: torch.Tensor
    row_offset: int

    def ids(self, target: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(local ids, all ids) of the target: class labels or source indices."""
        if target == "class":
            return self.labels_RB, self.all_labels_RN
        return self.sources_RB, self.all_sources_RN


class PackBatches:
    """The training batches of a pack, addressed by step; each worker views its own slice of the global rows."""

    def __init__(self, dataset: Dataset, pack: Sequence[Replicate], rank: int, world_size: int) -> None:
        self._dataset = dataset
        self._streams = [BatchStream(dataset, member.config, member.seed) for member in pack]
        config = pack[0].config
        device = dataset.train.labels.device
        assert config.num_images % world_size == 0, "the executor shares batches evenly"
        self._num_views = config.data.num_views
        local = config.batch.train // world_size
        self._rows = slice(rank * local, (rank + 1) * local)
        strength_R = torch.tensor([member.config.data.strength for member in pack], device=device)
        self._strength_B = strength_R.repeat_interleave(local)
        self._flip = config.data.name in _FLIPPABLE

    def batch(self, step: int) -> TrainBatch:
        """The local part of the global batch of ``step``."""
        train = self._dataset.train
        draws = [s.draws(step) for s in self._streams]
        device = train.labels.device
        indices_RM = torch.stack([d.indices for d in draws]).to(device, non_blocking=True)
        all_sources_RN = indices_RM.repeat_interleave(self._num_views, dim=1)
        all_labels_RN = train.labels[all_sources_RN]
        sources_RB = all_sources_RN[:, self._rows]
        parameters = torch.stack([d.parameters[self._rows] for d in draws]).to(device, non_blocking=True)
        viewed = apply_views(
            train.inputs[sources_RB].flatten(0, 1), parameters.flatten(0, 1), self._strength_B, self._flip
        )
        return TrainBatch(
            inputs=viewed.unflatten(0, sources_RB.shape),
            labels_RB=all_labels_RN[:, self._rows],
            all_labels_RN=all_labels_RN,
            sources_RB=sources_RB,
            all_sources_RN=all_sources_RN,
            row_offset=self._rows.start,
        )


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
    """Raise :class:`ConfigError` where balanced evaluation batches or training batches cannot be drawn."""
    num_classes, num_views = dataset.num_classes, config.data.num_views
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
    num_views = config.data.num_views
    split = dataset.split(config.evaluation.split)
    num_batches, num_rows = config.evaluation.num_batches, config.batch.eval
    device = split.labels.device
    viewed: list[torch.Tensor] = []
    clean: list[torch.Tensor] = []
    for member in pack:
        indices = _balanced_indices(split, dataset.num_classes, num_batches, num_rows // num_views, member.seed)
        indices = indices.repeat_interleave(num_views, dim=1).flatten().to(device)
        generator = stream(member.seed, "evaluation-views")
        parameters = draw_view_parameters(len(indices), dataset.input_shape, generator)[0].to(device)
        inputs, flip = split.inputs[indices], config.data.name in _FLIPPABLE
        for strength, views in ((member.config.data.strength, viewed), (0.0, clean)):
            strengths = torch.full((len(indices),), strength, device=device)
            views.append(apply_views(inputs, parameters, strengths, flip).unflatten(0, (num_batches, num_rows)))
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
