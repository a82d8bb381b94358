"""What tuning a nuisance costs a sought limit: borrowing from neighbours beside the whole grid in every new cell.

The planner of a study is played against simulated outcomes: the design is `batch_limit` (six batches, then limit
seeking; three learning rates on two tuning seeds). P rises by a Hill curve and loses a share that grows with the square
of the distance, in octaves, between the learning rate and its best value, which drifts with the batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from search_spaces.batch_limit import SPACE
from study.designs.assembly import make_design
from study.designs.design import Design
from study.designs.values import Values
from study.inference.threshold import fit_curve
from study.planning.planner import RoundPlanner
from study.planning.proposals import Entry
from study.planning.tuning import NuisanceTuner, Setting, TunedCell
from study.rows import before_column, metric_column

DRIFTS = (0.0, 0.25, 0.5)  # octaves of learning rate per octave of batch
LOSS_PER_OCTAVE = 0.06
NOISE_SD = 0.05
FLOOR, HEIGHT, WIDTH_OCTAVES = 0.05, 0.5, 1.5
AXIS, RATE = "batch.train", "optimizer.learning_rate"


class GridTuner(NuisanceTuner):
    """Tries the whole grid in every new cell."""

    def borrowed(self, point: Values, neighbours: Sequence[TunedCell], round_: int) -> list[Setting]:  # noqa: ARG002
        """The grid, whatever the neighbours found."""
        return self.grid(point)


class GridPlanner(RoundPlanner):
    """Limit seeking with the whole grid in every new cell."""

    @property
    def _tuner(self) -> NuisanceTuner:
        return GridTuner(design=self.design)


PLANNERS: dict[str, type[RoundPlanner]] = {"borrowing": RoundPlanner, "whole grid": GridPlanner}


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """P of a batch and a learning rate, without noise."""

    threshold: float  # octaves, of the best rate's curve: half of its rise
    best_rate: float  # octaves, at a batch of 2^5
    drift: float

    def loss(self, batch: float, rate: float) -> float:
        """The share of the rise that is lost to a learning rate that is not the best."""
        best = self.best_rate + self.drift * (np.log2(batch) - 5)
        return float(min(1.0, LOSS_PER_OCTAVE * (np.log2(rate) - best) ** 2))

    def __call__(self, batch: float, rate: float) -> float:
        rise = 1 / (1 + 9.0 ** (-2 * (np.log2(batch) - self.threshold) / WIDTH_OCTAVES))
        return float(FLOOR + HEIGHT * rise * (1 - self.loss(batch, rate)))


def play(planner: RoundPlanner, landscape: Landscape, seed: int) -> tuple[list[list[Entry]], dict[str, Any]]:
    """Run a plan to its end against simulated outcomes, each a function of the replicate's key; rounds and rows."""
    rounds: list[list[Entry]] = []
    settled: dict[str, dict[str, Any]] = {}
    while entries := planner.next_round(rounds, settled):
        rounds.append(entries)
        for entry in entries:
            noise = np.random.default_rng([seed, int(entry.replicate.key[:12], 16)]).normal(0, NOISE_SD)
            p = landscape(float(entry.point[AXIS]), float(entry.nuisance[RATE])) + noise
            settled[entry.replicate.key] = {"outcome": "ok", metric_column("p"): p, before_column("p"): FLOOR}
    return rounds, settled


def design() -> Design:
    """The design that is played: `batch_limit` with a precision of a quarter octave."""
    found = make_design(SPACE)
    return replace(found, budget=replace(found.budget, precision=0.25, max_replicates=80))


def measure(seed: int, drift: float, name: str, index: int) -> dict[str, Any]:
    """Play one landscape by one of `PLANNERS`; returns what it cost and what it lost."""
    rng = np.random.default_rng([seed, DRIFTS.index(drift), index])
    landscape = Landscape(
        threshold=float(rng.uniform(3.5, 7.5)), best_rate=float(np.log2(1e-4) + rng.uniform(-1, 1)), drift=drift
    )
    played = design()
    planner = PLANNERS[name](design=played, digest_of=lambda _config: "simulated", replicates=played.replicates)
    rounds, settled = play(planner, landscape, index)
    entries = [entry for round_ in rounds for entry in round_]
    first = {entry.cell for entry in rounds[0]}
    reported = [entry for entry in entries if entry.role == "reported"]
    new_cells = {entry.cell for entry in reported} - first
    x = [float(entry.point[AXIS]) for entry in reported]
    p = [settled[entry.replicate.key][metric_column("p")] for entry in reported]
    seeds = [entry.replicate.seed for entry in reported]
    rising = fit_curve(x, p, seeds, [FLOOR] * len(x)).rising
    losses = [
        landscape.loss(float(entry.point[AXIS]), float(entry.nuisance[RATE]))
        for entry in {entry.cell: entry for entry in reported if entry.cell in new_cells}.values()
    ]
    return {
        "drift": drift, "tuning": name, "new cells": len(new_cells), "reported": len(reported),
        "tuned first": sum(e.role == "tuning" and e.cell in first for e in entries),
        "tuned new": sum(e.role == "tuning" and e.cell not in first for e in entries),
        "loss": float(np.mean(losses)) if losses else np.nan,
        "error": np.nan if rising.estimate is None else abs(np.log2(rising.estimate) - landscape.threshold),
    }  # fmt: skip


def nuisance_table(frame: pd.DataFrame) -> Iterable[str]:
    """Yield a table of means, a row per drift and way of tuning; errors are medians in octaves."""
    yield (
        "| drift | new cells | tuning replicates, stage one | per new cell | reported replicates | all replicates "
        "| lost in new cells | error of the limit |"
    )
    yield "|---" * 8 + "|"
    for (drift, name), part in frame.groupby(["drift", "tuning"], sort=False):
        mean = part.mean(numeric_only=True)
        everything = mean["tuned first"] + mean["tuned new"] + mean["reported"]
        yield (
            f"| {drift:g}, {name} | {mean['new cells']:.1f} | {mean['tuned first']:.1f} "
            f"| {part['tuned new'].sum() / max(part['new cells'].sum(), 1):.2f} | {mean['reported']:.1f} "
            f"| {everything:.1f} | {mean['loss']:.1%} | {part['error'].median():.2f} |"
        )
