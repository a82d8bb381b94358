"""Layers that hold one set of weights per replicate of a pack.

Shape suffixes: R replicates, I inputs, O outputs. Every parameter's first dimension is R (or R is 1), so that
``parameter.reshape(R, -1)[r]`` is what replicate r owns.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

Gather = Callable[[torch.Tensor], torch.Tensor]


def identity_gather(rows: torch.Tensor) -> torch.Tensor:
    """The gather of one process: local rows are all rows."""
    return rows


def uniform_per_replicate(parameter_R: torch.Tensor, bound: float, generators: Sequence[torch.Generator]) -> None:
    """Fill each replicate's slice from its own generator, so that initial weights do not depend on the pack."""
    with torch.no_grad():
        for slice_, generator in zip(parameter_R, generators, strict=True):
            values = torch.empty(slice_.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
            slice_.copy_(values)


class PackedLinear(nn.Module):
    """A linear map per replicate, with nn.Linear's initialisation of weights, from (R, ..., I) to (R, ..., O)."""

    def __init__(self, num_inputs: int, num_outputs: int, generators: Sequence[torch.Generator], *, bias: bool) -> None:
        super().__init__()
        self.weight_RIO = nn.Parameter(torch.empty(len(generators), num_inputs, num_outputs))
        self.bias_R1O = nn.Parameter(torch.zeros(len(generators), 1, num_outputs)) if bias else None
        uniform_per_replicate(self.weight_RIO, 1 / math.sqrt(num_inputs), generators)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = x.flatten(1, -2) @ self.weight_RIO
        if self.bias_R1O is not None:
            product = product + self.bias_R1O
        return product.unflatten(1, x.shape[1:-1])

    def set_identity(self) -> None:
        """Make every replicate's map the identity; inputs and outputs must be of one size."""
        num_inputs, num_outputs = self.weight_RIO.shape[-2:]
        assert num_inputs == num_outputs
        with torch.no_grad():
            self.weight_RIO.copy_(torch.eye(num_inputs).expand_as(self.weight_RIO))
