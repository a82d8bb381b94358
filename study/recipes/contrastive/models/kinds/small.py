"""Three small convolutions, for images: seconds per replicate on a laptop."""

import math
from typing import TYPE_CHECKING

from study.recipes.contrastive.models.kinds import EncoderKind, Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from study.recipes.contrastive.config import ModelConfig


_MULTIPLES = (1, 2, 4)


def _build(
    model: "ModelConfig", input_shape: tuple[int, ...], generators: "Sequence[torch.Generator]"
) -> "tuple[nn.Module, int]":
    from study.recipes.contrastive.models.small import SmallEncoder

    return SmallEncoder(input_shape, model.width, model.embedding_dim, generators, model.norm), model.embedding_dim


def _floats(model: "ModelConfig", input_shape: tuple[int, ...]) -> Floats:
    inputs, (channels, height, width) = math.prod(input_shape), input_shape
    parameters, layers = 0, []
    for multiple in _MULTIPLES:
        height, width = (height + 1) // 2, (width + 1) // 2
        parameters += 9 * channels * model.width * multiple
        channels = model.width * multiple
        layers.append(channels * height * width)
    return Floats(
        inputs=inputs,
        outputs=model.embedding_dim,
        parameters=parameters + layers[-1] * model.embedding_dim,
        floats_per_row=3 * sum(layers) + 2 * inputs,
        floats_per_frozen_row=2.5 * max(layers) + inputs,
    )


# Past about 256 rows a grouped convolution loses on a CPU. Nothing was measured on a GPU.
ENCODER = EncoderKind(takes="images", build=_build, floats=_floats, joint_rows=256, has_norm=True)
