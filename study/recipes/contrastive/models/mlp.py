"""A hidden layer, for packs: R replicates, I inputs, D outputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from study.recipes.contrastive.models.packed import PackedLinear


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
