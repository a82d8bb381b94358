"""The answer of a study, computed from its ledger."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.designs import DesignRecord, load_design
from analysis.escape import EscapeComparison, compare_escapes
from analysis.frames import floor_values, measured, outcome_values, raw_knn, replicates_frame
from analysis.laws import LawLine, law_json, law_lines
from analysis.moments import METRICS, MomentsPrediction, predict_from_moments
from study.config import from_json
from study.inference.threshold import Crossing, CurveFit, fit_curve
from study.outcome import Outcome
from study.results.ledger import Ledger
from study.space import RECIPE, Criterion


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

    ``others`` holds the recipe's name as well, where there are recipes; ``grid`` the designed values of the axis.
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


@dataclass(frozen=True, kw_only=True)
class StudyAnswer:
    """Everything that the printed answer, the JSON and the figure show."""

    design: DesignRecord
    counts: dict[str, int]
    num_planned: int
    num_older: int
    num_seeds: int
    slices: tuple[Slice, ...]


def answer(ledger: Ledger, study_hash: str | None = None) -> StudyAnswer:
    """Compute a design's answer from its ledger."""
    design = load_design(ledger, study_hash)
    frame = replicates_frame(ledger, design.hash)
    reported = frame[frame["role"] == "reported"]
    slices = []
    for others, grid in _slices(design):
        part, tuning = reported, frame[frame["role"] == "tuning"]
        for path, value in others.items():
            part, tuning = (rows[rows[path] == value] if len(rows) else rows for rows in (part, tuning))
        slices += [_slice(ledger, design, criterion, others, grid, part, tuning) for criterion in design.criteria]
    outcomes = frame["outcome"].fillna("open").value_counts().to_dict()
    started = pd.to_datetime(frame["started_at"]) if "started_at" in frame else pd.Series(dtype="datetime64[us, UTC]")
    return StudyAnswer(
        design=design,
        counts={str(name): int(count) for name, count in outcomes.items()},
        num_planned=len(frame),
        num_older=int((started < design.created_at).sum()),
        num_seeds=int(reported["seed"].nunique()),
        slices=tuple(slices),
    )


def _slices(design: DesignRecord) -> Iterator[tuple[dict[str, Any], tuple[float, ...]]]:
    """The values of recipe and further axes of every slice, and its grid of the first axis."""
    for name, grids in design.recipes or ((None, {}),):
        recipe = {} if name is None else {RECIPE: name}
        (_, first), *rest = [(path, grids.get(path, values)) for path, values in design.axes]
        for values in itertools.product(*(sorted(values) for _, values in rest)):
            others = dict(zip((path for path, _ in rest), values, strict=True))
            yield recipe | others, tuple(float(value) for value in first)


def _slice(
    ledger: Ledger,
    design: DesignRecord,
    criterion: Criterion,
    others: dict[str, Any],
    grid: tuple[float, ...],
    part: pd.DataFrame,
    tuning: pd.DataFrame,
) -> Slice:
    axis = design.axes[0][0]
    usable = part[part["outcome"].isin(["ok", "collapsed", "diverged"])]
    fit, why = _fit(design, criterion, axis, usable)
    has_diverged = bool((usable["outcome"] == str(Outcome.DIVERGED)).any())
    without, _ = _fit(design, criterion, axis, measured(usable)) if has_diverged else (None, "")
    tuned, at_edge = {}, []
    for x, cell in part.groupby(axis) if len(part) else ():
        setting = json.loads(cell["nuisance"].iloc[0])
        tuned[float(x)] = setting
        tried = tuning[tuning[axis] == x]
        if any(
            tried[path].nunique() > 1 and value in (tried[path].min(), tried[path].max())
            for path, value in setting.items()
        ):
            at_edge.append(float(x))
    untuned_setting = {path: values[len(values) // 2] for path, values in design.nuisance_axes}
    untuned = tuning
    for path, value in untuned_setting.items() if len(untuned) else ():
        untuned = untuned[untuned[path] == value]
    is_first = criterion is design.criterion
    return Slice(
        others=others,
        criterion=criterion,
        grid=grid,
        frame=usable,
        fit=fit,
        no_fit=why,
        fit_without_diverged=without,
        tuned=tuned,
        at_edge=tuple(at_edge),
        untuned_setting=untuned_setting,
        untuned=untuned[untuned["outcome"].isin(["ok", "collapsed", "diverged"])],
        knn=_knn(ledger, design, axis, measured(usable)) if is_first else None,
        laws=_laws(design, criterion, axis, usable, fit),
        from_moments=_from_moments(ledger, design, criterion, axis, usable),
        escapes=compare_escapes(usable, design.laws) if is_first else None,
    )


def _from_moments(
    ledger: Ledger, design: DesignRecord, criterion: Criterion, axis: str, frame: pd.DataFrame
) -> MomentsPrediction | None:
    """What one identity block should do on images, from the moments of their views."""
    if frame.empty or design.dataset == "clusters" or axis != "data.strength" or criterion.metric not in METRICS:
        return None
    configs = {float(x): from_json(rows["config"].iloc[0]) for x, rows in frame.groupby(axis)}
    seeds = sorted(frame["seed"].unique().tolist())
    return predict_from_moments(ledger, configs, seeds, frame["data_digest"].iloc[0], criterion.metric)


def _laws(
    design: DesignRecord, criterion: Criterion, axis: str, frame: pd.DataFrame, fit: CurveFit | None
) -> tuple[LawLine, ...]:
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


def _fit(design: DesignRecord, criterion: Criterion, axis: str, frame: pd.DataFrame) -> tuple[CurveFit | None, str]:
    if frame.empty:
        return None, "no replicate has a result yet"
    try:
        fit = fit_curve(
            frame[axis].to_numpy(float),
            outcome_values(frame, criterion).to_numpy(float),
            frame["seed"].to_numpy(),
            floor_values(frame, criterion).to_numpy(float),
            fraction=criterion.fraction,
            level=criterion.level,
            scale=design.scale,
        )
    except ValueError as error:
        return None, str(error)
    return fit, ""


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


def to_json(answer_: StudyAnswer) -> dict[str, Any]:
    """The answer as plain values; missing numbers are null."""
    design = answer_.design

    def crossing(c: Crossing) -> dict[str, Any]:
        return {"status": str(c.status), "estimate": c.estimate, "low": c.low, "high": c.high, "reason": c.reason}

    slices = []
    for part in answer_.slices:
        fit = part.fit
        slices.append(
            {
                "others": part.others,
                "criterion": part.criterion.sentence,
                "minimum": None if fit is None else crossing(fit.rising),
                "maximum_useful": None if fit is None else crossing(fit.falling),
                "floor": None if fit is None else fit.floor,
                "ceiling": None if fit is None else fit.ceiling,
                "level": None if fit is None else fit.level,
                "flags": [] if fit is None else list(fit.flags),
                "no_fit": part.no_fit,
                "points": _points(part, part.frame, design),
                "untuned_setting": part.untuned_setting,
                "untuned": _points(part, part.untuned, design),
                "tuned": {f"{x:g}": setting for x, setting in part.tuned.items()},
                "at_edge": list(part.at_edge),
                "knn": None if part.knn is None else vars(part.knn),
                "laws": [law_json(line) for line in part.laws],
                "from_moments": None if part.from_moments is None else vars(part.from_moments),
                "escapes": None if part.escapes is None else vars(part.escapes),
            }
        )
    return {
        "study": design.study,
        "variant": design.variant,
        "dataset": design.dataset,
        "design": design.hash,
        "commit": design.commit or None,
        "dirty": design.dirty,
        "exploratory": design.is_exploratory,
        "criterion": design.criterion.sentence,
        "margin_octaves": design.margin_octaves,
        "counts": answer_.counts,
        "num_planned": answer_.num_planned,
        "num_older_than_design": answer_.num_older,
        "slices": slices,
    }


def _points(part: Slice, frame: pd.DataFrame, design: DesignRecord) -> list[dict[str, Any]]:
    """Mean, standard deviation and count at every point as plain values."""
    if frame.empty:
        return []
    rows = mean_curve(frame, design.axes[0][0], design, part.criterion).to_dict("records")
    return [{str(k): None if isinstance(v, float) and math.isnan(v) else _plain(v) for k, v in r.items()} for r in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
