"""Packs against one replicate at a time: training steps by themselves, and whole replicates through Ray.

Command: python benchmarks/packs.py [steps | executors]

``steps``: replicates per second of packs against one replicate, same work, one thread, side by side in one run.

``executors``: replicates per minute, one thread and one CPU at a time, of packs of 32 and packs of 1 on one reused Tune
actor, of one plain Tune function trial per replicate and of one nested TorchTrainer (one worker) per replicate. All
train the same configuration (clusters, no encoder, two blocks), with an evaluation of one batch before and after,
through the project's own tasks into a temporary ledger. The rivals take turns in one Ray session, whose start is not
counted; a row gives the medians over the turns. Rates are from the end of a turn's first pack to the end of its last,
so that the start of an actor is in none of them; it stands beside, and in the rate of the whole turn. Overhead is what
passes between the ends of two packs beside the seconds that the rows of the ledger count as training and evaluation.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, cast

import torch
from ray import tune

from study.designs.values import with_values
from study.execution.on_ray import run_packs
from study.execution.queue import SweepState
from study.execution.ray_start import start_ray, stop_ray
from study.execution.task_run import run_task
from study.execution.tasks import ExecutorName, PackTask, TaskSettings
from study.ledger.ledger import Ledger
from study.ledger.provenance import collect
from study.ledger.store import Store
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun

_SECONDS_PER_CASE = 3.0

_NUM_TURNS = 3
_PACK_SIZE = 32
_CLUSTERS = with_values(
    ReplicateConfig(),
    {
        "data.name": "clusters",
        "data.strength": 1.0,
        "data.clusters.dim": 64,
        "data.clusters.num_classes": 5,
        "batch.train": 50,
        "batch.eval": 50,
        "model.encoder": "none",
        "model.num_blocks": 2,
        "model.init": "identity",
        "optimizer.name": "adam",
        "horizon.unit": "steps",
        "horizon.length": 300,
        "evaluation.num_batches": 1,
        "evaluation.num_points": 1,
        "evaluation.knn_bank": 0,
    },
)


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


def print_steps() -> None:
    """Print a Markdown table of training steps."""
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
            pack = [CONTRASTIVE.replicate(shaped, seed, dataset.digest) for seed in range(size)]
            per_step = milliseconds_per_step(PackRun(pack, dataset))
            rate = 1000 * batch * size / per_step
            single = single or rate
            print(f"| {batch} | {size} | {per_step:.2f} | {rate:,.0f} | {rate / single:.2f} |", flush=True)


@dataclass(frozen=True)
class _Design:
    """What the executor reads of a design: parts of a run's name."""

    study: str = "benchmark"
    hash: str = "packs"


@dataclass
class _Queue:
    """Hands out given packs where a sweep's state would plan them."""

    settings: TaskSettings
    tasks: list[PackTask]
    design: _Design = field(default_factory=_Design)

    def next_task(self, **_state: bool) -> PackTask | None:
        return self.tasks.pop(0) if self.tasks else None

    def note_progress(self, task: PackTask, fraction: float) -> None:
        """Nothing to show."""

    def note_complete(self, task: PackTask) -> None:
        """Nothing to plan."""


class _Ends(tune.Callback):
    """Notes when each trial ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_complete(self, **_info: Any) -> None:
        self.times.append(time.perf_counter())


def _run_by_executor(tasks: list[PackTask]) -> list[float]:
    """End times of packs run one after the other as a sweep runs them."""
    ends: list[float] = []
    queue = cast(SweepState, _Queue(tasks[0].settings, list(tasks)))
    run_packs(queue, 1, lambda: None, lambda: ends.append(time.perf_counter()))
    return ends


def _train_function(config: dict[str, Any]) -> dict[str, float]:
    run_task(PackTask.from_dict(config["task"]))
    return {"fraction": 1.0}


def _run_by_functions(tasks: list[PackTask]) -> list[float]:
    """End times of one plain Tune function trial per task."""
    ends = _Ends()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        tune.Tuner(
            tune.with_resources(_train_function, {"CPU": 1}),
            param_space={"task": tune.grid_search([task.to_dict() for task in tasks])},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, trial_dirname_creator=lambda trial: trial.trial_id),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0, callbacks=[ends]),
        ).fit()
    return ends.times


@dataclass(frozen=True)
class _Rival:
    name: str
    run: Callable[[list[PackTask]], list[float]]
    executor: ExecutorName
    pack_size: int
    num_packs: int


_RIVALS = (
    _Rival(f"packs of {_PACK_SIZE}, one reused actor", _run_by_executor, "inline", _PACK_SIZE, 6),
    _Rival("one replicate per pack, one reused actor", _run_by_executor, "inline", 1, 16),
    _Rival("one Tune function trial per replicate", _run_by_functions, "inline", 1, 5),
    _Rival("one nested TorchTrainer per replicate", _run_by_executor, "train", 1, 3),
)


@dataclass(frozen=True)
class _Turn:
    """Replicates per minute after the first pack and of the whole turn, and seconds."""

    rate: float
    whole_rate: float
    first_pack: float
    pack: float
    training: float


def _take_turn(rival: _Rival, seeds: itertools.count) -> _Turn:
    digest = load_dataset(_CLUSTERS.data).digest
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as storage:
        settings = TaskSettings(
            ledger_uri=storage,
            recipe=CONTRASTIVE.address,
            study_hash="packs",
            data_root=None,
            executor=rival.executor,
            workers_per_trial=1,
            threads=1,
            use_gpu=False,
            provenance=collect(),
        )
        tasks = []
        for _ in range(rival.num_packs):
            pack = tuple(CONTRASTIVE.replicate(_CLUSTERS, next(seeds), digest) for _ in range(rival.pack_size))
            tasks.append(PackTask(settings=settings, replicates=pack, attempts=(1,) * len(pack)))
        start = time.perf_counter()
        ends = rival.run(tasks)
        rows = Ledger(Store(storage)).read("replicates").to_pylist()
    num_replicates = rival.num_packs * rival.pack_size
    assert [row["outcome"] for row in rows] == ["ok"] * num_replicates, "every replicate has a result"
    pack_seconds = (ends[-1] - ends[0]) / (rival.num_packs - 1)
    return _Turn(
        rate=60 * rival.pack_size / pack_seconds,
        whole_rate=60 * num_replicates / (ends[-1] - start),
        first_pack=ends[0] - start,
        pack=pack_seconds,
        training=sum(row["seconds"] for row in rows) / rival.num_packs,
    )


def print_executors() -> None:
    """Print a Markdown table of whole replicates."""
    seeds = itertools.count()
    turns: dict[str, list[_Turn]] = {rival.name: [] for rival in _RIVALS}
    start_ray("local", needs_dashboard=True)
    try:
        for _ in range(_NUM_TURNS):
            for rival in _RIVALS:
                turns[rival.name].append(_take_turn(rival, seeds))
                print(f"{rival.name}: {turns[rival.name][-1]}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    finally:
        stop_ray()
    print("| executor | packs x turns | replicates per minute | the packs' gain | whole turn, per minute ", end="")
    print("| first pack, s | later pack, s | of it training, s | overhead per pack, s |")
    print("|---|---|---|---|---|---|---|---|---|")
    best = median(turn.rate for turn in turns[_RIVALS[0].name])
    for rival in _RIVALS:
        found = turns[rival.name]
        rate, whole, first, pack, training, overhead = (
            median(values)
            for values in zip(
                *((t.rate, t.whole_rate, t.first_pack, t.pack, t.training, t.pack - t.training) for t in found),
                strict=True,
            )
        )
        print(
            f"| {rival.name} | {rival.num_packs} x {_NUM_TURNS} | {rate:,.1f} | {best / rate:.1f} | {whole:,.1f} "
            f"| {first:.1f} | {pack:.2f} | {training:.2f} | {overhead:.2f} |"
        )


if __name__ == "__main__":
    parts = {"steps": print_steps, "executors": print_executors}
    for part in sys.argv[1:] or parts:
        parts[part]()
