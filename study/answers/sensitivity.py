"""How far a threshold moves with the criterion, read off the same replicates, and with the training horizon."""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.answers.fits import fit_criterion, sought_crossings
from study.answers.frames import floor_values, outcome_values
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Flank
from study.inference.statements import Crossing
from study.inference.threshold import CurveFit
from study.interface.recipe import Recipe
from study.rows import before_column, metric_column

# How far the criterion is shifted down and up: by so much of the whole, but at most half-way to either end of it.
_SHIFT = 0.1
# The same for a level of no share, such as a number of dimensions: by so much of itself.
_RELATIVE_SHIFT = 0.2


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A threshold by another criterion or horizon, and how many octaves it lies above the reference.

    ``octaves`` is None where one of the two is no number.
    """

    name: str
    crossing: Crossing
    octaves: float | None


def criterion_shifts(
    frame: pd.DataFrame, axis: Axis, criterion: Criterion, recipe: Recipe[Any], flank: Flank, fit: CurveFit
) -> tuple[Shift, ...]:
    """The sought threshold of one slice by every other criterion that its replicates were measured for.

    Nuisances were tuned for the study's own criterion: a threshold by another one is that of the same runs, not of
    runs that were tuned for it.
    """
    reference = sought_crossings(fit, flank)
    shifts = []
    for other in _others(criterion, recipe):
        if not _is_measured(frame, other, recipe):
            continue
        fitted, _ = fit_criterion(frame, axis, other, recipe)
        if fitted is not None:
            crossings = sought_crossings(fitted, flank)
            shifts += [_shift(other.sentence, *pair) for pair in zip(crossings, reference, strict=True)]
    return tuple(shifts)


def _others(criterion: Criterion, recipe: Recipe[Any]) -> Iterator[Criterion]:
    for value in _shifted(criterion):
        is_level = criterion.fraction is None
        yield dataclasses.replace(
            criterion, level=value if is_level else None, fraction=None if is_level else value
        )  # fmt: skip
    yield from recipe.alternatives(criterion)


def _shifted(criterion: Criterion) -> tuple[float, float]:
    """A lower and a higher level or fraction, around the criterion's own."""
    own = criterion.level if criterion.fraction is None else criterion.fraction
    assert own is not None
    step = min(_SHIFT, own / 2, (1 - own) / 2) if 0 < own < 1 else _RELATIVE_SHIFT * abs(own) or _SHIFT
    # Steps of decimals leave tails of binary ones: 0.4 - 0.1 is 0.30000000000000004.
    return float(f"{own - step:.6g}"), float(f"{own + step:.6g}")


def _is_measured(frame: pd.DataFrame, criterion: Criterion, recipe: Recipe[Any]) -> bool:
    """Whether every replicate has the metric, and training can have moved it."""
    before = [before_column(criterion.metric)] if criterion.floor == "before" else []
    needed = [metric_column(criterion.metric), *before]
    if not {*needed} <= set(frame):
        return False
    values = outcome_values(frame, dataclasses.replace(criterion, share=None), recipe)
    floors = floor_values(frame, criterion, recipe)
    return bool(values.notna().all() and floors.notna().all() and (values != floors).any())


def _shift(name: str, crossing: Crossing, reference: Crossing) -> Shift:
    value, start = crossing.estimate, reference.estimate
    if value is None or start is None or min(value, start) <= 0:
        return Shift(name=name, crossing=crossing, octaves=None)
    return Shift(name=name, crossing=crossing, octaves=math.log2(value / start))


def horizon_shifts(
    parts: Sequence[tuple[str, pd.DataFrame, CurveFit]], varied: Sequence[str], flank: Flank, horizon: str
) -> tuple[Shift, ...]:
    """The sought thresholds of slices whose configurations differ in the training horizon alone.

    Args:
        parts: name, replicates and fit of slices of one criterion.
        varied: paths whose values differ within a slice: the axis and the nuisances.
        horizon: the path of the horizon.

    Returns the slices of every such group by rising horizon; the shortest is the reference of its group.
    """
    groups: dict[str, list[tuple[int, str, CurveFit]]] = {}
    for name, frame, fit in parts:
        config: dict[str, Any] = json.loads(frame["config"].iloc[0])
        if not config[horizon]:
            # Before training there is no budget to be sensitive to.
            continue
        rest = {path: value for path, value in config.items() if path not in (horizon, *varied)}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append((config[horizon], name, fit))
    shifts = []
    for group in groups.values():
        group.sort(key=lambda part: part[0])
        first = sought_crossings(group[0][2], flank)
        if len({length for length, _, _ in group}) > 1:
            for _, name, fit in group:
                shifts += [_shift(name, *pair) for pair in zip(sought_crossings(fit, flank), first, strict=True)]
    return tuple(shifts)
