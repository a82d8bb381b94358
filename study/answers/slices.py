"""One slice of a study: the first axis at fixed values of the others, by one criterion."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.answers.fits import Search, SearchEnd, cross_check, fit_criterion, search_of, sought_crossings
from study.answers.frames import finished, measured, outcome_values
from study.answers.laws import LawLine, laws_of
from study.answers.registered import RegisteredDesign
from study.answers.sensitivity import Shift, criterion_shifts
from study.designs.criterion import Criterion
from study.inference.statements import Crossing, CrossingStatus
from study.inference.threshold import CurveFit
from study.interface.readings import Reading, SliceView
from study.ledger.ledger import Ledger
from study.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The first axis at fixed values of the others, by one criterion: data, fit, laws and what was tuned.

    ``others`` holds the series' name as well, where there are several; ``grid`` the designed values of the axis,
    where a limit is sought those of stage one: the points are in ``frame``. ``outcomes`` counts the reported
    replicates; those that failed are not in ``frame``. ``cross_check`` holds the sought crossings by the bootstrap.
    """

    others: dict[str, Any]
    criterion: Criterion
    grid: tuple[float, ...]
    frame: pd.DataFrame
    fit: CurveFit | None
    no_fit: str
    fit_without_diverged: CurveFit | None
    tuned: dict[float, dict[str, Any]]
    at_edge: tuple[float, ...]
    untuned_setting: dict[str, Any]
    untuned: pd.DataFrame
    laws: tuple[LawLine, ...]
    readings: tuple[Reading, ...]
    outcomes: dict[str, int]
    cross_check: tuple[Crossing, ...]
    search: Search | None
    shifts: tuple[Shift, ...]

    def seeds_per_point(self, axis: str) -> tuple[int, int]:
        """Fewest and most seeds with a result at a point of the axis."""
        counts = self.frame.groupby(axis)["seed"].nunique()
        return int(counts.min()), int(counts.max())


def make_slice(
    ledger: Ledger,
    design: RegisteredDesign,
    criterion: Criterion,
    others: dict[str, Any],
    grid: tuple[float, ...],
    part: pd.DataFrame,
    tuning: pd.DataFrame,
    end: SearchEnd | None,
) -> Slice:
    """Everything that the reported and tuning replicates of a slice say by one criterion."""
    axis, recipe = design.axis, design.recipe
    usable = finished(part)
    fit, why = fit_criterion(usable, axis, criterion, recipe)
    has_diverged = bool((usable["outcome"] == str(Outcome.DIVERGED)).any())
    without, _ = fit_criterion(measured(usable), axis, criterion, recipe) if has_diverged else (None, "")
    tuned = {
        float(x): json.loads(cell["nuisance"].iloc[0]) for x, cell in (part.groupby(axis.path) if len(part) else ())
    }
    untuned_setting = {axis.path: axis.values[len(axis.values) // 2] for axis in design.nuisance}
    untuned = tuning
    for path, value in untuned_setting.items() if len(untuned) else ():
        untuned = untuned[untuned[path] == value]
    is_first = criterion is design.criterion
    sought = () if fit is None else sought_crossings(fit, design.flank)
    search = search_of(part, [axis.path], sought, end) if design.is_sought and is_first and len(part) else None
    # Least squares sees a rise in any noise: where the fit sees none there is nothing to check.
    has_crossing = any(crossing.status is not CrossingStatus.NO_CROSSING for crossing in sought)
    return Slice(
        others=others,
        criterion=criterion,
        grid=grid,
        frame=usable,
        fit=fit,
        no_fit=why,
        fit_without_diverged=without,
        tuned=tuned,
        at_edge=_at_edge(design, tuned, tuning),
        untuned_setting=untuned_setting,
        untuned=finished(untuned),
        laws=laws_of(design, criterion, usable, fit),
        readings=tuple(recipe.readings(_view(ledger, design, criterion, usable, fit))),
        outcomes={str(name): int(count) for name, count in part["outcome"].fillna("open").value_counts().items()},
        cross_check=cross_check(usable, axis, criterion, recipe, design.flank) if has_crossing else (),
        search=search,
        shifts=criterion_shifts(usable, axis, criterion, recipe, design.flank, fit) if is_first and fit else (),
    )


def _at_edge(design: RegisteredDesign, tuned: dict[float, dict[str, Any]], tuning: pd.DataFrame) -> tuple[float, ...]:
    """Points whose best nuisance value has no tried one on one side.

    Where a limit is sought, a later cell borrows from its neighbours: what was tried there counts as tried.
    """
    axis, found = design.axis.path, []
    points = sorted(tuned)
    for index, x in enumerate(points):
        reach = points[max(index - 1, 0) : index + 2] if design.is_sought else [x]
        tried = tuning[tuning[axis].isin(reach)] if len(tuning) else tuning
        if any(
            tried[path].nunique() > 1 and value in (tried[path].min(), tried[path].max())
            for path, value in tuned[x].items()
            if len(tried)
        ):
            found.append(x)
    return tuple(found)


def _view(
    ledger: Ledger, design: RegisteredDesign, criterion: Criterion, frame: pd.DataFrame, fit: CurveFit | None
) -> SliceView:
    """What the recipe's own readings look at."""
    axis = design.axis.path
    means = mean_curve(frame, axis, design, criterion).set_index(axis)["mean"] if len(frame) else pd.Series(dtype=float)
    return SliceView(
        axis=axis,
        unit=design.recipe.quantity(axis).unit,
        criterion=criterion,
        is_first=criterion is design.criterion,
        laws=design.laws,
        replicates=frame,
        means=means,
        fit=fit,
        measurements=ledger,
        measurement_rows=lambda: ledger.read("measurements").to_pylist(),
    )


def mean_curve(
    frame: pd.DataFrame, axis: str, design: RegisteredDesign, criterion: Criterion | None = None
) -> pd.DataFrame:
    """Mean, standard deviation and number of replicates of a criterion's metric (by default the design's first) at
    every value of an axis.
    """
    values = frame.assign(value=outcome_values(frame, criterion or design.criterion, design.recipe))
    return values.groupby(axis)["value"].agg(["mean", "std", "count"]).reset_index()
