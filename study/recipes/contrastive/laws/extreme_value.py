"""The typical geometric limit: every within-class cosine of a batch beats all others (docs/theory.md, section 1.2)."""

import numpy as np
from scipy.special import ndtri

from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import Values, cosine_moments, crossing
from study.recipes.contrastive.laws.one_block import LEAST_SIGMA, most_sigma
from study.recipes.contrastive.laws.untrained import first_reason, outside_batch, outside_blocks, outside_model

LEAST_ROWS = 2
_GUMBEL_TAIL = 0.628576


def extreme_score(num_draws: Values) -> Array:
    """Score z(m) = -Phi^-1(a / m) of the largest of m standard normal draws, for the median of the sum of two of them.

    Extremes are Gumbel, and the sum of two stays below -2 log a with probability 1/2 where u K_1(u) = 1/2, u = 2 a.
    """
    return np.asarray(-ndtri(_GUMBEL_TAIL / np.asarray(num_draws)))


def gap(sigma: Values, batch: Values, dim: Values, num_classes: Values, cosine: Values = 0.0) -> Array:
    """rho (1 - c) - s_in z(m_in) - s_out z(m_out): by how much the least within-class cosine exceeds all others."""
    per_class = np.asarray(batch, np.float64) / num_classes
    moments = cosine_moments(sigma, dim, cosine)
    within = moments.within_mean - moments.within_sd * extreme_score(batch * (per_class - 1) / 2)
    across = moments.across_mean + moments.across_sd * extreme_score(batch * (batch - per_class) / 2)
    return np.asarray(within - across)


def _outside(setting: Setting) -> str | None:
    if setting.centred:
        return "assumes that the batch mean is kept, but it is removed"
    return first_reason(outside_blocks(setting, 1, 1), outside_model(setting), outside_batch(setting, LEAST_ROWS))


def _threshold(setting: Setting) -> float:
    dim, num_classes, batch = setting.given("dim", "num_classes", "batch")
    return crossing(
        lambda sigma: gap(sigma, batch, dim, num_classes, setting.cosine), LEAST_SIGMA, most_sigma(dim), level=0.0
    )


EXTREME_VALUE = Law(
    name="extreme_value",
    says="all pairs of a batch are ordered until the extremes of Gaussian cosines meet, at 2 to 5 times the guarantee",
    quantity="sigma",
    direction="largest",
    metric="all_pairs_ordered",
    level=0.5,
    inputs=("dim", "num_classes", "batch"),
    assumptions="cosines of pairs as independent Gaussian draws, balanced classes",
    validity="d 32 to 1024, K 3 to 15, N 12 to 300, cosine -0.5 to 0.2",
    kind=fusion,
    outside=_outside,
    threshold=_threshold,
    band=frozen(0.0084, 0.0261, 12),
    ranges={"dim": (32, 1024), "num_classes": (3, 15), "batch": (12, 300), "cosine": (-0.5, 0.2)},
    section="section 1.2",
)

LAWS = (EXTREME_VALUE,)
