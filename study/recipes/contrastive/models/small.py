"""A small convolutional encoder.

Shape suffixes: R replicates, N rows, C channels, H height, W width, I features.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from study.recipes.contrastive.models.packed import PackedLinear, uniform_per_replicate

_CHANNELS_PER_GROUP = 4
# Channels of the layers, in widths.
_MULTIPLES = (1, 2, 4)


class SmallEncoder(nn.Module):
    """Three strided 3x3 convolutions with GroupNorm, for seconds per replicate on a laptop.

    The replicates of a pack are the groups of one grouped convolution. ``norm="batch"`` is a control: each
    replicate's own batch statistics in training, their running means in evaluation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        width: int,
        embedding_dim: int,
        generators: Sequence[torch.Generator],
        norm: str = "group",
    ) -> None:
        super().__init__()
        num_replicates, channels = len(generators), input_shape[0]
        self.has_batch_norm = norm == "batch"
        self.kernels = nn.ParameterList()
        self.gains = nn.ParameterList()
        self.biases = nn.ParameterList()
        side = min(input_shape[1:])
        for multiple in _MULTIPLES:
            out = width * multiple
            kernel = nn.Parameter(torch.empty(num_replicates, out, channels, 3, 3))
            uniform_per_replicate(kernel, math.sqrt(6 / (9 * channels)), generators)
            self.kernels.append(kernel)
            self.gains.append(nn.Parameter(torch.ones(num_replicates, out)))
            self.biases.append(nn.Parameter(torch.zeros(num_replicates, out)))
            if self.has_batch_norm:
                self.register_buffer(f"running_mean_{multiple}", torch.zeros(num_replicates, out))
                self.register_buffer(f"running_variance_{multiple}", torch.ones(num_replicates, out))
            channels, side = out, (side + 1) // 2
        self.project = PackedLinear(channels * side * side, embedding_dim, generators, bias=True)

    def forward(self, images_RNCHW: torch.Tensor) -> torch.Tensor:
        num_replicates = images_RNCHW.shape[0]
        h = images_RNCHW.transpose(0, 1).flatten(1, 2)
        layers = zip(_MULTIPLES, self.kernels, self.gains, self.biases, strict=True)
        for multiple, kernel, gain, bias in layers:
            h = F.conv2d(h, kernel.flatten(0, 1), stride=2, padding=1, groups=num_replicates)
            if self.has_batch_norm:
                mean = self.get_buffer(f"running_mean_{multiple}").view(-1)
                variance = self.get_buffer(f"running_variance_{multiple}").view(-1)
                h = F.batch_norm(h, mean, variance, gain.flatten(), bias.flatten(), self.training)
            else:
                h = F.group_norm(h, h.shape[1] // _CHANNELS_PER_GROUP, gain.flatten(), bias.flatten())
            h = F.relu(h)
        features_NRI = h.unflatten(1, (num_replicates, -1)).flatten(2)
        return self.project(features_NRI.transpose(0, 1))
