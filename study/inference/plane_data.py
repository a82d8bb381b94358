"""Replicates scattered over a plane of two log axes, checked and scaled for a fit.

Shapes: N replicates, P points, X positions along an axis.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.inference.noise import Array


@dataclass(frozen=True, kw_only=True)
class Scales:
    """The ranges of both log axes: log2 of the smallest and of the largest x and y measured."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @property
    def x_octaves(self) -> float:
        """Octaves of x."""
        return self.x_high - self.x_low

    def to_x(self, u: Array) -> Array:
        """Map positions in [0, 1] to units of x."""
        x: Array = np.exp2(self.x_low + u * self.x_octaves)
        return x

    def to_u(self, x: Array) -> Array:
        """Map x to positions in [0, 1]."""
        u: Array = (np.log2(x) - self.x_low) / self.x_octaves
        return u

    def to_y(self, v: Array) -> Array:
        """Map positions in [0, 1] to units of y."""
        y: Array = np.exp2(self.y_low + v * (self.y_high - self.y_low))
        return y

    def to_v(self, y: Array) -> Array:
        """Map y to positions in [0, 1]."""
        v: Array = (np.log2(y) - self.y_low) / (self.y_high - self.y_low)
        return v


@dataclass(frozen=True, kw_only=True)
class PlaneData:
    """Replicates in canonical order, on scaled axes; outcomes over the floor of their own v, in units of `unit`."""

    u_P: Array
    v_P: Array
    outcome_N: Array
    point_N: NDArray[np.intp]
    seed_N: NDArray[np.intp]
    floor_2: Array  # the floor along v, see `low_columns`, in units of the outcome
    floor_22: Array  # their covariance, in units of `unit`
    unit: float
    sign: float  # of the flank along u
    scales: Scales


def low_columns(v_X: Array) -> Array:
    """Return (X, 2): constant and slope along v of floor and lower end."""
    return np.column_stack([np.ones_like(v_X), v_X - 0.5])


def check_plane(
    x: ArrayLike, y: ArrayLike, outcome: ArrayLike, seeds: ArrayLike, floor: ArrayLike, *, sign: float
) -> PlaneData:
    """Return the replicates in canonical order on scaled axes; ValueError says what to change."""
    x_N, y_N, outcome_N, floor_N = (np.asarray(a, dtype=np.float64) for a in (x, y, outcome, floor))
    seeds_N = np.asarray(seeds)
    columns = (x_N, y_N, outcome_N, seeds_N, floor_N)
    if any(a.ndim != 1 or len(a) != len(x_N) for a in columns):
        raise ValueError("x, y, outcome, seeds and floor must be one-dimensional, one entry per replicate each.")
    for name, values_N in (("x", x_N), ("y", y_N), ("outcome", outcome_N), ("floor", floor_N)):
        if not np.isfinite(values_N).all():
            count = int(np.sum(~np.isfinite(values_N)))
            raise ValueError(f"{count} entries of {name} are not finite; leave those replicates out or impute them.")
    if (x_N <= 0).any() or (y_N <= 0).any():
        raise ValueError("x and y must be positive: a boundary is fitted on log axes.")
    num_x, num_y = len(np.unique(x_N)), len(np.unique(y_N))
    if num_x < 3 or num_y < 2:
        raise ValueError(
            f"A boundary needs at least 3 distinct x and 2 distinct y, and there are {num_x} and {num_y}; "
            "measure more points."
        )
    seed_N = np.unique(seeds_N, return_inverse=True)[1]
    order = np.lexsort((outcome_N, seed_N, x_N, y_N))
    x_N, y_N, outcome_N, floor_N = (a[order] for a in (x_N, y_N, outcome_N, floor_N))
    seed_N = seed_N[order]
    log_x, log_y = np.log2(x_N), np.log2(y_N)
    scales = Scales(
        x_low=float(log_x.min()), x_high=float(log_x.max()), y_low=float(log_y.min()), y_high=float(log_y.max())
    )
    # Rounding far below any noise makes the fit identical under a change of units, accept decisions included.
    u_N, v_N = np.round(scales.to_u(x_N), 9), np.round(scales.to_v(y_N), 9)
    points, point_N = np.unique(np.column_stack([v_N, u_N]), axis=0, return_inverse=True)
    floor_2, floor_22 = _fit_floor(v_N, seed_N, floor_N)
    over_N = outcome_N - low_columns(v_N) @ floor_2
    means_P = np.bincount(point_N, over_N) / np.bincount(point_N)
    unit = float(np.max(np.abs(means_P))) or float(np.max(np.abs(over_N))) or 1.0
    return PlaneData(
        u_P=points[:, 1], v_P=points[:, 0], outcome_N=np.round(over_N / unit, 9), point_N=point_N, seed_N=seed_N,
        floor_2=floor_2, floor_22=floor_22 / unit**2, unit=unit, sign=sign,
        scales=scales,
    )  # fmt: skip


def _fit_floor(v_N: Array, seed_N: NDArray[np.intp], floor_N: Array) -> tuple[Array, Array]:
    """Return a straight line through the floors of all seeds along v, and the covariance of its coefficients."""
    keys, group_N = np.unique(np.column_stack([v_N, seed_N]), axis=0, return_inverse=True)
    value = np.bincount(group_N, floor_N) / np.bincount(group_N)
    design = low_columns(keys[:, 0])
    inverse_22 = np.asarray(np.linalg.inv(design.T @ design), dtype=np.float64)
    line: Array = inverse_22 @ (design.T @ value)
    dof = len(value) - 2
    residual = value - design @ line
    variance = float(residual @ residual) / dof if dof > 0 else 0.0
    covariance: Array = variance * inverse_22
    return line, covariance
