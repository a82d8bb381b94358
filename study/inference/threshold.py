"""Where a replicated curve crosses a level: the smallest and the largest useful value of a hyperparameter.

The level is absolute or a fraction of the rise from the measured floor to the ceiling, the largest value of the
curve within the measured range. Both crossings of each posterior curve are found, and the interval is the central
one of all draws; a crossing outside the measured range is a result ("below 4"), never a number.
"""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from study.inference.noise import Array, PointMeans, point_means
from study.inference.posterior import Curves, log_shape, peak_position, sample

GRID_SIZE = 200
SEED = 20_261_123

# A rise is believed when a curve explains the data this many times better than the floor alone.
RISE_BAYES_FACTOR = 10.0
# The ceiling is reached when the last tenth of the range adds less than this share of the rise.
CEILING_GAIN = 0.05
FLAG_LEVEL = 0.005


class CrossingStatus(enum.StrEnum):
    """Whether the level is crossed within the measured range."""

    FOUND = "found"
    BELOW_RANGE = "below_range"
    ABOVE_RANGE = "above_range"
    NO_CROSSING = "no_crossing"


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """One crossing, its interval in units of x (an open side is None), and why it is missing where it is."""

    status: CrossingStatus
    estimate: float | None
    low: float | None
    high: float | None
    confidence: float = 0.95
    reason: str = ""

    def describe(self, unit_name: str) -> str:
        """Return one plain sentence; `unit_name` is what x counts, such as "batch"."""
        if self.status is CrossingStatus.NO_CROSSING:
            return f"no crossing: {self.reason or 'no rise distinguishable from noise'}"
        if self.status is CrossingStatus.BELOW_RANGE:
            return f"below {_number(self.high)}: {self.reason or 'already reached'} at the smallest {unit_name}"
        if self.status is CrossingStatus.ABOVE_RANGE:
            return f"above {_number(self.low)}: {self.reason or 'not reached'} up to the largest {unit_name}"
        # Ends of a narrow interval would look alike with two digits.
        is_narrow = self.low is not None and self.high is not None and self.high < 1.25 * self.low
        digits = 3 if is_narrow else 2
        estimate, interval = _number(self.estimate, digits), f"{100 * self.confidence:g} % interval"
        if self.low is None and self.high is None:
            return f"{estimate}, {interval} open on both sides"
        if self.low is None:
            return f"{estimate}, {interval} up to {_number(self.high)}, open below"
        if self.high is None:
            return f"{estimate}, {interval} from {_number(self.low)}, open above"
        return f"{estimate}, {interval} {_number(self.low, digits)} to {_number(self.high, digits)}"


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """A fitted curve: both crossings, floor, ceiling and level with intervals, and the band on `grid_x`."""

    rising: Crossing
    falling: Crossing
    floor: float
    ceiling: float
    ceiling_low: float
    ceiling_high: float
    level: float
    level_low: float
    level_high: float
    grid_x: Array
    curve_median: Array
    curve_low: Array
    curve_high: Array
    confidence: float
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Checked input in canonical row order."""

    axis_P: Array  # log2 x or x, increasing
    y_N: Array
    point_N: NDArray[np.intp]
    seed_N: NDArray[np.intp]
    floor_S: Array
    log_axis: bool

    def to_x(self, u: Array) -> Array:
        """Map positions in [0, 1] back to units of x."""
        axis = self.axis_P[0] + u * (self.axis_P[-1] - self.axis_P[0])
        x: Array = np.exp2(axis) if self.log_axis else axis
        return x


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
    _check_options(fraction, level, confidence, scale)
    data = _check_data(x, outcome, seeds, floor, log_axis=scale == "log")
    rng = np.random.default_rng(SEED)
    floor_mean = float(data.floor_S.mean())
    counts_P = np.bincount(data.point_N)
    unit = float(np.max(np.abs(np.bincount(data.point_N, data.y_N) / counts_P - floor_mean)))
    unit = unit or float(np.max(np.abs(data.y_N - floor_mean))) or 1.0
    u_P = (data.axis_P - data.axis_P[0]) / (data.axis_P[-1] - data.axis_P[0])
    # Rounding far below any noise makes the fit identical under a change of units, accept decisions included.
    means = point_means(
        np.round(u_P, 9),
        np.round((data.y_N - floor_mean) / unit, 9),
        data.point_N,
        data.seed_N,
        np.round((data.floor_S - floor_mean) / unit, 9),
        rng,
    )
    curves = sample(means, rng)

    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    ceiling_D = curves.floor_D + curves.height_D
    level_D = np.full_like(ceiling_D, 0.0 if level is None else (level - floor_mean) / unit)
    if fraction is not None:
        level_D = curves.floor_D + fraction * curves.height_D
    u_G = np.linspace(0, 1, GRID_SIZE)
    band_3G = np.quantile(curves(np.broadcast_to(u_G, (len(level_D), GRID_SIZE))), tails, axis=0)
    ceiling_3 = floor_mean + unit * np.quantile(ceiling_D, tails)
    level_3 = floor_mean + unit * np.quantile(level_D, tails)

    flags = _flags(means, curves)
    has_rise = curves.log_bayes_factor > np.log(RISE_BAYES_FACTOR)
    if not has_rise:
        flags = (NO_RISE_FLAG, *flags)
    if has_rise or fraction is None:
        rising_D, falling_D = _crossings(curves, level_D)
        # Against a ceiling that is still ahead, a fraction of the rise is only bounded from below.
        is_open = fraction is not None and CEILING_FLAG in flags
        rising = _state(rising_D, tails, data, confidence, rising=True, is_open=is_open)
        falling = _state(falling_D, tails, data, confidence, rising=False, is_open=False)
        if rising.status is CrossingStatus.ABOVE_RANGE and np.median(peak_position(curves.theta_D4)) < 0.9:
            flags = (*flags, PEAK_FLAG)
    else:
        rising = falling = Crossing(
            status=CrossingStatus.NO_CROSSING, estimate=None, low=None, high=None, confidence=confidence,
            reason="no rise above the floor distinguishable from noise",
        )  # fmt: skip
    low_G, median_G, high_G = floor_mean + unit * band_3G
    return CurveFit(
        rising=rising, falling=falling, floor=floor_mean,
        ceiling=float(ceiling_3[1]), ceiling_low=float(ceiling_3[0]), ceiling_high=float(ceiling_3[2]),
        level=float(level_3[1]), level_low=float(level_3[0]), level_high=float(level_3[2]),
        grid_x=data.to_x(u_G), curve_median=median_G, curve_low=low_G, curve_high=high_G,
        confidence=confidence, flags=flags,
    )  # fmt: skip


NO_RISE_FLAG = "no rise distinguishable from noise"
CEILING_FLAG = "ceiling not reached"
PEAK_FLAG = "the curve peaks below the level"
MISFIT_FLAG = "the residuals reject the fitted curve"
NON_MONOTONE_FLAG = "non-monotone beyond noise"


def _crossings(curves: Curves, level_D: Array) -> tuple[Array, Array]:
    """Return the position of both crossings of each draw: -inf below, +inf above the range, nan for none."""
    theta_D4 = curves.theta_D4
    peak_D = peak_position(theta_D4)
    with np.errstate(divide="ignore"):
        share_D = np.log(np.maximum((level_D - curves.floor_D) / curves.height_D, 0.0))
    target_D = log_shape(theta_D4, peak_D) + share_D
    start_D, end_D = (log_shape(theta_D4, np.full_like(peak_D, edge)) for edge in (0.0, 1.0))
    reached_D = share_D <= 0

    rising_D = _bisect(theta_D4, np.zeros_like(peak_D), peak_D, target_D)
    rising_D = np.where(start_D >= target_D, -np.inf, rising_D)
    falling_D = _bisect(theta_D4, np.ones_like(peak_D), peak_D, target_D)
    falling_D = np.where(end_D >= target_D, np.inf, falling_D)
    # A curve that stays below the level fell through it before the range if it only falls within it.
    only_falls_D = np.where(peak_D < 0.01, -np.inf, np.nan)
    return np.where(reached_D, rising_D, np.inf), np.where(reached_D, falling_D, only_falls_D)


def _bisect(theta_D4: Array, below_D: Array, above_D: Array, target_D: Array) -> Array:
    """Return where log g passes `target_D` between a position below it and one above it."""
    for _ in range(30):
        middle_D = 0.5 * (below_D + above_D)
        is_above = log_shape(theta_D4, middle_D) >= target_D
        below_D, above_D = np.where(is_above, below_D, middle_D), np.where(is_above, middle_D, above_D)
    return 0.5 * (below_D + above_D)


def _state(
    position_D: Array, tails: list[float], data: _Data, confidence: float, *, rising: bool, is_open: bool
) -> Crossing:
    """Turn draws of a crossing into a statement: the median decides between a number and a censored bound."""
    has_crossing = ~np.isnan(position_D)
    if np.mean(has_crossing) < 0.5:
        return Crossing(
            status=CrossingStatus.NO_CROSSING, estimate=None, low=None, high=None, confidence=confidence,
            reason="the outcome stays below the level",
        )  # fmt: skip
    # Order statistics, not interpolation: between -inf and a number there is nothing to interpolate.
    low_u, median_u, high_u = np.quantile(position_D[has_crossing], tails, method="inverted_cdf")
    if np.isinf(median_u) and np.isinf(low_u) and np.isinf(high_u) and low_u != high_u:
        inside = position_D[np.isfinite(position_D)]
        median_u = np.median(inside) if len(inside) else 0.5
    low, high = (float(data.to_x(np.clip(u, 0, 1))) for u in (low_u, high_u))
    # A bound inside the range means that a crossing just inside it is not excluded.
    probably = "" if (high_u if median_u < 0 else low_u) == median_u else "probably "
    if median_u == -np.inf:
        reason = probably + ("already reached" if rising else "already below the level")
        return Crossing(
            status=CrossingStatus.BELOW_RANGE, estimate=None, low=None, high=high, confidence=confidence, reason=reason
        )
    if median_u == np.inf:
        reason = probably + ("not reached" if rising else "no fall below the level")
        return Crossing(
            status=CrossingStatus.ABOVE_RANGE, estimate=None, low=low, high=None, confidence=confidence, reason=reason
        )
    return Crossing(
        status=CrossingStatus.FOUND,
        estimate=float(data.to_x(median_u)),
        low=None if np.isinf(low_u) else low,
        high=None if np.isinf(high_u) or is_open else high,
        confidence=confidence,
    )


def _flags(means: PointMeans, curves: Curves) -> tuple[str, ...]:
    """Say in plain words what a reader of the numbers must know about the fit."""
    flags: list[str] = []
    num_points = len(means.u_P)
    mean_P, noise_PP = np.median(means.mean_HP, 0), np.median(means.noise_HPP, 0)
    if num_points > 5:
        # Without the discrepancy, which would absorb what this test looks for.
        u_DP = np.broadcast_to(means.u_P, (len(curves.theta_D4), num_points))
        residual_DP = mean_P - curves(u_DP)
        distance_D = np.sum(residual_DP @ np.linalg.inv(noise_PP) * residual_DP, 1)
        dof = num_points - 4
        if f_distribution.sf(distance_D.min() / dof, dof, means.residual_dof) < FLAG_LEVEL:
            flags.append(MISFIT_FLAG)
    variance_P = np.diag(noise_PP)
    drop_PP = (mean_P[:, None] - mean_P) / np.sqrt(variance_P[:, None] + variance_P - 2 * noise_PP + np.eye(num_points))
    limit = t_distribution.isf(FLAG_LEVEL / num_points**2, means.residual_dof)
    # A valley: two points that both stand out above one between them.
    if any(drop_PP[:k, k].max() > limit and drop_PP[k + 1 :, k].max() > limit for k in range(1, num_points - 1)):
        flags.append(NON_MONOTONE_FLAG)
    last_tenth_D2 = curves(np.broadcast_to([0.9, 1.0], (len(curves.theta_D4), 2)))
    if np.median((last_tenth_D2[:, 1] - last_tenth_D2[:, 0]) / curves.height_D) > CEILING_GAIN:
        flags.append(CEILING_FLAG)
    return tuple(flags)


def _check_options(fraction: float | None, level: float | None, confidence: float, scale: str) -> None:
    if (fraction is None) == (level is None):
        raise ValueError("Give exactly one criterion: fraction=0.5 or level=0.5 with fraction=None.")
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction}.")
    if level is not None and not np.isfinite(level):
        raise ValueError(f"level must be a finite number, not {level}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}.")
    if scale not in ("log", "linear"):
        raise ValueError(f"scale must be 'log' or 'linear', not {scale!r}.")


def _check_data(x: ArrayLike, outcome: ArrayLike, seeds: ArrayLike, floor: ArrayLike, *, log_axis: bool) -> _Data:
    x_N, y_N, floor_N = (np.asarray(a, dtype=np.float64) for a in (x, outcome, floor))
    seeds_N = np.asarray(seeds)
    if not x_N.ndim == y_N.ndim == seeds_N.ndim == floor_N.ndim == 1:
        raise ValueError("x, outcome, seeds and floor must be one-dimensional, one entry per replicate.")
    if not len(x_N) == len(y_N) == len(seeds_N) == len(floor_N):
        lengths = f"{len(x_N)}, {len(y_N)}, {len(seeds_N)} and {len(floor_N)}"
        raise ValueError(f"x, outcome, seeds and floor must have one entry per replicate each, not {lengths}.")
    for name, values_N in (("x", x_N), ("outcome", y_N), ("floor", floor_N)):
        if not np.isfinite(values_N).all():
            count = int(np.sum(~np.isfinite(values_N)))
            raise ValueError(f"{count} entries of {name} are not finite; leave those replicates out or impute them.")
    if log_axis and (x_N <= 0).any():
        raise ValueError("x must be positive on a log scale; leave out controls at zero or use scale='linear'.")
    seed_values, seed_N = np.unique(seeds_N, return_inverse=True)
    order = np.lexsort((y_N, seed_N, x_N))
    values_P, point_N = np.unique(x_N[order], return_inverse=True)
    if len(values_P) < 3:
        raise ValueError(f"A curve needs at least 3 distinct x, and there are {len(values_P)}; measure more points.")
    if np.bincount(point_N).max() < 2:
        raise ValueError("Every point has a single replicate, so noise is unknown; run at least 2 seeds per point.")
    seed_N = seed_N[order]
    floor_S = np.bincount(seed_N, floor_N[order], len(seed_values)) / np.bincount(seed_N)
    axis_P = np.log2(values_P) if log_axis else values_P
    return _Data(
        axis_P=axis_P, y_N=y_N[order], point_N=point_N, seed_N=seed_N, floor_S=floor_S, log_axis=log_axis
    )  # fmt: skip


def _number(value: float | None, digits: int = 2) -> str:
    assert value is not None
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"
