"""Supervised cross-entropy on a seeded, stratified fraction of the labels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.evaluation import effective_rank, mean_cosine
from study.recipes.contrastive.models.packed import Gather, PackedLinear, identity_gather
from study.recipes.contrastive.trainers.base import EmbeddingModel, Trainer, in_chunks
from study.recipes.contrastive.trainers.batch import EvaluationSet, TrainBatch


class Classifier(EmbeddingModel):
    """Encoder and one linear layer of a pack; returns logits (R, N, K)."""

    def __init__(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> None:
        super().__init__(config, dataset, generators)
        self.classify = PackedLinear(self.output_dim, dataset.num_classes, generators, bias=True)

    def head(self, z: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0) -> torch.Tensor:
        return self.classify(F.relu(self.project(z)))


class SupervisedTrainer(Trainer[Classifier]):
    """Cross-entropy of views of the labelled images; judged by accuracy on the evaluation batches."""

    def build(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> Classifier:
        return Classifier(config, dataset, generators)

    def loss(
        self, model: nn.Module, batch: TrainBatch, config: ReplicateConfig, gather: Gather
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits_RBK = model(batch.inputs)
        losses_RB = F.cross_entropy(logits_RBK.movedim(-1, 1), batch.labels_RB, reduction="none")
        return losses_RB.sum(-1) / batch.all_labels_RN.shape[-1], {}

    def evaluate(
        self, model: Classifier, evaluation: EvaluationSet, config: ReplicateConfig
    ) -> dict[str, torch.Tensor]:
        metrics = {}
        for suffix, inputs in (("", evaluation.viewed), ("_clean", evaluation.clean)):
            z = in_chunks(model.embed, inputs.flatten(1, 2))
            predicted = model.head(z).argmax(-1).unflatten(1, inputs.shape[1:3])
            metrics[f"accuracy{suffix}"] = (predicted == evaluation.labels_N).float().mean((-2, -1))
            if not suffix:
                metrics |= {"effective_rank": effective_rank(z), "mean_cosine": mean_cosine(z)}
        return metrics
