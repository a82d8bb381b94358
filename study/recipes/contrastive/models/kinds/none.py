"""No encoder: vectors, or the pixels of images, go straight into the head."""

import math
from typing import TYPE_CHECKING

from study.recipes.contrastive.models.kinds import EncoderKind, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


def _build(
    _: "ModelConfig", input_shape: tuple[int, ...], _generators: "Sequence[torch.Generator]"
) -> "tuple[nn.Module, int]":
    from torch import nn

    return nn.Flatten(start_dim=-len(input_shape)), math.prod(input_shape)


def _floats(_: "ModelConfig", input_shape: tuple[int, ...]) -> Floats:
    inputs = math.prod(input_shape)
    return Floats(inputs=inputs, outputs=inputs, floats_per_frozen_row=inputs)


ENCODER = EncoderKind(takes="both", build=_build, floats=_floats)
