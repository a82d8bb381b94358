"""Whether a measured threshold agrees with a law's prediction: equivalent, different or undecided.

A posterior draw of the threshold, divided by the law and in octaves, is a number, or an interval where the draw lies
outside the measured range: all that is known of a draw below the smallest x is that it is below. With the margin m,

    p_equivalent = 2 max(share of draws that reach over m, share that reach under -m)
    p_different  = 2 min(share that reach down to m or lower, share that reach up to -m or higher)

so that p <= 0.05 is the definition by the central 95 % interval: equivalent where it lies inside [-m, m], different
where it lies entirely outside (two one-sided tests: Schuirmann 1987). A share is (count + 1/2) / (D + 1), so that D
draws say p = 1 / (D + 1) at the least: 1,000 draws carry at most 50 laws through a correction at 5 %.

Shapes: D posterior draws.
"""

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from study.inference.boundary import BoundaryFit
from study.inference.statements import CEILING_FLAG, START_CEILING_FLAG, Crossing, CrossingStatus
from study.inference.threshold import CurveFit

# One minus the confidence of the intervals that verdicts are defined by.
ERROR_RATE = 0.05


class Verdict(enum.StrEnum):
    """What can be said of a law; not comparable: its criterion or assumptions are not those of the runs."""

    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and what it rests on.

    ``alone`` is the verdict without correction, ``p_corrected`` Holm's p of the likelier of the two claims among
    ``num_together`` laws. ``reason`` says in a phrase why a law is undecided where the interval does not show it.
    """

    verdict: Verdict
    alone: Verdict
    p_equivalent: float
    p_different: float
    p_corrected: float
    num_together: int
    margin_octaves: float
    num_draws: int
    reason: str = ""

    @property
    def margin(self) -> tuple[float, float]:
        """The smallest and largest measured / predicted that count as the same."""
        return 2.0**-self.margin_octaves, 2.0**self.margin_octaves


def undecided(reason: str, margin_octaves: float) -> Judgement:
    """The judgement of a law beside which nothing is measured that could be compared."""
    return Judgement(
        verdict=Verdict.UNDECIDED, alone=Verdict.UNDECIDED, p_equivalent=1.0, p_different=1.0, p_corrected=1.0,
        num_together=1, margin_octaves=margin_octaves, num_draws=0, reason=reason,
    )  # fmt: skip


def judge(draws: ArrayLike, predicted: float, margin_octaves: float, *, lowest: float, highest: float) -> Judgement:
    """Judge one law alone.

    Parameters
    ----------
    draws
        (D,) posterior draws of the threshold in units of x: -inf below the measured range, inf above it, nan where
        the curve has no such crossing (which speaks against either claim).
    predicted
        The law's threshold, positive, in units of x.
    lowest, highest
        The measured range of x.

    Raises
    ------
    ValueError
        For a margin or a prediction that is not positive and finite, or no draws.
    """
    draws_D = np.asarray(draws, dtype=np.float64)
    if draws_D.ndim != 1 or not len(draws_D):
        raise ValueError("draws must be a one-dimensional array of posterior draws of the threshold.")
    for name, value in (("margin_octaves", margin_octaves), ("predicted", predicted)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value}.")
    low_D = np.where(np.isposinf(draws_D), highest, np.where(np.isnan(draws_D), -np.inf, draws_D))
    high_D = np.where(np.isneginf(draws_D), lowest, np.where(np.isnan(draws_D), np.inf, draws_D))
    # On a linear axis a threshold may be zero or less, which is any number of octaves below a law.
    with np.errstate(divide="ignore"):
        low_D, high_D = (np.log2(np.maximum(ends_D, 0.0) / predicted) for ends_D in (low_D, high_D))

    def share(is_so_D: np.ndarray) -> float:
        return float((np.count_nonzero(is_so_D) + 0.5) / (len(draws_D) + 1))

    p_equivalent = 2 * max(share(high_D > margin_octaves), share(low_D < -margin_octaves))
    p_different = 2 * min(share(low_D <= margin_octaves), share(high_D >= -margin_octaves))
    verdict = _verdict(p_equivalent, p_different, min(p_equivalent, p_different))
    missing = float(np.mean(np.isnan(draws_D)))
    is_doubtful = verdict is Verdict.UNDECIDED and missing > ERROR_RATE / 2
    return Judgement(
        verdict=verdict,
        alone=verdict,
        p_equivalent=min(p_equivalent, 1.0),
        p_different=min(p_different, 1.0),
        p_corrected=min(p_equivalent, p_different, 1.0),
        num_together=1,
        margin_octaves=margin_octaves,
        num_draws=len(draws_D),
        reason=f"{missing:.0%} of the draws have no such crossing" if is_doubtful else "",
    )


def judge_fit(
    fit: CurveFit, predicted: float, margin_octaves: float, *, is_rising: bool, is_fraction: bool
) -> Judgement:
    """Judge one law alone by the rising or falling crossing of a fit.

    ``is_fraction``: the criterion is a share of the rise to the ceiling. Where the ceiling is not reached that share
    is taken of too small a rise, and no law is called different (nor equivalent) for it.
    """
    crossing, draws_D = (fit.rising, fit.rising_draws) if is_rising else (fit.falling, fit.falling_draws)
    is_open = is_fraction and (CEILING_FLAG if is_rising else START_CEILING_FLAG) in fit.flags
    if reason := _why_undecided(crossing, converged=fit.converged, is_open=is_open):
        return undecided(reason, margin_octaves)
    range_ = {"lowest": float(fit.grid_x[0]), "highest": float(fit.grid_x[-1])}
    return judge(draws_D, predicted, margin_octaves, **range_)


def judge_boundary(
    fit: BoundaryFit,
    y: float,
    predicted: float,
    margin_octaves: float,
    *,
    lowest: float,
    highest: float,
    is_fraction: bool,
) -> Judgement:
    """Judge one law alone by a boundary at a value of the other axis, as :func:`judge` and :func:`judge_fit` do."""
    is_open = is_fraction and fit.ceiling_is_ahead_at(y)
    if reason := _why_undecided(fit.crossing_at(y), converged=fit.converged, is_open=is_open):
        return undecided(reason, margin_octaves)
    return judge(fit.draws_at(y), predicted, margin_octaves, lowest=lowest, highest=highest)


def _why_undecided(crossing: Crossing, *, converged: bool, is_open: bool) -> str:
    if not converged:
        return "the fit has not converged"
    if crossing.status is CrossingStatus.NO_CROSSING:
        return f"no crossing: {crossing.reason}"
    if is_open:
        return "the ceiling is not reached, so the level is that of a smaller rise"
    return ""


def judge_together(judgements: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Correct the verdicts of several laws together by Holm's step-down (Holm 1979).

    The two claims about one law exclude each other, so that one of them at most is wrong and both share one place:
    the chance that any verdict of "equivalent" or "different" among the laws is wrong stays below 5 %. Laws that
    nothing is measured beside, and controls, keep their place: how many laws are corrected together does not depend
    on the data.
    """
    count = len(judgements)
    claims = np.array([1.0 if item.reason else min(item.p_equivalent, item.p_different) for item in judgements])
    order = np.argsort(claims, kind="stable")
    corrected = np.empty(count)
    corrected[order] = np.minimum(np.maximum.accumulate(claims[order] * np.arange(count, 0, -1)), 1.0)
    return tuple(
        _corrected(item, float(p), count) for item, p in zip(judgements, corrected, strict=True)
    )  # fmt: skip


def _corrected(alone: Judgement, p_corrected: float, count: int) -> Judgement:
    together = dataclasses.replace(alone, p_corrected=p_corrected, num_together=count)
    if alone.reason:
        return together
    verdict = _verdict(alone.p_equivalent, alone.p_different, p_corrected)
    reason = ""
    if verdict is not alone.alone:
        reason = f"{alone.alone} on its own, but not among {count} laws (p {p_corrected:.2g})"
        if count > ERROR_RATE * (alone.num_draws + 1):
            reason += f": more than {alone.num_draws:,} draws are needed for so many"
    return dataclasses.replace(together, verdict=verdict, reason=reason)


def _verdict(p_equivalent: float, p_different: float, p_claim: float) -> Verdict:
    """The likelier claim, where ``p_claim`` allows one."""
    if p_claim > ERROR_RATE:
        return Verdict.UNDECIDED
    return Verdict.EQUIVALENT if p_equivalent < p_different else Verdict.DIFFERENT
