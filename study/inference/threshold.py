"""Where a replicated curve crosses a level: the smallest and the largest useful value of a hyperparameter.

The level is absolute or a fraction of the rise from the measured floor to the ceiling, the curve at the maximum of its
flanks within the measured range. Both crossings of each posterior curve are found, and the interval is the central
one of all draws that have the crossing; one outside the measured range is a result ("below 4"), never a number.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.inference.curve import CurvePosterior, curve_posterior
from study.inference.noise import Array
from study.inference.options import check_confidence, check_criterion
from study.inference.posterior import NUM_DRAWS
from study.inference.statements import (
    CEILING_FLAG,
    FLOOR_FLAG,
    MISFIT_FLAG,
    NO_RISE_FLAG,
    NO_RISE_REASON,
    NOT_CONVERGED_FLAG,
    PEAK_FLAG,
    RISE_BAYES_FACTOR,
    START_CEILING_FLAG,
    UNLIKE_REASON,
    Crossing,
    CrossingStatus,
    Estimate,
    crossing_of,
    flags_of,
    no_crossing,
)

__all__ = ["Crossing", "CrossingStatus", "CurveFit", "CurvePosterior", "curve_posterior", "fit_curve"]

GRID_SIZE = 100
# A seed's floors are taken for one number. They may differ by this share of the height between points.
FLOOR_RANGE = 0.1
# Draws behind the band, which needs fewer than the ends of an interval.
BAND_DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """A fitted curve: both crossings, floor, ceiling, level and peak with intervals, and the band on `grid_x`.

    `peak` is the position of the maximum within the range. `rising_draws` and `falling_draws` (D,) are the posterior
    draws behind the crossings, in units of x: -inf before the range, +inf beyond it, nan for none.
    """

    rising: Crossing
    falling: Crossing
    floor: float
    ceiling: Estimate
    level: Estimate
    peak: Estimate
    grid_x: Array
    curve_median: Array
    curve_low: Array
    curve_high: Array
    rising_draws: Array
    falling_draws: Array
    confidence: float
    converged: bool
    flags: tuple[str, ...]


def fit_curve(
    x: ArrayLike,
    outcome: ArrayLike,
    seeds: ArrayLike,
    floor: ArrayLike,
    *,
    fraction: float | None = 0.5,
    level: float | None = None,
    confidence: float = 0.95,
    scale: str = "log",
) -> CurveFit:
    """Estimate where a curve of replicated outcomes rises through a level and where it falls through it again.

    Parameters
    ----------
    x, outcome, seeds, floor
        One entry per replicate: position, measured outcome, seed (any label), and the outcome of the same seed
        before training.
    fraction, level
        The criterion, exactly one of them: a share of the rise from floor to ceiling, or an absolute outcome.
    scale
        "log" or "linear": the axis on which the flanks are symmetric.

    Raises
    ------
    ValueError
        Where the input cannot carry a fit; the message says what to change.
    """
    _check_options(fraction, level, confidence)
    posterior = curve_posterior(x, outcome, seeds, floor, scale=scale, num_draws=NUM_DRAWS)
    data, curves = posterior.data, posterior.curves
    _check_replicated(np.bincount(data.point_N))

    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    level_D = posterior.levels(fraction, level)
    u_G = np.linspace(0, 1, GRID_SIZE)
    grid_x = data.to_x(u_G)
    low_G, median_G, high_G = np.quantile(posterior.predict(grid_x, num_draws=BAND_DRAWS), tails, axis=0)
    ceiling_3 = posterior.floor + posterior.unit * np.quantile(curves.ceiling_D, tails)
    level_3 = posterior.floor + posterior.unit * np.quantile(level_D, tails)

    flags = flags_of(posterior.means, curves)
    has_rise = curves.log_bayes_factor > np.log(RISE_BAYES_FACTOR)
    if not has_rise:
        flags = (NO_RISE_FLAG, *flags)
    if data.floor_range > FLOOR_RANGE * posterior.unit:
        flags = (*flags, FLOOR_FLAG)
    if not curves.converged:
        flags = (*flags, NOT_CONVERGED_FLAG)
    if has_rise or fraction is None:
        rising_D, falling_D = posterior.positions(level_D)
        # Against a ceiling beyond the range, a fraction of the rise is only bounded from the other side.
        is_ahead, is_behind = (fraction is not None and flag in flags for flag in (CEILING_FLAG, START_CEILING_FLAG))
        rising = crossing_of(rising_D, data.to_x, confidence, rising=True, is_open=is_ahead)
        falling = crossing_of(falling_D, data.to_x, confidence, rising=False, is_open=is_behind)
        if rising.status is CrossingStatus.ABOVE_RANGE and np.median(curves.peak_D) < 0.9:
            flags = (*flags, PEAK_FLAG)
    else:
        rising_D = falling_D = np.full_like(level_D, np.nan)
        reason = UNLIKE_REASON if MISFIT_FLAG in flags else NO_RISE_REASON
        rising = falling = no_crossing(confidence, reason)
    peak_3 = data.to_x(np.quantile(curves.peak_D, tails))
    return CurveFit(
        rising=rising, falling=falling, floor=posterior.floor,
        ceiling=Estimate.of(ceiling_3), level=Estimate.of(level_3), peak=Estimate.of(peak_3),
        grid_x=grid_x, curve_median=median_G, curve_low=low_G, curve_high=high_G,
        rising_draws=data.crossings_to_x(rising_D), falling_draws=data.crossings_to_x(falling_D),
        confidence=confidence, converged=curves.converged, flags=flags,
    )  # fmt: skip


def _check_options(fraction: float | None, level: float | None, confidence: float) -> None:
    check_criterion(fraction, level)
    check_confidence(confidence)


def _check_replicated(count_P: NDArray[np.intp]) -> None:
    if count_P.max() < 2:
        raise ValueError("Every point has a single replicate, so noise is unknown; run at least 2 seeds per point.")
