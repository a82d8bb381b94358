"""Ledger tables as tidy data frames."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.designs.criterion import Criterion
from study.designs.values import from_json
from study.interface.recipe import Recipe
from study.ledger.ledger import Ledger
from study.outcome import FINAL_OUTCOMES, MEASURED_OUTCOMES
from study.rows import before_column, floor_of, metric_column, value_of


def designs_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per design, the newest last."""
    return ledger.read("designs").to_pandas().sort_values("created_at", ignore_index=True)


def replicates_frame(ledger: Ledger, study_hash: str) -> pd.DataFrame:
    """One row per planned replicate of a design that has been tried: cell, nuisance, role and its settled row.

    The point's and the nuisance's values are columns named by their configuration path, metrics ``metric.NAME`` and
    ``before.NAME``. ``outcome`` is missing while a replicate is not settled.
    """
    settled = ledger.settled()
    rows: list[dict[str, Any]] = []
    for entry in ledger.planned(study_hash):
        place = {name: entry[name] for name in ("round", "role", "cell", "nuisance")}
        values = {**json.loads(entry["cell"]), **json.loads(entry["nuisance"])}
        # An axis may be called as a column that is not looked at here, such as steps.
        row = {name: value for name, value in settled.get(entry["key"], {}).items() if name not in values}
        rows.append({**place, **values, "key": entry["key"], "seed": entry["seed"], **row})
    frame = pd.DataFrame(rows, columns=None if rows else ["round", "role", "cell", "nuisance", "key", "seed"])
    return frame if "outcome" in frame else frame.assign(outcome=None)


def curves_frame(ledger: Ledger, study_hash: str) -> pd.DataFrame:
    """Learning curves of a design's settled replicates: key, cell, nuisance, role, seed, examples, metric, value."""
    replicates = replicates_frame(ledger, study_hash)
    curves = ledger.read("curves").to_pandas()
    columns = ["key", "attempt", "cell", "nuisance", "role", "seed"]
    return curves.merge(finished(replicates)[columns], on=["key", "attempt"])


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with a finding."""
    return frame[frame["outcome"].isin([str(o) for o in FINAL_OUTCOMES])]


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose metrics count as measured."""
    return frame[frame["outcome"].isin([str(o) for o in MEASURED_OUTCOMES])]


def floor_values(frame: pd.DataFrame, criterion: Criterion, recipe: Recipe[Any]) -> pd.Series:
    """What each replicate rises from: its own model before training, chance, or zero."""
    return _by_row(frame, criterion, recipe, floor_of)


def outcome_values(frame: pd.DataFrame, criterion: Criterion, recipe: Recipe[Any]) -> pd.Series:
    """What each row counts as for inference: its metric, or its success; a diverged replicate stands at its floor."""
    values = _by_row(frame, criterion, recipe, value_of)
    return values if criterion.share is None else values.map(criterion.outcome, na_action="ignore")


def _by_row(
    frame: pd.DataFrame,
    criterion: Criterion,
    recipe: Recipe[Any],
    count: Callable[[Mapping[str, Any], Any, Criterion, Recipe[Any]], float | None],
) -> pd.Series:
    columns = [metric_column(criterion.metric), before_column(criterion.metric), "outcome", "config"]
    rows = frame[[column for column in columns if column in frame]].to_dict("records")
    is_of_config = criterion.floor == "chance"
    values = [
        count(row, _read(recipe.config_class, row["config"]) if is_of_config else None, criterion, recipe)
        for row in rows
    ]
    return pd.Series(values, index=frame.index, dtype=float)


@functools.cache
def _read(config_class: type, text: str) -> Any:
    return from_json(config_class, text)


def fit_columns(
    frame: pd.DataFrame, paths: Sequence[str], criterion: Criterion, recipe: Recipe[Any]
) -> tuple[np.ndarray, ...]:
    """What a fit takes of replicates: the values of its axes, then outcomes, seeds and floors (of successes, zero)."""
    is_share = criterion.share is not None
    floors = pd.Series(0.0, index=frame.index) if is_share else floor_values(frame, criterion, recipe)
    return (
        *(frame[path].to_numpy(float) for path in paths),
        outcome_values(frame, criterion, recipe).to_numpy(float),
        frame["seed"].to_numpy(),
        floors.to_numpy(float),
    )
