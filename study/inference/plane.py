"""The posterior of a boundary in the plane of two log axes: model, likelihood and draws.

    outcome = floor(v) + low(v) * (1 - g) + height(v) * g + discrepancy(u, v) + seed effect + noise
    g(u, v) = flank((u - b(v)) / width(v))

u and v are the axes mapped to [0, 1] over the measured range; outcomes are in units of the largest height measured.
b is a straight line plus a smooth curve through knots, the width log-linear in v, the flank a generalised logistic
(Richards 1959) between Gompertz, logistic and mirrored Gompertz. height is quadratic and low (a lower end away from
the measured floor) linear in v: both are integrated out in closed form, like the shifts of seeds; everything else by
tempered particles, whose parameters are all standard normal a priori. The discrepancy is drawn given the rest: a
boundary is one of the surface with it, so that replicates at the boundary say where the outcome crosses the level.

Shapes: N replicates, P points, S seeds, D posterior draws, K parameters, L linear coefficients, M nodes.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import log_ndtr

from study.inference.curve import bisect
from study.inference.discrepancy import discrepancy_at
from study.inference.noise import Array, point_means
from study.inference.particles import tempered_particles
from study.inference.plane_data import PlaneData, low_columns

# Priors in units of the measured range and of the largest measured height: mean and sd, or median and log sd.
MIDDLE, MIDDLE_SD, SLOPE_SD = 0.5, 0.6, 1.0
BEND, BEND_LOG_SD, BEND_LENGTH, NUM_KNOTS, NUM_BENDS = 0.1, 0.8, 0.35, 7, 5
WIDTH, WIDTH_LOG_SD, WIDTH_SLOPE_SD = 0.3, 0.8, 0.7
SKEW_SD = 1.2
HEIGHT_SD, LOW_SD = np.array([1.5, 0.7, 0.7]), np.array([0.05, 0.05])
# Flanks are not Richards curves: a smooth departure of about this share of the height is expected.
DISCREPANCY_MEAN, DISCREPANCY_LENGTH_U, DISCREPANCY_LENGTH_V = 0.006, 0.2, 0.4
# sd of a replicate: log-normal, 95 % between a tenth and ten times the median; sd between seeds: exponential.
NOISE_SD, NOISE_LOG_SD, SEED_SD_MEAN = 0.05, np.log(10) / 1.96, 0.08
# Positions of the parameters: offset, slope, bends, then these.
LOG_BEND, LOG_WIDTH, WIDTH_SLOPE, SKEW, NOISE, SEEDS, DISCREPANCY = range(2 + NUM_BENDS, 9 + NUM_BENDS)
NUM_PARAMETERS = 9 + NUM_BENDS
NUM_PARTICLES, NUM_NULL_PARTICLES = 500, 100
# Positions along u between which a drawn discrepancy is interpolated.
NUM_GRID = 41
# The discrepancy in the coordinates of so many nodes along u and v.
NODES_U, NODES_V = (a.ravel() for a in np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 6)))
SEED = 2_718


@functools.cache
def _bends() -> CubicSpline:
    """Return NUM_BENDS smooth curves on [0, 1] whose standard-normal mixture has sd one and no line in it."""
    knots = np.linspace(0, 1, NUM_KNOTS)
    kernel = np.exp(-0.5 * ((knots[:, None] - knots) / BEND_LENGTH) ** 2)
    line, _ = np.linalg.qr(np.column_stack([np.ones(NUM_KNOTS), knots]))
    rest = np.eye(NUM_KNOTS) - line @ line.T
    value, vector = np.linalg.eigh(rest @ kernel @ rest)
    root = vector[:, ::-1][:, :NUM_BENDS] * np.sqrt(np.maximum(value[::-1][:NUM_BENDS], 0))
    root *= np.sqrt(NUM_KNOTS / np.sum(root**2))
    return CubicSpline(knots, root, bc_type="natural")


def boundary_middle(theta_DK: Array, v_X: Array) -> Array:
    """Return b, (D, X): where each draw's flank is half-way, at positions (X,) along v."""
    line = MIDDLE + MIDDLE_SD * theta_DK[:, :1] + SLOPE_SD * theta_DK[:, 1:2] * (v_X - 0.5)
    bend_D = BEND * np.exp(BEND_LOG_SD * theta_DK[:, LOG_BEND])
    middle: Array = line + bend_D[:, None] * (theta_DK[:, 2 : 2 + NUM_BENDS] @ _bends()(v_X).T)
    return middle


def _width(theta_DK: Array, v_X: Array) -> Array:
    """Return the 10-90 % width, (D, X)."""
    log_width, change = theta_DK[:, LOG_WIDTH, None], theta_DK[:, WIDTH_SLOPE, None]
    width: Array = WIDTH * np.exp(WIDTH_LOG_SD * log_width + WIDTH_SLOPE_SD * change * (v_X - 0.5))
    return width


def _skew(theta_DK: Array) -> tuple[Array, Array, Array, Array]:
    """Return (D, 1) direction, exponent, factor and 10-90 % width of the standard flank of each draw."""
    skew = SKEW_SD * theta_DK[:, SKEW, None]
    power = np.maximum(np.exp(-np.abs(skew)), 0.05)
    factor = 2.0**power - 1
    width = np.log(0.1**-power - 1) - np.log(0.9**-power - 1)
    return np.where(skew > 0, -1.0, 1.0), power, factor, width


def flank(theta_DK: Array, u_DX: Array, v_X: Array, sign: float) -> Array:
    """Return g, (D, X), at positions `u_DX` (or broadcastable to it)."""
    side, power, factor, scale = _skew(theta_DK)
    t_DX = side * sign * scale * (u_DX - boundary_middle(theta_DK, v_X)) / _width(theta_DK, v_X)
    rise_DX = np.exp(-np.log1p(factor * np.exp(-np.clip(t_DX, -60, 60))) / power)
    return np.where(side < 0, 1 - rise_DX, rise_DX)


def rise_columns(v_X: Array) -> Array:
    """Return (X, 3): constant, slope and bend of the rise along v."""
    return np.column_stack([np.ones_like(v_X), v_X - 0.5, 4 * (v_X - 0.5) ** 2 - 1 / 3])


def variances(theta_DK: Array) -> tuple[Array, Array, Array]:
    """Return the variances of a replicate, between seeds and of the discrepancy, each (D,)."""
    noise_D = (NOISE_SD * np.exp(NOISE_LOG_SD * theta_DK[:, NOISE])) ** 2 + 1e-12
    seed_D, discrepancy_D = (
        (mean * log_ndtr(-theta_DK[:, k])) ** 2 + 1e-12
        for mean, k in ((SEED_SD_MEAN, SEEDS), (DISCREPANCY_MEAN, DISCREPANCY))
    )
    return noise_D, seed_D, discrepancy_D


def discrepancy_kernel(u_P: Array, v_P: Array, u_X: Array | None = None, v_X: Array | None = None) -> Array:
    """Return the correlation of the discrepancy between points, (P, P), or between these and others, (P, X)."""
    u_X, v_X = u_P if u_X is None else u_X, v_P if v_X is None else v_X
    apart_u, apart_v = (u_P[:, None] - u_X) / DISCREPANCY_LENGTH_U, (v_P[:, None] - v_X) / DISCREPANCY_LENGTH_V
    kernel: Array = np.exp(-0.5 * (apart_u**2 + apart_v**2))
    return kernel


@functools.cache
def _node_factor() -> Array:
    return np.asarray(np.linalg.cholesky(discrepancy_kernel(NODES_U, NODES_V) + 1e-6 * np.eye(len(NODES_U))))


def basis(u_X: Array, v_X: Array) -> Array:
    """Return functions at points (X,) whose standard normal combinations have the discrepancy's correlation, (X, M)."""
    return np.asarray(np.linalg.solve(_node_factor(), discrepancy_kernel(NODES_U, NODES_V, u_X, v_X)).T)


class PlaneLikelihood:
    """log p(outcomes | boundary, flank, variances) with the linear coefficients integrated over their priors.

    In the basis Q of noise^-1/2 discrepancy noise^-1/2 = Q diag(lambda) Q^T, point means are independent with variances
    sigma^2 + d^2 lambda, whatever sigma and d. Contrasts within points know nothing of the surface, only of the noise
    and of seeds.
    """

    def __init__(self, data: PlaneData, rng: np.random.Generator) -> None:
        self.data = data
        num_points = len(data.u_P)
        # How the variance differs between points is taken from their replicates, as far as these say so; its scale is
        # a parameter. The floor is not needed here: it is a line along v, and `data` has its covariance.
        means = point_means(data.u_P, data.outcome_N, data.point_N, data.seed_N, np.zeros(1), rng)
        log_P = np.log(means.point_HP).mean(0)
        self.pattern_P = np.exp(log_P - log_P.mean())

        count_P = np.bincount(data.point_N)
        mean_P = np.bincount(data.point_N, data.outcome_N) / count_P
        points_NP, seeds_NS = np.eye(num_points)[data.point_N], np.eye(data.seed_N.max() + 1)[data.seed_N]
        # A seed at a single point is part of that point's noise.
        seeds_NS = seeds_NS[:, (points_NP.T @ seeds_NS > 0).sum(0) > 1]
        share_PS = points_NP.T @ seeds_NS / count_P[:, None]
        scale_P = np.sqrt(count_P / self.pattern_P)
        kernel_PP = scale_P[:, None] * discrepancy_kernel(data.u_P, data.v_P) * scale_P
        value_P, vector_PP = np.linalg.eigh(kernel_PP)
        self.lambda_P = np.maximum(value_P, 0)
        self.turn_PP = vector_PP.T * scale_P
        self.outcome_P = self.turn_PP @ mean_P
        self.mean_P, self.share_PS, self.scale_P = mean_P, share_PS, scale_P

        contrast_NS = (seeds_NS - share_PS[data.point_N]) / np.sqrt(self.pattern_P[data.point_N])[:, None]
        rest_N = (data.outcome_N - mean_P[data.point_N]) / np.sqrt(self.pattern_P[data.point_N])
        self.contrast_SS, self.contrast_S = contrast_NS.T @ contrast_NS, contrast_NS.T @ rest_N
        self.squares, self.dof = float(rest_N @ rest_N), len(rest_N) - num_points

        self.rise_3P = rise_columns(data.v_P).T
        # Columns that the flank does not touch: lower end and seeds.
        self.fixed_PC = np.column_stack([self.turn_PP @ low_columns(data.v_P), self.turn_PP @ share_PS])
        self.fixed_pairs = (self.fixed_PC[:, :, None] * self.fixed_PC[:, None, :]).reshape(num_points, -1)
        # The prior is one of height and lower end; the coefficients are rise and lower end.
        to_height = np.eye(5)
        to_height[:2, 3:] = np.eye(2)
        prior = np.zeros((5, 5))
        prior[:3, :3] = np.diag(HEIGHT_SD**-2)
        prior[3:, 3:] = np.linalg.inv(np.diag(LOW_SD**2) + data.floor_22)
        self.prior_LL = to_height.T @ prior @ to_height
        self.log_det_prior = float(np.linalg.slogdet(prior)[1])

    def normal_equations(self, theta_DK: Array, g_DP: Array) -> tuple[Array, Array, Array]:
        """Return Cholesky factor (D, L, L), right side (D, L) and log density without coefficients (D,).

        Coefficients are rise (3), lower end (2) and one shift per shared seed.
        """
        num_draws, num_fixed = len(g_DP), self.fixed_PC.shape[1]
        noise_D, seed_D, discrepancy_D = variances(theta_DK)
        weight_DP = 1 / (noise_D[:, None] + discrepancy_D[:, None] * self.lambda_P)
        turned_D3P = np.empty((num_draws, 3, len(self.lambda_P)))
        for k in range(3):
            turned_D3P[:, k] = (g_DP * self.rise_3P[k]) @ self.turn_PP.T
        weighted_D3P = turned_D3P * weight_DP[:, None, :]

        precision_DLL = np.empty((num_draws, 3 + num_fixed, 3 + num_fixed))
        precision_DLL[:, :3, :3] = weighted_D3P @ turned_D3P.transpose(0, 2, 1)
        precision_DLL[:, :3, 3:] = weighted_D3P @ self.fixed_PC
        precision_DLL[:, 3:, :3] = precision_DLL[:, :3, 3:].transpose(0, 2, 1)
        precision_DLL[:, 3:, 3:] = (weight_DP @ self.fixed_pairs).reshape(num_draws, num_fixed, num_fixed)
        precision_DLL[:, :5, :5] += self.prior_LL
        precision_DLL[:, 5:, 5:] += self.contrast_SS / noise_D[:, None, None]
        precision_DLL[:, 5:, 5:] += np.eye(num_fixed - 2) / seed_D[:, None, None]
        pull_DL = np.concatenate(
            [weighted_D3P @ self.outcome_P, weight_DP @ (self.fixed_PC * self.outcome_P[:, None])], axis=1
        )
        pull_DL[:, 5:] += self.contrast_S / noise_D[:, None]
        rest_D = 0.5 * np.log(weight_DP).sum(1) - 0.5 * weight_DP @ self.outcome_P**2 + 0.5 * self.log_det_prior
        rest_D -= 0.5 * (self.dof * np.log(noise_D) + self.squares / noise_D + (num_fixed - 2) * np.log(seed_D))
        return np.linalg.cholesky(precision_DLL), pull_DL, rest_D

    def __call__(self, theta_DK: Array, *, has_rise: bool = True) -> Array:
        """Return the log likelihood (D,) up to a constant; without a rise, that of the lower end alone."""
        g_DP = np.zeros((len(theta_DK), len(self.data.u_P)))
        if has_rise:
            g_DP = flank(theta_DK, self.data.u_P, self.data.v_P, self.data.sign)
        root_DLL, pull_DL, rest_D = self.normal_equations(theta_DK, g_DP)
        scaled_DL = np.linalg.solve(root_DLL, pull_DL[..., None])[..., 0]
        log_det_D = np.log(np.diagonal(root_DLL, axis1=1, axis2=2)).sum(1)
        result: Array = rest_D + 0.5 * np.sum(scaled_DL**2, 1) - log_det_D
        return result

    def draw_coefficients(self, theta_DK: Array, rng: np.random.Generator) -> Array:
        """Draw rise (3), lower end (2) and the shifts of the shared seeds of each particle, (D, L)."""
        g_DP = flank(theta_DK, self.data.u_P, self.data.v_P, self.data.sign)
        root_DLL, pull_DL, _ = self.normal_equations(theta_DK, g_DP)
        inner_DL = np.linalg.solve(root_DLL, pull_DL[..., None])[..., 0] + rng.standard_normal(pull_DL.shape)
        drawn_DL1 = np.linalg.solve(root_DLL.transpose(0, 2, 1), inner_DL[..., None])
        return np.asarray(drawn_DL1[:, :, 0], dtype=np.float64)

    def draw_discrepancy(self, theta_DK: Array, linear_DL: Array, rng: np.random.Generator) -> Array:
        """Draw the weights of `basis` given everything else, (D, M), each draw's sd of the discrepancy included."""
        noise_D1, _, variance_D1 = (a[:, None] for a in variances(theta_DK))
        g_DP = flank(theta_DK, self.data.u_P, self.data.v_P, self.data.sign)
        fitted_DP = g_DP * (linear_DL[:, :3] @ self.rise_3P) + linear_DL[:, 3:5] @ low_columns(self.data.v_P).T
        rest_DP = self.mean_P - fitted_DP - linear_DL[:, 5:] @ self.share_PS.T
        # One decomposition serves all draws: they differ by their two variances alone.
        scaled_PM = self.scale_P[:, None] * basis(self.data.u_P, self.data.v_P)
        turn_PM, value_M, vector_MM = np.linalg.svd(scaled_PM, full_matrices=False)
        gain_DM = value_M / (value_M**2 + noise_D1 / variance_D1)
        mean_DM = (gain_DM * ((rest_DP * self.scale_P) @ turn_PM)) @ vector_MM
        white_DM = rng.standard_normal((len(theta_DK), len(NODES_U)))
        known_DM = white_DM @ vector_MM.T
        shrink_DM = np.sqrt(noise_D1 / (noise_D1 + variance_D1 * value_M**2)) - 1
        drawn_DM: Array = mean_DM + np.sqrt(variance_D1) * (white_DM + (shrink_DM * known_DM) @ vector_MM)
        return drawn_DM


@dataclass(frozen=True, kw_only=True)
class Surfaces:
    """Posterior draws of the outcome over the plane, in units of the largest height over the floor."""

    theta_DK: Array
    linear_D5: Array  # rise (3) and lower end (2)
    discrepancy_DM: Array  # weights of `basis`
    floor_D2: Array
    sign: float
    log_bayes_factor: float  # of a rise anywhere against none
    acceptance: float

    def ends(self, v_X: Array) -> tuple[Array, Array]:
        """Return the lower and the upper asymptote of the flank, both (D, X)."""
        low_DX = self.linear_D5[:, 3:] @ low_columns(v_X).T
        return low_DX, low_DX + self.linear_D5[:, :3] @ rise_columns(v_X).T

    def flanks(self, u_DX: Array | float, v_X: Array) -> Array:
        """Return each draw's outcome over the fitted floor without its discrepancy, (D, X); u may differ per draw."""
        low_DX, high_DX = self.ends(v_X)
        g_DX = flank(self.theta_DK, np.broadcast_to(u_DX, low_DX.shape), v_X, self.sign)
        return low_DX + (high_DX - low_DX) * g_DX

    def __call__(self, u_X: Array | float, v_X: Array) -> Array:
        """Return each draw's outcome over the fitted floor, (D, X)."""
        return self.flanks(u_X, v_X) + self.discrepancy_DM @ basis(np.broadcast_to(u_X, v_X.shape), v_X).T

    def crossings(self, target_DX: Array, v_X: Array) -> Array:
        """Return u where each draw crosses its target, (D, X): one crossing, wherever its two ends lie on two sides."""
        grid_G = np.linspace(0, 1, NUM_GRID)
        drawn_XDG = [self.discrepancy_DM @ basis(grid_G, np.full(NUM_GRID, v)).T for v in v_X]

        def outcome(u_DX: Array) -> Array:
            pairs = zip(drawn_XDG, u_DX.T, strict=True)
            return self.flanks(u_DX, v_X) + np.column_stack([discrepancy_at(drawn_DG, u_D) for drawn_DG, u_D in pairs])

        first_DX, last_DX = np.zeros_like(target_DX), np.ones_like(target_DX)
        below_DX, above_DX = (first_DX, last_DX) if self.sign > 0 else (last_DX, first_DX)
        return bisect(outcome, below_DX, above_DX, target_DX)


def sample_surfaces(data: PlaneData) -> Surfaces:
    """Sample the posterior; the same data give the same draws."""
    rng = np.random.default_rng(SEED)
    likelihood = PlaneLikelihood(data, rng)
    particles = tempered_particles(_draw_prior, _log_prior, likelihood, rng, num_particles=NUM_PARTICLES)
    theta_DK = particles.theta_DK
    flat = tempered_particles(
        _draw_prior,
        _log_prior,
        lambda theta_DK: likelihood(theta_DK, has_rise=False),
        rng,
        num_particles=NUM_NULL_PARTICLES,
    )
    linear_DL = likelihood.draw_coefficients(theta_DK, rng)
    return Surfaces(
        theta_DK=theta_DK,
        linear_D5=linear_DL[:, :5],
        discrepancy_DM=likelihood.draw_discrepancy(theta_DK, linear_DL, rng),
        floor_D2=rng.multivariate_normal(np.zeros(2), data.floor_22, len(theta_DK), method="eigh"),
        sign=data.sign,
        log_bayes_factor=particles.log_evidence - flat.log_evidence,
        acceptance=particles.acceptance,
    )


def _draw_prior(num: int, rng: np.random.Generator) -> Array:
    return rng.standard_normal((num, NUM_PARAMETERS))


def _log_prior(theta_DK: Array) -> Array:
    prior: Array = -0.5 * np.sum(theta_DK**2, 1)
    return prior
