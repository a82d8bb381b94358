"""k-nearest-neighbour accuracy at the best point of a slice: trained, before training, and of the raw inputs."""

import json
from dataclasses import dataclass
from typing import Any

from study.formatting import fixed
from study.interface.readings import SliceView
from study.outcome import MEASURED_OUTCOMES
from study.rows import before_column, metric_column

_ACCURACY = "knn_accuracy"


@dataclass(frozen=True, kw_only=True)
class NeighbourReading:
    """Accuracies at the point of the axis where the criterion's metric is highest in the mean; ``unit`` names it."""

    point: float
    trained: float
    untrained: float
    raw: float | None
    unit: str

    name = "knn"

    def lines(self) -> list[str]:
        raw = "" if self.raw is None else f", raw inputs {fixed(self.raw, 3)}"
        values = f"{fixed(self.trained, 3)}, untrained {fixed(self.untrained, 3)}{raw}"
        return [f"kNN accuracy at {self.unit} {self.point:g}: {values}"]

    def curves(self) -> dict[str, dict[float, float]]:
        return {}

    def as_json(self) -> dict[str, Any]:
        return {"point": self.point, "trained": self.trained, "untrained": self.untrained, "raw": self.raw}


def read_neighbours(view: SliceView) -> NeighbourReading | None:
    """The accuracies of a slice; None where they were not measured."""
    rows, column = view.replicates, metric_column(_ACCURACY)
    rows = rows[rows["outcome"].isin([str(outcome) for outcome in MEASURED_OUTCOMES])]
    if rows.empty or column not in rows or rows[column].isna().all():
        return None
    best = rows.groupby(view.axis)[metric_column(view.criterion.metric)].mean().idxmax()
    at_best = rows[rows[view.axis] == best]
    return NeighbourReading(
        point=float(best),
        trained=float(at_best[column].mean()),
        untrained=float(at_best[before_column(_ACCURACY)].mean()),
        raw=_raw(view, at_best["data_digest"].iloc[0], json.loads(at_best["config"].iloc[0])),
        unit=view.unit,
    )


def _raw(view: SliceView, data_digest: str, config: dict[str, Any]) -> float | None:
    """The raw inputs' accuracy on the split and bank of a configuration, where measured."""
    wanted = {path: config[path] for path in ("evaluation.split", "evaluation.knn_bank", "evaluation.knn_neighbours")}
    for row in view.measurement_rows():
        # Ledgers of the first release call it raw_knn.
        is_it = row["quantity"] in ("raw_knn_accuracy", "raw_knn") and row["data_digest"] == data_digest
        if is_it and wanted.items() <= json.loads(row["settings"]).items():
            return row["value"]
    return None
