"""Jobs that differ by a number, on one or several processes of one thread each."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Result = TypeVar("Result")


def spread(job: Callable[[int], Result], num: int, processes: int) -> list[Result]:
    """Results of jobs 0 to num - 1, in order."""
    if processes == 1:
        return [job(index) for index in range(num)]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(job, range(num)))
