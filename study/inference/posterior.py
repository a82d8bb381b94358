"""The posterior of a rise-and-fall curve given replicated outcomes: likelihood and sampler.

    outcome = floor + (ceiling - floor) * g(u) / max g + discrepancy(u) + seed effect + noise
    g(u) = 1 / (1 + exp(-(u - t1) / s1)) / (1 + exp((u - t2) / s2))

u is the axis mapped to [0, 1] over the measured range and outcomes are in units of their own height over the
floor, so that no prior knows the unit of either. The height is integrated out in closed form, the noise by a
fixed set of draws from its own posterior, and (t1, s1, t2, s2) by a tempered particle sampler.

Shapes: N replicates, P points, S seeds, H noise draws, D posterior draws.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_ndtr, logsumexp, ndtri

from study.inference.noise import NUM_NOISE_DRAWS, Array, PointMeans

# 10-90 % width of a logistic flank in units of its scale.
WIDTH_PER_SCALE = 2.0 * np.log(9.0)

# Priors, in units of the measured range. Widths: log-normal, 95 % between 1/25 of the range and the whole of it.
LOG_WIDTH_MEAN, LOG_WIDTH_SD = np.log(0.2), 0.8
# A rise below NO_RISE is complete before the smallest point, a fall above NO_FALL begins after the largest: the
# flank is then absent, which has prior probability one half for the fall.
NO_RISE, RISE_MIN, RISE_MAX = -0.3, -0.6, 1.25
FALL_MIN, NO_FALL, FALL_MAX = -0.1, 1.3, 1.9
# Prior sd of the height, in units of the largest height measured.
HEIGHT_SD = 1.5
NUM_DRAWS = 1200


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Posterior draws of the curve: flank parameters, the height of its maximum in range, the floor."""

    theta_D4: Array  # t1, log s1, t2, log s2
    height_D: Array
    floor_D: Array
    log_bayes_factor: float  # of a rise against the floor alone

    def __call__(self, u_D: Array) -> Array:
        """Return each draw's curve at its own positions: (D, ...) to (D, ...)."""
        shape = (-1,) + (1,) * (u_D.ndim - 1)
        peak_D = log_shape(self.theta_D4, peak_position(self.theta_D4))
        ratio_D = np.exp(log_shape(self.theta_D4, u_D) - peak_D.reshape(shape))
        curve: Array = self.floor_D.reshape(shape) + self.height_D.reshape(shape) * ratio_D
        return curve


def log_shape(theta_D4: Array, u_D: Array) -> Array:
    """Return log g at positions `u_D` of shape (D,) or (D, K): the product of the two logistic flanks."""
    shape = (-1,) + (1,) * (u_D.ndim - 1)
    t1, s1, t2, s2 = (
        a.reshape(shape) for a in (theta_D4[:, 0], np.exp(theta_D4[:, 1]), theta_D4[:, 2], np.exp(theta_D4[:, 3]))
    )
    rise = np.where(t1 < NO_RISE, 0.0, _softplus((t1 - u_D) / s1))
    fall = np.where(t2 > NO_FALL, 0.0, _softplus((u_D - t2) / s2))
    result: Array = -rise - fall
    return result


def _softplus(z: Array) -> Array:
    """Return log(1 + exp(z)); numpy's logaddexp is several times slower, and this is the inner loop."""
    result: Array = np.log1p(np.exp(np.minimum(z, 30.0))) + np.maximum(z - 30.0, 0.0)
    return result


def peak_position(theta_D4: Array) -> Array:
    """Return where g is largest within [0, 1]; log g is concave, so its slope is bisected."""
    t1, t2 = theta_D4[:, 0], theta_D4[:, 2]
    s1, s2 = np.exp(theta_D4[:, 1]), np.exp(theta_D4[:, 3])
    low, high = np.zeros(len(t1)), np.ones(len(t1))
    for _ in range(14):
        middle = 0.5 * (low + high)
        rising = np.where(t1 < NO_RISE, 0.0, expit((t1 - middle) / s1) / s1)
        falling = np.where(t2 > NO_FALL, 0.0, expit((middle - t2) / s2) / s2)
        up = rising > falling
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    peak: Array = 0.5 * (low + high)
    return peak


class Likelihood:
    """log p(point means | flanks, noise draw) with the height integrated over its half-normal prior."""

    def __init__(self, means: PointMeans) -> None:
        self.means = means
        precision_HPP = np.linalg.inv(means.total_HPP)
        self.pull_PH = np.einsum("hpq,hq->ph", precision_HPP, means.mean_HP)
        # A quadratic form needs each pair of points once: Q pairs, those off the diagonal counted twice.
        self.pairs = np.triu_indices(len(means.u_P))
        first, second = self.pairs
        self.precision_QH = np.where(first == second, 1.0, 2.0)[:, None] * precision_HPP[:, first, second].T
        squares_H = np.einsum("hp,ph->h", means.mean_HP, self.pull_PH)
        self.null_H = 0.5 * np.linalg.slogdet(precision_HPP)[1] - 0.5 * squares_H
        self.log_null = float(logsumexp(self.null_H)) - np.log(NUM_NOISE_DRAWS)

    def shape(self, theta_D4: Array) -> Array:
        """Return g / max g at the points, (D, P)."""
        u_DP = np.broadcast_to(self.means.u_P, (len(theta_D4), len(self.means.u_P)))
        peak_D = log_shape(theta_D4, peak_position(theta_D4))
        shape_DP: Array = np.exp(log_shape(theta_D4, u_DP) - peak_D[:, None])
        return shape_DP

    def height(self, shape_DP: Array) -> tuple[Array, Array]:
        """Return precision and precision-weighted mean of the height, both (D, H)."""
        first, second = self.pairs
        products_DQ = shape_DP[:, first] * shape_DP[:, second]
        return _small_products(products_DQ, self.precision_QH) + HEIGHT_SD**-2, _small_products(shape_DP, self.pull_PH)

    def __call__(self, theta_D4: Array) -> tuple[Array, Array]:
        """Return the log likelihood averaged over noise draws (D,), and per noise draw (D, H)."""
        precision_DH, pull_DH = self.height(self.shape(theta_D4))
        z_DH = pull_DH / np.sqrt(precision_DH)
        log_positive_DH = np.zeros_like(z_DH)
        doubtful = z_DH < 4
        log_positive_DH[doubtful] = log_ndtr(z_DH[doubtful])
        each_DH = (
            self.null_H + 0.5 * z_DH**2 - 0.5 * np.log(precision_DH * HEIGHT_SD**2) + np.log(2.0) + log_positive_DH
        )
        top_D = each_DH.max(1)
        return top_D + np.log(np.mean(np.exp(each_DH - top_D[:, None]), 1)), each_DH


def _small_products(left: Array, right: Array) -> Array:
    """Return left @ right in blocks too small for BLAS threads, which on a busy machine cost four times the work."""
    rows = max(1, 250_000 // right.size)
    return np.concatenate([left[start : start + rows] @ right for start in range(0, len(left), rows)])


def draw_prior(num: int, rng: np.random.Generator) -> Array:
    """Draw flank parameters from the prior, (num, 4)."""
    t1 = rng.uniform(RISE_MIN, RISE_MAX, num)
    start = np.maximum(t1, FALL_MIN)
    falls = rng.random(num) < 0.5
    t2 = np.where(falls, rng.uniform(start, NO_FALL), rng.uniform(NO_FALL, FALL_MAX, num))
    log_scale_D2 = rng.normal(LOG_WIDTH_MEAN, LOG_WIDTH_SD, (num, 2)) - np.log(WIDTH_PER_SCALE)
    return np.column_stack([t1, log_scale_D2[:, 0], t2, log_scale_D2[:, 1]])


def log_prior(theta_D4: Array) -> Array:
    """Return the log density of `draw_prior` up to a constant."""
    t1, t2 = theta_D4[:, 0], theta_D4[:, 2]
    start = np.maximum(t1, FALL_MIN)
    inside = (t1 > RISE_MIN) & (t1 < RISE_MAX) & (t2 > start) & (t2 < FALL_MAX)
    log_fall = -np.log(np.where(inside & (t2 < NO_FALL), NO_FALL - start, FALL_MAX - NO_FALL))
    z_D2 = (theta_D4[:, [1, 3]] + np.log(WIDTH_PER_SCALE) - LOG_WIDTH_MEAN) / LOG_WIDTH_SD
    result: Array = np.where(inside, log_fall - 0.5 * np.sum(z_D2**2, 1), -np.inf)
    return result


def sample(means: PointMeans, rng: np.random.Generator) -> Curves:
    """Sample the posterior by tempering from the prior, moving particles along differences of other particles.

    Sequential Monte Carlo (Del Moral et al. 2006) with differential-evolution moves (ter Braak 2006); each half of
    the particles takes its differences from the other half, which keeps the moves exact.
    """
    likelihood = Likelihood(means)
    theta = draw_prior(NUM_DRAWS, rng)
    log_like, _ = likelihood(theta)
    power, log_evidence = 0.0, 0.0
    while power < 1:
        step = _next_step(log_like, 1 - power)
        weight = np.exp(step * (log_like - log_like.max()))
        log_evidence += float(step * log_like.max() + np.log(weight.mean()))
        power = 1.0 if step == 1 - power else power + step
        edges = (np.arange(NUM_DRAWS) + rng.random()) / NUM_DRAWS
        pick = np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), edges), NUM_DRAWS - 1)
        pick = rng.permutation(pick)
        theta, log_like = theta[pick], log_like[pick]
        for _ in range(8 if power == 1 else 3):
            theta, log_like = _move(theta, log_like, power, likelihood, rng)
    return _draw_heights(theta, likelihood, log_evidence, rng)


def _next_step(log_like: Array, remaining: float) -> float:
    """Return the largest tempering step that keeps an effective sample of 40 %."""

    def effective(step: float) -> float:
        weight = np.exp(step * (log_like - log_like.max()))
        return float(weight.sum() ** 2 / np.sum(weight**2) / len(weight))

    if effective(remaining) >= 0.4:
        return remaining
    low, high = 0.0, remaining
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= 0.4 else (low, middle)
    return max(low, 1e-6)


def _move(
    theta: Array, log_like: Array, power: float, likelihood: Likelihood, rng: np.random.Generator
) -> tuple[Array, Array]:
    theta, log_like = theta.copy(), log_like.copy()
    half = len(theta) // 2
    for mine, other in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        here, there = theta[mine], theta[other]
        first, second = rng.integers(len(there), size=(2, len(here)))
        gamma = np.where(rng.random(len(here)) < 0.1, 1.0, rng.uniform(0.3, 1.0, len(here)))[:, None]
        proposal = here + gamma * (there[first] - there[second]) + rng.normal(0, 1e-3, here.shape)
        prior_gain = log_prior(proposal) - log_prior(here)
        allowed = np.isfinite(prior_gain)
        proposed_like = np.full(len(here), -np.inf)
        if allowed.any():
            proposed_like[allowed] = likelihood(proposal[allowed])[0]
        accept = np.log(rng.random(len(here))) < power * (proposed_like - log_like[mine]) + prior_gain
        theta[mine] = np.where(accept[:, None], proposal, here)
        log_like[mine] = np.where(accept, proposed_like, log_like[mine])
    return theta, log_like


def _draw_heights(theta: Array, likelihood: Likelihood, log_evidence: float, rng: np.random.Generator) -> Curves:
    """Complete each draw of the flanks by a noise draw, a height (positive) and a floor."""
    means, num = likelihood.means, len(theta)
    _, each_DH = likelihood(theta)
    gumbel_DH = rng.gumbel(size=each_DH.shape)
    noise_D = np.argmax(each_DH + gumbel_DH, 1)
    shape_DP = likelihood.shape(theta)
    precision_D, pull_D = (a[np.arange(num), noise_D] for a in likelihood.height(shape_DP))
    sd_D, mean_D = precision_D**-0.5, pull_D / precision_D
    below_D = np.exp(log_ndtr(-mean_D / sd_D))
    height_D = mean_D + sd_D * ndtri(np.clip(below_D + rng.random(num) * (1 - below_D), 1e-300, 1 - 1e-12))
    height_D = np.maximum(height_D, 1e-9)

    gain_HP = np.linalg.solve(
        means.total_HPP, np.broadcast_to(means.floor_H[:, None, None], (NUM_NOISE_DRAWS, len(means.u_P), 1))
    )[..., 0]
    residual_DP = means.mean_HP[noise_D] - height_D[:, None] * shape_DP
    floor_sd_H = np.sqrt(np.maximum(means.floor_H * (1 - gain_HP.sum(1)), 0))
    floor_D = np.sum(gain_HP[noise_D] * residual_DP, 1) + floor_sd_H[noise_D] * rng.standard_normal(num)
    return Curves(
        theta_D4=theta, height_D=height_D, floor_D=floor_D, log_bayes_factor=log_evidence - likelihood.log_null
    )
