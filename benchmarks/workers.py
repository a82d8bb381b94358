"""Two workers that share every batch (DDP on gloo) against one, the same global batch, side by side in one run.

Command: python benchmarks/workers.py

The training loop's own step of the small encoder on Fashion-MNIST at a global batch of 256 rows: trainer transfusion
(256 images, classes) and oar (128 images of two views, InfoNCE and anchors). Two processes with one thread each; while
one worker is measured, the other one waits. The two take turns; values are medians over the turns. Communication is the
time that a worker spends in collectives, waiting for the other worker included: gathers of rows and the sums of their
gradients, DDP's sum of the weights' gradients, and the sum of what is reported. CPU ms is the larger one of the
workers' CPU time per step: its ratio is the gain where both workers have a core of their own and never wait.
"""

import dataclasses
import functools
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from study.designs.values import with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.distributed import process_group_context
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.loop import PackRun

_BATCH = 256
_NUM_TURNS = 7
_STEPS_PER_TURN = 12
_CONFIGS = {
    "transfusion": with_values(ReplicateConfig(), {"batch.train": _BATCH}),
    "oar": with_values(
        ReplicateConfig(),
        {"trainer": "oar", "batch.train": _BATCH, "data.num_views": 2, "model.projection_dim": 64},
    ),
}


@dataclass(frozen=True)
class _Turn:
    """Seconds per step."""

    wall: float
    cpu: float
    communication: float


class _Collectives:
    """Wall-clock seconds in this process's collectives since the last reset."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("all_gather", "all_reduce"):
            setattr(dist, name, self._timed(getattr(dist, name)))

    def _timed(self, collective: Any) -> Any:
        @functools.wraps(collective)
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return collective(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return timed

    def hook(self, state: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """DDP's sum of gradients, waited for where it starts: a model of this size is one bucket, whole at the end."""
        before, start = self.seconds, time.perf_counter()
        future = allreduce_hook(state, bucket)
        future.wait()
        self.seconds = before + time.perf_counter() - start
        return future


def _turn(run: PackRun, collectives: _Collectives) -> _Turn:
    collectives.seconds = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(_STEPS_PER_TURN):
        run.optimizer.zero_grad()
        run.loss_and_gradient(step)
        run.optimizer.step(0, 1)
    return _Turn(
        wall=(time.perf_counter() - wall) / _STEPS_PER_TURN,
        cpu=(time.process_time() - cpu) / _STEPS_PER_TURN,
        communication=collectives.seconds / _STEPS_PER_TURN,
    )


def _measure(rank: int, folder: str) -> None:
    """One of two workers; each writes its turns of (trainer, number of workers)."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    collectives = _Collectives()
    group = process_group_context(None, torch.device("cpu"))

    def wrap(model: nn.Module) -> nn.Module:
        wrapped = group.wrap(model)
        assert isinstance(wrapped, DistributedDataParallel)
        wrapped.register_comm_hook(dist.group.WORLD, collectives.hook)
        return wrapped

    shared = dataclasses.replace(group, wrap=wrap)
    found: dict[tuple[str, int], list[_Turn]] = {}
    for trainer, config in _CONFIGS.items():
        dataset = load_dataset(config.data)
        pack = [CONTRASTIVE.replicate(config, 0, dataset.digest)]
        runs = {2: PackRun(pack, dataset, shared)}
        if rank == 0:
            # What process_group_context gives of a group of one.
            runs[1] = PackRun(pack, dataset, RunContext())
        for turn in range(_NUM_TURNS + 1):
            for num_workers in (1, 2):
                dist.barrier()
                if num_workers not in runs:
                    continue
                measured = _turn(runs[num_workers], collectives)
                # The first turn warms up.
                if turn:
                    found.setdefault((trainer, num_workers), []).append(measured)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def main() -> None:
    """Print a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_measure, args=(folder,), nprocs=2)
        by_rank = [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]
    print(f"Load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
    print("| trainer | workers | images per second | ratio | communication | CPU ms per step and worker | ratio |")
    print("|---|---|---|---|---|---|---|")
    for trainer, config in _CONFIGS.items():
        turns = {1: by_rank[0][trainer, 1], 2: by_rank[0][trainer, 2]}
        wall = {workers: median(turn.wall for turn in found) for workers, found in turns.items()}
        other = by_rank[1][trainer, 2]
        cpu = {
            1: median(turn.cpu for turn in turns[1]),
            2: median(max(one.cpu, two.cpu) for one, two in zip(turns[2], other, strict=True)),
        }
        for workers, found in turns.items():
            share = median(turn.communication / turn.wall for turn in found)
            print(
                f"| {trainer} | {workers} | {config.num_images / wall[workers]:,.0f} | {wall[1] / wall[workers]:.2f} "
                f"| {100 * share:.0f} % | {1000 * cpu[workers]:.1f} | {cpu[1] / cpu[workers]:.2f} |"
            )


if __name__ == "__main__":
    main()
