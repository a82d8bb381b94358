"""The boundary of a study in the plane of its first two axes, with the laws beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.answers.fits import Search, SearchEnd, crossing_json, slice_key
from study.answers.frames import finished, fit_columns, outcome_values
from study.answers.law_lines import law_json
from study.answers.laws import LawLine, at_boundary, laws_of
from study.answers.registered import RegisteredDesign
from study.designs.criterion import Criterion
from study.designs.space import SERIES
from study.inference.boundary import BoundaryFit, fit_boundary
from study.inference.statements import Crossing

_NUM_HEIGHTS = 5


@dataclass(frozen=True, kw_only=True)
class Height:
    """The boundary at a value of the second axis, and the laws of that value."""

    value: float
    crossing: Crossing
    laws: tuple[LawLine, ...]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The boundary of one series (or of the whole study) by one criterion, and a few values of it with their laws."""

    others: dict[str, Any]
    criterion: Criterion
    frame: pd.DataFrame
    fit: BoundaryFit | None
    no_fit: str
    heights: tuple[Height, ...]
    search: Search | None
    outcomes: dict[str, int]


def make_planes(design: RegisteredDesign, reported: pd.DataFrame, ends: Mapping[str, SearchEnd]) -> Iterator[Plane]:
    """The boundaries of a plane design, by every criterion."""
    for others in [{SERIES: series.name} for series in design.series] or [{}]:
        part = reported
        if others and len(reported):
            part = reported[reported[SERIES] == others[SERIES]]
        for criterion in design.criteria:
            yield _plane(design, criterion, others, part, ends.get(slice_key(others)))


def _plane(
    design: RegisteredDesign,
    criterion: Criterion,
    others: dict[str, Any],
    part: pd.DataFrame,
    end: SearchEnd | None,
) -> Plane:
    x, y = (axis.path for axis in design.axes[:2])
    usable = finished(part)
    fit, why = _fit(design, criterion, usable)
    search = None
    if design.is_sought and criterion is design.criterion and len(part):
        search = Search(
            num_rounds=int(part["round"].nunique()),
            num_points=len(part[[x, y]].drop_duplicates()),
            num_replicates=len(part),
            half_width=None if fit is None else fit.half_width,
            end=end,
        )
    return Plane(
        others=others,
        criterion=criterion,
        frame=usable,
        fit=fit,
        no_fit=why,
        heights=() if fit is None else tuple(_heights(design, criterion, usable, fit)),
        search=search,
        outcomes={str(name): int(count) for name, count in part["outcome"].fillna("open").value_counts().items()},
    )


def _fit(design: RegisteredDesign, criterion: Criterion, frame: pd.DataFrame) -> tuple[BoundaryFit | None, str]:
    if frame.empty:
        return None, "no replicate has a result yet"
    x, y = (axis.path for axis in design.axes[:2])
    try:
        fit = fit_boundary(
            *fit_columns(frame, [x, y], criterion, design.recipe),
            fraction=criterion.fraction,
            level=criterion.level,
            flank="falling" if design.flank == "falling" else "rising",
        )
    except ValueError as error:
        return None, str(error)
    return fit, ""


def _heights(design: RegisteredDesign, criterion: Criterion, frame: pd.DataFrame, fit: BoundaryFit) -> Iterator[Height]:
    """The boundary at measured values of the second axis that are spread evenly over its octaves."""
    x, y = (axis.path for axis in design.axes[:2])
    range_ = {"lowest": float(frame[x].min()), "highest": float(frame[x].max())}
    tried = np.sort(frame[y].unique().astype(float))
    wanted = np.geomspace(tried[0], tried[-1], _NUM_HEIGHTS)
    for value in np.unique(tried[np.abs(np.log(tried / wanted[:, None])).argmin(1)]).tolist():
        # The laws there are those of a run that was made there.
        lines = laws_of(design, criterion, frame[frame[y] == value], None)
        laws = tuple(at_boundary(line, fit, value, design, **range_) for line in lines)
        yield Height(value=value, crossing=fit.crossing_at(value), laws=laws)


def plane_json(plane: Plane, design: RegisteredDesign) -> dict[str, Any]:
    """A boundary as plain values; what lies outside the measured range is null."""
    x, y = (axis.path for axis in design.axes[:2])
    fit = plane.fit
    return {
        "others": plane.others,
        "criterion": plane.criterion.sentence,
        "no_fit": plane.no_fit,
        "flags": [] if fit is None else list(fit.flags),
        "boundary": [] if fit is None else _band(fit, y),
        "heights": [
            {y: height.value, **crossing_json(height.crossing), "laws": [law_json(line) for line in height.laws]}
            for height in plane.heights
        ],
        "points": _points(plane, x, y, design),
        "search": None if plane.search is None else plane.search.as_json(),
        "outcomes": plane.outcomes,
    }


def _band(fit: BoundaryFit, y: str) -> list[dict[str, float | None]]:
    rows = []
    for at, *values in zip(fit.grid_y, fit.median, fit.low, fit.high, strict=True):
        numbers = [float(value) if np.isfinite(value) else None for value in values]
        rows.append({y: float(at), **dict(zip(("median", "low", "high"), numbers, strict=True))})
    return rows


def _points(plane: Plane, x: str, y: str, design: RegisteredDesign) -> list[dict[str, float]]:
    """Mean and number of replicates at every measured point."""
    if plane.frame.empty:
        return []
    values = plane.frame.assign(value=outcome_values(plane.frame, plane.criterion, design.recipe))
    found = values.groupby([x, y])["value"].agg(["mean", "count"]).reset_index()
    return [{str(name): float(value) for name, value in row.items()} for row in found.to_dict("records")]
