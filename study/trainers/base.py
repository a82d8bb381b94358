"""What a trainer is: a model with an embedding, a loss whose worker shares add up, and its metrics."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import nn

from study.config import ReplicateConfig
from study.data.datasets import Dataset
from study.models.encoders import build_encoder
from study.models.packed import Gather
from study.trainers.batch import EvaluationSet, TrainBatch

_EMBED_ROWS = 1024


class EmbeddingModel(nn.Module):
    """A pack's encoder, initialised with one generator per replicate, under whatever head a trainer adds."""

    def __init__(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.encoder, self.embedding_dim = build_encoder(
            config.model, dataset.input_shape, dataset.mean, dataset.std, generators
        )

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embeddings (R, N, D) of inputs (R, N, ...)."""
        return self.encoder(inputs)


ModelT = TypeVar("ModelT", bound=EmbeddingModel)


class Trainer(Protocol[ModelT]):
    """One training method; stateless, so that one instance serves every pack."""

    def build(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> ModelT:
        """The model of a pack with one generator per replicate."""
        ...

    def loss(
        self, model: nn.Module, batch: TrainBatch, config: ReplicateConfig, gather: Gather
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This worker's share of each replicate's loss, (R,), and of named diagnostics: shares add up over workers."""
        ...

    def evaluate(self, model: ModelT, evaluation: EvaluationSet, config: ReplicateConfig) -> dict[str, torch.Tensor]:
        """Metrics of each replicate, (R,) each, on its evaluation batches."""
        ...


def embed_in_chunks(model: EmbeddingModel, inputs: torch.Tensor) -> torch.Tensor:
    """Embeddings of (R, N, ...) inputs, (R, N, D), without the memory of one joint pass."""
    rows = max(1, _EMBED_ROWS // inputs.shape[0])
    return torch.cat([model.embed(chunk) for chunk in inputs.split(rows, dim=1)], dim=1)
