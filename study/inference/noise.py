"""Noise of replicated outcomes: variances along the curve and between seeds, and the point means they leave.

    y_n = mean of its point + shift of its seed + noise,    var(shift) = tau^2
    var(noise) = sigma_p^2 = exp(kappa w_p) r_p,    r_p ~ inverse-chi^2(nu, scale),    w_p = 4 g_p (1 - g_p)

g_p is how far the mean of the point has risen, from 0 to 1: on a flank outcomes may vary more than on either plateau.

Outcomes are in units of their largest mean height. The variances are drawn from their posterior given the contrasts
within points alone, whatever the point means are (the restricted likelihood), under weak priors: with few replicates
the noise is known badly, and a design that stops when it looks precise would otherwise stop where it looks small.

Shapes: N replicates, P points, S seeds, H noise draws, K values of tau, G pairs (nu, scale).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array: TypeAlias = NDArray[np.float64]

# Independent Gibbs chains, sweeps until they have settled, and sweeps that are kept.
NUM_CHAINS, NUM_SWEEPS, NUM_KEPT = 48, 3, 5
NUM_NOISE_DRAWS = NUM_CHAINS * NUM_KEPT

# Priors. sd of a replicate: log-normal around 13 % of the height, 95 % between 2.2 % and 78 %. Points differ by an
# inverse chi-squared around it with nu degrees of freedom (Smyth 2004, "Linear models and empirical Bayes methods"),
# and half-way up a flank by kappa, normal, on top.
NOISE_SD_MEDIAN, NOISE_LOG_SD = 0.13, np.log(6) / 1.96
KAPPA_MEAN, KAPPA_SD = 2.0, 1.2
KAPPAS = np.arange(-1.5, 5.51, 0.5)
LOG_SCALE_STEP = 0.25
LOG_SCALES = np.arange(np.log(2e-3), np.log(1.5), LOG_SCALE_STEP)
DEGREES = np.geomspace(3, 48, 4)
# sd between seeds: exponential.
SEED_SD_MEAN = 0.08
SEED_SDS = np.geomspace(1e-3, 0.6, 18)
# The measured floors count as this many more, of this sd.
FLOOR_PRIOR_DOF, FLOOR_PRIOR_SD = 2, 0.02
# The true flanks are not logistic: a smooth departure of about this share of the height is expected.
DISCREPANCY_MEAN, DISCREPANCY_LENGTH = 0.03, 0.15


@dataclass(frozen=True, kw_only=True)
class PointMeans:
    """Generalised least-squares point means over the floor, and their covariance, per noise draw."""

    u_P: Array
    mean_HP: Array
    noise_HPP: Array  # covariance from replicates and seeds
    floor_H: Array  # variance of the measured floor
    total_HPP: Array  # noise, floor and discrepancy
    point_HP: Array  # variance of one replicate at each point, without its seed's shift
    seed_H: Array  # variance between seeds
    discrepancy_H: Array  # sd of the discrepancy
    residual_dof: int


class _Layout:
    """Sums over the replicates of each point and seed: all that the variances need to know of the outcomes."""

    def __init__(self, y_N: Array, point_N: NDArray[np.intp], seed_N: NDArray[np.intp]) -> None:
        num_points, num_seeds = point_N.max() + 1, seed_N.max() + 1
        self.count_PS = np.zeros((num_points, num_seeds))
        np.add.at(self.count_PS, (point_N, seed_N), 1)
        self.count_P = self.count_PS.sum(1)
        self.mean_P = np.bincount(point_N, y_N) / self.count_P
        residual_N = y_N - self.mean_P[point_N]
        self.squares_P = np.bincount(point_N, residual_N**2).astype(np.float64)
        self.residual_PS = np.zeros_like(self.count_PS)
        np.add.at(self.residual_PS, (point_N, seed_N), residual_N)
        self.seeds_are_shared = bool((np.count_nonzero(self.count_PS, axis=0) > 1).any())
        if not self.seeds_are_shared:
            # Every replicate may have a seed of its own: their pairs would take the square of their number.
            return
        # A shift of one seed moves the mean of a point by this share.
        self.share_PS = self.count_PS / self.count_P[:, None]
        self.spread_PSS = (
            np.eye(num_seeds) * self.count_PS[:, None, :] - self.count_PS[:, :, None] * (self.share_PS[:, None, :])
        )

    def squares(self, shift_HS: Array) -> Array:
        """Return the squared residuals around the point means once seeds are shifted back, (H, P)."""
        pairs_HX = (shift_HS[:, :, None] * shift_HS[:, None, :]).reshape(len(shift_HS), -1)
        moved_HP = pairs_HX @ self.spread_PSS.reshape(len(self.count_P), -1).T
        squares: Array = np.maximum(self.squares_P - 2 * shift_HS @ self.residual_PS.T + moved_HP, 0)
        return squares


@dataclass(frozen=True, kw_only=True)
class _Shifts:
    """The posterior of the seeds' shifts at given variances: eigenvectors, their variances, the mean; and a draw."""

    vectors_HSS: Array
    variance_HS: Array
    mean_HS: Array
    draw_HS: Array
    seed_H: Array


class _Variances:
    """Gibbs draws of sigma_p^2 given the residuals: kappa, then the common scale with nu, then each point."""

    def __init__(self, layout: _Layout, rng: np.random.Generator) -> None:
        self.rng = rng
        self.dof_P = layout.count_P - 1
        self.measured_P = self.dof_P > 0
        dof_M1 = self.dof_P[self.measured_P, None]
        share_P = np.clip(layout.mean_P, 0, 1)
        self.flank_P = 4 * share_P * (1 - share_P)
        log_sd_G, nu_G = (a.ravel() for a in np.meshgrid(LOG_SCALES, DEGREES))
        self.log_scale_G, self.nu_G = 2 * log_sd_G, nu_G
        self.total_G = nu_G * np.exp(self.log_scale_G)
        self.half_MG = 0.5 * (nu_G + dof_M1)
        self.constant_G = -0.5 * ((log_sd_G - np.log(NOISE_SD_MEDIAN)) / NOISE_LOG_SD) ** 2 + np.sum(
            gammaln(self.half_MG) - gammaln(0.5 * nu_G) + 0.5 * nu_G * np.log(self.total_G), 0
        )
        log_prior_K = -0.5 * ((KAPPAS - KAPPA_MEAN) / KAPPA_SD) ** 2
        self.constant_K = log_prior_K - 0.5 * KAPPAS * (self.flank_P @ self.dof_P)
        self.growth_KP = np.exp(KAPPAS[:, None] * self.flank_P)
        self.kappa_H = choose(np.broadcast_to(log_prior_K, (NUM_CHAINS, len(KAPPAS))), rng)
        self.nu_H1 = self.scale_H1 = np.empty((0, 1))

    def draw(self, squares_HP: Array) -> Array:
        """Draw from squared residuals (H, P) to variances (H, P)."""
        rng = self.rng
        if len(self.nu_H1):
            half_HM = 0.5 * (self.nu_H1 + self.dof_P[self.measured_P])
            scaled_HKM = squares_HP[:, None, self.measured_P] / self.growth_KP[:, self.measured_P]
            log_HKM = np.log((self.nu_H1 * self.scale_H1)[:, :, None] + scaled_HKM)
            self.kappa_H = choose(self.constant_K - np.einsum("hkm,hm->hk", log_HKM, half_HM), rng)
        growth_HP = self.growth_KP[self.kappa_H]
        squares_HP = squares_HP / growth_HP
        log_HMG = np.log(self.total_G + squares_HP[:, self.measured_P, None])
        pick_H = choose(self.constant_G - np.einsum("hmg,mg->hg", log_HMG, self.half_MG), rng)
        # Spread evenly over the cells of the grid.
        spread_H = 2 * LOG_SCALE_STEP * (rng.random(len(pick_H)) - 0.5)
        self.nu_H1 = self.nu_G[pick_H, None]
        self.scale_H1 = np.exp(self.log_scale_G[pick_H] + spread_H)[:, None]
        chi2_HP = rng.chisquare(self.nu_H1 + self.dof_P)
        variance_HP: Array = growth_HP * (self.nu_H1 * self.scale_H1 + squares_HP) / chi2_HP
        return variance_HP


def _draw_shifts(layout: _Layout, variance_HP: Array, rng: np.random.Generator) -> _Shifts:
    """Draw tau with the shifts integrated out, then the shifts."""
    num_seeds = layout.count_PS.shape[1]
    precision_HP = 1 / variance_HP
    spread_HSS = (precision_HP @ layout.spread_PSS.reshape(len(layout.count_P), -1)).reshape(-1, num_seeds, num_seeds)
    eigen_HS, vectors_HSS = np.linalg.eigh(spread_HSS)
    eigen_HS = np.maximum(eigen_HS, 0)
    pull_HS = np.einsum("hst,hs->ht", vectors_HSS, precision_HP @ layout.residual_PS)
    variance_K1 = SEED_SDS[:, None] ** 2
    growth_HKS = 1 + variance_K1 * eigen_HS[:, None, :]
    log_HK = 0.5 * np.sum(pull_HS[:, None, :] ** 2 * variance_K1 / growth_HKS - np.log(growth_HKS), 2)
    # An exponential density on a logarithmic grid.
    log_HK += np.log(SEED_SDS) - SEED_SDS / SEED_SD_MEAN
    seed_H = SEED_SDS[choose(log_HK, rng)] ** 2
    variance_HS = 1 / (eigen_HS + 1 / seed_H[:, None])
    mean_HS = np.einsum("hst,ht->hs", vectors_HSS, variance_HS * pull_HS)
    noise_HS = np.sqrt(variance_HS) * rng.standard_normal(variance_HS.shape)
    draw_HS = mean_HS + np.einsum("hst,ht->hs", vectors_HSS, noise_HS)
    return _Shifts(
        vectors_HSS=vectors_HSS, variance_HS=variance_HS, mean_HS=mean_HS, draw_HS=draw_HS, seed_H=seed_H
    )  # fmt: skip


def choose(log_weight_HK: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw one index per row with probability proportional to exp(log weight)."""
    weight_HK = np.exp(log_weight_HK - log_weight_HK.max(1, keepdims=True)).cumsum(1)
    chosen: NDArray[np.intp] = np.sum(weight_HK < rng.random((len(weight_HK), 1)) * weight_HK[:, -1:], 1)
    return chosen


def _gibbs(layout: _Layout, rng: np.random.Generator) -> Iterator[tuple[Array, _Shifts | None]]:
    """Yield the last sweeps of Gibbs chains; with tau and the shifts integrated out in turn they settle soon."""
    variances = _Variances(layout, rng)
    squares_HP = np.broadcast_to(layout.squares_P, (NUM_CHAINS, len(layout.count_P)))
    shifts = None
    for sweep in range(NUM_SWEEPS + NUM_KEPT):
        variance_HP = variances.draw(squares_HP)
        if layout.seeds_are_shared:
            shifts = _draw_shifts(layout, variance_HP, rng)
            squares_HP = layout.squares(shifts.draw_HS)
        if sweep >= NUM_SWEEPS:
            yield variance_HP, shifts


def _state(layout: _Layout, variance_HP: Array, shifts: _Shifts | None) -> tuple[Array, Array, Array, Array]:
    """Return variances, generalised least-squares means with their covariance, and tau^2, at one sweep."""
    mean_HP = np.broadcast_to(layout.mean_P, variance_HP.shape)
    noise_HPP = (variance_HP / layout.count_P)[:, :, None] * np.eye(len(layout.count_P))
    if shifts is None:
        return variance_HP, mean_HP, noise_HPP, np.zeros(len(variance_HP))
    moved_HPS = layout.share_PS @ shifts.vectors_HSS * np.sqrt(shifts.variance_HS)[:, None, :]
    noise_HPP = noise_HPP + moved_HPS @ np.swapaxes(moved_HPS, 1, 2)
    return variance_HP, mean_HP - shifts.mean_HS @ layout.share_PS.T, noise_HPP, shifts.seed_H


def discrepancy_kernel(a_X: Array, b_Y: Array) -> Array:
    """Return the correlation of the discrepancy between positions on the unit axis, (X, Y)."""
    kernel_XY: Array = np.exp(-0.5 * ((a_X[:, None] - b_Y) / DISCREPANCY_LENGTH) ** 2)
    return kernel_XY


def point_means(
    u_P: Array,
    y_N: Array,
    point_N: NDArray[np.intp],
    seed_N: NDArray[np.intp],
    floor_S: Array,
    rng: np.random.Generator,
) -> PointMeans:
    """Reduce replicates to point means with covariances; `y_N` is measured from the mean of `floor_S`."""
    layout = _Layout(y_N, point_N, seed_N)
    states = [_state(layout, *pair) for pair in _gibbs(layout, rng)]
    variance_HP, mean_HP, noise_HPP, seed_H = (np.concatenate(part) for part in zip(*states, strict=True))

    floor_squares = np.sum((floor_S - floor_S.mean()) ** 2) + FLOOR_PRIOR_DOF * FLOOR_PRIOR_SD**2
    floor_dof = len(floor_S) - 1 + FLOOR_PRIOR_DOF
    floor_H = floor_squares / rng.chisquare(floor_dof, NUM_NOISE_DRAWS) / len(floor_S)
    share_H = (rng.permutation(NUM_NOISE_DRAWS) + 0.5) / NUM_NOISE_DRAWS
    discrepancy_H = -DISCREPANCY_MEAN * np.log1p(-share_H)
    discrepancy_HPP = discrepancy_H[:, None, None] ** 2 * discrepancy_kernel(u_P, u_P)
    total_HPP = noise_HPP + floor_H[:, None, None] + discrepancy_HPP + 1e-9 * np.eye(len(u_P))
    num_shared = layout.count_PS.shape[1] if layout.seeds_are_shared else 1
    return PointMeans(
        u_P=u_P,
        mean_HP=mean_HP,
        noise_HPP=noise_HPP,
        floor_H=floor_H,
        total_HPP=total_HPP,
        point_HP=variance_HP,
        seed_H=seed_H,
        discrepancy_H=discrepancy_H,
        residual_dof=max(len(y_N) - len(u_P) - num_shared + 1, 1),
    )
