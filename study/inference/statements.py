"""What may be said of a fitted curve: a crossing with its interval or why there is none, and flags for the reader."""

import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from study.formatting import short_number
from study.inference.noise import Array, PointMeans
from study.inference.posterior import Curves

# The ceiling is reached when the last tenth of the range adds less than this share of the rise.
CEILING_GAIN = 0.05
FLAG_LEVEL = 0.005
# A rise is believed when a curve or surface explains the data this many times better than the floor alone.
RISE_BAYES_FACTOR = 10.0

NO_RISE_FLAG = "no rise distinguishable from noise"
CEILING_FLAG = "ceiling not reached"
START_CEILING_FLAG = "ceiling not reached at the smallest value, so the fall may begin before it"
NOT_CONVERGED_FLAG = "the sampler has not converged"
PEAK_FLAG = "the curve peaks below the level"
MISFIT_FLAG = "the residuals reject the fitted curve"
NON_MONOTONE_FLAG = "non-monotone beyond noise"
FLOOR_FLAG = "a seed's floors differ along the axis: a share of the rise depends on where they were measured"

NO_RISE_REASON = "no rise above the floor distinguishable from noise"
UNLIKE_REASON = "no rise above the floor, but the residuals reject a flat curve; do outcomes lie below their floor?"
CEILING_REASON = "the ceiling is not reached, so that the share of the rise within the range bounds nothing"


class CrossingStatus(enum.StrEnum):
    """Whether the level is crossed within the measured range."""

    FOUND = "found"
    BELOW_RANGE = "below_range"
    ABOVE_RANGE = "above_range"
    NO_CROSSING = "no_crossing"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval: the median and the ends of the posterior draws."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, quantiles: Iterable[float]) -> "Estimate":
        """From the low end, the median and the high end."""
        low, value, high = map(float, quantiles)
        return cls(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """One crossing, its interval in units of x (an open side is None), and why it is missing where it is.

    ``edge`` is the end of the measured range that a crossing outside it lies beyond.
    """

    status: CrossingStatus
    estimate: float | None
    low: float | None
    high: float | None
    confidence: float = 0.95
    reason: str = ""
    edge: float | None = None

    def describe(self, unit_name: str, least: float = -math.inf, most: float = math.inf) -> str:
        """Return one plain sentence; `unit_name` is what x counts, such as "batch".

        `least` and `most` are the values that x can have at all: beyond them there is no threshold to speak of.
        """
        if self.status is CrossingStatus.NO_CROSSING:
            return f"no crossing: {self.reason or 'no rise distinguishable from noise'}"
        if self.status is not CrossingStatus.FOUND:
            return self._outside(unit_name, least, most)
        assert self.estimate is not None
        estimate, low, high = self.estimate, self.low, self.high
        # Ends of a narrow interval would look alike with two digits.
        is_narrow = low is not None and high is not None and high - low < 0.25 * abs(low)
        digits = 3 if is_narrow else 2
        interval = f"{100 * self.confidence:g} % interval"
        if low is not None and high is not None:
            interval += f" {short_number(low, digits)} to {short_number(high, digits)}"
        elif low is not None:
            interval += f" from {short_number(low)}, open above"
        elif high is not None:
            interval += f" up to {short_number(high)}, open below"
        else:
            interval += " open on both sides"
        return f"{short_number(estimate, digits)}, {interval}" + (f" ({self.reason})" if self.reason else "")

    def _outside(self, unit_name: str, least: float, most: float) -> str:
        is_below = self.status is CrossingStatus.BELOW_RANGE
        bound, side, end = (self.high, "below", least) if is_below else (self.low, "above", most)
        assert bound is not None
        where = f"at the smallest {unit_name}" if is_below else f"up to the largest {unit_name}"
        if self.edge == end:
            # Nothing lies beyond; a bound inside the range is still a bound.
            where += f" there is, {short_number(end)}"
            side = "none" if bound == end else f"{side} {short_number(bound)}"
        else:
            # The level was looked for at the end of the range, which a bound inside it is not.
            where += "" if self.edge is None or self.edge == bound else f", {short_number(self.edge)}"
            side += f" {short_number(bound)}"
        return f"{side}: {self.reason or ('already reached' if is_below else 'not reached')} {where}"


def no_crossing(confidence: float, reason: str) -> Crossing:
    """Return the statement that a level is not crossed."""
    return Crossing(
        status=CrossingStatus.NO_CROSSING, estimate=None, low=None, high=None, confidence=confidence, reason=reason
    )


def crossing_of(
    position_D: Array, to_x: Callable[[Array], Array], confidence: float, *, rising: bool, is_open: bool
) -> Crossing:
    """Turn draws of a crossing into a statement: the median decides between a number and a censored bound.

    Draws without a crossing (nan) are left out of the interval; more than a tail of them are the statement's reason.
    ``is_open`` says that the ceiling lies beyond the range, so that a fraction of it is bounded from one side alone,
    and by nothing where that side lies outside the range.
    """
    tails = [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]
    has_crossing = ~np.isnan(position_D)
    share = float(np.mean(has_crossing))
    if share < 0.5:
        return no_crossing(confidence, "the outcome stays below the level")
    # Order statistics, not interpolation: between -inf and a number there is nothing to interpolate.
    low_u, median_u, high_u = np.quantile(position_D[has_crossing], tails, method="inverted_cdf")
    if np.isinf(median_u) and np.isinf(low_u) and np.isinf(high_u) and low_u != high_u:
        inside = position_D[np.isfinite(position_D)]
        median_u = np.median(inside) if len(inside) else 0.5
    if is_open and median_u == (-np.inf if rising else np.inf):
        return no_crossing(confidence, CEILING_REASON)
    low, high = (float(to_x(np.clip(u, 0, 1))) for u in (low_u, high_u))
    # A bound inside the range means that a crossing just inside it is not excluded.
    probably = "" if (high_u if median_u < 0 else low_u) == median_u else "probably "
    if median_u == -np.inf:
        reason = probably + ("already reached" if rising else "already below the level")
        return Crossing(
            status=CrossingStatus.BELOW_RANGE, estimate=None, low=None, high=high, confidence=confidence,
            reason=reason, edge=float(to_x(np.zeros(()))),
        )  # fmt: skip
    if median_u == np.inf:
        reason = probably + ("not reached" if rising else "no fall below the level")
        return Crossing(
            status=CrossingStatus.ABOVE_RANGE, estimate=None, low=low, high=None, confidence=confidence,
            reason=reason, edge=float(to_x(np.ones(()))),
        )  # fmt: skip
    doubt = f"if the level is reached at all, which {1 - share:.0%} of the draws deny"
    return Crossing(
        status=CrossingStatus.FOUND,
        estimate=float(to_x(median_u)),
        low=None if np.isinf(low_u) or (is_open and not rising) else low,
        high=None if np.isinf(high_u) or (is_open and rising) else high,
        confidence=confidence,
        reason=doubt if share < 1 - tails[0] else "",
    )


def flags_of(means: PointMeans, curves: Curves) -> tuple[str, ...]:
    """Say in plain words what a reader of the numbers must know about the fit."""
    flags: list[str] = []
    num_points = len(means.u_P)
    mean_P, noise_PP = np.median(means.mean_HP, 0), np.median(means.noise_HPP, 0)
    if num_points > 5:
        # Without the discrepancy, which would absorb what this test looks for.
        u_DP = np.broadcast_to(means.u_P, (len(curves.theta_DK), num_points))
        residual_DP = mean_P - curves.flanks(u_DP)
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
    for flag, tenth in ((CEILING_FLAG, [0.9, 1.0]), (START_CEILING_FLAG, [0.1, 0.0])):
        inner_D, end_D = curves(np.broadcast_to(tenth, (len(curves.theta_DK), 2))).T
        if np.median((end_D - inner_D) / curves.height_D) > CEILING_GAIN:
            flags.append(flag)
    return tuple(flags)
