"""What one identity block should do on real images, from the cosines of views that were measured before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.designs.criterion import Criterion
from study.designs.values import from_json
from study.formatting import fixed, short_number
from study.interface.readings import Measurements, SliceView
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.identities import encoder_settings, view_settings
from study.recipes.contrastive.laws.one_block import success_from_moments

_MOMENTS = ("cosine_within_mean", "cosine_within_sd", "cosine_across_mean", "cosine_across_sd")
_METRICS = ("p", "s_j")


@dataclass(frozen=True, kw_only=True)
class MomentsPrediction:
    """P or S_J of one identity block at every strength, by strength; empty where no moments were measured.

    ``encoder`` is from views of the training split as the untrained encoder sees them, the mean over its seeds, and
    ``raw`` from their pixels.
    """

    encoder: dict[float, float]
    raw: dict[float, float]


@dataclass(frozen=True, kw_only=True)
class MomentsReading:
    """The prediction beside the measured ``means`` by strength, and the measured limit (None: there is none)."""

    predicted: MomentsPrediction
    criterion: Criterion
    means: "pd.Series[float]"
    limit: float | None

    name = "from_moments"

    def curves(self) -> dict[str, dict[float, float]]:
        predictions = {"encoder": self.predicted.encoder, "pixels": self.predicted.raw}
        return {f"one identity block by cosines ({source})": found for source, found in predictions.items()}

    def as_json(self) -> dict[str, Any]:
        return vars(self.predicted)

    def lines(self) -> list[str]:
        """What one identity block should reach by the cosines of the views, and how far the measurement is from it."""
        lines = []
        for source, predicted in (("untrained encoder", self.predicted.encoder), ("raw pixels", self.predicted.raw)):
            if predicted:
                error = pd.Series(predicted) - self.means
                shown = "  ".join(f"{strength:g}: {fixed(value, 3)}" for strength, value in predicted.items())
                largest = error.loc[error.abs().idxmax()]
                lines.append(f"one identity block by cosines of the {source}: {self._place(predicted)}")
                lines.append(f"    predicted {shown} (largest error {short_number(largest, signed=True)})")
        return lines

    def _place(self, predicted: Mapping[float, float]) -> str:
        fall = falls_at(predicted, self.criterion)
        if fall is None:
            return "no fall through the criterion"
        ratio = "" if self.limit is None else f", measured/predicted {fixed(self.limit / fall, 2)}"
        return f"falls through the criterion at {short_number(fall)}{ratio}"


def read_moments(view: SliceView) -> MomentsReading | None:
    """What one identity block should do on images, from the moments of their views; None elsewhere."""
    rows = view.replicates
    if rows.empty or view.axis != "data.strength" or view.criterion.metric not in _METRICS:
        return None
    configs = {float(x): from_json(ReplicateConfig, part["config"].iloc[0]) for x, part in rows.groupby(view.axis)}
    if any(config.data.name == "clusters" for config in configs.values()):
        return None
    seeds, data_digest = sorted(rows["seed"].unique().tolist()), rows["data_digest"].iloc[0]
    predicted = predict_from_moments(view.measurements, configs, seeds, data_digest, view.criterion.metric)
    limit = None if view.fit is None else view.fit.falling.estimate
    return MomentsReading(predicted=predicted, criterion=view.criterion, means=view.means, limit=limit)


def predict_from_moments(
    kept: Measurements, configs: Mapping[float, ReplicateConfig], seeds: Sequence[int], data_digest: str, metric: str
) -> MomentsPrediction:
    """Predict ``metric`` (p or s_j) at every strength of ``configs`` from what was measured without training."""
    encoder: dict[float, float] = {}
    raw: dict[float, float] = {}
    for strength, config in configs.items():
        views = view_settings(config)
        if found := kept.measurements("raw_views_", data_digest, None, views):
            raw[strength] = _success(found, config, metric)
        settings = views | encoder_settings(config)
        by_seed = [kept.measurements("untrained_views_", data_digest, seed, settings) for seed in seeds]
        if known := [_success(found, config, metric) for found in by_seed if found]:
            encoder[strength] = float(np.mean(known))
    return MomentsPrediction(encoder=encoder, raw=raw)


def falls_at(predicted: Mapping[float, float], criterion: Criterion) -> float | None:
    """Where a predicted curve falls through its criterion, interpolated over log strength; None where it does not.

    A fraction is taken of the rise from chance, which is P = S_J = 0, to the largest predicted value.
    """
    x, y = np.array(sorted(predicted)), np.array([predicted[strength] for strength in sorted(predicted)])
    level = criterion.level
    if level is None:
        assert criterion.fraction is not None
        level = criterion.fraction * float(y.max())
    left = np.flatnonzero((y[:-1] >= level) & (y[1:] < level))
    if not len(left):
        return None
    pair = slice(left[-1], left[-1] + 2)
    return float(np.exp(np.interp(-level, -y[pair], np.log(x[pair]))))


def _success(moments: Mapping[str, float], config: ReplicateConfig, metric: str) -> float:
    within_mean, within_sd, across_mean, across_sd = (moments[name] for name in _MOMENTS)
    success = success_from_moments(
        within_mean, within_sd, across_mean, across_sd, config.batch.eval, config.data.num_classes
    )
    return float(success.p if metric == "p" else success.s_j)
