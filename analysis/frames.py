"""Ledger tables as tidy data frames."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.config import from_json
from study.outcome import FINAL_OUTCOMES, MEASURED_OUTCOMES, Outcome
from study.results.ledger import Ledger
from study.space import Criterion


def designs_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per design, the newest last."""
    return ledger.read("designs").to_pandas().sort_values("created_at", ignore_index=True)


def replicates_frame(ledger: Ledger, study_hash: str) -> pd.DataFrame:
    """One row per planned replicate of a design that has been tried: cell, nuisance, role and its settled row.

    The point's and the nuisance's values are columns named by their configuration path. ``outcome`` is missing
    while a replicate is not settled.
    """
    settled = ledger.settled()
    rows: list[dict[str, Any]] = []
    for index, round_ in enumerate(ledger.rounds(study_hash)):
        for entry in round_:
            place = {"round": index, "role": entry["role"], "cell": entry["cell"], "nuisance": entry["nuisance"]}
            values = {**json.loads(entry["cell"]), **json.loads(entry["nuisance"])}
            rows.append(
                {**place, **values, "key": entry["key"], "seed": entry["seed"], **settled.get(entry["key"], {})}
            )
    frame = pd.DataFrame(rows, columns=None if rows else ["round", "role", "cell", "nuisance", "key", "seed"])
    return frame if "outcome" in frame else frame.assign(outcome=None)


def curves_frame(ledger: Ledger, study_hash: str) -> pd.DataFrame:
    """Learning curves of a design's settled replicates: key, cell, nuisance, role, seed, examples, metric, value."""
    replicates = replicates_frame(ledger, study_hash)
    finished = replicates[replicates["outcome"].isin([str(o) for o in FINAL_OUTCOMES])]
    curves = ledger.read("curves").to_pandas()
    columns = ["key", "attempt", "cell", "nuisance", "role", "seed"]
    return curves.merge(finished[columns], on=["key", "attempt"])


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose metrics count as measured."""
    return frame[frame["outcome"].isin([str(o) for o in MEASURED_OUTCOMES])]


def floor_values(frame: pd.DataFrame, criterion: Criterion) -> pd.Series:
    """What each replicate rises from: its own model before training, chance, or zero."""
    if criterion.floor == "before":
        return frame[f"{criterion.metric}_before"].astype(float)
    if criterion.floor == "zero":
        return pd.Series(0.0, index=frame.index)
    return frame["config"].map(lambda text: 1 / from_json(text).data.num_classes).astype(float)


def outcome_values(frame: pd.DataFrame, criterion: Criterion) -> pd.Series:
    """What each row counts as for inference: its metric, or its success; a diverged replicate stands at its floor."""
    is_diverged = frame["outcome"] == str(Outcome.DIVERGED)
    values = frame[criterion.metric].where(~is_diverged, floor_values(frame, criterion))
    return values if criterion.share is None else values.map(criterion.outcome, na_action="ignore")


def fit_columns(frame: pd.DataFrame, paths: Sequence[str], criterion: Criterion) -> tuple[np.ndarray, ...]:
    """What a fit takes of replicates: the values of its axes, then outcomes, seeds and floors (of successes, zero)."""
    floors = floor_values(frame, criterion) if criterion.share is None else pd.Series(0.0, index=frame.index)
    return (
        *(frame[path].to_numpy(float) for path in paths),
        outcome_values(frame, criterion).to_numpy(float),
        frame["seed"].to_numpy(),
        floors.to_numpy(float),
    )


def raw_knn(ledger: Ledger, data_digest: str, config: dict[str, Any]) -> float | None:
    """The raw inputs' k-nearest-neighbour accuracy on the split and bank of a configuration, where measured."""
    wanted = {path: config[path] for path in ("evaluation.split", "evaluation.knn_bank", "evaluation.knn_neighbours")}
    for row in ledger.read("measurements").to_pylist():
        # Ledgers of the first release call it raw_knn.
        is_it = row["quantity"] in ("raw_knn_accuracy", "raw_knn") and row["data_digest"] == data_digest
        if is_it and wanted.items() <= json.loads(row["settings"]).items():
            return row["value"]
    return None
