"""What one identity block should do on real images, from the cosines of views that were measured before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.config import ReplicateConfig
from study.limits.one_block import success_from_moments
from study.results.identities import encoder_settings, view_settings
from study.results.ledger import Ledger
from study.space import Criterion

_MOMENTS = ("cosine_within_mean", "cosine_within_sd", "cosine_across_mean", "cosine_across_sd")
METRICS = ("p", "s_j")


@dataclass(frozen=True, kw_only=True)
class MomentsPrediction:
    """P or S_J of one identity block at every strength, by strength; empty where no moments were measured.

    ``encoder`` is from views of the training split as the untrained encoder sees them, the mean over its seeds, and
    ``raw`` from their pixels.
    """

    encoder: dict[float, float]
    raw: dict[float, float]


def predict_from_moments(
    ledger: Ledger, configs: Mapping[float, ReplicateConfig], seeds: Sequence[int], data_digest: str, metric: str
) -> MomentsPrediction:
    """Predict ``metric`` (p or s_j) at every strength of ``configs`` from the ledger's measurements."""
    encoder: dict[float, float] = {}
    raw: dict[float, float] = {}
    for strength, config in configs.items():
        views = view_settings(config)
        if found := ledger.measurements("raw_views_", data_digest, None, views):
            raw[strength] = _success(found, config, metric)
        settings = views | encoder_settings(config)
        by_seed = [ledger.measurements("untrained_views_", data_digest, seed, settings) for seed in seeds]
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
