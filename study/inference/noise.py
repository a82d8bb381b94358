"""Noise of replicated outcomes: variances along the curve and between seeds, and the point means they leave.

Shapes: N replicates, P points, S seeds, H noise draws.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array: TypeAlias = NDArray[np.float64]

# The true flanks are not logistic: a smooth departure of about this share of the height is expected.
DISCREPANCY_MEAN, DISCREPANCY_LENGTH = 0.03, 0.15

NUM_NOISE_DRAWS = 48


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
