"""A worker's way with a task: under a watchdog, in halves where memory runs out, with every failure recorded."""

import gc
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import torch

from study.config import first_line
from study.outcome import Outcome
from study.tasks import PackTask, TaskRun, device_for, record_failure, single_process_context


def work_off(task: PackTask, train: Callable[[PackTask], Iterator[float]]) -> Iterator[float]:
    """Train a pack to its end whatever happens, yielding which share of it is done, 1.0 at last and only then.

    ``train`` trains and commits a pack, yields its share and raises what goes wrong. A pack of several that runs out of
    memory is freed, and its halves are trained one after the other from its checkpoints; this is no failed attempt.
    Any other error is recorded as an attempt of the members concerned.
    """
    total, num_ended = len(task.replicates), 0
    parts = [task]
    while parts:
        part, started = parts.pop(0), datetime.now(UTC)
        halves: list[PackTask] = []
        try:
            for share in train(part):
                yield (num_ended + share * len(part.replicates)) / total
            num_ended += len(part.replicates)
            continue
        except Exception as error:
            outcome = classify(error)
            if outcome is Outcome.OUT_OF_MEMORY:
                halves = part.halves()
            if not halves:
                record_failure(part, outcome, error_sentence(error), started, traceback.format_exc())
        # Only here has the error let go of the frames that hold the pack's tensors.
        _free_memory()
        parts[:0] = halves
        num_ended += 0 if halves else len(part.replicates)
        yield num_ended / total


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_here(task: PackTask) -> Iterator[float]:
    """Train a pack in this process under a watchdog, yielding which share of it is done."""
    started = datetime.now(UTC)
    run: TaskRun | None = None
    while run is None or not run.is_done:
        with Watchdog(task, started):
            if run is None:
                run = TaskRun(task, device_for(task.settings.use_gpu), single_process_context)
            progress = run.advance()
        yield progress.fraction


def classify(error: BaseException) -> Outcome:
    """Out of memory, or anything else that failed; of several workers' errors one out of memory decides."""
    # Ray Train raises one error that lists those of its workers.
    errors = [error, *getattr(error, "worker_failures", {}).values()]
    return Outcome.OUT_OF_MEMORY if any(_is_out_of_memory(one) for one in errors) else Outcome.FAILED


def _is_out_of_memory(error: BaseException) -> bool:
    # By name: torch and Ray both have an OutOfMemoryError, and Ray wraps what a worker raised in a type of that name.
    is_named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    words = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return is_named or isinstance(error, MemoryError) or any(word in str(error) for word in words)


class Watchdog:
    """Ends a worker that makes no progress for ``hang_seconds``, after recording its pack as hung.

    A hung collective or kernel cannot be interrupted from Python: the process ends itself, and the executor sees
    a dead worker. Use as a context manager around the work.
    """

    def __init__(self, task: PackTask, started: datetime) -> None:
        self._task = task
        self._started = started
        self._last_progress = time.monotonic()
        self._stop = threading.Event()

    def progress(self) -> None:
        """Say that the pack is alive."""
        self._last_progress = time.monotonic()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def _watch(self) -> None:
        limit = self._task.hang_seconds
        while not self._stop.wait(min(limit / 4, 10)):
            if time.monotonic() - self._last_progress > limit:
                record_failure(self._task, Outcome.HUNG, f"no progress for {limit:.0f} s", self._started)
                os._exit(1)


def error_sentence(error: BaseException) -> str:
    """The type and first line of an error."""
    line, kind = first_line(error), type(error).__name__
    return kind if line == kind else f"{kind}: {line}"
