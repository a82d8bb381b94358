"""What the replicates of one slice say of its threshold: the fit, a cross-check of it, and how its search ended."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import pandas as pd

from study.answers.frames import fit_columns
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Flank
from study.formatting import count, short_number
from study.inference.binary import fit_success
from study.inference.bootstrap import bootstrap_crossing
from study.inference.statements import Crossing, CrossingStatus
from study.inference.threshold import CurveFit, fit_curve
from study.interface.recipe import Recipe


def fit_criterion(
    frame: pd.DataFrame, axis: Axis, criterion: Criterion, recipe: Recipe[Any]
) -> tuple[CurveFit | None, str]:
    """Fit a criterion's metric along an axis; None with the reason where the replicates cannot carry a fit."""
    if frame.empty:
        return None, "no replicate has a result yet"
    x, outcome, seeds, floor = fit_columns(frame, [axis.path], criterion, recipe)
    fit: CurveFit
    try:
        if criterion.share is None:
            fit = fit_curve(
                x, outcome, seeds, floor, fraction=criterion.fraction, level=criterion.level, scale=axis.scale
            )  # fmt: skip
        else:
            fit = fit_success(x, outcome, seeds, level=criterion.share, scale=axis.scale)
    except ValueError as error:
        return None, str(error)
    return fit, ""


def cross_check(
    frame: pd.DataFrame, axis: Axis, criterion: Criterion, recipe: Recipe[Any], flank: Flank
) -> tuple[Crossing, ...]:
    """The sought crossings by least squares on resampled seeds, which shares neither priors nor noise with the fit."""
    flanks: tuple[Literal["rising", "falling"], ...] = ("rising", "falling") if flank == "both" else (flank,)
    return tuple(
        bootstrap_crossing(
            *fit_columns(frame, [axis.path], criterion, recipe),
            fraction=criterion.fraction,
            level=criterion.level if criterion.share is None else criterion.share,
            scale=axis.scale,
            flank=name,
        )
        for name in flanks
    )


def sought_crossings(fit: CurveFit, flank: Flank) -> tuple[Crossing, ...]:
    """The crossings that the study asks for."""
    return {"rising": (fit.rising,), "falling": (fit.falling,), "both": (fit.rising, fit.falling)}[flank]


def crossing_json(crossing: Crossing) -> dict[str, Any]:
    """A crossing as plain values; an open side is null."""
    return {name: getattr(crossing, name) for name in ("estimate", "low", "high", "reason")} | {
        "status": str(crossing.status)
    }


def half_width(crossing: Crossing) -> float | None:
    """Half the interval in octaves; None where a side is open or nothing was found."""
    if crossing.status is not CrossingStatus.FOUND or not crossing.low or crossing.high is None:
        return None
    return 0.5 * math.log2(crossing.high / crossing.low) if crossing.low > 0 else None


def slice_key(others: Mapping[str, Any]) -> str:
    """What names a slice to an answer: the values of its series and further axes."""
    return json.dumps(dict(others), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class SearchEnd:
    """What was asked of a search, in octaves, and whether more replicates would change its statement, and why."""

    precision: float
    is_settled: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """How far a search came: rounds and replicates reported, and the widest half of the sought intervals in octaves.

    ``end`` is None where only the ledger is known, which holds what was measured, not what was wanted.
    """

    num_rounds: int
    num_points: int
    num_replicates: int
    half_width: float | None
    end: SearchEnd | None

    def sentence(self) -> str:
        """One line of text."""
        spent = f"after {count(self.num_replicates, 'replicate')} at {count(self.num_points, 'point')}"
        known = "no closed interval" if self.half_width is None else f"interval ±{short_number(self.half_width)} octave"
        if self.end is None:
            return f"{known} {spent}"
        if self.end.is_settled:
            is_narrow = self.half_width is not None and self.half_width <= self.end.precision
            return f"{known} {spent}" + ("" if is_narrow else f", and more would not change it: {self.end.reason}")
        return f"{known} {spent}, ±{self.end.precision:g} octave was asked for: {self.end.reason}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        end = {field.name: getattr(self.end, field.name, None) for field in fields(SearchEnd)}
        return {name: value for name, value in vars(self).items() if name != "end"} | end


def search_of(part: pd.DataFrame, axes: list[str], crossings: tuple[Crossing, ...], end: SearchEnd | None) -> Search:
    """How the search of a slice came to its reported replicates ``part``, failed ones included."""
    widths = [half_width(crossing) for crossing in crossings]
    known = [width for width in widths if width is not None]
    return Search(
        num_rounds=int(part["round"].nunique()),
        num_points=len(part[axes].drop_duplicates()),
        num_replicates=len(part),
        half_width=max(known) if known and len(known) == len(widths) else None,
        end=end,
    )
