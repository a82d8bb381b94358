"""Whether a row of an attempt can count: a finding has the numbers that somebody asked of it."""

import functools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.designs.criterion import criteria_of
from study.designs.values import from_json
from study.errors import ConfigError
from study.interface.metrics import Reported
from study.ledger.names_on_disk import recipe_of
from study.outcome import MEASURED_OUTCOMES, Outcome
from study.rows import before_column, is_metric_column, metric_column

_OUTCOMES = frozenset(Outcome)


@dataclass
class Asked:
    """The columns that the criteria of all designs that planned a key judge it by, and the recipe that runs it."""

    columns: set[str] = field(default_factory=set)
    entry_point: str | None = None


def asked_metrics(designs: Iterable[Mapping[str, Any]], rounds: Iterable[Mapping[str, Any]]) -> dict[str, Asked]:
    """What is asked of every planned key."""
    by_design: dict[str, Asked] = {}
    for row in designs:
        criteria = criteria_of(json.loads(row["design"]))
        before = {before_column(criterion.metric) for criterion in criteria if criterion.floor == "before"}
        columns = {metric_column(criterion.metric) for criterion in criteria} | before
        by_design[row["study_hash"]] = Asked(columns=columns, entry_point=row["entry_point"])
    by_key: dict[str, Asked] = defaultdict(Asked)
    for row in rounds:
        if design := by_design.get(row["study_hash"]):
            by_key[row["key"]].columns |= design.columns
            by_key[row["key"]].entry_point = design.entry_point
    return by_key


def fault(row: Mapping[str, Any], asked: Asked) -> str:
    """Why a row that says it is a finding is none, empty where it is one.

    What a replicate of its configuration does not report is not missing: a tuning replicate lacks what is measured
    once, and a code of another day may have declared less.
    """
    if row["outcome"] not in _OUTCOMES:
        return f"its outcome is {row['outcome']!r}, which this code does not know"
    if row["outcome"] not in MEASURED_OUTCOMES:
        return ""
    if not any(_is_number(value) for name, value in row.items() if is_metric_column(name)):
        return f"it says {row['outcome']} and has no number"
    lacking = {name for name in asked.columns if not _is_number(row.get(name))}
    if lacking and row["config"]:
        known = _reported(asked.entry_point, row["config"])
        lacking &= {*map(metric_column, known.at_end), *map(before_column, known.judged)}
    return f"it says {row['outcome']} and lacks {', '.join(sorted(lacking))}" if lacking else ""


@functools.cache
def _reported(entry_point: str | None, config: str) -> Reported:
    """What replicates of a configuration report; nothing is known where their recipe is not installed here."""
    try:
        recipe = recipe_of(entry_point)
    except ConfigError:
        return Reported(judged=frozenset())
    return recipe.reported(from_json(recipe.config_class, config))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
