"""torch's Adam and SGD for a pack: one learning rate per replicate.

Every parameter's first dimension is the replicate. Neighbours of one rate share a parameter group of a fused torch
optimiser: their slices of a parameter, with gradients that are views of the parameter's own. A pack of one rate is
one group over whole parameters.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from study.recipes.contrastive.config import OptimizerConfig


class PackOptimizer:
    """Updates each replicate's slices of a model's parameters at that replicate's rate.

    All members of a pack stand at the same step: those of one rate share the optimiser's count of steps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rates: Sequence[float], config: OptimizerConfig):
        self._schedule = config.schedule
        self._num_replicates = len(learning_rates)
        self._runs = runs_of_equal(learning_rates)
        self._rates = [learning_rates[run.start] for run in self._runs]
        self._grads: list[torch.Tensor] = []
        pieces: list[list[torch.Tensor]] = [[] for _ in self._runs]
        for p in parameters:
            grad = torch.zeros_like(p)
            p.grad = grad
            self._grads.append(grad)
            rows, grad_rows = p.detach().view(self._num_replicates, -1), grad.view(self._num_replicates, -1)
            for run, piece in zip(self._runs, pieces, strict=True):
                slice_ = rows[run.start : run.stop]
                slice_.grad = grad_rows[run.start : run.stop]
                piece.append(slice_)
        groups = [{"params": piece, "lr": rate} for piece, rate in zip(pieces, self._rates, strict=True)]
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

    def replicate_parameters(self, replicate: int) -> list[torch.Tensor]:
        """Parameters of one member in the order of the model's, each flattened, on the CPU."""
        pieces, row = self._pieces(replicate)
        return [piece[row].detach().cpu().clone() for piece in pieces]

    def replicate_state(self, replicate: int) -> dict[str, Any]:
        """Parameters and moments of one member, on the CPU; no trace of the pack is in it."""
        pieces, row = self._pieces(replicate)
        moments = [
            {
                name: (value if value.dim() == 0 else value[row]).detach().cpu().clone()
                for name, value in self._optimizer.state[piece].items()
                if value is not None
            }
            for piece in pieces
        ]
        return {"parameters": self.replicate_parameters(replicate), "moments": moments}

    def load_replicate_state(self, replicate: int, state: dict[str, Any]) -> None:
        """Restore what :meth:`replicate_state` returned; the other members must be at, or be loaded at, its step."""
        pieces, row = self._pieces(replicate)
        for piece, saved, moments in zip(pieces, state["parameters"], state["moments"], strict=True):
            piece[row].copy_(saved)
            held = self._optimizer.state[piece]
            for name, value in moments.items():
                if value.dim() == 0:
                    held[name] = value.to(piece.device, copy=True)
                    continue
                if name not in held:
                    held[name] = torch.zeros_like(piece)
                held[name][row].copy_(value)

    def gradient_norms(self) -> torch.Tensor:
        """Euclidean norm of each member's gradient, (R,)."""
        squares = [grad.view(self._num_replicates, -1).square().sum(1) for grad in self._grads]
        return torch.stack(squares).sum(0).sqrt()

    def _pieces(self, replicate: int) -> tuple[list[torch.Tensor], int]:
        """The slices of all parameters that hold a member, and its row in each."""
        index = next(i for i, run in enumerate(self._runs) if replicate in run)
        return self._optimizer.param_groups[index]["params"], replicate - self._runs[index].start


def runs_of_equal(values: Sequence[float]) -> list[range]:
    """The index ranges of neighbours that are equal, in order."""
    runs, start = [], 0
    for _, members in itertools.groupby(values):
        stop = start + sum(1 for _ in members)
        runs.append(range(start, stop))
        start = stop
    return runs


def schedule_factor(schedule: str, step_index: int, num_steps: int) -> float:
    """The learning rate's multiplier at a step: 1, or half a cosine from 1 towards 0 at the horizon."""
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * step_index / num_steps))
