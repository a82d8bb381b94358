"""Everything that touches torch.distributed: the run context of one worker of a process group."""

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.nn.parallel import DistributedDataParallel

from study.recipes.contrastive.trainers.checkpoints import StateStore
from study.recipes.contrastive.trainers.context import RunContext


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward sums every worker's gradient of this worker's rows.

    torch.distributed.nn's own all_gather receives into tensors with the strides of the gradient and scrambles
    transposed ones under gloo.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        return torch.cat(parts, dim=-2)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size(), dim=-2)[dist.get_rank()]


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all workers along dimension -2, in order of rank, with the gradient of every worker's use of them."""
    return _GatherRows.apply(rows)


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """The sum over workers, without gradient."""
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def process_group_context(checkpoints: StateStore | None, device: torch.device) -> RunContext:
    """The context of this worker of the initialised default process group."""
    world_size = dist.get_world_size()
    if world_size == 1:
        return RunContext(checkpoints=checkpoints)

    def wrap(model: nn.Module) -> nn.Module:
        device_ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids)

    return RunContext(
        rank=dist.get_rank(),
        world_size=world_size,
        gather=gather_rows,
        wrap=wrap,
        sum_over_workers=sum_over_workers,
        checkpoints=checkpoints,
    )
