"""The posterior of a rise-and-fall curve given replicated outcomes: noise, likelihood, sampler.

    outcome = floor + (ceiling - floor) * g(u) / max g + discrepancy(u) + seed effect + noise
    g(u) = 1 / (1 + exp(-(u - t1) / s1)) / (1 + exp((u - t2) / s2))

u is the axis mapped to [0, 1] over the measured range and outcomes are in units of their own height over the
floor, so that no prior knows the unit of either. The height is integrated out in closed form, the noise by a
fixed set of draws from its own posterior, and (t1, s1, t2, s2) by a tempered particle sampler.

Shapes: N replicates, P points, S seeds, H noise draws, D posterior draws.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, log_ndtr, logsumexp, ndtri

Array: TypeAlias = NDArray[np.float64]

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
# The true flanks are not logistic: a smooth departure of about this share of the height is expected.
DISCREPANCY_MEAN, DISCREPANCY_LENGTH = 0.03, 0.15

NUM_NOISE_DRAWS, NUM_DRAWS = 48, 1200


@dataclass(frozen=True, kw_only=True)
class NoiseDraws:
    """Draws of the variances: `point_HP` of one replicate at each point, `seed_H` between seeds."""

    point_HP: Array
    seed_H: Array
    residual_dof: float


@dataclass(frozen=True, kw_only=True)
class PointMeans:
    """Generalised least-squares point means over the floor, and their covariance, per noise draw."""

    u_P: Array
    mean_HP: Array
    noise_HPP: Array  # covariance from replicates and seeds
    floor_H: Array  # variance of the measured floor
    total_HPP: Array  # noise, floor and discrepancy
    residual_dof: float


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


def draw_noise(y_N: Array, point_N: NDArray[np.intp], seed_N: NDArray[np.intp], rng: np.random.Generator) -> NoiseDraws:
    """Draw variances given the residuals of points plus seeds (points alone where seeds hardly repeat).

    Variances along the curve are partially pooled: sigma_i^2 ~ inverse-chi^2(nu, s^2) with nu and s^2 themselves
    inferred (Smyth 2004, "Linear models and empirical Bayes methods").
    """
    num_points, num_seeds = point_N.max() + 1, seed_N.max() + 1
    points_NP, seeds_NS = np.eye(num_points)[point_N], np.eye(num_seeds)[seed_N]
    residual_N, leverage_N = _least_squares(points_NP, y_N)
    seed_H = np.zeros(NUM_NOISE_DRAWS)
    within_N, within_leverage_N = _least_squares(np.hstack([points_NP, seeds_NS]), y_N)
    crossed = num_seeds > 1 and np.sum(1 - within_leverage_N) >= max(3.0, 0.5 * np.sum(1 - leverage_N))
    between, between_dof = 0.0, 0.0
    if crossed:
        between = max(float(residual_N @ residual_N - within_N @ within_N), 0.0)
        between_dof = float(np.sum(within_leverage_N - leverage_N))
        residual_N, leverage_N = within_N, within_leverage_N
    squares_P = np.bincount(point_N, residual_N**2, num_points)
    dof_P = np.bincount(point_N, np.maximum(1 - leverage_N, 0), num_points)

    pooled = max(squares_P.sum() / dof_P.sum(), 1e-8)
    nu, scale = (a.ravel() for a in np.meshgrid(np.geomspace(2, 64, 11), pooled * np.geomspace(0.2, 5, 41)))
    terms = (
        gammaln((nu[:, None] + dof_P) / 2)
        - gammaln(nu[:, None] / 2)
        + nu[:, None] / 2 * np.log(nu * scale / 2)[:, None]
    )
    terms = terms - (nu[:, None] + dof_P) / 2 * np.log(((nu * scale)[:, None] + squares_P) / 2)
    weight = np.exp(terms.sum(1) - terms.sum(1).max())
    pick_H = rng.choice(len(nu), NUM_NOISE_DRAWS, p=weight / weight.sum())
    chi2_HP = rng.chisquare(nu[pick_H, None] + dof_P)
    point_HP = ((nu * scale)[pick_H, None] + squares_P) / chi2_HP
    if crossed:
        # One prior observation at "no seed effect" keeps two or three seeds from implying an unbounded one.
        noise_H = np.median(point_HP, 1)
        total_H = (between + noise_H) / rng.chisquare(between_dof + 1, NUM_NOISE_DRAWS)
        seed_H = np.maximum(total_H - noise_H, 0) / (len(y_N) / num_seeds)
    return NoiseDraws(point_HP=point_HP, seed_H=seed_H, residual_dof=float(dof_P.sum()))


def _least_squares(design: Array, y_N: Array) -> tuple[Array, Array]:
    """Return residuals and leverages of a possibly rank-deficient linear fit."""
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    left = left[:, singular > 1e-8 * singular[0]]
    return y_N - left @ (left.T @ y_N), np.sum(left**2, 1)


def point_means(
    u_P: Array,
    y_N: Array,
    point_N: NDArray[np.intp],
    seed_N: NDArray[np.intp],
    floor_S: Array,
    rng: np.random.Generator,
) -> PointMeans:
    """Reduce replicates to point means with covariances; `y_N` is measured from the mean of `floor_S`."""
    noise = draw_noise(y_N, point_N, seed_N, rng)
    points_NP, seeds_NS = np.eye(len(u_P))[point_N], np.eye(seed_N.max() + 1)[seed_N]
    covariance_HNN = noise.seed_H[:, None, None] * (seeds_NS @ seeds_NS.T)
    diagonal = np.arange(len(y_N))
    covariance_HNN[:, diagonal, diagonal] += noise.point_HP[:, point_N]
    solved_HNX = np.linalg.solve(
        covariance_HNN, np.broadcast_to(np.column_stack([points_NP, y_N]), (NUM_NOISE_DRAWS, len(y_N), len(u_P) + 1))
    )
    moments_HPX = points_NP.T @ solved_HNX
    noise_HPP = np.asarray(np.linalg.inv(moments_HPX[:, :, :-1]), dtype=np.float64)
    mean_HP = np.einsum("hpq,hq->hp", noise_HPP, moments_HPX[:, :, -1])

    floor_H = np.zeros(NUM_NOISE_DRAWS)
    if len(floor_S) > 1:
        floor_H = (
            np.sum((floor_S - floor_S.mean()) ** 2) / rng.chisquare(len(floor_S) - 1, NUM_NOISE_DRAWS) / len(floor_S)
        )
    share_H = (rng.permutation(NUM_NOISE_DRAWS) + 0.5) / NUM_NOISE_DRAWS
    discrepancy_H = -DISCREPANCY_MEAN * np.log1p(-share_H)
    kernel_PP = np.exp(-0.5 * ((u_P[:, None] - u_P) / DISCREPANCY_LENGTH) ** 2)
    total_HPP = (
        noise_HPP + floor_H[:, None, None] + discrepancy_H[:, None, None] ** 2 * kernel_PP + 1e-9 * np.eye(len(u_P))
    )
    return PointMeans(
        u_P=u_P,
        mean_HP=mean_HP,
        noise_HPP=noise_HPP,
        floor_H=floor_H,
        total_HPP=total_HPP,
        residual_dof=noise.residual_dof,
    )


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
