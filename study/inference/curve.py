"""The posterior of the curve behind a set of replicates: where it crosses a level, and what it is anywhere."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.inference.noise import Array, PointMeans, point_means
from study.inference.posterior import Curves, sample

SEED = 20_261_123
PLANNING_DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Checked replicates in canonical row order, and the map of their axis to [0, 1]."""

    axis_P: Array  # log2 x or x, increasing
    y_N: Array
    point_N: NDArray[np.intp]
    seed_N: NDArray[np.intp]
    floor_S: Array
    floor_range: float  # the most by which the floors of one seed differ
    log_axis: bool

    def to_axis(self, u: Array) -> Array:
        """Map positions in [0, 1] to the axis: log2 x, or x where the axis is linear."""
        axis: Array = self.axis_P[0] + u * (self.axis_P[-1] - self.axis_P[0])
        return axis

    def to_x(self, u: Array) -> Array:
        """Map positions in [0, 1] back to units of x."""
        axis = self.to_axis(u)
        x: Array = np.exp2(axis) if self.log_axis else axis
        return x

    def crossings_to_x(self, position_D: Array) -> Array:
        """Map crossings in [0, 1] to units of x; those outside the range stay infinite, on either side."""
        x_D: Array = np.where(np.isfinite(position_D), self.to_x(position_D), position_D)
        return x_D

    def to_u(self, x: ArrayLike) -> Array:
        """Map x to positions in [0, 1]."""
        x_C = np.asarray(x, dtype=np.float64)
        axis_C = np.log2(x_C) if self.log_axis else x_C
        u: Array = (axis_C - self.axis_P[0]) / (self.axis_P[-1] - self.axis_P[0])
        return u


@dataclass(frozen=True, kw_only=True)
class CurvePosterior:
    """Posterior draws of a curve, in the units of the outcome and on its axis (log2 x, or x where it is linear).

    Shapes: D draws, C positions.
    """

    data: Replicates
    means: PointMeans
    curves: Curves
    floor: float  # mean of the measured floors
    unit: float  # outcomes are fitted in units of it

    def crossings(self, *, fraction: float | None = None, level: float | None = None) -> tuple[Array, Array]:
        """Return where each draw rises through the level and where it falls, both (D,) on the axis.

        Exactly one of `fraction` and `level`, as in `fit_curve`. A crossing before the range is -inf, one beyond it
        +inf, and nan where a draw has none.
        """
        rising_D, falling_D = self.positions(self.levels(fraction, level))
        return self.data.to_axis(rising_D), self.data.to_axis(falling_D)

    def predict(self, x: ArrayLike, *, num_draws: int | None = None) -> Array:
        """Return the draws of the curve at x, or the first of them, (D, C) in units of the outcome."""
        u_C, curves = self.data.to_u(x), self.curves.first(num_draws)
        return self.floor + self.unit * curves(np.broadcast_to(u_C, (len(curves.height_D), len(u_C))))

    def noise_variance(self, x: ArrayLike) -> Array:
        """Return the variance of one further replicate at x around the curve, its seed's shift included, (C,)."""
        variance_P = np.median(self.means.point_HP, 0)
        log_C = np.interp(self.data.to_u(x), self.means.u_P, np.log(variance_P))
        variance_C: Array = self.unit**2 * (np.exp(log_C) + np.median(self.means.seed_H))
        return variance_C

    def levels(self, fraction: float | None, level: float | None) -> Array:
        """Return each draw's level, (D,) in fitted units over the mean floor."""
        if fraction is not None:
            return self.curves.floor_D + fraction * (self.curves.ceiling_D - self.curves.floor_D)
        assert level is not None, "one criterion, checked by the caller"
        return np.full_like(self.curves.floor_D, (level - self.floor) / self.unit)

    def positions(self, level_D: Array) -> tuple[Array, Array]:
        """Return both crossings of each draw in [0, 1]: -inf below, +inf above the range, nan for none."""
        return crossing_positions(self.curves, level_D)


def curve_posterior(
    x: ArrayLike,
    outcome: ArrayLike,
    seeds: ArrayLike,
    floor: ArrayLike,
    *,
    scale: str = "log",
    num_draws: int = PLANNING_DRAWS,
) -> CurvePosterior:
    """Draw curves given replicates: the posterior behind `fit_curve`, which says what the arguments are.

    No point needs a second replicate: the noise is then known from its prior alone.

    Raises
    ------
    ValueError
        Where the input cannot carry a curve; the message says what to change.
    """
    if scale not in ("log", "linear"):
        raise ValueError(f"scale must be 'log' or 'linear', not {scale!r}.")
    data = check_replicates(x, outcome, seeds, floor, log_axis=scale == "log")
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
    return CurvePosterior(data=data, means=means, curves=sample(means, rng, num_draws), floor=floor_mean, unit=unit)


def crossing_positions(curves: Curves, level_D: Array) -> tuple[Array, Array]:
    """Return the position of both crossings of each draw: -inf below, +inf above the range, nan for none."""
    peak_D = curves.peak_D
    start_D, end_D = np.zeros_like(peak_D), np.ones_like(peak_D)
    rising_D = np.where(curves(start_D) >= level_D, -np.inf, bisect(curves, start_D, peak_D, level_D))
    falling_D = np.where(curves(end_D) >= level_D, np.inf, bisect(curves, end_D, peak_D, level_D))
    # A curve that stays below the level fell through it before the range if it only falls within it.
    only_falls_D = np.where(peak_D < 0.01, -np.inf, np.nan)
    reached_D = curves.ceiling_D >= level_D
    return np.where(reached_D, rising_D, np.inf), np.where(reached_D, falling_D, only_falls_D)


def bisect(outcome: Callable[[Array], Array], below_D: Array, above_D: Array, level_D: Array) -> Array:
    """Return where each draw passes its level between a position below it and one above it, to 1e-5 of the range."""
    for _ in range(17):
        middle_D = 0.5 * (below_D + above_D)
        is_above = outcome(middle_D) >= level_D
        below_D, above_D = np.where(is_above, below_D, middle_D), np.where(is_above, middle_D, above_D)
    return 0.5 * (below_D + above_D)


def check_replicates(
    x: ArrayLike, outcome: ArrayLike, seeds: ArrayLike, floor: ArrayLike, *, log_axis: bool
) -> Replicates:
    """Check the columns of `fit_curve` and bring their rows into one order."""
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
    seed_N = seed_N[order]
    floor_N = floor_N[order]
    floor_S = np.bincount(seed_N, floor_N, len(seed_values)) / np.bincount(seed_N)
    most_S, least_S = np.full_like(floor_S, -np.inf), np.full_like(floor_S, np.inf)
    np.maximum.at(most_S, seed_N, floor_N)
    np.minimum.at(least_S, seed_N, floor_N)
    axis_P = np.log2(values_P) if log_axis else values_P
    return Replicates(
        axis_P=axis_P, y_N=y_N[order], point_N=point_N, seed_N=seed_N, floor_S=floor_S,
        floor_range=float(np.max(most_S - least_S)), log_axis=log_axis,
    )  # fmt: skip
