"""The threshold of a success: where the probability that a replicate succeeds crosses a level.

The curve, its seeds and the priors are those of `successes.py`. The criterion is a probability, or a share of the way
from floor to ceiling; half-way is psignifit's threshold. Nothing need be known of the direction: a rise, a fall, a
peak and one constant rate are weighed by the replicates.

Shapes: P points, D posterior draws, G positions of the band.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtri

from study.inference.curve import SEED, Replicates, check_replicates, crossing_positions
from study.inference.flanks import NO_RISE, WIDTH_PER_SCALE, log_shape, peak_position
from study.inference.noise import Array
from study.inference.options import check_confidence, check_fraction, check_scale
from study.inference.particles import tempered_particles
from study.inference.posterior import Curves
from study.inference.statements import (
    CEILING_FLAG,
    FLAG_LEVEL,
    MISFIT_FLAG,
    NO_RISE_FLAG,
    NOT_CONVERGED_FLAG,
    CrossingStatus,
    Estimate,
    crossing_of,
    no_crossing,
)
from study.inference.successes import SMALLEST, Successes, draw_prior, log_prior, probability
from study.inference.threshold import GRID_SIZE, CurveFit

NUM_PARTICLES = 360
# The ceiling is reached when the largest probability within the range lacks less than this share of the rise.
CEILING_LACK = 0.1


@dataclass(frozen=True, kw_only=True)
class SuccessFit(CurveFit):
    """A fitted probability of success: a `CurveFit` whose floor and ceiling are asymptotes.

    `width` is the 10-90 % width of the flank that `rising` or `falling` lies on (the rising one of a peak), in
    octaves of x, or in x on a linear axis. `seed_correlation` is None where no seed was run at several points.
    """

    width: Estimate
    seed_correlation: float | None
    num_successes: int
    num_replicates: int
    data: Replicates
    curves: Curves

    def predict(self, x: ArrayLike) -> Array:
        """Return the draws of the probability of success at x, (D, C)."""
        u_C = self.data.to_u(x)
        return self.curves(np.broadcast_to(u_C, (len(self.curves.height_D), len(u_C))))


def fit_success(
    x: ArrayLike,
    success: ArrayLike,
    seeds: ArrayLike | None = None,
    *,
    fraction: float | None = None,
    level: float | None = None,
    confidence: float = 0.95,
    scale: str = "log",
) -> SuccessFit:
    """Estimate where the probability of success rises through a level and where it falls through it.

    Parameters
    ----------
    x, success, seeds
        One entry per replicate: position, 0 or 1, and seed (any label). Without seeds all replicates are
        independent; name them wherever one seed was run at several points.
    fraction, level
        The criterion, at most one of them: a share of the way from floor to ceiling, or a probability. Neither means
        level=0.5.
    scale
        "log" or "linear": the axis on which the flanks are symmetric.

    Raises
    ------
    ValueError
        Where the input cannot carry a fit; the message says what to change.
    """
    if fraction is None and level is None:
        level = 0.5
    _check_options(fraction, level, confidence, scale)
    data = _check_success(x, success, seeds, log_axis=scale == "log")
    counts = Successes(data)
    rng = np.random.default_rng(SEED)
    particles = tempered_particles(
        lambda num, rng: draw_prior(num, counts.num_parameters, rng), log_prior, counts.log_like, rng,
        num_particles=NUM_PARTICLES,
    )  # fmt: skip
    theta, log_bayes_factor = particles.theta_DK, particles.log_evidence - counts.log_null
    num_draws = len(theta)
    num_constant = round(num_draws * float(expit(-log_bayes_factor)))
    theta[:num_constant] = counts.draw_null(num_constant, rng)
    is_constant_D = np.arange(num_draws) < num_constant
    floor_D, ceiling_D = theta[:, 4], 1 - theta[:, 5]
    peak_D = peak_position(theta[:, :4])
    height_D = np.maximum((ceiling_D - floor_D) * np.exp(log_shape(theta[:, :4], peak_D)), SMALLEST)
    curves = Curves(
        theta_DK=theta[:, :4], height_D=height_D, floor_D=floor_D, acceptance=particles.acceptance,
        log_bayes_factor=log_bayes_factor,
    )  # fmt: skip

    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    level_D = np.full(num_draws, level) if fraction is None else floor_D + fraction * (ceiling_D - floor_D)
    rising_D, falling_D = crossing_positions(curves, level_D)
    if fraction is not None:
        # A constant rate has no floor and ceiling to be between.
        rising_D, falling_D = (np.where(is_constant_D, np.nan, a) for a in (rising_D, falling_D))
    flags = _flags(counts, theta, curves, rng)
    if log_bayes_factor < 0:
        flags = (NO_RISE_FLAG, *flags)
    crossings = []
    for is_rising, position_D in ((True, rising_D), (False, falling_D)):
        crossing = crossing_of(position_D, data.to_x, confidence, rising=is_rising, is_open=False)
        # A constant rate may be known to lie above or below the level, but it crosses none.
        if log_bayes_factor < 0 and (fraction is not None or crossing.status is CrossingStatus.FOUND):
            reason = "one constant rate of success explains the replicates at least as well as a rise or a fall"
            crossing = no_crossing(confidence, reason)
        crossings.append(crossing)
    rising, falling = crossings
    u_G = np.linspace(0, 1, GRID_SIZE)
    low_G, median_G, high_G = np.quantile(curves(np.broadcast_to(u_G, (num_draws, GRID_SIZE))), tails, axis=0)
    floor_3, ceiling_3, level_3 = (np.quantile(a, tails) for a in (floor_D, ceiling_D, level_D))
    peak_3 = data.to_x(np.quantile(peak_D, tails))
    log_scale_D = np.where(theta[:, 0] < NO_RISE, theta[:, 3], theta[:, 1])
    width_3 = WIDTH_PER_SCALE * np.exp(np.quantile(log_scale_D, tails)) * (data.axis_P[-1] - data.axis_P[0])
    return SuccessFit(
        rising=rising, falling=falling,
        floor=float(floor_3[1]), ceiling=Estimate.of(ceiling_3), level=Estimate.of(level_3),
        peak=Estimate.of(peak_3), width=Estimate.of(width_3),
        grid_x=data.to_x(u_G), curve_median=median_G, curve_low=low_G, curve_high=high_G,
        rising_draws=data.crossings_to_x(rising_D), falling_draws=data.crossings_to_x(falling_D),
        seed_correlation=float(np.median(theta[:, 6])) if counts.has_seeds else None,
        num_successes=int(data.y_N.sum()), num_replicates=len(data.y_N),
        confidence=confidence, converged=curves.converged, flags=flags, data=data, curves=curves,
    )  # fmt: skip


def _flags(counts: Successes, theta_DK: Array, curves: Curves, rng: np.random.Generator) -> tuple[str, ...]:
    """Say in plain words what a reader of the numbers must know about the fit."""
    flags: list[str] = []
    if _misfit(counts, theta_DK, rng) < FLAG_LEVEL:
        flags.append(MISFIT_FLAG)
    reached_D = np.exp(log_shape(curves.theta_DK, curves.peak_D))
    if np.median(1 - reached_D) > CEILING_LACK:
        flags.append(CEILING_FLAG)
    if not curves.converged:
        flags.append(NOT_CONVERGED_FLAG)
    return tuple(flags)


def _misfit(counts: Successes, theta_DK: Array, rng: np.random.Generator) -> float:
    """Return the posterior predictive probability of rates further from the curve than the measured ones.

    The distance is Pearson's chi-squared of the points (Gelman, Meng and Stern 1996).
    """
    data = counts.data
    p_DP = np.clip(probability(theta_DK, counts.u_P), SMALLEST, 1 - SMALLEST)
    rho_D1 = theta_DK[:, 6:] if counts.has_seeds else np.zeros((len(theta_DK), 1))
    effect_DN = rng.standard_normal((len(theta_DK), data.seed_N.max() + 1))[:, data.seed_N]
    latent_DN = np.sqrt(rho_D1) * effect_DN + np.sqrt(1 - rho_D1) * rng.standard_normal(effect_DN.shape)
    drawn_DN = latent_DN < ndtri(p_DP)[:, data.point_N]
    points_NP = np.eye(len(counts.u_P))[data.point_N]
    num_P = points_NP.sum(0)

    def distance(successes_DP: Array) -> Array:
        result: Array = np.sum((successes_DP - num_P * p_DP) ** 2 / (num_P * p_DP * (1 - p_DP)), 1)
        return result

    return float(np.mean(distance(drawn_DN @ points_NP) >= distance((data.y_N @ points_NP)[None])))


def _check_options(fraction: float | None, level: float | None, confidence: float, scale: str) -> None:
    if fraction is not None and level is not None:
        raise ValueError("Give one criterion: fraction=0.5 or level=0.5, not both.")
    check_fraction(fraction)
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level is a probability of success and must lie between 0 and 1, not {level}.")
    check_confidence(confidence)
    check_scale(scale)


def _check_success(x: ArrayLike, success: ArrayLike, seeds: ArrayLike | None, *, log_axis: bool) -> Replicates:
    success_N = np.asarray(success, dtype=np.float64)
    seeds_N: NDArray[np.generic] = np.arange(len(success_N)) if seeds is None else np.asarray(seeds)
    if not np.isin(success_N, (0.0, 1.0)).all():
        raise ValueError("success must be 0 or 1 (or False or True) for each replicate; leave out unfinished ones.")
    return check_replicates(x, success_N, seeds_N, np.zeros_like(success_N), log_axis=log_axis)
