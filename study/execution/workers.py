"""A worker's way with a task: under a watchdog, in halves where memory runs out, with every failure recorded.

A failure is the replicate's own only where it is alone in its pack and its process (study/ledger/attempts.py); what the
machine did is told apart here, by the kind of the error.
"""

import gc
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from study.errors import ConfigError, error_sentence
from study.execution.gpu import free_gpu_memory
from study.execution.task_run import TaskRun
from study.execution.tasks import PackTask, record_failure
from study.outcome import Outcome

# Of torch's errors, which have one type for all causes, those that a device or a connection made.
_DEVICE_WORDS = (
    *("no CUDA-capable device", "busy or unavailable", "driver", "ECC error", "NVML"),
    *("NCCL", "Gloo", "gloo", "Connection reset", "Connection closed by peer"),
)
_MEMORY_WORDS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class SpentProcess(Exception):
    """Something failed in this process and is recorded: what comes next deserves a fresh one."""


class NodeLeft(Exception):
    """A node that trained a part of the pack is gone."""


def work_off(task: PackTask, train: Callable[[PackTask], Iterator[float]]) -> Iterator[float]:
    """Train a pack to its end whatever happens, yielding which share of it is done, 1.0 at last and only then.

    ``train`` trains and commits a pack, yields its share and raises what goes wrong. A pack of several that runs out of
    memory is freed, and its halves are trained one after the other from its checkpoints; this is no failed attempt.
    Any other error is recorded as an attempt of the members concerned, and ends in :class:`SpentProcess`: a broken
    device or a full heap must not be blamed on whoever trains here next.
    """
    total, num_ended = len(task.replicates), 0
    parts = [task]
    is_spent = False
    while parts:
        part, started = parts.pop(0), datetime.now(UTC)
        halves: list[PackTask] = []
        try:
            for share in train(part):
                done = (num_ended + share * len(part.replicates)) / total
                if done < 1.0 or not is_spent:
                    yield done
            num_ended += len(part.replicates)
            continue
        except Exception as error:
            outcome = classify(error)
            if outcome is Outcome.OUT_OF_MEMORY:
                halves = part.halves()
            if not halves:
                is_spent = True
                record_failure(part, outcome, error_sentence(error), started, traceback.format_exc())
        # Only here has the error let go of the frames that hold the pack's tensors.
        _free_memory()
        parts[:0] = halves
        num_ended += 0 if halves else len(part.replicates)
        if parts:
            yield num_ended / total
    if is_spent:
        raise SpentProcess


def _free_memory() -> None:
    gc.collect()
    free_gpu_memory()


def train_here(task: PackTask) -> Iterator[float]:
    """Train a pack in this process under a watchdog, yielding which share of it is done."""
    started = datetime.now(UTC)
    run: TaskRun | None = None
    while run is None or not run.is_done:
        with Watchdog(task, started):
            if run is None:
                run = TaskRun(task)
            progress = run.advance()
        yield progress.fraction


def classify(error: BaseException) -> Outcome:
    """What an error says of the replicates that it ended: memory, the machine, or the replicates themselves.

    Of several workers' errors one out of memory decides, then a node that left and a worker that died. Else whoever
    failed by itself: its peers only notice that it is gone.
    """
    # Ray Train raises one error that lists those of its workers.
    errors = [*getattr(error, "worker_failures", {}).values()] or [error]
    if any(map(_is_out_of_memory, errors)):
        return Outcome.OUT_OF_MEMORY
    if any(isinstance(one, NodeLeft) for one in errors):
        return Outcome.INTERRUPTED
    if any(map(_is_death, errors)) or all(map(_is_environment, errors)):
        return Outcome.ENVIRONMENT
    return Outcome.FAILED


def _kinds(error: BaseException) -> list[str]:
    """An error's types by name: Ray wraps what a worker raised in a type that is also of the raised one's type."""
    return [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]


def _is_out_of_memory(error: BaseException) -> bool:
    # What Ray's memory monitor kills was in the way of the whole machine.
    is_named = "torch.OutOfMemoryError" in _kinds(error) or isinstance(error, MemoryError)
    return is_named or any(word in str(error) for word in _MEMORY_WORDS)


def _is_death(error: BaseException) -> bool:
    """Whether a process of Ray ended, or no longer answers, rather than what it ran."""
    kinds = {*_kinds(error)}
    return bool(kinds & {"ray.RayError", "ray.RayTrainError"}) and "ray.RayTaskError" not in kinds


def _is_environment(error: BaseException) -> bool:
    """Data, files, packages, devices, connections: whatever is not the replicate's own computation."""
    is_named = isinstance(error, OSError | ImportError | ConfigError)
    return is_named or (isinstance(error, RuntimeError) and any(word in str(error) for word in _DEVICE_WORDS))


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
