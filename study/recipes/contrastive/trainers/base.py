"""What a trainer is: a model with an embedding, a loss whose worker shares add up, and its metrics."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.models.encoders import build_encoder
from study.recipes.contrastive.models.mlp import PackedMLP
from study.recipes.contrastive.models.packed import Gather, identity_gather
from study.recipes.contrastive.trainers.batch import EvaluationSet, TrainBatch

_EMBED_ROWS = 1024


class EmbeddingModel(nn.Module):
    """A pack's encoder, initialised with one generator per replicate, and the projection behind it.

    A trainer adds a ``head``: what the loss sees of embeddings. Apart from the encoder, a head may look at all rows
    of the global batch through ``gather``.
    """

    def __init__(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.encoder, self.embedding_dim = build_encoder(
            config.model, dataset.input_shape, dataset.mean, dataset.std, generators
        )
        width = config.model.projection_dim
        self.projection = PackedMLP(self.embedding_dim, self.embedding_dim, width, generators) if width else None
        self.output_dim = width or self.embedding_dim
        self.is_bfloat16 = config.precision == "bfloat16"

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embeddings (R, N, D) of inputs (R, N, ...)."""
        if not self.is_bfloat16:
            return self.encoder(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self.encoder(inputs).float()

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """Projections (R, ..., output_dim) of embeddings (R, ..., D); the embeddings where there is none."""
        return z if self.projection is None else self.projection(z)

    def judged(self, inputs: torch.Tensor) -> torch.Tensor:
        """The vectors (R, N, ...) whose collapse counts, in evaluation: the embeddings, unless a trainer says else."""
        return self.embed(inputs)

    def head(self, z: torch.Tensor, gather: Gather, row_offset: int) -> Any:
        """What the loss sees of embeddings (R, B, D)."""
        raise NotImplementedError

    def forward(self, inputs: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0) -> Any:
        return self.head(self.embed(inputs), gather, row_offset)


ModelT = TypeVar("ModelT", bound=EmbeddingModel)


class Trainer(Generic[ModelT]):
    """What trains by one method; stateless, so that one instance serves every pack.

    ``once`` names metrics that describe a step and not the end of training: :meth:`watch` measures them.
    """

    once: tuple[str, ...] = ()

    def build(self, config: ReplicateConfig, dataset: Dataset, generators: Sequence[torch.Generator]) -> ModelT:
        """The model of a pack with one generator per replicate."""
        raise NotImplementedError

    def loss(
        self, model: nn.Module, batch: TrainBatch, config: ReplicateConfig, gather: Gather
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This worker's share of each replicate's loss, (R,), and of named diagnostics: shares add up over workers.

        ``model`` is called as :meth:`EmbeddingModel.forward` is: it may be wrapped.
        """
        raise NotImplementedError

    def evaluate(self, model: ModelT, evaluation: EvaluationSet, config: ReplicateConfig) -> dict[str, torch.Tensor]:
        """Metrics of each replicate, (R,) each, on its evaluation batches."""
        raise NotImplementedError

    def watch(
        self,
        model: ModelT,
        evaluation: Callable[[], EvaluationSet],
        config: ReplicateConfig,
        step: int,
        seen: Sequence[Collection[str]],
    ) -> dict[str, list[float | None]]:
        """What is measured once, after a step (the first is 1), of every replicate; None where it is not now.

        Args:
            seen: what of it was measured before, of every replicate.
        """
        return {}


def product_dtype(config: ReplicateConfig) -> torch.dtype | None:
    """To what the operands of a loss's products are rounded (None: not at all); sums stay in float32."""
    return torch.bfloat16 if config.precision == "bfloat16" else None


def in_chunks(embed: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """``embed`` of (R, N, ...) inputs, (R, N, D), without the memory of one joint pass."""
    rows = max(1, _EMBED_ROWS // inputs.shape[0])
    return torch.cat([embed(chunk) for chunk in inputs.split(rows, dim=1)], dim=1)
