"""One slice of a study: the first axis at fixed values of the others, by one criterion."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.designs import DesignRecord
from analysis.escape import EscapeComparison, compare_escapes
from analysis.fits import Search, SearchEnd, cross_check, fit_criterion, search_of, sought_crossings
from analysis.frames import measured, outcome_values, raw_knn
from analysis.laws import LawLine, law_lines
from analysis.moments import METRICS, MomentsPrediction, predict_from_moments
from analysis.sensitivity import Shift, criterion_shifts
from study.config import from_json
from study.inference.threshold import Crossing, CrossingStatus, CurveFit
from study.outcome import Outcome
from study.results.ledger import Ledger
from study.space import Criterion


@dataclass(frozen=True, kw_only=True)
class KnnComparison:
    """k-nearest-neighbour accuracy at the best point: trained, before training, and of the raw inputs."""

    point: float
    trained: float
    untrained: float
    raw: float | None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The first axis at fixed values of the others, by one criterion: data, fit, laws and what was tuned.

    ``others`` holds the recipe's name as well, where there are recipes; ``grid`` the designed values of the axis,
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
    knn: KnnComparison | None
    laws: tuple[LawLine, ...]
    from_moments: MomentsPrediction | None
    escapes: EscapeComparison | None
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
    design: DesignRecord,
    criterion: Criterion,
    others: dict[str, Any],
    grid: tuple[float, ...],
    part: pd.DataFrame,
    tuning: pd.DataFrame,
    end: SearchEnd | None,
) -> Slice:
    """Everything that the reported and tuning replicates of a slice say by one criterion."""
    axis = design.axes[0][0]
    usable = part[part["outcome"].isin(["ok", "collapsed", "diverged"])]
    fit, why = fit_criterion(usable, axis, criterion, design.scale)
    has_diverged = bool((usable["outcome"] == str(Outcome.DIVERGED)).any())
    without, _ = fit_criterion(measured(usable), axis, criterion, design.scale) if has_diverged else (None, "")
    tuned = {float(x): json.loads(cell["nuisance"].iloc[0]) for x, cell in (part.groupby(axis) if len(part) else ())}
    untuned_setting = {path: values[len(values) // 2] for path, values in design.nuisance_axes}
    untuned = tuning
    for path, value in untuned_setting.items() if len(untuned) else ():
        untuned = untuned[untuned[path] == value]
    is_first = criterion is design.criterion
    sought = () if fit is None else sought_crossings(fit, design.flank)
    search = search_of(part, [axis], sought, end) if design.is_sought and is_first and len(part) else None
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
        untuned=untuned[untuned["outcome"].isin(["ok", "collapsed", "diverged"])],
        knn=_knn(ledger, design, axis, measured(usable)) if is_first else None,
        laws=laws_of(design, criterion, axis, usable, fit),
        from_moments=_from_moments(ledger, design, criterion, axis, usable),
        escapes=compare_escapes(usable, design.laws) if is_first else None,
        outcomes={str(name): int(count) for name, count in part["outcome"].fillna("open").value_counts().items()},
        cross_check=cross_check(usable, axis, criterion, design.scale, design.flank) if has_crossing else (),
        search=search,
        shifts=criterion_shifts(usable, axis, design.scale, criterion, design.flank, fit) if is_first and fit else (),
    )


def _at_edge(design: DesignRecord, tuned: dict[float, dict[str, Any]], tuning: pd.DataFrame) -> tuple[float, ...]:
    """Points whose best nuisance value has no tried one on one side.

    Where a limit is sought, a later cell borrows from its neighbours: what was tried there counts as tried.
    """
    axis, found = design.axes[0][0], []
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


def _from_moments(
    ledger: Ledger, design: DesignRecord, criterion: Criterion, axis: str, frame: pd.DataFrame
) -> MomentsPrediction | None:
    """What one identity block should do on images, from the moments of their views."""
    if frame.empty or design.dataset == "clusters" or axis != "data.strength" or criterion.metric not in METRICS:
        return None
    configs = {float(x): from_json(rows["config"].iloc[0]) for x, rows in frame.groupby(axis)}
    seeds = sorted(frame["seed"].unique().tolist())
    return predict_from_moments(ledger, configs, seeds, frame["data_digest"].iloc[0], criterion.metric)


def laws_of(
    design: DesignRecord, criterion: Criterion, axis: str, frame: pd.DataFrame, fit: CurveFit | None
) -> tuple[LawLine, ...]:
    """The design's laws of an axis beside a fit, or what they predict where there is none."""
    if frame.empty or design.dataset != "clusters":
        return ()
    config = from_json(frame["config"].iloc[0])
    if config.trainer == "supervised":
        # The laws are about affinities and anchors; a classifier stands beside them as a baseline.
        return ()
    return law_lines(
        design.laws,
        config,
        axis,
        criterion,
        [other for other in design.criteria if other is not criterion],
        fit,
        _first_step(frame),
        margin_octaves=design.margin_octaves,
        is_tuned=bool(design.nuisance_axes),
    )


def _first_step(frame: pd.DataFrame) -> dict[str, float]:
    """What the first step did, for laws that take it as measured: R_1 and its rate, and v_0, as geometric means."""
    columns = ["first_step_norm", "first_step_variance"]
    if not {*columns} <= set(frame) or (known := frame.dropna(subset=columns)).empty:
        return {}
    rates = [json.loads(text)["optimizer.learning_rate"] for text in known["config"]]
    means = np.exp(np.log(known.assign(rate=rates)[[*columns, "rate"]].to_numpy(float)).mean(0))
    return dict(zip([*columns, "learning_rate"], means.tolist(), strict=True))


def _knn(ledger: Ledger, design: DesignRecord, axis: str, frame: pd.DataFrame) -> KnnComparison | None:
    if frame.empty or frame["knn_accuracy"].isna().all():
        return None
    best = frame.groupby(axis)[design.criterion.metric].mean().idxmax()
    at_best = frame[frame[axis] == best]
    return KnnComparison(
        point=float(best),
        trained=float(at_best["knn_accuracy"].mean()),
        untrained=float(at_best["knn_accuracy_before"].mean()),
        raw=raw_knn(ledger, at_best["data_digest"].iloc[0], json.loads(at_best["config"].iloc[0])),
    )


def mean_curve(
    frame: pd.DataFrame, axis: str, design: DesignRecord, criterion: Criterion | None = None
) -> pd.DataFrame:
    """Mean, standard deviation and number of replicates of a criterion's metric (by default the design's first) at
    every value of an axis.
    """
    values = frame.assign(value=outcome_values(frame, criterion or design.criterion))
    return values.groupby(axis)["value"].agg(["mean", "std", "count"]).reset_index()
