"""Where in the plane of two axes an outcome crosses a level: a curve with a band, from scattered replicates.

The boundary is x as a function of y, both on log axes. The model is in `study/inference/plane.py`; a slice of the
boundary at one y is a `Crossing` like that of a curve along one axis.

Shapes: N replicates, D posterior draws, G positions along y.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from study.inference.noise import DISCREPANCY_MEAN, Array
from study.inference.options import check_criterion
from study.inference.plane import Surfaces, sample_surfaces
from study.inference.plane_data import PlaneData, check_plane, low_columns
from study.inference.statements import (
    CEILING_FLAG,
    CEILING_GAIN,
    FLAG_LEVEL,
    MISFIT_FLAG,
    NO_RISE_FLAG,
    NO_RISE_REASON,
    NOT_CONVERGED_FLAG,
    RISE_BAYES_FACTOR,
    Crossing,
    CrossingStatus,
    crossing_of,
    no_crossing,
)

GRID_SIZE = 25
LEAST_ACCEPTANCE = 0.03
# So many numbers of a surface are taken as fitted to the point means when its residuals are judged.
NUM_FITTED = 8


@dataclass(frozen=True, kw_only=True)
class BoundaryPosterior:
    """Posterior draws of the surface and the criterion that makes a boundary of each."""

    data: PlaneData
    surfaces: Surfaces
    fraction: float | None
    level: float | None

    @property
    def is_rising(self) -> bool:
        """Whether the outcome rises with x."""
        return self.data.sign > 0

    @property
    def has_rise(self) -> bool:
        """Whether the outcome changes anywhere in the plane."""
        return self.surfaces.log_bayes_factor > np.log(RISE_BAYES_FACTOR)

    def positions(self, v_X: Array) -> Array:
        """Return u of the boundary of each draw at `v_X`, (D, X): infinite outside [0, 1], nan where nothing rises."""
        first_DX, last_DX = self.surfaces(0.0, v_X), self.surfaces(1.0, v_X)
        if self.fraction is not None:
            floor_DX, rise_DX = self._floor_and_rise(v_X)
            target_DX = np.where(rise_DX > 0, floor_DX + self.fraction * rise_DX, np.nan)
        else:
            assert self.level is not None
            target_X = (self.level - low_columns(v_X) @ self.data.floor_2) / self.data.unit
            target_DX = np.broadcast_to(target_X, first_DX.shape)
        u_DX = self.surfaces.crossings(target_DX, v_X)
        below_DX = first_DX >= target_DX if self.is_rising else first_DX < target_DX
        above_DX = last_DX < target_DX if self.is_rising else last_DX >= target_DX
        u_DX = np.where(below_DX, -np.inf, np.where(above_DX, np.inf, u_DX))
        return np.where(np.isnan(target_DX), np.nan, u_DX)

    def ceiling_is_ahead(self, v_X: Array) -> NDArray[np.bool_]:
        """Return where the last tenth of the range still adds to the rise that a fraction refers to, (X,)."""
        if self.fraction is None:
            return np.zeros(len(v_X), dtype=bool)
        _, rise_DX = self._floor_and_rise(v_X)
        top, before = (1.0, 0.9) if self.is_rising else (0.0, 0.1)
        gain_DX = (self.surfaces(top, v_X) - self.surfaces(before, v_X)) / np.maximum(rise_DX, 1e-9)
        ahead: NDArray[np.bool_] = np.median(gain_DX, 0) > CEILING_GAIN
        return ahead

    def _floor_and_rise(self, v_X: Array) -> tuple[Array, Array]:
        """Return the floor, and the rise above it at the end of the range where the outcome is highest, (D, X)."""
        floor_DX = self.surfaces.floor_D2 @ low_columns(v_X).T
        return floor_DX, self.surfaces(1.0 if self.is_rising else 0.0, v_X) - floor_DX


@dataclass(frozen=True, kw_only=True)
class BoundaryFit:
    """A fitted boundary: x at `grid_y` with its band, and the mean over y of half the band's width in octaves.

    Median and ends are infinite where they lie outside the measured range of x, and nan where there is no boundary.
    """

    grid_y: Array
    median: Array
    low: Array
    high: Array
    half_width: float | None
    confidence: float
    flags: tuple[str, ...]
    converged: bool
    posterior: BoundaryPosterior

    def draws_at(self, y: float) -> Array:
        """Return posterior draws of the boundary at `y`, (D,), in units of x: -inf and inf outside, nan for none."""
        u_D = self.posterior.positions(self._position(y))[:, 0]
        inside_D = np.isfinite(u_D)
        return np.where(inside_D, self.posterior.data.scales.to_x(np.where(inside_D, u_D, 0.0)), u_D)

    def crossing_at(self, y: float) -> Crossing:
        """Return the boundary at `y` as a crossing along x; ValueError where `y` lies outside the measured range."""
        return _crossings(self.posterior, self._position(y), self.confidence)[0]

    def ceiling_is_ahead_at(self, y: float) -> bool:
        """Return whether at `y` the outcome still rises at the end of the range: a fraction is then of too little."""
        return bool(self.posterior.ceiling_is_ahead(self._position(y))[0])

    def _position(self, y: float) -> Array:
        scales = self.posterior.data.scales
        if not scales.y_low - 1e-9 <= np.log2(y) <= scales.y_high + 1e-9:
            low, high = np.exp2(scales.y_low), np.exp2(scales.y_high)
            raise ValueError(f"The boundary is known for y from {low:g} to {high:g}, not at {y:g}.")
        return scales.to_v(np.array([y]))


def fit_boundary(
    x: ArrayLike,
    y: ArrayLike,
    outcome: ArrayLike,
    seeds: ArrayLike,
    floor: ArrayLike,
    *,
    fraction: float | None = 0.5,
    level: float | None = None,
    confidence: float = 0.95,
    flank: str = "rising",
) -> BoundaryFit:
    """Estimate the boundary x(y) where the outcome crosses a level, from replicates anywhere in the plane.

    Parameters
    ----------
    x, y, outcome, seeds, floor
        One entry per replicate: position on the crossing axis and on the other axis (both positive), measured
        outcome, seed (any label; one seed at several points is one seed), and the outcome of the same seed before
        training.
    fraction, level
        The criterion, exactly one of them: a share of the rise from the floor to the outcome at that end of the
        measured x where it is highest, at each y; or an absolute outcome.
    flank
        "rising" or "falling": how the outcome changes with x.

    Raises
    ------
    ValueError
        Where the input cannot carry a fit; the message says what to change.
    """
    _check_options(fraction, level, flank)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}.")
    data = check_plane(x, y, outcome, seeds, floor, sign=1.0 if flank == "rising" else -1.0)
    posterior = BoundaryPosterior(data=data, surfaces=sample_surfaces(data), fraction=fraction, level=level)
    v_G = np.linspace(0, 1, GRID_SIZE)
    low_G, median_G, high_G = np.array([_ends(one) for one in _crossings(posterior, v_G, confidence)]).T
    converged = posterior.surfaces.acceptance >= LEAST_ACCEPTANCE
    flags = {
        NO_RISE_FLAG: not posterior.has_rise,
        MISFIT_FLAG: _misfit(data, posterior.surfaces) < FLAG_LEVEL,
        NOT_CONVERGED_FLAG: not converged,
        CEILING_FLAG: bool(posterior.ceiling_is_ahead(v_G).any()),
    }
    return BoundaryFit(
        grid_y=data.scales.to_y(v_G),
        median=median_G,
        low=low_G,
        high=high_G,
        half_width=_mean_half_width(posterior, v_G, confidence),
        confidence=confidence,
        flags=tuple(name for name, applies in flags.items() if applies),
        converged=converged,
        posterior=posterior,
    )


def _misfit(data: PlaneData, surfaces: Surfaces) -> float:
    """Return the probability of residuals as large as those of the best surface, 1 where too few can tell.

    Replicates of a point tell the noise. A departure as large as is expected along one axis, more than a surface's own,
    is no misfit: surfaces of another kind are meant.
    """
    count_P = np.bincount(data.point_N)
    dof, spare = len(count_P) - NUM_FITTED, len(data.point_N) - len(count_P)
    if dof < 1 or spare < 1:
        return 1.0
    mean_P = np.bincount(data.point_N, data.outcome_N) / count_P
    variance = float(np.sum((data.outcome_N - mean_P[data.point_N]) ** 2)) / spare
    residual_DP = mean_P - surfaces.flanks(data.u_P, data.v_P)
    distance_D = np.sum(residual_DP**2 / (variance / count_P + DISCREPANCY_MEAN**2), 1)
    return float(f_distribution.sf(distance_D.min() / dof, dof, spare))


def _crossings(posterior: BoundaryPosterior, v_X: Array, confidence: float) -> list[Crossing]:
    """Return the statement at each position along v."""
    return [
        _crossing(posterior, u_D, confidence, is_ahead=bool(is_ahead))
        for u_D, is_ahead in zip(posterior.positions(v_X).T, posterior.ceiling_is_ahead(v_X), strict=True)
    ]


def _crossing(posterior: BoundaryPosterior, u_D: Array, confidence: float, *, is_ahead: bool) -> Crossing:
    if _rises_nowhere(posterior, u_D, confidence):
        return no_crossing(confidence, NO_RISE_REASON)
    return crossing_of(
        u_D, posterior.data.scales.to_x, confidence, rising=posterior.is_rising, is_open=is_ahead
    )  # fmt: skip


def _rises_nowhere(posterior: BoundaryPosterior, u_D: Array, confidence: float) -> bool:
    """Return whether a fraction has no rise to refer to; an absolute level needs none."""
    tail = (1 - confidence) / 2
    return posterior.fraction is not None and (not posterior.has_rise or bool(np.mean(np.isnan(u_D)) > tail))


def _mean_half_width(posterior: BoundaryPosterior, v_G: Array, confidence: float) -> float | None:
    """Return half the width of the band in octaves, its mean over y; None where no part of it lies in the range.

    A side outside the range counts up to the end of the range: further out nothing was measured. Positions whose whole
    interval lies outside are settled and not part of the mean. A side left open because the ceiling is ahead counts as
    if it were not: replicates inside the range would not close it.
    """
    widths = []
    for u_D in posterior.positions(v_G).T:
        if not _rises_nowhere(posterior, u_D, confidence):
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            low, high = np.clip(np.quantile(u_D[~np.isnan(u_D)], tails, method="inverted_cdf"), 0, 1)
            widths.append(float(high - low))
    widths = [width for width in widths if width > 0]
    return 0.5 * posterior.data.scales.x_octaves * float(np.mean(widths)) if widths else None


def _ends(crossing: Crossing) -> tuple[float, float, float]:
    """Return low, median and high of a statement as numbers."""
    if crossing.status is CrossingStatus.NO_CROSSING:
        return np.nan, np.nan, np.nan
    low = -np.inf if crossing.low is None else crossing.low
    high = np.inf if crossing.high is None else crossing.high
    if crossing.status is CrossingStatus.BELOW_RANGE:
        return -np.inf, -np.inf, high
    if crossing.status is CrossingStatus.ABOVE_RANGE:
        return low, np.inf, np.inf
    assert crossing.estimate is not None
    return low, crossing.estimate, high


def _check_options(fraction: float | None, level: float | None, flank: str) -> None:
    """Raise ValueError where the criterion or the flank is none."""
    check_criterion(fraction, level)
    if flank not in ("rising", "falling"):
        raise ValueError(f"flank must be 'rising' or 'falling' for a boundary, not {flank!r}.")
