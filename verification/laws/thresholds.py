"""Measured thresholds with their Monte Carlo standard errors, from curves whose noise does not change along them.

Shape suffixes: R batches (or seeds), P points.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq

# Step of the scan for a bracket, tolerance of the root and step of the slope, all in log x.
_SCAN_STEP = 0.2
_TOLERANCE = 5e-4
_SLOPE_STEP = 0.05

Curve = Callable[[float], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measured number and its standard error; NaN, and why, where there is nothing to measure."""

    value: float
    standard_error: float
    note: str = ""


def nothing(note: str) -> Measured:
    """What cannot be measured, for a reason."""
    return Measured(value=math.nan, standard_error=math.nan, note=note)


def mean_of(values_R: torch.Tensor) -> Measured:
    """The mean of independent values."""
    error = float(values_R.double().std()) / math.sqrt(len(values_R))
    return Measured(value=float(values_R.double().mean()), standard_error=error)


def median_of(values_R: torch.Tensor) -> Measured:
    """The median of independent values; its error from the quantiles one s.d. of a rank apart."""
    spread = 0.5 / math.sqrt(len(values_R))
    low, middle, high = values_R.double().quantile(torch.tensor([0.5 - spread, 0.5, 0.5 + spread]).double()).tolist()
    return Measured(value=middle, standard_error=(high - low) / 2)


def largest_crossing(
    curve: Curve, rough: Curve, *, level: float = 0.5, low: float = 0.01, high: float = 16.0
) -> Measured:
    """The largest x at which the mean of a curve falls through the level.

    ``curve`` gives (R,) values at x, with the same noise at every x; ``rough``, a cheap version of it, is scanned
    downwards from ``high`` for a bracket.
    """

    @functools.cache
    def excess(log_x: float) -> float:
        return float(curve(math.exp(log_x)).mean()) - level

    right = math.log(high)
    while float(rough(math.exp(right - _SCAN_STEP)).mean()) <= level:
        right -= _SCAN_STEP
        if right < math.log(low):
            return nothing(f"below {level:g} from {low:g} on")
    while excess(right) > 0:
        right += _SCAN_STEP
    left = right - _SCAN_STEP
    while excess(left) <= 0:
        left -= _SCAN_STEP
        if left < math.log(low):
            return nothing(f"below {level:g} from {low:g} on")
    root = float(brentq(excess, left, min(left + _SCAN_STEP, right), xtol=_TOLERANCE))
    at_root = mean_of(curve(math.exp(root)))
    slope = (excess(root + _SLOPE_STEP) - excess(root - _SLOPE_STEP)) / (2 * _SLOPE_STEP)
    x = math.exp(root)
    return Measured(value=x, standard_error=x * at_root.standard_error / abs(slope))


def size_crossing(
    curve: Callable[[int], torch.Tensor], sizes: Sequence[int], *, level: float = 0.5, rising: bool = True
) -> Measured:
    """Where a curve over whole numbers first rises to the level, or falls below it.

    ``sizes`` are scanned upwards until the mean has crossed the level, the step is bisected down to neighbours, and a
    line in log size through their neighbourhood gives the value.
    """

    @functools.cache
    def values(size: int) -> torch.Tensor:
        return curve(size).double()

    def has_crossed(size: int) -> bool:
        return (float(values(size).mean()) >= level) == rising

    at = next((i for i, size in enumerate(sizes) if has_crossed(size)), None)
    if at is None:
        return nothing(f"not reached up to {sizes[-1]}")
    if at == 0:
        return nothing(f"reached at {sizes[0]} already")
    below, above = sizes[at - 1], sizes[at]
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if has_crossed(middle) else (middle, above)
    window = sorted({below, above, *(max(round(above * factor), sizes[0]) for factor in (0.8, 0.9, 1.1, 1.2))})
    return line_crossing(window, torch.stack([values(size) for size in window]), level=level)


def line_crossing(sizes: Sequence[float], values_PR: torch.Tensor, *, level: float = 0.5) -> Measured:
    """Where the least-squares line of the values against log size crosses the level."""
    log_P = torch.tensor(sizes, dtype=torch.float64).log()
    centred_P = log_P - log_P.mean()
    slope_R = (centred_P[:, None] * values_PR.double()).sum(0) / centred_P.square().sum()
    middle_R = values_PR.double().mean(0)
    slope = float(slope_R.mean())
    shift = (level - float(middle_R.mean())) / slope
    at_crossing = mean_of(middle_R + shift * slope_R)
    x = math.exp(float(log_P.mean()) + shift)
    return Measured(value=x, standard_error=x * at_crossing.standard_error / abs(slope))


def grid_crossing(
    x: Sequence[float], values_PR: torch.Tensor, *, level: float = 0.5, rising: bool = False, log: bool = True
) -> Measured:
    """Where the mean of a measured curve last falls through the level, or first rises to it: a line between points.

    ``log``: the line is straight in log x.
    """
    means_P = values_PR.double().mean(1)
    is_above = (means_P >= level).tolist()
    turns = [i for i in range(len(x) - 1) if is_above[i] != rising and is_above[i + 1] == rising]
    if not turns:
        return nothing(f"{'above' if is_above[0] else 'below'} {level:.3g} from {x[0]:.3g} to {x[-1]:.3g}")
    left = turns[0] if rising else turns[-1]
    ends = [math.log(at) if log else at for at in x[left : left + 2]]
    rise = float(means_P[left + 1] - means_P[left])
    weight = (level - float(means_P[left])) / rise
    at_level = mean_of((1 - weight) * values_PR[left] + weight * values_PR[left + 1])
    position = ends[0] + weight * (ends[1] - ends[0])
    error = at_level.standard_error * (ends[1] - ends[0]) / abs(rise)
    if not log:
        return Measured(value=position, standard_error=error)
    return Measured(value=math.exp(position), standard_error=math.exp(position) * error)
