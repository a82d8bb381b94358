"""One identity block: its success from cosine moments, and the sigma where it breaks (docs/theory.md, section 2).

Shape suffixes: K classes, Q quadrature points over the partners of a row.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import (
    LEAST_SD,
    SQRT_2PI,
    CosineMoments,
    Values,
    chance_mass,
    cosine_moments,
    crossing,
    jsd_of_uneven_mass,
    rectified_mean,
    success_of_jsd,
    success_of_mass,
)
from study.recipes.contrastive.laws.untrained import first_reason, outside_batch, outside_blocks, outside_model

LEAST_ROWS = 2
LEAST_ROWS_CLOSED = 10
MOST_CLASSES = 50
LEAST_SIGMA = 0.01
_FARTHEST_SCORE = 8.0
_NODE_Q, _WEIGHT_Q = np.polynomial.legendre.leggauss(32)


class BlockSuccess(NamedTuple):
    """P and S_J of the affinity of one block."""

    p: Array
    s_j: Array


def most_sigma(dim: float) -> float:
    """An upper end for searches: sigma thresholds of untrained blocks grow as d^(1/4)."""
    return float(10 * dim**0.25)


def mass_from_moments(moments: CosineMoments, batch: Values, num_classes: Values) -> Array:
    """p_in = (n - 1) f_in / ((n - 1) f_in + (N - n) f_out), f the mean rectified cosine; N balanced rows."""
    per_class = np.asarray(batch, np.float64) / num_classes
    within = (per_class - 1) * rectified_mean(moments.within_mean, moments.within_sd)
    across = (batch - per_class) * rectified_mean(moments.across_mean, moments.across_sd)
    return np.asarray(within / (within + across))


def success_from_moments(
    within_mean: Values, within_sd: Values, across_mean: Values, across_sd: Values, batch: Values, num_classes: Values
) -> BlockSuccess:
    """P and S_J of one identity block on ``batch`` balanced rows whose cosines have these moments, measured or not."""
    moments = CosineMoments(
        *(np.asarray(value, np.float64) for value in (within_mean, within_sd, across_mean, across_sd))
    )
    mass = mass_from_moments(moments, batch, num_classes)
    chance = chance_mass(batch, num_classes)
    # Partners with a positive cosine: from the score where it is zero, or from so far below that nothing is missed.
    sd = np.maximum(moments.within_sd, LEAST_SD)[..., None]
    lowest = np.clip(-moments.within_mean[..., None] / sd, -_FARTHEST_SCORE, _FARTHEST_SCORE - 1)
    half_width = 0.5 * (_FARTHEST_SCORE - lowest)
    score_Q = lowest + half_width * (_NODE_Q + 1)
    shares_Q = half_width * _WEIGHT_Q * np.exp(-0.5 * score_Q**2) / SQRT_2PI
    jsd = jsd_of_uneven_mass(mass, np.maximum(moments.within_mean[..., None] + sd * score_Q, 0), shares_Q)
    return BlockSuccess(p=success_of_mass(mass, chance), s_j=success_of_jsd(jsd, chance))


def pair_auc_from_moments(moments: CosineMoments) -> Array:
    """Probability that a within-class cosine exceeds one across classes, both Gaussian (theory, section 0.3)."""
    spread = np.hypot(moments.within_sd, moments.across_sd)
    return np.asarray(ndtr((moments.within_mean - moments.across_mean) / spread))


def centred_moments(moments: CosineMoments, batch: Values) -> CosineMoments:
    """Moments after the batch mean of noise is removed too: every pair of rows then shares -1/N of the noise power."""
    shift = (1 - moments.within_mean) / batch
    return moments._replace(within_mean=moments.within_mean - shift, across_mean=moments.across_mean - shift)


def centring(cosine: float, num_classes: float) -> tuple[float, float]:
    """What removing the batch mean does to centres: the factor on sigma, and the cosine, which is the simplex's.

    Centres lose their common component and shrink to norm sqrt((1 - c)(1 - 1/K)).
    """
    return float(((1 - cosine) * (1 - 1 / num_classes)) ** -0.5), -1 / (num_classes - 1)


def _moments_of(setting: Setting, sigma: Values) -> CosineMoments:
    dim, num_classes, batch = setting.given("dim", "num_classes", "batch")
    if not setting.centred:
        return cosine_moments(sigma, dim, setting.cosine)
    factor, cosine = centring(setting.cosine, num_classes)
    return centred_moments(cosine_moments(factor * sigma, dim, cosine), batch)


def _p(setting: Setting, sigma: Values) -> Array:
    batch_and_classes = setting.given("batch", "num_classes")
    mass = mass_from_moments(_moments_of(setting, sigma), *batch_and_classes)
    return success_of_mass(mass, chance_mass(*batch_and_classes))


def _s_j(setting: Setting, sigma: Values) -> Array:
    return success_from_moments(*_moments_of(setting, sigma), *setting.given("batch", "num_classes")).s_j


def sigma_max_closed(dim: Values, num_classes: Values) -> Array:
    """The sigma with P = 1/2 for orthonormal centres, many dimensions and many rows of a class; NaN where none is.

    rho / sqrt(1 - rho^2) = (K + 1) / sqrt(2 pi d) and sigma^2 = 1 / rho - 1.
    """
    ratio = (np.asarray(num_classes) + 1) / np.sqrt(2 * np.pi * np.asarray(dim, np.float64))
    return np.asarray(np.sqrt(np.sqrt(1 + ratio**2) / ratio - 1))


def _outside(setting: Setting) -> str | None:
    return first_reason(
        outside_blocks(setting, 1, 1),
        outside_model(setting, most_classes=MOST_CLASSES),
        outside_batch(setting, LEAST_ROWS),
    )


def _outside_closed(setting: Setting) -> str | None:
    if setting.centred:
        return "assumes that the batch mean is kept, but it is removed"
    if setting.cosine != 0:
        return f"assumes orthonormal centres, but their cosine is {setting.cosine:.3g}"
    return first_reason(
        outside_blocks(setting, 1, 1),
        outside_model(setting, most_classes=MOST_CLASSES),
        outside_batch(setting, LEAST_ROWS_CLOSED),
    )


def _threshold(setting: Setting) -> float:
    return crossing(lambda sigma: _p(setting, sigma), LEAST_SIGMA, most_sigma(*setting.given("dim")))


def _threshold_jsd(setting: Setting) -> float:
    return crossing(lambda sigma: _s_j(setting, sigma), LEAST_SIGMA, most_sigma(*setting.given("dim")))


def _threshold_closed(setting: Setting) -> float:
    return float(sigma_max_closed(*setting.given("dim", "num_classes")))


def _outcome(setting: Setting) -> float:
    return float(_p(setting, *setting.given("sigma")))


def _outcome_jsd(setting: Setting) -> float:
    return float(_s_j(setting, *setting.given("sigma")))


ONE_BLOCK = Law(
    name="one_block",
    says="one untrained block breaks where the leak of K - 1 other classes outweighs the class, at any batch",
    quantity="sigma",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "batch", "num_blocks"),
    assumptions="identity weights, Gaussian cosines, balanced classes; rows are replaced by their mean field",
    validity="d 32 to 1024, K 2 to 50, 3 to 40 rows of a class; orthonormal, simplex and centred",
    kind=fusion,
    outside=_outside,
    threshold=_threshold,
    outcome=_outcome,
    band=frozen(0.0088, 0.0582, 42),
    ranges={"dim": (32, 1024), "num_classes": (2, 50), "per_class": (3, 40)},
    section="section 2.3",
)
ONE_BLOCK_JSD = dataclasses.replace(
    ONE_BLOCK,
    name="one_block_jsd",
    says="one untrained block loses half of its divergence from chance, uneven weights of partners counted",
    metric="s_j",
    threshold=_threshold_jsd,
    outcome=_outcome_jsd,
    band=frozen(0.0052, 0.0419, 42),
)
ONE_BLOCK_CLOSED = dataclasses.replace(
    ONE_BLOCK,
    name="one_block_closed",
    says="sigma_max^2 is about sqrt(2 pi d) / (K + 1) - 1 for one untrained block, at any batch",
    inputs=("dim", "num_classes", "num_blocks"),
    assumptions="identity weights, orthonormal centres, many dimensions, many rows of a class",
    validity="d 32 to 512, K 3 to 10, 10 to 40 rows of a class",
    kind=fusion,
    outside=_outside_closed,
    threshold=_threshold_closed,
    outcome=None,
    band=frozen(0.0217, 0.0405, 6),
    ranges={"dim": (32, 512), "num_classes": (3, 10), "per_class": (10, 40)},
)

LAWS = (ONE_BLOCK_CLOSED, ONE_BLOCK, ONE_BLOCK_JSD)
