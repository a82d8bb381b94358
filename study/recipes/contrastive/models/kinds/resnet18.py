"""ResNet-18, for images, one replicate per pack."""

import math
from typing import TYPE_CHECKING

from study.recipes.contrastive.models.kinds import EncoderKind, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


# Fitted to peaks that the allocator reports on a CPU.
_PER_PIXEL, _PER_PIXEL_FORWARD = 1500, 340
_PARAMETERS, _FEATURES = 11_170_000, 512


def _build(
    model: "ModelConfig", input_shape: tuple[int, ...], generators: "Sequence[torch.Generator]"
) -> "tuple[nn.Module, int]":
    from study.recipes.contrastive.models.resnet import ResNet18Encoder

    return ResNet18Encoder(input_shape, model.embedding_dim, generators, model.norm), model.embedding_dim


def _floats(model: "ModelConfig", input_shape: tuple[int, ...]) -> Floats:
    _, height, width = input_shape
    return Floats(
        inputs=math.prod(input_shape),
        outputs=model.embedding_dim,
        parameters=_PARAMETERS + _FEATURES * model.embedding_dim,
        floats_per_row=_PER_PIXEL * height * width,
        floats_per_frozen_row=_PER_PIXEL_FORWARD * height * width,
        # The largest kernel in the order that the convolution wants.
        floats=9 * _FEATURES**2,
    )


ENCODER = EncoderKind(takes="images", build=_build, floats=_floats, joint_rows=None, has_norm=True)
