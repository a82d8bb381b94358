"""How probable successes and failures are under a curve, with whole seeds that succeed more or less readily.

    P(success) = floor + (ceiling - floor) * g(u),   g the product of a rising and a falling logistic flank
    P(success | seed r) = Phi((Phi^-1(P) + sqrt(rho) e_r) / sqrt(1 - rho)),   e_r ~ N(0, 1)

u is the axis mapped to [0, 1] over the measured range. Floor and ceiling are asymptotes, as in psignifit (Schuett et
al. 2016), and 1 - ceiling is the rate of lapses. Replicates of one seed at several points are not independent: the
seed shifts the curve by one normal number on the probit scale, which for a single flank is a shift of that seed's own
threshold. The probability over seeds is exactly P, so that the threshold keeps its meaning, and rho is the latent
correlation between replicates of a seed. A beta-binomial would spread each point by itself, although different seeds
are independent there, and would miss that a seed which fails early fails early at all points together.

| part | prior |
|---|---|
| direction | half: one constant rate, uniform from 0 to 1; else 3/8 a rise, 3/8 a fall, 1/4 a rise and a fall |
| threshold of a flank | uniform over the range and 0.3 of it beyond either end |
| 10-90 % width | 3/4: log-normal, median 0.3 of the range, 95 % 0.04 to 2; 1/4, a step: 0.01, 0.0014 to 0.07 |
| floor, 1 - ceiling | Beta(1, 10) each |
| rho | uniform from 0 to 0.9 where a seed was run at several points; else there is none |

Shapes: N replicates, P points, S seeds run at several points, D posterior draws, E nodes of a seed's effect.
"""

from functools import cached_property

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from study.inference.curve import Replicates
from study.inference.flanks import NO_FALL, NO_RISE, WIDTH_PER_SCALE, log_shape
from study.inference.noise import Array

# Success may change in a step, which outcomes measured on a scale hardly do: without it the interval of a clean
# separation would stay clear of the ends of its gap.
LOG_WIDTH_MEAN, LOG_WIDTH_SD = np.log(0.3), 1.0
STEP_SHARE, LOG_STEP_MEAN, LOG_STEP_SD = 0.25, np.log(0.01), 1.0
RISE_ALONE, FALL_ALONE = 0.375, 0.375
# An absent flank is coded as one further outside than any present one, by at most this.
ABSENT = 0.3
LAPSE_BETA = 10.0
MAX_CORRELATION = 0.9
NODES_E = np.linspace(-3.1, 3.1, 13)
LOG_WEIGHT_E = -0.5 * NODES_E**2 - logsumexp(-0.5 * NODES_E**2)
SMALLEST = 1e-12


class Successes:
    """Successes and failures: of independent replicates per point, of each seed run at several points per point."""

    def __init__(self, data: Replicates) -> None:
        self.data = data
        # Rounding far below any spacing makes the fit identical under a change of units, accept decisions included.
        self.u_P = np.round((data.axis_P - data.axis_P[0]) / (data.axis_P[-1] - data.axis_P[0]), 9)
        num_points = len(self.u_P)
        outcome_SP2 = np.zeros((data.seed_N.max() + 1, num_points, 2))
        np.add.at(outcome_SP2, (data.seed_N, data.point_N, 1 - data.y_N.astype(int)), 1)
        is_shared_S = (outcome_SP2.sum(2) > 0).sum(1) > 1
        self.alone_P2: Array = outcome_SP2[~is_shared_S].sum(0)
        # Seeds with equal outcomes are equally probable: each pattern is computed once.
        patterns, self.multiplicity_S = np.unique(outcome_SP2[is_shared_S], axis=0, return_counts=True)
        self.shared_SP2: Array = patterns
        self.has_seeds = bool(is_shared_S.any())
        self.num_parameters = 7 if self.has_seeds else 6

    def log_like(self, theta_DK: Array) -> Array:
        """Return the log probability of the outcomes given each draw, (D,)."""
        return self.log_probability(probability(theta_DK, self.u_P), theta_DK[:, 6:])

    def log_probability(self, p_DP: Array, rho_D1: Array) -> Array:
        """Return the same given the curve at the points and the correlation within a seed."""
        p_DP = np.clip(p_DP, SMALLEST, 1 - SMALLEST)
        result: Array = np.log(p_DP) @ self.alone_P2[:, 0] + np.log1p(-p_DP) @ self.alone_P2[:, 1]
        if self.has_seeds:
            p_DEP = seed_probability(p_DP, rho_D1)
            each_DES = np.log(p_DEP) @ self.shared_SP2[:, :, 0].T + np.log1p(-p_DEP) @ self.shared_SP2[:, :, 1].T
            each_DES += LOG_WEIGHT_E[:, None]
            top_DS = each_DES.max(1)
            seed_DS = top_DS + np.log(np.exp(each_DES - top_DS[:, None]).sum(1))
            result += seed_DS @ self.multiplicity_S
        return result

    @cached_property
    def null_grid(self) -> tuple[Array, Array, Array]:
        """Constant rates, correlations within a seed and the log probability of the outcomes given both, (D,) each."""
        rate_R = (np.arange(200) + 0.5) / 200
        rho_H = MAX_CORRELATION * (np.arange(8) + 0.5) / 8 if self.has_seeds else np.zeros(1)
        rate_D, rho_D = (a.ravel() for a in np.meshgrid(rate_R, rho_H))
        return rate_D, rho_D, self.log_probability(np.repeat(rate_D[:, None], len(self.u_P), 1), rho_D[:, None])

    @property
    def log_null(self) -> float:
        """The log probability of the outcomes under one constant rate."""
        log_D = self.null_grid[2]
        return float(logsumexp(log_D) - np.log(len(log_D)))

    def draw_null(self, num: int, rng: np.random.Generator) -> Array:
        """Draw (num, K) parameters of a constant rate given the outcomes: no flanks, a ceiling at the rate."""
        rate_D, rho_D, log_D = self.null_grid
        pick = rng.choice(len(log_D), num, p=np.exp(log_D - logsumexp(log_D)))
        theta = draw_prior(num, 7, rng)
        theta[:, 0], theta[:, 2] = NO_RISE - ABSENT, NO_FALL + ABSENT
        theta[:, 4], theta[:, 5], theta[:, 6] = 0.0, 1 - rate_D[pick], rho_D[pick]
        return theta[:, : self.num_parameters]


def probability(theta_DK: Array, u_P: Array) -> Array:
    """Return the marginal probability of success of each draw at positions `u_P`, (D, P)."""
    shape_DP = np.exp(log_shape(theta_DK[:, :4], np.broadcast_to(u_P, (len(theta_DK), len(u_P)))))
    floor_D1, lapse_D1 = theta_DK[:, 4:5], theta_DK[:, 5:6]
    result: Array = floor_D1 + (1 - floor_D1 - lapse_D1) * shape_DP
    return result


def seed_probability(p_DP: Array, rho_D1: Array) -> Array:
    """Return the probability for a seed at each node of its effect, (D, E, P)."""
    shift_DE = np.sqrt(rho_D1) * NODES_E
    p_DEP = ndtr((ndtri(p_DP)[:, None] + shift_DE[:, :, None]) / np.sqrt(1 - rho_D1)[:, :, None])
    result: Array = np.clip(p_DEP, SMALLEST, 1 - SMALLEST)
    return result


def draw_prior(num: int, num_parameters: int, rng: np.random.Generator) -> Array:
    """Draw (num, K): t1, log s1, t2, log s2, floor, lapse rate and, where K is 7, the correlation within a seed."""
    two_D2 = np.sort(rng.uniform(NO_RISE, NO_FALL, (num, 2)), 1)
    one_D, kind_D = rng.uniform(NO_RISE, NO_FALL, num), rng.random(num)
    rises_D, falls_D = kind_D < RISE_ALONE, kind_D > 1 - FALL_ALONE
    t1 = np.where(rises_D, one_D, np.where(falls_D, NO_RISE - ABSENT * rng.random(num), two_D2[:, 0]))
    t2 = np.where(falls_D, one_D, np.where(rises_D, NO_FALL + ABSENT * rng.random(num), two_D2[:, 1]))
    is_step_D2 = rng.random((num, 2)) < STEP_SHARE
    log_width_D2 = rng.normal(
        np.where(is_step_D2, LOG_STEP_MEAN, LOG_WIDTH_MEAN), np.where(is_step_D2, LOG_STEP_SD, LOG_WIDTH_SD)
    )
    log_scale_D2 = log_width_D2 - np.log(WIDTH_PER_SCALE)
    asymptotes_D2 = rng.beta(1, LAPSE_BETA, (num, 2))
    # One draw in 200,000 would have its floor above its ceiling.
    asymptotes_D2 /= np.maximum(1.0, 1.01 * asymptotes_D2.sum(1, keepdims=True))
    rho_D1 = rng.uniform(0, MAX_CORRELATION, (num, 1))
    theta = np.column_stack([t1, log_scale_D2[:, 0], t2, log_scale_D2[:, 1], asymptotes_D2, rho_D1])
    return theta[:, :num_parameters]


def log_prior(theta_DK: Array) -> Array:
    """Return the log density of `draw_prior` up to a constant."""
    t1, t2, floor_D, lapse_D = (theta_DK[:, k] for k in (0, 2, 4, 5))
    span = NO_FALL - NO_RISE
    inside = (t1 > NO_RISE - ABSENT) & (t2 < NO_FALL + ABSENT) & (floor_D >= 0) & (lapse_D >= 0)
    inside &= floor_D + lapse_D < 1
    rises, falls = t1 >= NO_RISE, t2 <= NO_FALL
    inside &= (rises | falls) & (t1 < t2)
    density = np.where(
        rises, np.where(falls, (1 - RISE_ALONE - FALL_ALONE) * 2 / span, RISE_ALONE / ABSENT), FALL_ALONE / ABSENT
    )
    # The absent flank of a lone one lies further out, so that t1 < t2 does not bound the present one.
    inside &= (t1 <= NO_FALL) & (t2 >= NO_RISE)
    if theta_DK.shape[1] > 6:
        inside &= (theta_DK[:, 6] >= 0) & (theta_DK[:, 6] <= MAX_CORRELATION)
    log_width_D2 = theta_DK[:, [1, 3]] + np.log(WIDTH_PER_SCALE)
    log_wide_D2, log_step_D2 = (
        np.log(share / sd) - 0.5 * ((log_width_D2 - mean) / sd) ** 2
        for share, mean, sd in (
            (1 - STEP_SHARE, LOG_WIDTH_MEAN, LOG_WIDTH_SD),
            (STEP_SHARE, LOG_STEP_MEAN, LOG_STEP_SD),
        )
    )
    log_widths_D = np.logaddexp(log_wide_D2, log_step_D2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lapses_D = (LAPSE_BETA - 1) * (np.log1p(-floor_D) + np.log1p(-lapse_D))
        result: Array = np.where(inside, np.log(density) + log_widths_D + lapses_D, -np.inf)
    return result
