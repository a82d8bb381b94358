"""Encoders from a pack of batches to embeddings, and the projection behind them.

Shape suffixes: R replicates, N rows, C channels, H height, W width, I inputs, D embedding dimensions.
"""

from collections.abc import Sequence

import torch
from torch import nn

from study.recipes.contrastive import components
from study.recipes.contrastive.config import ModelConfig


class Normalise(nn.Module):
    """Pixels in [0, 1] to mean 0 and standard deviation 1 over the training split."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


def build_encoder(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    pixel_mean: float,
    pixel_std: float,
    generators: Sequence[torch.Generator],
) -> tuple[nn.Module, int]:
    """The encoder of a pack, initialised replicate by replicate, and its embedding dimension."""
    kind = components.encoder(config.encoder)
    encoder, embedding_dim = kind.build(config, input_shape, generators)
    if kind.takes == "images":
        encoder = nn.Sequential(Normalise(pixel_mean, pixel_std), encoder)
    return encoder, embedding_dim
