"""A row of the ledger, its columns of metrics, and what a replicate counts as: once, for planning and answers alike."""

import math
from collections.abc import Mapping
from typing import Any

from study.designs.criterion import Criterion
from study.interface.recipe import Recipe
from study.outcome import MEASURED_OUTCOMES, Outcome

Row = dict[str, Any]

METRIC, BEFORE = "metric.", "before."


def metric_column(name: str) -> str:
    """The column of a metric at the end of a replicate."""
    return f"{METRIC}{name}"


def before_column(name: str) -> str:
    """The column of a metric before training."""
    return f"{BEFORE}{name}"


def is_metric_column(name: str) -> bool:
    """Whether a column holds a metric, at the end or before training."""
    return name.startswith((METRIC, BEFORE))


def floor_of(row: Mapping[str, Any], config: Any, criterion: Criterion, recipe: Recipe[Any]) -> float | None:
    """What a replicate rises from: its own model before training, chance, or zero."""
    if criterion.floor == "before":
        return _number(row.get(before_column(criterion.metric)))
    return 0.0 if criterion.floor == "zero" else recipe.metric(criterion.metric).chance_of(config)


def value_of(row: Mapping[str, Any], config: Any, criterion: Criterion, recipe: Recipe[Any]) -> float | None:
    """The criterion's metric of a settled row; a diverged replicate stands at its floor, a failed one is missing."""
    outcome = Outcome(row["outcome"])
    if outcome in MEASURED_OUTCOMES:
        return _number(row.get(metric_column(criterion.metric)))
    return floor_of(row, config, criterion, recipe) if outcome is Outcome.DIVERGED else None


def _number(value: float | None) -> float | None:
    """A cell of a table; data frames hold NaN where nothing was measured."""
    return None if value is None or math.isnan(value) else value
