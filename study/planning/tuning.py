"""Nuisance settings of a cell: which are tried, which is the best, and what a new cell borrows from its neighbours.

A cell of stage one tries the whole grid, and one more value beyond an edge that its best value lies at. A new cell of
a later round lies between tuned ones, and what they know is used first, since tuning is most of a study's cost:

- Where the tuned cells on both sides agree, there is nothing to tune. The best setting moves smoothly with the point,
  so that between two cells which chose the same value of a grid the grid would be searched to choose it again.
  Settings within half a step of the grid agree: the grid's step is the resolution that the design asks for.
- Where they disagree, the cell tries both of their settings and one that a Gaussian process proposes between. It
  knows their tuning trials by the distance of each outcome from its own cell's best: only the shape is borrowed, never
  the height, which is what the study measures. Trials on the far sides are kept: they say how fast outcomes fall.

All tuning seeds of a setting run in one round. Leaving out further seeds of a setting could not move the choice only
where even an outcome of 1 in all of them would leave its mean below another's: with two seeds and outcomes between 0
and 1/2 that is never so, and elsewhere it would pay for a seed with two more rounds.

Nothing is chosen by reported outcomes, and reported seeds are none of the tuning seeds: the choice cannot favour a
point.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from study.designs.axis import Axis
from study.designs.cost import NUM_BORROWED
from study.designs.design import Design, cell_name
from study.designs.values import Scalar, Values, digest

# Its hints about missing extras are none of a sweep's business.
optuna.logging.set_verbosity(optuna.logging.ERROR)

Setting = dict[str, Scalar]

# Shares of a grid step: neighbours that are this near agree, and settings that are this near are not both tried.
AGREE, SAME = 0.5, 0.25


@dataclass(frozen=True, kw_only=True)
class TunedCell:
    """The nuisance setting chosen for a cell, with the mean outcome of every setting tried."""

    point: dict[str, Scalar]
    best: Setting | None
    at_edge: tuple[str, ...]
    tried: tuple[tuple[Setting, float], ...]


@dataclass(frozen=True, kw_only=True)
class NuisanceTuner:
    """Asks and tells of the nuisances of a design."""

    design: Design

    def grid(self, point: Values) -> list[Setting]:
        """Every combination of the nuisance grid, asked of Optuna for this cell."""
        grid = {axis.path: list(axis.values) for axis in self.design.nuisance}
        size = math.prod(len(values) for values in grid.values())
        sampler = optuna.samplers.GridSampler(grid, seed=self.seed(point, 0))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = _distributions({axis.path: axis.values for axis in self.design.nuisance})
        settings = [dict(study.ask(distributions).params) for _ in range(size)]
        return sorted(settings, key=lambda setting: [setting[path] for path in grid])

    def seed(self, point: Values, round_: int) -> int:
        """The seed of a cell's sampler in a round: a rebuilt sampler draws what the first one drew."""
        return int(digest([self.design.hash, cell_name(point), round_], length=7), 16)

    def tuned(
        self,
        point: dict[str, Scalar],
        outcomes: Mapping[str, Sequence[float | None]],
        neighbours: Sequence[TunedCell] = (),
    ) -> TunedCell:
        """The state of a cell by its outcomes: those of the tuning seeds of every setting (sorted JSON) tried.

        A setting with a missing outcome is left out; of equally good ones the first tried is best. An edge is where
        neither the cell nor a neighbour tried a value beyond the best one.
        """
        if not self.design.nuisance:
            return TunedCell(point=point, best={}, at_edge=(), tried=())
        tried = []
        for setting, values in outcomes.items():
            found = [value for value in values if value is not None]
            if len(found) == len(values):
                tried.append((json.loads(setting), math.fsum(found) / len(found)))
        if not tried:
            return TunedCell(point=point, best=None, at_edge=(), tried=())
        best = max(tried, key=lambda trial: trial[1])[0]
        known = [*tried, *(trial for cell in neighbours for trial in cell.tried)]
        at_edge = tuple(axis.path for axis in self.design.nuisance if _edge(axis, best, known))
        return TunedCell(point=point, best=best, at_edge=at_edge, tried=tuple(tried))

    def extension(self, cell: TunedCell, neighbours: Sequence[TunedCell] = ()) -> list[Setting]:
        """One more setting per axis whose best value lies at an edge of what the cell and its neighbours tried."""
        if cell.best is None:
            return []
        known = [*cell.tried, *(trial for neighbour in neighbours for trial in neighbour.tried)]
        settings = []
        for axis in self.design.nuisance:
            side = _edge(axis, cell.best, known)
            if side is not None:
                value = float(cell.best[axis.path])
                is_end = value == (max(axis.values) if side == "high" else min(axis.values))
                step = axis.ratio if side == "high" else 1 / axis.ratio
                settings.append({**cell.best, axis.path: axis.beyond(side) if is_end else float(f"{value * step:.3g}")})
        return settings

    def borrowed(self, point: Values, neighbours: Sequence[TunedCell], round_: int) -> list[Setting]:
        """The settings that a new cell tries; a single one is taken as it is. Neighbours come nearest first.

        ``neighbours`` are the nearest tuned cell and the nearest on its other side, where there is one.
        """
        bests = [cell.best for cell in neighbours if cell.best is not None]
        settings = self._distinct(bests)
        if len(bests) == 2 and self._distance(*bests) <= AGREE:
            return settings[:1]
        settings = self._distinct([*settings, *self._proposed(neighbours, self.seed(point, round_))])
        if len(bests) == len(settings) == 2 and self._distance(*bests) > 1:
            # The model saw nothing between: a gap wider than the grid's own is not left open.
            settings.append({path: _middle(*(float(best[path]) for best in bests)) for path in bests[0]})
        assert len(settings) <= NUM_BORROWED
        return settings

    def _proposed(self, neighbours: Sequence[TunedCell], seed: int) -> list[Setting]:
        """What a Gaussian process that knows the neighbours' trials asks for, in two digits.

        Nothing where it looks further than half a step of the grid beyond their best settings: the best one of a cell
        between them lies between theirs.
        """
        trials = [
            (setting, value - max(v for _, v in cell.tried)) for cell in neighbours for setting, value in cell.tried
        ]
        paths = [axis.path for axis in self.design.nuisance]
        distributions = _distributions({path: [setting[path] for setting, _ in trials] for path in paths})
        if all(distribution.single() for distribution in distributions.values()):
            return []
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for setting, value in trials:
            study.add_trial(optuna.trial.create_trial(params=setting, distributions=distributions, value=value))
        asked: Setting = {path: float(f"{value:.2g}") for path, value in study.ask(distributions).params.items()}
        bests = [cell.best for cell in neighbours if cell.best is not None]
        for axis in self.design.nuisance:
            numbers = [float(best[axis.path]) for best in bests]
            reach = math.sqrt(axis.ratio)
            if len(bests) > 1 and not min(numbers) / reach <= float(asked[axis.path]) <= max(numbers) * reach:
                return []
        return [asked]

    def _distinct(self, settings: Sequence[Setting]) -> list[Setting]:
        kept: list[Setting] = []
        for setting in settings:
            if all(self._distance(setting, other) > SAME for other in kept):
                kept.append(setting)
        return kept

    def _distance(self, a: Values, b: Values) -> float:
        """How many steps of the grid two settings are apart, along the axis where they are furthest apart."""
        return max(
            abs(math.log(float(a[axis.path]) / float(b[axis.path]))) / math.log(axis.ratio)
            for axis in self.design.nuisance
        )


def _edge(axis: Axis, best: Values, tried: Sequence[tuple[Values, float]]) -> Literal["low", "high"] | None:
    values = [float(setting[axis.path]) for setting, _ in tried]
    value = float(best[axis.path])
    if value == min(values):
        return "low"
    return "high" if value == max(values) else None


def _middle(a: float, b: float) -> float:
    return float(f"{math.sqrt(a * b):.2g}")


def _distributions(values: Mapping[str, Sequence[Scalar]]) -> dict[str, BaseDistribution]:
    """A log range per path that holds the given values."""
    numbers = {path: [float(value) for value in given] for path, given in values.items()}
    return {path: FloatDistribution(min(given), max(given), log=True) for path, given in numbers.items()}
