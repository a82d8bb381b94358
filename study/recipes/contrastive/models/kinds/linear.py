"""One matrix, for vectors."""

import math
from typing import TYPE_CHECKING

from study.recipes.contrastive.models.kinds import EncoderKind, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


def _build(
    model: "ModelConfig", input_shape: tuple[int, ...], generators: "Sequence[torch.Generator]"
) -> "tuple[nn.Module, int]":
    from study.recipes.contrastive.models.packed import PackedLinear

    return PackedLinear(input_shape[0], model.embedding_dim, generators, bias=False), model.embedding_dim


def _floats(model: "ModelConfig", input_shape: tuple[int, ...]) -> Floats:
    inputs, outputs = math.prod(input_shape), model.embedding_dim
    return Floats(
        inputs=inputs,
        outputs=outputs,
        parameters=inputs * outputs,
        floats_per_row=3 * outputs,
        floats_per_frozen_row=2 * outputs,
    )


ENCODER = EncoderKind(takes="vectors", build=_build, floats=_floats)
