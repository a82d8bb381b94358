"""Packs on Ray: a reused Tune actor (inline) or a nested Ray Train run (train), fed proposal by proposal."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

# Before Ray itself, which reads its settings when it is imported: loading this module makes them.
import study.execution.ray_start  # noqa: F401  # isort: skip
import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.tune.search import Searcher

from study.errors import ConfigError
from study.execution.gpu import gpu_memory
from study.execution.packs import (
    PackLimits,
    available_memory,
    memory_on_cpu,
    memory_on_gpu,
    packs_at_a_time,
    packs_in_memory,
)
from study.execution.queue import SweepState
from study.execution.scratch import scratch_folder
from study.execution.task_run import TaskRun
from study.execution.tasks import PackTask, TaskSettings, record_failure
from study.execution.workers import NodeLeft, Watchdog, classify, train_here, work_off
from study.outcome import Outcome

_LEAST_CLUSTER_WIDTH = 8
_TRIES_OF_WORKERS = 3
_DEATH = "the worker process was killed, from outside or for memory (--max-concurrent 1 needs the least)"
# Every failure is a row of the ledger, and said once: Tune's own reports of dead trials fill screens.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


class PackTrainable(tune.Trainable):
    """Trains one pack after another in one process; a step is one advance of the pack.

    An exception becomes a recorded attempt of the pack, and ends the process once the pack is worked off. The first
    step only says where the pack is: a node that leaves before the pack's first result is known by it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._shares: Iterator[float] | None = None
        self._task = PackTask.from_dict(config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._shares is None:
            self._shares = work_off(self._task, train_here)
            return {"done": False, "fraction": 0.0, "node": ray.get_runtime_context().get_node_id()}
        share = next(self._shares)
        return {"done": share == 1.0, "fraction": share}


def _train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker: trains its share of every batch and reports as often as the others."""
    task = PackTask.from_dict(config["task"])
    if task.settings.use_gpu:
        _use_own_gpu()
    with Watchdog(task, datetime.now(UTC)) as watchdog:
        workers = ray.train.get_context()
        run = TaskRun(task, workers.get_world_rank(), workers.get_world_size())
        while not run.is_done:
            progress = run.advance()
            watchdog.progress()
            share = len(task.replicates) / (task.num_planned or len(task.replicates))
            ray.train.report({"fraction": share * progress.fraction})


def _use_own_gpu() -> None:
    """Make the GPU that Ray gave this worker the one that torch takes by itself."""
    import torch

    torch.cuda.set_device(ray.train.torch.get_device())


def train_on_workers(config: dict[str, Any]) -> None:
    """A Tune function that trains one pack with a nested TorchTrainer, or its parts one after the other."""
    for _ in work_off(PackTask.from_dict(config["task"]), _train_nested):
        pass


def _train_nested(task: PackTask) -> Iterator[float]:
    """Train a pack with its own workers, started again where they are lost; yields 1.0 at the end.

    Ray Train's own retries would try a pack that does not fit into memory again and again.
    """
    for number in range(1, _TRIES_OF_WORKERS + 1):
        nodes = _live_nodes()
        try:
            _fit(task, number)
            break
        except Exception as error:
            # What the replicates did themselves, they would do again.
            if classify(error) in (Outcome.OUT_OF_MEMORY, Outcome.FAILED):
                raise
            if number == _TRIES_OF_WORKERS:
                if nodes <= _live_nodes():
                    raise
                raise NodeLeft("a node went away while it trained") from error
    yield 1.0


def _live_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _fit(task: PackTask, number: int) -> None:
    from ray.tune.integration.ray_train import TuneReportCallback

    settings = task.settings
    gpus = {"GPU": task.gpus_per_worker} if settings.use_gpu else {}
    # Checkpoints lie in the ledger's storage: what Train keeps of its own state may be lost.
    with scratch_folder() as scratch:
        ray.train.torch.TorchTrainer(
            _train_worker,
            train_loop_config={"task": task.to_dict()},
            scaling_config=ray.train.ScalingConfig(
                num_workers=task.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker={"CPU": settings.threads, **gpus},
            ),
            run_config=ray.train.RunConfig(
                name=f"{task.replicates[0].key}-{task.attempts[0]}-{len(task.replicates)}-{number}",
                storage_path=str(scratch),
                callbacks=[TuneReportCallback()],
            ),
        ).fit()


class PackSearcher(Searcher):
    """Feeds the packs of recorded proposals to Tune; returns None while one is open and ends when the plan does."""

    def __init__(self, state: SweepState, on_event: Callable[[], None], on_pack_end: Callable[[], None]) -> None:
        super().__init__(metric="fraction", mode="max")
        self._state = state
        self._on_event = on_event
        self._on_pack_end = on_pack_end
        self._running: dict[str, PackTask] = {}
        # The node that a pack is on, and before it says so all nodes that it may be on.
        self._nodes: dict[str, set[str]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            task = self._state.next_task(is_idle=not self._running)
        except OSError as error:
            self._state.lose_storage(error)
            task = None
        if task is None:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = task
        self._nodes[trial_id] = _live_nodes()
        self._on_event()
        return {"task": task.to_dict()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "node" in result:
            self._nodes[trial_id] = {result["node"]}
        if trial_id in self._running:
            self._state.note_progress(self._running[trial_id], result.get("fraction", 0.0))
        self._on_event()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        task = self._running.pop(trial_id, None)
        if task is None:
            return
        try:
            if error:
                self._record_death(trial_id, task)
            self._state.note_complete(task)
        except OSError as trouble:
            self._state.lose_storage(trouble)
        self._on_event()
        self._on_pack_end()

    def _record_death(self, trial_id: str, task: PackTask) -> None:
        """A worker that died left rows of the parts that had ended, or those that its watchdog wrote."""
        lacking = self._state.lacking(task)
        if lacking is None:
            return
        is_lost = not self._nodes[trial_id] <= _live_nodes()
        outcome = Outcome.INTERRUPTED if is_lost else Outcome.ENVIRONMENT
        text = "the node went away" if is_lost else _DEATH
        record_failure(lacking, outcome, text, datetime.now(UTC))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles the searcher with the experiment, and its callbacks lead to a terminal."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a searcher is rebuilt from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def plan_room(
    state: SweepState, asked: int | None, asked_share: float | None, data_of: Callable[[Any], Any], *, is_local: bool
) -> int:
    """Decide how many packs run at a time, which is returned, and what bounds them, ``state.limits``.

    ``asked`` is that number and ``asked_share`` the share of a GPU per worker, where a user gave them; ``data_of``
    gives the data of a configuration. The memory of GPUs is that of the first one that the driver sees, else an
    assumption; a pack that it misjudges is halved.
    """
    settings = state.settings
    limits = PackLimits(recipe=state.recipe, data_of=data_of, num_workers=settings.workers_per_trial)
    if not settings.use_gpu:
        width = num_concurrent(settings, asked, 0.0, is_local=is_local)
        if is_local and asked is None:
            width = min(width, packs_in_memory(available_memory() / settings.workers_per_trial))
        state.limits = dataclasses.replace(limits, memory_bytes=_memory_of_worker(settings, width, is_local=is_local))
        return width
    gpu_bytes = gpu_memory()
    limits = dataclasses.replace(
        limits, gpu_bytes=gpu_bytes, gpu_share=asked_share, memory_bytes=memory_on_gpu(gpu_bytes, asked_share or 1.0)
    )
    shares = [limits.share_of(pack) for pack in state.planned_packs(limits)]
    if settings.executor == "inline":
        # The resources of a reused actor are fixed for the whole sweep: those of its largest pack.
        share = max(shares)
        limits = dataclasses.replace(limits, gpu_share=share, memory_bytes=memory_on_gpu(gpu_bytes, share))
        shares = [share]
    state.limits = limits
    # Nested packs of larger shares wait for their room in Ray.
    return num_concurrent(settings, asked, min(shares), is_local=is_local)


def num_concurrent(settings: TaskSettings, asked: int | None, gpu_share: float, *, is_local: bool) -> int:
    """How many packs run at a time; :class:`ConfigError` where one needs more CPUs than this machine has."""
    resources = ray.cluster_resources()
    num_cpus = int(resources.get("CPU", 0))
    per_pack = settings.threads * settings.workers_per_trial
    if is_local and per_pack > num_cpus:
        raise ConfigError(
            f"--workers-per-trial {settings.workers_per_trial} needs {per_pack} CPUs and this machine has {num_cpus}: "
            "ask for fewer workers"
        )
    width = packs_at_a_time(num_cpus, resources.get("GPU", 0), per_pack, gpu_share * settings.workers_per_trial)
    if not is_local:
        # An autoscaler adds nodes only for packs that wait: what the cluster has now is no bound.
        width = max(width, _LEAST_CLUSTER_WIDTH)
    return asked or width


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU now; an autoscaler may add one for packs that wait."""
    return bool(ray.cluster_resources().get("GPU"))


def _memory_of_worker(settings: TaskSettings, width: int, *, is_local: bool) -> float:
    """Bytes for one worker's tensors: of what is free here, or of what Ray counts on a cluster's nodes by CPU."""
    if is_local:
        return memory_on_cpu(available_memory(), width * settings.workers_per_trial)
    resources = ray.cluster_resources()
    if not resources.get("CPU") or not resources.get("memory"):
        return math.inf
    return memory_on_cpu(resources["memory"] * settings.threads / resources["CPU"], 1)


def run_packs(state: SweepState, width: int, on_event: Callable[[], None], on_pack_end: Callable[[], None]) -> None:
    """Run a sweep to its end in one ``Tuner.fit``, ``width`` packs at a time."""
    settings = state.settings
    trainable: Any
    if settings.executor == "inline":
        resources = {"CPU": settings.threads, **({"GPU": state.limits.gpu_share} if settings.use_gpu else {})}
        trainable = tune.with_resources(PackTrainable, resources)
    else:
        # Drivers of nested runs need no CPU of their own: one that held a CPU could starve its workers for ever.
        # The head's marker resource keeps them off spot nodes.
        placement = tune.PlacementGroupFactory([{"node:__internal_head__": 0.01}])
        trainable = tune.with_resources(train_on_workers, placement)
    with scratch_folder() as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=PackSearcher(state, on_event, on_pack_end),
                num_samples=-1,
                max_concurrent_trials=width,
                reuse_actors=settings.executor == "inline",
                trial_dirname_creator=lambda trial: trial.trial_id,
                metric="fraction",
                mode="max",
            ),
            run_config=tune.RunConfig(
                name=f"{state.design.study}-{state.design.hash}-{int(time.time())}",
                storage_path=str(scratch),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                # The ledger keeps checkpoints by replicate; Tune's own would be lost with its state.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )
        tuner.fit()
