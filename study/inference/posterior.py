"""The posterior of a rise-and-fall curve given replicated outcomes: likelihood and sampler.

    outcome = floor + (ceiling - floor) * g(u) / max g + discrepancy(u) + seed effect + noise

g is the product of two flanks (flanks.py). u is the axis mapped to [0, 1] over the measured range and outcomes are in
units of their own height over the floor, so that no prior knows the unit of either. The height is integrated out in
closed form; the flanks, and the choice among a fixed set of noise draws, are sampled by tempered particles.

Shapes: N replicates, P points, S seeds, H noise draws, D posterior draws.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtri

from study.inference.discrepancy import discrepancy_at, draw_discrepancy
from study.inference.flanks import NO_FALL, WIDTH_PER_SCALE, peak_position, relative_shape
from study.inference.noise import Array, PointMeans
from study.inference.tempering import halves, resampled, tempered

# Priors, in units of the measured range. Widths: log-normal, 95 % between 1/50 of the range and the whole of it.
LOG_WIDTH_MEAN, LOG_WIDTH_SD = np.log(0.15), 1.0
# Where the half-way points may lie. A fall is absent with probability one half.
RISE_MIN, RISE_MAX, FALL_MIN, FALL_MAX = -0.6, 1.25, -0.1, 1.9
# Logarithms of the exponents, 0 for a symmetric flank.
SKEW_SD, MAX_SKEW = 1.0, 2.0
# Prior sd of the height, in units of the largest height measured.
HEIGHT_SD = 1.5

# The sampler: draws of a final fit, prior draws per final draw, the share of the draws that a tempering step keeps
# effective, and moves per stage.
NUM_DRAWS, MAX_PARTICLES, MOVES_PER_DRAW = 2000, 1000, 4
START_FACTOR, MIN_EFFECTIVE = 4, 0.4
MOVES, LAST_MOVES, NOISE_MOVES = 6, 8, 2
# Share of accepted moves in the last stage below which the draws count as not converged: after LAST_MOVES of them more
# than half of the particles would still stand where an earlier stage left them. Ordinary fits have 0.12 to 0.4.
MIN_ACCEPTANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Posterior draws of the curve: flank parameters, the height of their maximum in range, floor and discrepancy."""

    theta_DK: Array  # t1, log s1, t2, log s2, and log a1, log a2 where the flanks are skewed
    height_D: Array
    floor_D: Array
    log_bayes_factor: float  # of a rise against the floor alone
    acceptance: float  # of the moves of the last stage
    discrepancy_DG: Array | None = None  # on the grid of discrepancy.py

    @property
    def converged(self) -> bool:
        """Whether the particles still moved in the last stage: a stuck sampler understates every interval."""
        return self.acceptance >= MIN_ACCEPTANCE

    @cached_property
    def peak_D(self) -> Array:
        """The position of each draw's maximum within [0, 1]."""
        return peak_position(self.theta_DK)

    def first(self, num_draws: int | None) -> "Curves":
        """Return the first draws alone, which are as good as any; all of them for None."""
        return replace(
            self,
            theta_DK=self.theta_DK[:num_draws],
            height_D=self.height_D[:num_draws],
            floor_D=self.floor_D[:num_draws],
            discrepancy_DG=None if self.discrepancy_DG is None else self.discrepancy_DG[:num_draws],
        )

    def __call__(self, u_D: Array) -> Array:
        """Return each draw's curve at its own positions, with its discrepancy: (D, ...) to (D, ...)."""
        curve_D = self.flanks(u_D)
        return curve_D if self.discrepancy_DG is None else curve_D + discrepancy_at(self.discrepancy_DG, u_D)

    def flanks(self, u_D: Array) -> Array:
        """Return floor and flanks alone at each draw's own positions: (D, ...) to (D, ...)."""
        shape = (-1,) + (1,) * (u_D.ndim - 1)
        rise_D = self.height_D.reshape(shape) * relative_shape(self.theta_DK, u_D)
        flanks_D: Array = self.floor_D.reshape(shape) + rise_D
        return flanks_D

    @cached_property
    def ceiling_D(self) -> Array:
        """Each draw's curve at the maximum of its flanks."""
        return self(self.peak_D)


class Likelihood:
    """log p(point means | flanks, noise draw) with the height integrated over its half-normal prior."""

    def __init__(self, means: PointMeans) -> None:
        self.means = means
        precision_HPP = np.linalg.inv(means.total_HPP)
        self.pull_HP = np.einsum("hpq,hq->hp", precision_HPP, means.mean_HP)
        # A quadratic form needs each pair of points once: Q pairs, those off the diagonal counted twice.
        self.pairs = np.triu_indices(len(means.u_P))
        first, second = self.pairs
        self.precision_HQ = np.where(first == second, 1.0, 2.0) * precision_HPP[:, first, second]
        squares_H = np.einsum("hp,hp->h", means.mean_HP, self.pull_HP)
        self.null_H = -0.5 * np.linalg.slogdet(means.total_HPP)[1] - 0.5 * squares_H
        self.log_null = float(logsumexp(self.null_H)) - np.log(len(self.null_H))

    def shape(self, theta_DK: Array) -> Array:
        """Return g / max g at the points, (D, P)."""
        u_DP = np.broadcast_to(self.means.u_P, (len(theta_DK), len(self.means.u_P)))
        return relative_shape(theta_DK, u_DP)

    def height(self, shape_DP: Array, noise_D: NDArray[np.intp]) -> tuple[Array, Array]:
        """Return precision and precision-weighted mean of each draw's height, both (D,)."""
        first, second = self.pairs
        products_DQ = shape_DP[:, first] * shape_DP[:, second]
        precision_D = np.einsum("dq,dq->d", products_DQ, self.precision_HQ[noise_D]) + HEIGHT_SD**-2
        return precision_D, np.einsum("dp,dp->d", shape_DP, self.pull_HP[noise_D])

    def __call__(self, shape_DP: Array, noise_D: NDArray[np.intp]) -> Array:
        """Return the log likelihood of each draw's shape under its noise draw, (D,)."""
        precision_D, pull_D = self.height(shape_DP, noise_D)
        z_D = pull_D / np.sqrt(precision_D)
        log_positive_D = np.zeros_like(z_D)
        doubtful = z_D < 4
        log_positive_D[doubtful] = log_ndtr(z_D[doubtful])
        result: Array = 0.5 * z_D**2 - 0.5 * np.log(precision_D * HEIGHT_SD**2) + np.log(2.0) + log_positive_D
        return result + self.null_H[noise_D]


def draw_prior(num: int, rng: np.random.Generator) -> Array:
    """Draw flank parameters from the prior, (num, 6)."""
    t1 = rng.uniform(RISE_MIN, RISE_MAX, num)
    start = np.maximum(t1, FALL_MIN)
    falls = rng.random(num) < 0.5
    t2 = np.where(falls, rng.uniform(start, NO_FALL), rng.uniform(NO_FALL, FALL_MAX, num))
    log_scale_D2 = rng.normal(LOG_WIDTH_MEAN, LOG_WIDTH_SD, (num, 2)) - np.log(WIDTH_PER_SCALE)
    skew_D2 = np.clip(rng.normal(0, SKEW_SD, (num, 2)), -MAX_SKEW, MAX_SKEW)
    return np.column_stack([t1, log_scale_D2[:, 0], t2, log_scale_D2[:, 1], skew_D2])


def log_prior(theta_D6: Array) -> Array:
    """Return the log density of `draw_prior` up to a constant."""
    t1, t2 = theta_D6[:, 0], theta_D6[:, 2]
    start = np.maximum(t1, FALL_MIN)
    inside = (t1 > RISE_MIN) & (t1 < RISE_MAX) & (t2 > start) & (t2 < FALL_MAX)
    inside &= (np.abs(theta_D6[:, 4:]) <= MAX_SKEW).all(1)
    log_fall = -np.log(np.where(inside & (t2 < NO_FALL), NO_FALL - start, FALL_MAX - NO_FALL))
    z_D4 = np.column_stack(
        [(theta_D6[:, [1, 3]] + np.log(WIDTH_PER_SCALE) - LOG_WIDTH_MEAN) / LOG_WIDTH_SD, theta_D6[:, 4:] / SKEW_SD]
    )
    result: Array = np.where(inside, log_fall - 0.5 * np.sum(z_D4**2, 1), -np.inf)
    return result


@dataclass
class _Particles:
    """Draws on their way from the prior to the posterior: flanks, noise draw, and what follows from them."""

    theta_DK: Array
    noise_D: NDArray[np.intp]
    shape_DP: Array
    log_like_D: Array
    log_prior_D: Array

    def take(self, pick_D: NDArray[np.intp]) -> "_Particles":
        return _Particles(
            self.theta_DK[pick_D],
            self.noise_D[pick_D],
            self.shape_DP[pick_D],
            self.log_like_D[pick_D],
            self.log_prior_D[pick_D],
        )


def _joined(kept: list[_Particles]) -> _Particles:
    columns = ([getattr(particles, field.name) for particles in kept] for field in fields(_Particles))
    return _Particles(*(np.concatenate(column) for column in columns))


def sample(means: PointMeans, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> Curves:
    """Sample the posterior by tempering from the prior, moving particles along differences of other particles.

    Sequential Monte Carlo (Del Moral et al. 2006) with differential-evolution moves of the flanks (ter Braak 2006),
    each half of the particles taking its differences from the other half, which keeps the moves exact, and
    Metropolis moves of the noise draw. More than MAX_PARTICLES draws are the particles at several moments of the last
    stage.
    """
    likelihood = Likelihood(means)
    num_kept = max(1, num_draws // MAX_PARTICLES)
    num_draws = min(num_draws, MAX_PARTICLES)
    kept: list[_Particles] = []
    theta = draw_prior(START_FACTOR * num_draws, rng)
    noise = rng.permutation(np.arange(len(theta)) % len(likelihood.null_H))
    shape = likelihood.shape(theta)
    particles = _Particles(theta, noise, shape, likelihood(shape, noise), log_prior(theta))
    power, log_evidence = 0.0, 0.0
    while power < 1:
        log_like = particles.log_like_D
        step = _next_step(log_like, 1 - power, MIN_EFFECTIVE * num_draws)
        weight, gained = tempered(log_like, step)
        log_evidence += gained
        power = 1.0 if step == 1 - power else power + step
        particles = particles.take(resampled(weight, num_draws, rng))
        num_moves = LAST_MOVES if power == 1 else MOVES
        num_accepted = 0
        for move in range(num_moves):
            for _ in range(NOISE_MOVES):
                _move_noise(particles, power, likelihood, rng)
            num_accepted += _move(particles, power, likelihood, rng)
            if power == 1 and (num_moves - 1 - move) in range(0, MOVES_PER_DRAW * num_kept, MOVES_PER_DRAW):
                kept.append(particles.take(np.arange(num_draws)))
    particles = _joined(kept)
    return _draw_heights(particles, likelihood, log_evidence, num_accepted / (num_moves * num_draws), rng)


def _next_step(log_like: Array, remaining: float, wanted: float) -> float:
    """Return the largest tempering step that keeps an effective sample of the wanted size."""
    log_like = log_like - log_like.max()

    def effective(step: float) -> float:
        weight = np.exp(step * log_like)
        return float(weight.sum() ** 2 / (weight @ weight))

    if effective(remaining) >= wanted:
        return remaining
    low, high = 0.0, remaining
    # On a logarithmic scale, where the first steps are small.
    for _ in range(12):
        middle = np.sqrt(low * high) if low else high / 8
        low, high = (middle, high) if effective(middle) >= wanted else (low, middle)
    return max(low, 1e-6)


def _move(particles: _Particles, power: float, likelihood: Likelihood, rng: np.random.Generator) -> int:
    """Move the flanks of every particle once; return how many moved."""
    num_accepted = 0
    for mine, other in halves(len(particles.theta_DK)):
        here, there = particles.theta_DK[mine], particles.theta_DK[other]
        first, second = rng.integers(len(there), size=(2, len(here)))
        gamma = np.where(rng.random(len(here)) < 0.1, 1.0, rng.uniform(0.3, 1.0, len(here)))[:, None]
        proposal = here + gamma * (there[first] - there[second]) + rng.normal(0, 1e-3, here.shape)
        prior = log_prior(proposal)
        gain = prior - particles.log_prior_D[mine]
        # Where the prior forbids the proposal the likelihood is not asked.
        allowed = np.flatnonzero(np.isfinite(gain))
        rows = allowed + mine.start
        shape = likelihood.shape(proposal[allowed])
        log_like = likelihood(shape, particles.noise_D[rows])
        accept = np.log(rng.random(len(rows))) < power * (log_like - particles.log_like_D[rows]) + gain[allowed]
        rows = rows[accept]
        particles.theta_DK[rows] = proposal[allowed[accept]]
        particles.shape_DP[rows] = shape[accept]
        particles.log_like_D[rows] = log_like[accept]
        particles.log_prior_D[rows] = prior[allowed[accept]]
        num_accepted += len(rows)
    return num_accepted


def _move_noise(particles: _Particles, power: float, likelihood: Likelihood, rng: np.random.Generator) -> None:
    """Offer every particle another noise draw, each as probable beforehand."""
    proposal_D = rng.integers(len(likelihood.null_H), size=len(particles.noise_D))
    log_like_D = likelihood(particles.shape_DP, proposal_D)
    accept_D = np.log(rng.random(len(proposal_D))) < power * (log_like_D - particles.log_like_D)
    particles.noise_D[accept_D] = proposal_D[accept_D]
    particles.log_like_D[accept_D] = log_like_D[accept_D]


def _draw_heights(
    particles: _Particles, likelihood: Likelihood, log_evidence: float, acceptance: float, rng: np.random.Generator
) -> Curves:
    """Complete each draw of the flanks and the noise by a height (positive) and a floor."""
    means, num, noise_D = likelihood.means, len(particles.theta_DK), particles.noise_D
    precision_D, pull_D = likelihood.height(particles.shape_DP, noise_D)
    sd_D, mean_D = precision_D**-0.5, pull_D / precision_D
    below_D = np.exp(log_ndtr(-mean_D / sd_D))
    height_D = mean_D + sd_D * ndtri(np.clip(below_D + rng.random(num) * (1 - below_D), 1e-300, 1 - 1e-12))
    height_D = np.maximum(height_D, 1e-9)

    gain_HP = np.linalg.solve(means.total_HPP, np.ones((len(means.u_P), 1)))[..., 0] * means.floor_H[:, None]
    residual_DP = means.mean_HP[noise_D] - height_D[:, None] * particles.shape_DP
    floor_sd_H = np.sqrt(np.maximum(means.floor_H * (1 - gain_HP.sum(1)), 0))
    floor_D = np.sum(gain_HP[noise_D] * residual_DP, 1) + floor_sd_H[noise_D] * rng.standard_normal(num)
    return Curves(
        theta_DK=particles.theta_DK,
        height_D=height_D,
        floor_D=floor_D,
        discrepancy_DG=draw_discrepancy(means, residual_DP - floor_D[:, None], noise_D, rng),
        log_bayes_factor=log_evidence - likelihood.log_null,
        acceptance=acceptance,
    )
