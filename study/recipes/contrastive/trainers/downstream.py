"""What frozen embeddings are good for: nearest neighbours and linear probes on the whole evaluation split.

Shape suffixes: R replicates, N rows, D embedding dimensions. Embeddings are of unaugmented inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from study.interface.run import Replicate
from study.recipes.contrastive.config import EvaluationConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.labels import labelled_subset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.evaluation import knn_accuracy, linear_probe_accuracy
from study.recipes.contrastive.trainers.base import EmbeddingModel, in_chunks

_KNN_BANK_SEED = 0


def is_wanted(config: EvaluationConfig) -> bool:
    """Whether anything here is to be measured."""
    return config.knn_bank > 0 or config.linear_probe


def knn_bank(dataset: Dataset, size: int) -> torch.Tensor:
    """Indices of the bank: a subset of the training split that is the same for every replicate."""
    order = torch.randperm(len(dataset.train), generator=stream(_KNN_BANK_SEED, "knn-bank"))
    return order[:size].to(dataset.train.labels.device)


def measure_raw(dataset: Dataset, config: EvaluationConfig) -> dict[str, float]:
    """The same measures of the inputs themselves, with all labels."""
    features = _features(lambda inputs: inputs.flatten(1).float()[None], dataset, config, needs_all=config.linear_probe)
    return _measure(features.member(0), dataset, config, None)


@torch.no_grad()
def measure_members(
    model: EmbeddingModel, pack: Sequence[Replicate], dataset: Dataset, is_alive: Sequence[bool]
) -> list[dict[str, float]]:
    """Measures of each member's embeddings; empty for one that is not alive or finite, or where nothing is wanted.

    ``knn_accuracy`` and ``probe_full_accuracy`` know the labels of the whole bank or training split; with a label
    fraction below 1, ``knn_labelled_accuracy`` and ``probe_accuracy`` know those that the method had.
    """
    config, fraction = pack[0].config, pack[0].config.data.label_fraction
    if not is_wanted(config.evaluation):
        return [{} for _ in pack]
    model.eval()
    features = _features(
        lambda inputs: _embed_all(model, len(pack), dataset.is_images, inputs),
        dataset,
        config.evaluation,
        needs_all=config.evaluation.linear_probe or fraction < 1,
    )
    model.train()
    results: list[dict[str, float]] = []
    labels = dataset.train.labels
    for index, (member, alive) in enumerate(zip(pack, is_alive, strict=True)):
        labelled = None
        if fraction < 1:
            labelled = labelled_subset(labels.cpu(), dataset.num_classes, fraction, member.seed).to(labels.device)
        own = features.member(index)
        results.append(_measure(own, dataset, config.evaluation, labelled) if alive and own.is_finite else {})
    return results


@dataclass(frozen=True, kw_only=True)
class _Features:
    """Features (R, N, D), or (N, D) of one member, of the splits; ``train`` of all its rows or of the bank alone."""

    train: torch.Tensor
    validation: torch.Tensor | None
    queries: torch.Tensor
    has_all: bool

    @property
    def is_finite(self) -> bool:
        """Whether the last update left something that can be measured."""
        return bool(torch.isfinite(self.train).all() and torch.isfinite(self.queries).all())

    def member(self, index: int) -> "_Features":
        validation = None if self.validation is None else self.validation[index]
        return _Features(
            train=self.train[index], validation=validation, queries=self.queries[index], has_all=self.has_all
        )


def _features(
    embed: Callable[[torch.Tensor], torch.Tensor], dataset: Dataset, config: EvaluationConfig, *, needs_all: bool
) -> _Features:
    train = dataset.train.inputs if needs_all else dataset.train.inputs[knn_bank(dataset, config.knn_bank)]
    return _Features(
        train=embed(train),
        validation=embed(dataset.validation.inputs) if config.linear_probe else None,
        queries=embed(dataset.split(config.split).inputs),
        has_all=needs_all,
    )


def _measure(
    features: _Features, dataset: Dataset, config: EvaluationConfig, labelled: torch.Tensor | None
) -> dict[str, float]:
    """kNN and probes of one member; ``labelled`` are the training rows that its method knew, None for all."""
    labels, queries = dataset.train.labels, (features.queries, dataset.split(config.split).labels)
    metrics = {}
    if config.knn_bank:
        bank = knn_bank(dataset, config.knn_bank)
        rows = features.train[bank] if features.has_all else features.train
        metrics["knn_accuracy"] = knn_accuracy(rows, labels[bank], *queries, config.knn_neighbours)
        if labelled is not None:
            metrics["knn_labelled_accuracy"] = knn_accuracy(
                features.train[labelled], labels[labelled], *queries, config.knn_neighbours
            )
    if config.linear_probe:
        assert features.validation is not None
        choose = (features.validation, dataset.validation.labels)
        metrics["probe_full_accuracy"] = linear_probe_accuracy((features.train, labels), choose, queries)
        metrics["probe_accuracy"] = (
            metrics["probe_full_accuracy"]
            if labelled is None
            else linear_probe_accuracy((features.train[labelled], labels[labelled]), choose, queries)
        )
    return metrics


def _embed_all(model: EmbeddingModel, num_members: int, is_images: bool, inputs: torch.Tensor) -> torch.Tensor:
    """Embeddings of unaugmented inputs by every member, (R, N, D)."""
    chunks = []
    for chunk in inputs.split(2048):
        ready = chunk / 255 if is_images else nn.functional.normalize(chunk, dim=-1)
        chunks.append(in_chunks(model.embed, ready.expand(num_members, *ready.shape)))
    return torch.cat(chunks, dim=1)
