"""Everything that touches torch.distributed: the run context of one worker of a process group."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from study.trainers.loop import CheckpointStore, RunContext


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of all workers along dimension -2, in order of rank, with the gradient of every worker's use of them."""
    return torch.cat(dist_nn.all_gather(rows.contiguous()), dim=-2)


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """The sum over workers, without gradient."""
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def process_group_context(checkpoints: CheckpointStore | None, device: torch.device) -> RunContext:
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
