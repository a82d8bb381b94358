"""Encoders from a pack of batches to embeddings, and the projection behind them.

Shape suffixes: R replicates, N rows, C channels, H height, W width, I inputs, D embedding dimensions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from study.config import ConfigError, ModelConfig
from study.models.packed import PackedLinear, uniform_per_replicate

_CHANNELS_PER_GROUP = 4
_HIDDEN_PER_WIDTH = 4
# Channels of the small encoder's layers, in widths.
_MULTIPLES = (1, 2, 4)


class PackedMLP(nn.Module):
    """Linear, ReLU, linear: (R, ..., I) to (R, ..., D)."""

    def __init__(
        self, num_inputs: int, num_hidden: int, num_outputs: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.hidden = PackedLinear(num_inputs, num_hidden, generators, bias=True)
        self.out = PackedLinear(num_hidden, num_outputs, generators, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(self.hidden(x)))


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


class ResNet18Encoder(nn.Module):
    """torchvision's ResNet-18 with a 3x3 stem, no max-pooling and GroupNorm (or, as a control, BatchNorm).

    One replicate per pack.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        embedding_dim: int,
        generators: Sequence[torch.Generator],
        norm: str = "group",
    ) -> None:
        super().__init__()
        if len(generators) != 1:
            raise ConfigError("model.encoder=resnet18 trains one replicate per pack")
        from torchvision.models import resnet18

        # Built without storage so that the default initialisation draws nothing from the global random stream.
        with torch.device("meta"):
            layer = nn.BatchNorm2d if norm == "batch" else (lambda width: nn.GroupNorm(32, width))
            network = resnet18(num_classes=embedding_dim, norm_layer=layer)
            network.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        self.network = network.to_empty(device="cpu")
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generators[0])
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.GroupNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.weight, -bound, bound, generator=generators[0])
                nn.init.zeros_(module.bias)

    def forward(self, images_RNCHW: torch.Tensor) -> torch.Tensor:
        return self.network(images_RNCHW[0])[None]


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
    if config.encoder == "none":
        return nn.Flatten(start_dim=-len(input_shape)), math.prod(input_shape)
    if config.encoder == "linear":
        return PackedLinear(input_shape[0], config.embedding_dim, generators, bias=False), config.embedding_dim
    if config.encoder == "mlp":
        hidden = _HIDDEN_PER_WIDTH * config.width
        return PackedMLP(input_shape[0], hidden, config.embedding_dim, generators), config.embedding_dim
    encoder: nn.Module
    if config.encoder == "small":
        encoder = SmallEncoder(input_shape, config.width, config.embedding_dim, generators, config.norm)
    else:
        encoder = ResNet18Encoder(input_shape, config.embedding_dim, generators, config.norm)
    return nn.Sequential(Normalise(pixel_mean, pixel_std), encoder), config.embedding_dim
