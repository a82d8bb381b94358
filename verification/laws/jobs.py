"""All families of checks, the jobs of a run, and the processes that work them off."""

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

from verification.laws import collapse, frozen, geometry, identity, labels, learned, sources, unequal
from verification.laws.check import Family, Job, Rows

# In the order of the document.
FAMILIES: dict[str, Family] = {
    family.name: family
    for module in (geometry, identity, unequal, learned, sources, collapse, frozen, labels)
    for family in module.FAMILIES
}
NUM_PROCESSES = 2
QUICK_DRAWS = 2
QUICK_EFFORT = 0.05
# Families of which a draw takes longer than this many seconds are left out of the quick run.
QUICK_SECONDS = 5.0


def plan(*, seed: int, only: Sequence[str] = (), quick: bool = False) -> list[Job]:
    """All jobs of a run, the longest first."""
    jobs = []
    for name, family in FAMILIES.items():
        if only and name not in only:
            continue
        if not quick:
            jobs += family.jobs(seed)
        elif family.seconds <= QUICK_SECONDS:
            jobs += family.jobs(seed, QUICK_EFFORT)[:QUICK_DRAWS]
    return sorted(jobs, key=lambda job: -FAMILIES[job.family].seconds)


def measure(job: Job) -> Rows:
    """The rows of one job."""
    return FAMILIES[job.family].measure(job)


def one_thread() -> None:
    """Keep a worker process on its own core."""
    torch.set_num_threads(1)


def run(jobs: Sequence[Job]) -> dict[tuple[str, int], Rows]:
    """Rows by family and draw, from two processes; progress goes to standard error."""
    os.environ["OMP_NUM_THREADS"] = "1"
    start, found = time.monotonic(), {}
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        futures = {pool.submit(measure, job): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            found[job.family, job.index] = future.result()
            print(
                f"{time.monotonic() - start:5.0f} s  {len(found)}/{len(jobs)}  {job.family} {job.index}",
                file=sys.stderr,
            )
    return found
