"""Which replicates next: those that are expected to narrow a threshold most, until nothing would change its statement.

What one more replicate is expected to tell is in `forecast.py`; here is what is sought, when it is known, and what a
statement still lacks.

Shapes: N replicates, P measured points, D posterior draws, C candidates, T sought thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.inference.binary import fit_success
from study.inference.curve import curve_posterior
from study.inference.forecast import CONFIDENCE, TAIL, Forecast
from study.inference.noise import Array
from study.inference.options import check_criterion
from study.inference.statements import (
    CEILING_FLAG,
    CEILING_REASON,
    MISFIT_FLAG,
    NO_RISE_FLAG,
    RISE_BAYES_FACTOR,
    START_CEILING_FLAG,
)
from study.inference.threshold import CurveFit, fit_curve

Flank = Literal["rising", "falling", "both"]

# A crossing outside the range counts as this share of the range outside it: what tells inside from outside then has
# a gain, however little the rest of the curve says.
OUTSIDE = 0.1
NOTHING_LEFT = "no point is left that gives results"
# That nothing rises is believed when every point has this many replicates: of two, one may hide a rise.
NO_RISE_REPLICATES = 3
# The reported fit is asked only where the planning draws come within this factor of the precision, or of what the
# candidates can resolve.
NEAR = 1.5


@dataclass(frozen=True, kw_only=True)
class NextPoints:
    """The next replicates, and how well the threshold is known without them.

    `points` are positions x, repeated for several replicates at one x, and empty when nothing more is wanted.
    `half_width` is half the 95 % interval in octaves (the wider one of two crossings), None where a side is open or
    the crossing is censored. `is_settled`: more replicates would not change the statement.
    """

    points: tuple[float, ...]
    half_width: float | None
    is_settled: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Side:
    """What is known of one crossing: its half-width, whether that suffices, and points it still lacks."""

    half_width: float | None
    is_settled: bool
    reason: str
    lacking: tuple[float, ...] = ()


def propose(
    x: ArrayLike,
    outcome: ArrayLike,
    seeds: ArrayLike,
    floor: ArrayLike,
    *,
    fraction: float | None = 0.5,
    level: float | None = None,
    flank: Flank = "rising",
    scale: str = "log",
    candidates: ArrayLike,
    precision: float,
    round_replicates: int,
    pending: ArrayLike = (),
    hopeless: ArrayLike = (),
) -> NextPoints:
    """Propose the next round of replicates, a pure function of what has been measured.

    Parameters
    ----------
    x, outcome, seeds, floor, fraction, level, scale
        The replicates so far and the criterion, as in `fit_curve`.
    flank
        The crossing that is sought.
    candidates
        Positions x that may be measured, besides those that have been; outside the measured range they are left out.
    precision
        Wanted half-width of the 95 % interval, in octaves (in units of x where x may be negative).
    round_replicates
        The most replicates of one round; it has fewer where fewer are expected to suffice.
    pending
        Positions x of replicates that run already: nothing is known of them yet, and they are not asked again.
    hopeless
        Positions x that are not to be asked for again, whatever was measured there.

    Raises
    ------
    ValueError
        Where the input cannot carry a curve or an option is out of range; the message says what to change.
    """
    check_criterion(fraction, level)
    sides = _sides(flank, precision, round_replicates)
    posterior = curve_posterior(x, outcome, seeds, floor, scale=scale)
    x_P, count_P = np.unique(np.asarray(x, dtype=np.float64), return_counts=True)
    pending_R = np.asarray(pending, dtype=np.float64)
    pending_R = pending_R[(pending_R >= x_P[0]) & (pending_R <= x_P[-1])]
    x_C = _inside(candidates, x_P, pending_R)
    crossings = dict(zip(("rising", "falling"), posterior.crossings(fraction=fraction, level=level), strict=True))
    target_DT = np.column_stack([_octaves(crossings[side], x_P, scale) for side in sides])
    allowed_C = ~np.isin(x_C, np.asarray(hopeless, dtype=np.float64))
    if not allowed_C.any():
        return NextPoints(points=(), half_width=None, is_settled=False, reason=NOTHING_LEFT)
    forecast = Forecast(target_DT, posterior.predict(x_C), posterior.noise_variance(x_C), allowed_C)
    for pick in np.searchsorted(x_C, np.sort(pending_R)):
        forecast.condition(int(pick))

    if count_P.max() < 2:
        picks: list[int] = []
        is_measured_C = np.isin(x_C, x_P)
        if not np.isin(pending_R, x_P).any() and (is_measured_C & allowed_C).any():
            picks = forecast.choose([*range(len(sides))], precision, 1, is_measured_C)
        picks += forecast.choose([*range(len(sides))], precision, round_replicates - len(picks))
        points = tuple(float(x_C[pick]) for pick in picks)
        return NextPoints(
            points=points, half_width=None, is_settled=False, reason="no point is repeated, so the noise is unknown"
        )
    in_octaves = _in_octaves(x_P, scale)
    spacing = np.diff(np.log2(x_C[x_C > 0]) if in_octaves else x_C).max(initial=0)
    is_near = np.all(forecast.width_T <= NEAR * max(precision, 0.5 * spacing))
    if is_near or posterior.curves.log_bayes_factor < np.log(RISE_BAYES_FACTOR):
        fit = fit_curve(
            x, outcome, seeds, floor, fraction=fraction, level=level, confidence=CONFIDENCE, scale=scale
        )  # fmt: skip
        states = [_judge(fit, side, x_P, count_P, x_C, precision, in_octaves=in_octaves) for side in sides]
    else:
        states = [_judge_roughly(target_D, x_P, scale) for target_D in target_DT.T]
    return _combine(states, forecast, x_C, pending_R, precision, round_replicates)


def propose_success(
    x: ArrayLike,
    success: ArrayLike,
    seeds: ArrayLike,
    *,
    level: float = 0.5,
    flank: Flank = "rising",
    scale: str = "log",
    candidates: ArrayLike,
    precision: float,
    round_replicates: int,
    hopeless: ArrayLike = (),
) -> NextPoints:
    """Propose the next round where a replicate succeeds (1) or fails (0).

    `x`, `success`, `seeds`, `level` (a probability of success) and `scale` are those of `fit_success`, all else that
    of `propose`. The forecast takes the next replicates to have new seeds. ValueError as in both.
    """
    sides = _sides(flank, precision, round_replicates)
    fit = fit_success(x, success, seeds, level=level, confidence=CONFIDENCE, scale=scale)
    x_P, count_P = np.unique(np.asarray(x, dtype=np.float64), return_counts=True)
    x_C = _inside(candidates, x_P)
    crossings = {"rising": fit.rising_draws, "falling": fit.falling_draws}
    with np.errstate(divide="ignore", invalid="ignore"):
        axis = {side: np.log2(crossings[side]) if scale == "log" else crossings[side] for side in sides}
    # A crossing before the range is minus infinity in units of x, which has no logarithm: both are taken alike.
    target_DT = np.column_stack([_octaves(axis[side], x_P, scale) for side in sides])
    probability_DC = fit.predict(x_C)
    allowed_C = ~np.isin(x_C, np.asarray(hopeless, dtype=np.float64))
    if not allowed_C.any():
        return NextPoints(points=(), half_width=None, is_settled=False, reason=NOTHING_LEFT)
    noise_C = np.mean(probability_DC * (1 - probability_DC), 0)
    forecast = Forecast(target_DT, probability_DC, noise_C, allowed_C)
    in_octaves = _in_octaves(x_P, scale)
    states = [_judge(fit, side, x_P, count_P, x_C, precision, in_octaves=in_octaves) for side in sides]
    return _combine(states, forecast, x_C, np.zeros(0), precision, round_replicates)


def _sides(flank: Flank, precision: float, round_replicates: int) -> tuple[str, ...]:
    """Check the options of a search and return the sought crossings."""
    if flank not in ("rising", "falling", "both"):
        raise ValueError(f"flank must be 'rising', 'falling' or 'both', not {flank!r}.")
    if not precision > 0:
        raise ValueError(f"precision must be a positive number of octaves, such as 0.25, not {precision}.")
    if round_replicates < 1:
        raise ValueError(f"round_replicates must be at least 1, not {round_replicates}.")
    return ("rising", "falling") if flank == "both" else (flank,)


def _inside(candidates: ArrayLike, x_P: Array, pending: ArrayLike = ()) -> Array:
    """Return candidates, measured and pending positions within the measured range, each once."""
    x_C = np.unique(
        np.concatenate([np.asarray(candidates, dtype=np.float64), x_P, np.asarray(pending, dtype=np.float64)])
    )
    return x_C[(x_C >= x_P[0]) & (x_C <= x_P[-1])]


def _judge(
    fit: CurveFit,
    side: str,
    x_P: Array,
    count_P: NDArray[np.intp],
    x_C: Array,
    precision: float,
    *,
    in_octaves: bool,
) -> _Side:
    """Judge one crossing by the fit that is reported."""
    draws_D = fit.rising_draws if side == "rising" else fit.falling_draws
    crossing = fit.rising if side == "rising" else fit.falling
    single = tuple(float(x) for x in x_P[count_P < 2])
    if not fit.converged:
        return _Side(half_width=None, is_settled=False, reason="the fit has not converged")
    if NO_RISE_FLAG in fit.flags and np.isnan(draws_D).all():
        reason = "no rise is distinguishable from noise"
        fewest_first = np.argsort(count_P, kind="stable")
        few = tuple(float(x_P[index]) for index in fewest_first if count_P[index] < NO_RISE_REPLICATES)
        is_settled = not few and MISFIT_FLAG not in fit.flags
        return _Side(half_width=None, is_settled=is_settled, reason=reason, lacking=few)
    flag, end = (CEILING_FLAG, x_P[-1]) if side == "rising" else (START_CEILING_FLAG, x_P[0])
    at_end = tuple(x for x in single if x == end)
    if crossing.reason == CEILING_REASON:
        return _Side(half_width=None, is_settled=not at_end, reason="the ceiling is not reached", lacking=at_end)
    for is_outside_D, edge in ((~(draws_D > -np.inf), x_P[0]), (draws_D == np.inf, x_P[-1])):
        if np.mean(is_outside_D) >= 1 - TAIL:
            lacking = tuple(x for x in single if x == edge)
            reason = "the crossing lies outside the range"
            return _Side(half_width=None, is_settled=not lacking, reason=reason, lacking=lacking)
    half_width = _half_width(crossing.low, crossing.high, in_octaves=in_octaves)
    if half_width is not None and crossing.low is not None and crossing.high is not None:
        if half_width <= precision:
            return _Side(half_width=half_width, is_settled=True, reason="the interval is narrow enough")
        if not np.any((x_C > crossing.low) & (x_C < crossing.high)):
            return _Side(half_width=half_width, is_settled=True, reason="no candidate lies inside the interval")
        return _Side(half_width=half_width, is_settled=False, reason="the interval is wider than wanted")
    low, high = np.quantile(draws_D[~np.isnan(draws_D)], [TAIL, 1 - TAIL], method="inverted_cdf")
    inside = _half_width(low, high, in_octaves=in_octaves)
    if flag in fit.flags and inside is not None and inside <= precision:
        # Against the largest value in range it is narrow enough; what lies beyond cannot be measured here.
        return _Side(half_width=None, is_settled=not at_end, reason="the ceiling is not reached", lacking=at_end)
    return _Side(half_width=None, is_settled=False, reason="an end of the interval lies outside the range")


def _in_octaves(x_P: Array, scale: str) -> bool:
    """Whether widths are octaves: where x may be negative they are in its own units."""
    return bool(scale == "log" or x_P[0] >= 0)


def _half_width(low: float | None, high: float | None, *, in_octaves: bool) -> float | None:
    """Return half an interval, None where a side is open or, in octaves, reaches to zero."""
    if low is None or high is None or np.isinf(low) or np.isinf(high):
        return None
    if not in_octaves:
        return float(0.5 * (high - low))
    if low <= 0:
        return None
    return float(0.5 * np.log2(high / low))


def _judge_roughly(target_D: Array, x_P: Array, scale: str) -> _Side:
    """Judge one crossing by the planning draws, far from the precision."""
    low, high = np.quantile(target_D, [TAIL, 1 - TAIL])
    start, end = _octaves(x_P[[0, -1]] if scale == "linear" else np.log2(x_P[[0, -1]]), x_P, scale)
    if low < start or high > end:
        return _Side(half_width=None, is_settled=False, reason="an end of the interval lies outside the range")
    return _Side(half_width=0.5 * float(high - low), is_settled=False, reason="the interval is wider than wanted")


def _combine(
    states: Sequence[_Side],
    forecast: Forecast,
    x_C: Array,
    pending_R: Array,
    precision: float,
    round_replicates: int,
) -> NextPoints:
    """Join the crossings to one proposal: first points that a statement lacks, then what narrows the others most."""
    widths = [state.half_width for state in states if state.half_width is not None or not state.is_settled]
    half_width = None if not widths or None in widths else max(w for w in widths if w is not None)
    is_settled = all(state.is_settled for state in states)
    reason = "; ".join(dict.fromkeys(s.reason for s in states if is_settled or not s.is_settled))
    hopeless = {*x_C[~forecast.allowed_C], *pending_R}
    lacking = dict.fromkeys(x for s in states if not s.is_settled for x in s.lacking if x not in hopeless)
    points = tuple(lacking)[:round_replicates]
    columns = [t for t, state in enumerate(states) if not state.is_settled and lacking.keys().isdisjoint(state.lacking)]
    if columns:
        picks = forecast.choose(columns, precision, round_replicates - len(points))
        points += tuple(float(x_C[pick]) for pick in picks)
    return NextPoints(points=points, half_width=half_width, is_settled=is_settled, reason=reason)


def _octaves(position_D: Array, x_P: Array, scale: str) -> Array:
    """Return crossings on the axis in octaves; those outside the range lie a little outside, missing ones before it."""
    start, end = np.log2(x_P[[0, -1]]) if scale == "log" else x_P[[0, -1]]
    margin = OUTSIDE * (end - start)
    position_D = np.clip(np.where(np.isnan(position_D), -np.inf, position_D), start - margin, end + margin)
    if scale == "log" or not _in_octaves(x_P, scale):
        return position_D
    octaves_D: Array = np.log2(np.maximum(position_D, 0.5 * x_P[x_P > 0].min()))
    return octaves_D
