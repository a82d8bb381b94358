"""Moments that the laws share: cosines of views, their rectified means, chance, success, divergence and crossings.

Every function takes arrays that broadcast together. Suffix Q: points over which the partners of a row are averaged.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, xlogy

from study.recipes.contrastive.laws.law import Array

Values = float | Array
"""What the laws take: one number, or an array of them."""

SQRT_2PI = float(np.sqrt(2 * np.pi))
# A Gaussian without spread is its mean: below this s.d. rectified moments no longer depend on it.
LEAST_SD = 1e-12


class RectifiedGaussian(NamedTuple):
    """Moments of relu(X), X Gaussian: E relu(X), E relu(X)^2 and the share of positive X, which is E relu'(X)."""

    mean: Array
    second: Array
    positive: Array

    @property
    def variance(self) -> Array:
        return self.second - self.mean**2


class CosineMoments(NamedTuple):
    """Mean and s.d. of the cosine of two views of one class ("within") and of two classes ("across")."""

    within_mean: Array
    within_sd: Array
    across_mean: Array
    across_sd: Array


def rectified_gaussian(mean: Values, sd: Values) -> RectifiedGaussian:
    """Moments of the rectified Gaussian of a mean and an s.d. (theory, section 2.2); an s.d. of 0 is allowed."""
    spread = np.maximum(sd, LEAST_SD)
    score = np.asarray(mean) / spread
    positive = ndtr(score)
    density = np.exp(-0.5 * score**2) / SQRT_2PI
    first = score * positive + density
    return RectifiedGaussian(
        mean=np.maximum(spread * first, 0.0), second=spread**2 * (positive + score * first), positive=positive
    )


def rectified_mean(mean: Values, sd: Values) -> Array:
    """E relu(X) alone, see :func:`rectified_gaussian`."""
    spread = np.maximum(sd, LEAST_SD)
    score = np.asarray(mean) / spread
    # Far below zero the two terms cancel to a rounding error of either sign.
    return np.maximum(spread * (score * ndtr(score) + np.exp(-0.5 * score**2) / SQRT_2PI), 0.0)


def concentration(sigma: Values) -> Array:
    """rho = 1 / (1 + sigma^2), the mean cosine of two views of one class (docs/theory.md, section 0)."""
    return np.asarray(1 / (1 + np.square(sigma, dtype=np.float64)))


def cosine_sd(sigma: Values, dim: Values, cosine: Values) -> Array:
    """S.d. of the cosine of two views whose centres have that cosine, 1 for one class (docs/theory.md, section 0).

    s^2 = rho^2 [2 sigma^2 (1 - 2 c^2 rho + c^2 rho^2) + sigma^4 (1 + c^2 rho^2)] / d to first order in 1/d; the last
    term comes from the norms of the views.
    """
    rho = concentration(sigma)
    noise = np.square(sigma, dtype=np.float64)
    square = np.square(cosine, dtype=np.float64)
    with_centres, with_noise = 1 - square * rho * (2 - rho), 1 + square * rho**2
    return np.asarray(rho * np.sqrt((2 * noise * with_centres + noise**2 * with_noise) / dim))


def cosine_moments(sigma: Values, dim: Values, cosine: Values = 0.0) -> CosineMoments:
    """Cosine moments of views of centres with pairwise cosine ``cosine`` in ``dim`` dimensions (section 2.1)."""
    rho = concentration(sigma)
    return CosineMoments(
        within_mean=rho,
        within_sd=cosine_sd(sigma, dim, 1.0),
        across_mean=cosine * rho,
        across_sd=cosine_sd(sigma, dim, cosine),
    )


def chance_mass(batch: Values, num_classes: Values) -> Array:
    """p_c = (n - 1) / (N - 1), the mass of a uniform row on its n - 1 partners; n = N / K rows a class."""
    rows = np.asarray(batch, np.float64)
    return np.asarray((rows / num_classes - 1) / (rows - 1))


def success_of_mass(mass: Values, chance: Values) -> Array:
    """P = (p_in - p_c) / (1 - p_c): 1 for a perfect row, 0 for a uniform one."""
    return np.asarray((np.asarray(mass) - chance) / (1 - np.asarray(chance)))


def success_of_jsd(jsd: Values, chance: Values) -> Array:
    """S_J = 1 - JSD / J(p_c): 1 for a perfect row, 0 for a uniform one; ``jsd`` in nats."""
    return np.asarray(1 - np.asarray(jsd) / jsd_of_mass(chance))


def shared_mass(values: Values) -> Array:
    """h(x) = (1 + x) log(1 + x) - x log x, the concave part of the divergence of a row (theory, section 0.3)."""
    x = np.asarray(values, np.float64)
    return np.asarray((1 + x) * np.log1p(x) - xlogy(x, x))


def jsd_of_mass(mass: Values) -> Array:
    """JSD (nats) of a row that puts ``mass`` evenly on its partners: J(0) = log 2, J(1) = 0."""
    return np.asarray(np.log(2) - 0.5 * shared_mass(mass))


def jsd_of_uneven_mass(mass: Values, weights_Q: Values, shares_Q: Values | None = None) -> Array:
    """JSD (nats) of a row that spreads ``mass`` over its partners in proportion to ``weights_Q`` (last axis).

    ``shares_Q`` is the share of partners at each weight (default: equal); what is missing to 1 weighs nothing.
    J = log 2 - E h(p w / E w) / 2 (theory, section 0.3): :func:`jsd_of_mass` for equal weights, more for others.
    """
    weights = np.asarray(weights_Q, np.float64)
    shares = np.full(weights.shape[-1], 1 / weights.shape[-1]) if shares_Q is None else np.asarray(shares_Q)
    mean = np.sum(shares * weights, axis=-1, keepdims=True)
    gain = shared_mass(np.asarray(mass)[..., None] * weights / mean)
    return np.asarray(np.log(2) - 0.5 * np.sum(shares * gain, axis=-1))


def crossing(
    function: Callable[[Array], Array],
    low: float,
    high: float,
    *,
    level: float = 0.5,
    direction: Literal["largest", "smallest"] = "largest",
    num_grid: int = 60,
) -> float:
    """Where a success curve crosses a level between ``low`` and ``high``, both positive; NaN where it does not.

    ``function`` maps values (X,) to successes (X,): it is called once on a log grid, then by a root finder.
    "largest" is the last fall through the level, "smallest" the first rise, as in :class:`laws.law.Law`.
    """
    grid = np.geomspace(low, high, num_grid)
    above = np.asarray(function(grid)) >= level
    turns = np.flatnonzero(above[:-1] & ~above[1:] if direction == "largest" else ~above[:-1] & above[1:])
    if not turns.size:
        return float("nan")
    start = turns[-1 if direction == "largest" else 0]
    return float(
        brentq(lambda x: float(function(np.array([x]))[0]) - level, grid[start], grid[start + 1], xtol=1e-9, rtol=1e-9)
    )
