"""A hidden layer of four widths, for vectors."""

import math
from typing import TYPE_CHECKING

from study.recipes.contrastive.models.kinds import EncoderKind, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


_HIDDEN_PER_WIDTH = 4


def _build(
    model: "ModelConfig", input_shape: tuple[int, ...], generators: "Sequence[torch.Generator]"
) -> "tuple[nn.Module, int]":
    from study.recipes.contrastive.models.mlp import PackedMLP

    hidden = _HIDDEN_PER_WIDTH * model.width
    return PackedMLP(input_shape[0], hidden, model.embedding_dim, generators), model.embedding_dim


def _floats(model: "ModelConfig", input_shape: tuple[int, ...]) -> Floats:
    inputs, outputs, hidden = math.prod(input_shape), model.embedding_dim, _HIDDEN_PER_WIDTH * model.width
    size = hidden + outputs
    return Floats(
        inputs=inputs,
        outputs=outputs,
        parameters=hidden * (inputs + outputs),
        floats_per_row=3 * size,
        floats_per_frozen_row=2 * size,
    )


ENCODER = EncoderKind(takes="vectors", build=_build, floats=_floats)
