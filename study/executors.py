"""Packs on Ray: a reused Tune actor (inline) or a nested Ray Train run (train), fed round by round."""

import os
import socket
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started. The health check interval bounds how long a report waits.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")

import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.tune.search import Searcher

from study.config import ConfigError
from study.outcome import Outcome
from study.sweep_state import SweepState
from study.tasks import (
    PackTask,
    TaskRun,
    TaskSettings,
    Watchdog,
    classify,
    device_for,
    error_sentence,
    record_failure,
    single_process_context,
)

_LEAST_CLUSTER_WIDTH = 8


class PackTrainable(tune.Trainable):
    """Trains one pack after another in one process; a step is one advance of the pack.

    An exception becomes a recorded attempt of the pack, not a failed Tune trial.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._task = PackTask.from_dict(config["task"])
        self._started = datetime.now(UTC)
        self._run: TaskRun | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            with Watchdog(self._task, self._started):
                if self._run is None:
                    device = device_for(self._task.settings.use_gpu)
                    self._run = TaskRun(self._task, device, single_process_context)
                progress = self._run.advance()
        except Exception as error:
            record_failure(self._task, classify(error), error_sentence(error), self._started, traceback.format_exc())
            return {"done": True, "fraction": 1.0}
        return {"done": self._run.is_done, "fraction": progress.step / progress.num_steps}


def _train_worker(config: dict[str, Any]) -> None:
    """One Ray Train worker: trains its share of every batch and reports as often as the others."""
    from study.distributed import process_group_context

    task = PackTask.from_dict(config["task"])
    device = ray.train.torch.get_device()
    with Watchdog(task, datetime.now(UTC)) as watchdog:
        run = TaskRun(task, device, lambda artifacts: process_group_context(artifacts, device))
        while not run.is_done:
            progress = run.advance()
            watchdog.progress()
            ray.train.report({"fraction": progress.step / progress.num_steps})


def train_on_workers(config: dict[str, Any]) -> None:
    """A Tune function that trains one pack with a nested TorchTrainer."""
    from ray.tune.integration.ray_train import TuneReportCallback

    task = PackTask.from_dict(config["task"])
    settings = task.settings
    started = datetime.now(UTC)
    # Checkpoints lie in the ledger's storage: what Train keeps of its own state may be lost.
    with tempfile.TemporaryDirectory(prefix="study-train-", ignore_cleanup_errors=True) as scratch:
        trainer = ray.train.torch.TorchTrainer(
            _train_worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(
                num_workers=task.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker={"CPU": settings.threads, **({"GPU": 1} if settings.use_gpu else {})},
            ),
            run_config=ray.train.RunConfig(
                name=f"{task.replicates[0].key}-{task.attempts[0]}",
                storage_path=scratch,
                callbacks=[TuneReportCallback()],
                failure_config=ray.train.FailureConfig(max_failures=2),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            record_failure(task, classify(error), error_sentence(error), started, traceback.format_exc())


class RoundSearcher(Searcher):
    """Feeds the packs of recorded rounds to Tune; returns None while a round is open and ends when the plan does."""

    def __init__(self, state: SweepState, on_event: Callable[[], None]) -> None:
        super().__init__(metric="fraction", mode="max")
        self._state = state
        self._on_event = on_event
        self._running: dict[str, PackTask] = {}
        self._nodes: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def unfinished(self) -> list[PackTask]:
        """Packs that were running when the sweep ended."""
        return list(self._running.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        task = self._state.next_task(is_idle=not self._running)
        if task is None:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = task
        self._on_event()
        return {"task": task.to_dict()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._nodes[trial_id] = result.get("node_ip", "")
        if trial_id in self._running:
            self._state.note_progress(self._running[trial_id], result.get("fraction", 0.0))
        self._on_event()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        task = self._running.pop(trial_id, None)
        if task is None:
            return
        if error:
            self._record_death(trial_id, task)
        self._state.note_complete(task)
        self._on_event()

    def _record_death(self, trial_id: str, task: PackTask) -> None:
        """A worker that died left no row of its own, unless its watchdog wrote one."""
        if self._state.has_attempt(task):
            return
        alive = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        node = self._nodes.get(trial_id)
        is_lost = node is not None and node not in alive
        outcome = Outcome.INTERRUPTED if is_lost else Outcome.FAILED
        text = "the node went away" if is_lost else "the worker process died (killed, or out of memory)"
        record_failure(task, outcome, text, datetime.now(UTC))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a searcher is rebuilt from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def start_ray(address: str, needs_dashboard: bool) -> None:
    """Connect to a cluster, or start Ray on this machine for ``local``.

    Placement groups of killed trials are cleaned up through the dashboard's State API, which nested training needs.
    """
    try:
        if address == "local":
            ray.init(
                address="local",
                include_dashboard=needs_dashboard,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=128 * 2**20,
            )
        else:
            _probe(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({error_sentence(error)}): check --address or RAY_ADDRESS, or pass "
            "--address local"
        ) from error


def _probe(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would wait there for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def stop_ray() -> None:
    """Disconnect, and end a Ray that :func:`start_ray` started."""
    ray.shutdown()


def num_concurrent(settings: TaskSettings, asked: int | None, *, is_local: bool) -> int:
    """How many packs run at a time; :class:`ConfigError` where one needs more CPUs than this machine has."""
    resources = ray.cluster_resources()
    num_cpus = int(resources.get("CPU", 0))
    per_pack = settings.threads * settings.workers_per_trial
    if is_local and per_pack > num_cpus:
        raise ConfigError(
            f"--workers-per-trial {settings.workers_per_trial} needs {per_pack} CPUs and this machine has {num_cpus}: "
            "ask for fewer workers"
        )
    width = num_cpus // per_pack
    if settings.use_gpu:
        width = min(width, int(resources.get("GPU", 0)) // settings.workers_per_trial)
    if not is_local:
        # An autoscaler adds nodes only for packs that wait: what the cluster has now is no bound.
        width = max(width, _LEAST_CLUSTER_WIDTH)
    return asked or max(1, width)


def run_rounds(state: SweepState, width: int, on_event: Callable[[], None]) -> list[PackTask]:
    """Run a sweep's rounds to their end in one ``Tuner.fit``, ``width`` packs at a time; returns those cut off."""
    settings = state.settings
    searcher = RoundSearcher(state, on_event)
    trainable: Any
    if settings.executor == "inline":
        resources = {"CPU": settings.threads, **({"GPU": 1} if settings.use_gpu else {})}
        trainable = tune.with_resources(PackTrainable, resources)
    else:
        # Drivers of nested runs need no CPU of their own: one that held a CPU could starve its workers for ever.
        # The head's marker resource keeps them off spot nodes.
        placement = tune.PlacementGroupFactory([{"node:__internal_head__": 0.01}])
        trainable = tune.with_resources(train_on_workers, placement)
    with tempfile.TemporaryDirectory(prefix="study-tune-", ignore_cleanup_errors=True) as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=width,
                reuse_actors=settings.executor == "inline",
                trial_dirname_creator=lambda trial: trial.trial_id,
                metric="fraction",
                mode="max",
            ),
            run_config=tune.RunConfig(
                name=f"{state.design.study}-{state.design.hash}-{int(time.time())}",
                storage_path=str(Path(scratch)),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                # The ledger keeps checkpoints by replicate; Tune's own would be lost with its state.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )
        tuner.fit()
    unfinished = searcher.unfinished
    for task in unfinished:
        if not state.has_attempt(task):
            record_failure(task, Outcome.INTERRUPTED, "the sweep was stopped", datetime.now(UTC))
    return unfinished
