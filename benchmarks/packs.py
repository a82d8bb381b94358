"""Replicates per second of packs against one replicate at a time, same work, one thread, side by side in one run.

Command: python benchmarks/packs.py
"""

import time

import torch

from study.config import Replicate, ReplicateConfig, with_values
from study.data.datasets import load_dataset
from study.trainers.loop import PackRun

_SECONDS_PER_CASE = 3.0


def milliseconds_per_step(run: PackRun) -> float:
    """Mean time of a training step over a few seconds, after a warm-up."""
    run.advance()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < _SECONDS_PER_CASE:
        run.optimizer.zero_grad()
        run.loss_and_gradient(steps % 64)
        run.optimizer.step(0, 1)
        steps += 1
    return 1000 * (time.perf_counter() - start) / steps


def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    config = ReplicateConfig()
    dataset = load_dataset(config.data)
    print("| batch | pack | ms per step | images per second | gain over one at a time |")
    print("|---|---|---|---|---|")
    for batch in (4, 16, 64, 256):
        single = None
        for size in (1, 3, 6):
            changes = {"batch.train": batch, "horizon.length": 20 * batch, "evaluation.num_batches": 1}
            shaped = with_values(config, changes)
            pack = [Replicate.of(shaped, seed, dataset.digest) for seed in range(size)]
            per_step = milliseconds_per_step(PackRun(pack, dataset))
            rate = 1000 * batch * size / per_step
            single = single or rate
            print(f"| {batch} | {size} | {per_step:.2f} | {rate:,.0f} | {rate / single:.2f} |", flush=True)


if __name__ == "__main__":
    main()
