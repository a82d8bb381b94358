"""Gradient caching: a global batch whose encoder pass does not fit into memory (Gao et al. 2021, arXiv 2101.06983).

The encoder runs in chunks without a graph, the head and the loss on all embeddings at once, and then the encoder runs
again chunk by chunk with the embeddings' gradients. Gradients are those of one joint pass for every encoder that
treats rows apart; it costs a second forward pass of the encoder.
"""

from typing import Any

import torch

from study.recipes.contrastive.models.packed import Gather, identity_gather
from study.recipes.contrastive.trainers.base import EmbeddingModel


class CachedForward:
    """Stands in for a model in one loss: call it, go backward through the loss, then call :meth:`backward`.

    Args:
        model: encoder and head of a pack.
        rows: local rows of one encoder pass, per replicate.
    """

    def __init__(self, model: EmbeddingModel, rows: int) -> None:
        assert rows >= 1
        self._model = model
        self._rows = rows
        self._inputs: torch.Tensor | None = None
        self._embeddings: torch.Tensor | None = None

    def __call__(self, inputs: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0) -> Any:
        """The head's view of the embeddings of (R, B, ...) inputs."""
        with torch.no_grad():
            z_RBD = torch.cat([self._model.embed(chunk) for chunk in inputs.split(self._rows, dim=1)], dim=1)
        self._inputs, self._embeddings = inputs, z_RBD.requires_grad_()
        return self._model.head(self._embeddings, gather, row_offset)

    def backward(self) -> None:
        """Carry the gradients that the loss left at the embeddings on into the encoder's parameters."""
        assert self._inputs is not None
        assert self._embeddings is not None
        gradient = self._embeddings.grad
        assert gradient is not None
        for chunk, upstream in zip(self._inputs.split(self._rows, 1), gradient.split(self._rows, 1), strict=True):
            self._model.embed(chunk).backward(upstream)
        self._inputs = self._embeddings = None
