"""torch's Adam and SGD for a pack: one learning rate per replicate.

Every parameter's first dimension is the replicate. A replicate's slices form one parameter group of a fused torch
optimiser, with gradients that are views of the parameters' own.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from study.config import OptimizerConfig


class PackOptimizer:
    """Updates each replicate's slices of a model's parameters at that replicate's rate."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rates: list[float], config: OptimizerConfig):
        self._schedule = config.schedule
        self._rates = learning_rates
        num_replicates = len(learning_rates)
        slices: list[list[torch.Tensor]] = [[] for _ in learning_rates]
        self._grads: list[torch.Tensor] = []
        for p in parameters:
            grad = torch.zeros_like(p)
            p.grad = grad
            self._grads.append(grad)
            rows, grad_rows = p.detach().view(num_replicates, -1), grad.view(num_replicates, -1)
            for replicate, (row, grad_row) in enumerate(zip(rows, grad_rows, strict=True)):
                row.grad = grad_row
                slices[replicate].append(row)
        groups = [{"params": rows, "lr": rate} for rows, rate in zip(slices, learning_rates, strict=True)]
        self._optimizer: torch.optim.Optimizer
        if config.name == "adam":
            self._optimizer = torch.optim.Adam(groups, weight_decay=config.weight_decay, fused=True)
        else:
            self._optimizer = torch.optim.SGD(
                groups, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
            )

    def zero_grad(self) -> None:
        """Clear the gradients in place, so that the slices stay views of them."""
        torch._foreach_zero_(self._grads)

    def step(self, step_index: int, num_steps: int) -> None:
        """Update all members in place, at the rate of step ``step_index`` (0 first) of ``num_steps``."""
        scale = schedule_factor(self._schedule, step_index, num_steps)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * scale
        self._optimizer.step()

    def replicate_state(self, replicate: int) -> dict[str, Any]:
        """Parameters and moments of one member, on the CPU."""
        slices = self._optimizer.param_groups[replicate]["params"]
        return {
            "parameters": [row.detach().cpu().clone() for row in slices],
            "moments": [
                {name: v.detach().cpu().clone() for name, v in self._optimizer.state[row].items() if v is not None}
                for row in slices
            ],
        }

    def load_replicate_state(self, replicate: int, state: dict[str, Any]) -> None:
        """Restore what :meth:`replicate_state` returned."""
        slices = self._optimizer.param_groups[replicate]["params"]
        for row, saved, moments in zip(slices, state["parameters"], state["moments"], strict=True):
            row.copy_(saved)
            self._optimizer.state[row] = {name: value.to(row.device, copy=True) for name, value in moments.items()}

    def gradient_norms(self) -> torch.Tensor:
        """Euclidean norm of each member's gradient, (R,)."""
        squares = [grad.view(len(self._rates), -1).square().sum(1) for grad in self._grads]
        return torch.stack(squares).sum(0).sqrt()


def schedule_factor(schedule: str, step_index: int, num_steps: int) -> float:
    """The learning rate's multiplier at a step: 1, or half a cosine from 1 towards 0 at the horizon."""
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step_index / num_steps))
