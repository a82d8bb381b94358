"""ResNet-18 as CIFAR wants it.

Shape suffixes: R replicates (one), N rows, C channels, H height, W width.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from study.errors import ConfigError


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
