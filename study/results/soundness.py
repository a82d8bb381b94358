"""Whether a row of an attempt can count: a finding has the numbers that somebody asked of it."""

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from study.config import from_json
from study.metrics import reported
from study.outcome import MEASURED_OUTCOMES, Outcome
from study.results.schema import REPLICATES
from study.space import criteria_of

Row = Mapping[str, Any]

_OUTCOMES = frozenset(Outcome)
_METRICS = tuple(column.name for column in REPLICATES if column.is_metric)


def asked_metrics(designs: Iterable[Row], rounds: Iterable[Row]) -> dict[str, set[str]]:
    """The columns that the criteria of all designs that planned a key judge it by, for every planned key."""
    by_design: dict[str, set[str]] = {}
    for row in designs:
        criteria = criteria_of(json.loads(row["design"]))
        before = {f"{criterion.metric}_before" for criterion in criteria if criterion.floor == "before"}
        by_design[row["study_hash"]] = {criterion.metric for criterion in criteria} | before
    by_key: dict[str, set[str]] = defaultdict(set)
    for row in rounds:
        by_key[row["key"]] |= by_design.get(row["study_hash"], set())
    return by_key


def fault(row: Row, asked: Collection[str]) -> str:
    """Why a row that says it is a finding is none, empty where it is one; ``asked`` are the columns it is judged by.

    What a replicate of its configuration does not report is not missing: a tuning replicate lacks what is measured
    once, and a code of another day may have declared less.
    """
    if row["outcome"] not in _OUTCOMES:
        return f"its outcome is {row['outcome']!r}, which this code does not know"
    if row["outcome"] not in MEASURED_OUTCOMES:
        return ""
    if not any(_is_number(row[name]) for name in _METRICS):
        return f"it says {row['outcome']} and has no number"
    lacking = {name for name in asked if not _is_number(row[name])}
    if lacking and row["config"]:
        known = reported(from_json(row["config"]))
        lacking &= known.at_end | {f"{name}_before" for name in known.judged}
    return f"it says {row['outcome']} and lacks {', '.join(sorted(lacking))}" if lacking else ""


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
