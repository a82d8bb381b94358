"""The answer of a study, computed from its ledger."""

import itertools
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import designs_frame, floor_values, measured, outcome_values, raw_knn, replicates_frame
from study.config import ReplicateConfig, with_values
from study.inference.threshold import Crossing, CurveFit, fit_curve
from study.outcome import Outcome
from study.results.ledger import Ledger
from study.space import Criterion


@dataclass(frozen=True, kw_only=True)
class DesignRecord:
    """A design as the ledger holds it."""

    study: str
    variant: str
    hash: str
    commit: str
    dirty: bool | None
    is_exploratory: bool
    created_at: pd.Timestamp
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    nuisance_axes: tuple[tuple[str, tuple[Any, ...]], ...]
    criterion: Criterion
    config: dict[str, Any]

    @property
    def dataset(self) -> str:
        return self.config.get("data.name", "fashion_mnist")

    @property
    def num_classes(self) -> int:
        return with_values(ReplicateConfig(), self.config).data.num_classes


@dataclass(frozen=True, kw_only=True)
class KnnComparison:
    """k-nearest-neighbour accuracy at the best point: trained, before training, and of the raw inputs."""

    point: float
    trained: float
    untrained: float
    raw: float | None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The first axis at fixed values of the others: data, fit and what was tuned."""

    others: dict[str, Any]
    frame: pd.DataFrame
    fit: CurveFit | None
    no_fit: str
    fit_without_diverged: CurveFit | None
    tuned: dict[float, dict[str, Any]]
    at_edge: tuple[float, ...]
    untuned_setting: dict[str, Any]
    untuned: pd.DataFrame
    knn: KnnComparison | None


@dataclass(frozen=True, kw_only=True)
class StudyAnswer:
    """Everything that the printed answer, the JSON and the figure show."""

    design: DesignRecord
    counts: dict[str, int]
    num_planned: int
    num_older: int
    num_seeds: int
    slices: tuple[Slice, ...]


def load_design(ledger: Ledger, study_hash: str | None = None) -> DesignRecord:
    """A design of a ledger, by default the newest; ValueError where there is none."""
    designs = designs_frame(ledger)
    if study_hash is not None:
        designs = designs[designs["study_hash"] == study_hash]
    if designs.empty:
        raise ValueError(f"no design {study_hash or ''} in {ledger.store.uri}: run the study first")
    row = designs.iloc[-1]
    canonical = json.loads(row["design"])
    return DesignRecord(
        study=row["study"],
        variant=row["variant"],
        hash=row["study_hash"],
        commit=row["commit"] or "",
        dirty=None if pd.isna(row["dirty"]) else bool(row["dirty"]),
        is_exploratory=bool(row["exploratory"]),
        created_at=row["created_at"],
        axes=tuple((path, tuple(values)) for path, values, *_ in canonical["scientific"]),
        nuisance_axes=tuple((path, tuple(values)) for path, values, *_ in canonical["nuisance"]),
        criterion=Criterion(**canonical["criterion"]),
        config=canonical["config"],
    )


def answer(ledger: Ledger, study_hash: str | None = None) -> StudyAnswer:
    """Compute a design's answer from its ledger."""
    design = load_design(ledger, study_hash)
    frame = replicates_frame(ledger, design.hash)
    reported = frame[frame["role"] == "reported"]
    first, *rest = [path for path, _ in design.axes]
    slices = []
    for values in itertools.product(*(sorted(values) for _, values in design.axes[1:])):
        others = dict(zip(rest, values, strict=True))
        part, tuning = reported, frame[frame["role"] == "tuning"]
        for path, value in others.items():
            part, tuning = (rows[rows[path] == value] if len(rows) else rows for rows in (part, tuning))
        slices.append(_slice(ledger, design, first, others, part, tuning))
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


def _slice(
    ledger: Ledger, design: DesignRecord, axis: str, others: dict[str, Any], part: pd.DataFrame, tuning: pd.DataFrame
) -> Slice:
    usable = part[part["outcome"].isin(["ok", "collapsed", "diverged"])]
    fit, why = _fit(design, axis, usable)
    has_diverged = bool((usable["outcome"] == str(Outcome.DIVERGED)).any())
    without, _ = _fit(design, axis, measured(usable)) if has_diverged else (None, "")
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
    return Slice(
        others=others,
        frame=usable,
        fit=fit,
        no_fit=why,
        fit_without_diverged=without,
        tuned=tuned,
        at_edge=tuple(at_edge),
        untuned_setting=untuned_setting,
        untuned=untuned[untuned["outcome"].isin(["ok", "collapsed", "diverged"])],
        knn=_knn(ledger, design, axis, measured(usable)),
    )


def _fit(design: DesignRecord, axis: str, frame: pd.DataFrame) -> tuple[CurveFit | None, str]:
    if frame.empty:
        return None, "no replicate has a result yet"
    try:
        fit = fit_curve(
            frame[axis].to_numpy(float),
            outcome_values(frame, design.criterion, design.num_classes).to_numpy(float),
            frame["seed"].to_numpy(),
            floor_values(frame, design.criterion, design.num_classes).to_numpy(float),
            fraction=design.criterion.fraction,
            level=design.criterion.level,
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


def mean_curve(frame: pd.DataFrame, axis: str, design: DesignRecord) -> pd.DataFrame:
    """Mean, standard deviation and number of replicates of the criterion's metric at every value of an axis."""
    values = frame.assign(value=outcome_values(frame, design.criterion, design.num_classes))
    return values.groupby(axis)["value"].agg(["mean", "std", "count"]).reset_index()


def to_json(answer_: StudyAnswer) -> dict[str, Any]:
    """The answer as plain values; missing numbers are null."""
    design = answer_.design

    def crossing(c: Crossing) -> dict[str, Any]:
        return {"status": str(c.status), "estimate": c.estimate, "low": c.low, "high": c.high, "reason": c.reason}

    slices = []
    for part in answer_.slices:
        axis = design.axes[0][0]
        fit = part.fit
        slices.append(
            {
                "others": part.others,
                "minimum": None if fit is None else crossing(fit.rising),
                "maximum_useful": None if fit is None else crossing(fit.falling),
                "floor": None if fit is None else fit.floor,
                "ceiling": None if fit is None else fit.ceiling,
                "level": None if fit is None else fit.level,
                "flags": [] if fit is None else list(fit.flags),
                "no_fit": part.no_fit,
                "points": _points(part.frame, axis, design),
                "untuned_setting": part.untuned_setting,
                "untuned": _points(part.untuned, axis, design),
                "tuned": {f"{x:g}": setting for x, setting in part.tuned.items()},
                "at_edge": list(part.at_edge),
                "knn": None if part.knn is None else vars(part.knn),
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
        "counts": answer_.counts,
        "num_planned": answer_.num_planned,
        "num_older_than_design": answer_.num_older,
        "slices": slices,
    }


def _points(frame: pd.DataFrame, axis: str, design: DesignRecord) -> list[dict[str, Any]]:
    """Mean, standard deviation and count at every point as plain values."""
    if frame.empty:
        return []
    rows = mean_curve(frame, axis, design).to_dict("records")
    return [{str(k): None if isinstance(v, float) and math.isnan(v) else _plain(v) for k, v in r.items()} for r in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
