"""The answer of a study, computed from its ledger."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.answers.failures import Failure, failures
from study.answers.fits import SearchEnd, crossing_json, slice_key
from study.answers.frames import replicates_frame
from study.answers.law_lines import law_json
from study.answers.laws import LawLine, corrected
from study.answers.planes import Plane, make_planes, plane_json
from study.answers.registered import RegisteredDesign, load_design
from study.answers.sensitivity import Shift, horizon_shifts
from study.answers.slices import Slice, make_slice, mean_curve
from study.designs.space import SERIES
from study.inference.verdict import Verdict
from study.ledger.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class StudyAnswer:
    """Everything that the printed answer, the JSON and the figure show.

    A design is answered by ``slices`` or, where a boundary is sought, by ``planes``. ``horizons`` are the thresholds
    of slices that differ in the training horizon alone. ``dataset_fallback`` is the data set that was asked for, where
    it could not be had and that of the design stands in for it. ``failures`` are replicates that were tried in vain.
    """

    design: RegisteredDesign
    dataset_fallback: str | None
    counts: dict[str, int]
    num_planned: int
    num_older: int
    slices: tuple[Slice, ...]
    planes: tuple[Plane, ...]
    horizons: tuple[Shift, ...]
    failures: tuple[Failure, ...]

    @property
    def dataset_words(self) -> str:
        """The data set, with the one that it stands in for."""
        instead = f" (instead of {self.dataset_fallback}, which could not be had here)" if self.dataset_fallback else ""
        return self.design.dataset + instead

    @property
    def laws(self) -> tuple[LawLine, ...]:
        """Every law of every slice and height."""
        groups = [part.laws for part in self.slices]
        groups += [height.laws for plane in self.planes for height in plane.heights]
        return tuple(itertools.chain.from_iterable(groups))


def answer(
    ledger: Ledger,
    study_hash: str | None = None,
    ends: Mapping[str, SearchEnd] | None = None,
    asked_for: str | None = None,
) -> StudyAnswer:
    """Compute a design's answer from its ledger.

    ``ends`` says by :func:`slice_key` how each search ended, ``asked_for`` which data set the answer is wanted of: by
    default the one that the design's first run asked for.
    """
    ends = ends or {}
    design = load_design(ledger, study_hash)
    asked_for = asked_for or design.dataset_fallback or design.dataset
    frame = replicates_frame(ledger, design.hash)
    reported = frame[frame["role"] == "reported"]
    slices = []
    planes = list(make_planes(design, reported, ends)) if design.is_plane else []
    for others, grid in () if design.is_plane else _slices(design):
        part, tuning = reported, frame[frame["role"] == "tuning"]
        for path, value in others.items():
            part, tuning = (rows[rows[path] == value] if len(rows) else rows for rows in (part, tuning))
        slices += [
            make_slice(ledger, design, criterion, others, grid, part, tuning, ends.get(slice_key(others)))
            for criterion in design.criteria
        ]
    heights = [height.laws for plane in planes for height in plane.heights]
    judged = iter(corrected([*(part.laws for part in slices), *heights]))
    slices = [dataclasses.replace(part, laws=next(judged)) for part in slices]
    planes = [
        dataclasses.replace(
            plane, heights=tuple(dataclasses.replace(height, laws=next(judged)) for height in plane.heights)
        )
        for plane in planes
    ]
    outcomes = frame["outcome"].fillna("open").value_counts().to_dict()
    started = pd.to_datetime(frame["started_at"]) if "started_at" in frame else pd.Series(dtype="datetime64[us, UTC]")
    return StudyAnswer(
        design=design,
        dataset_fallback=asked_for if asked_for != design.dataset else None,
        counts={str(name): int(count) for name, count in outcomes.items()},
        num_planned=len(frame),
        num_older=int((started < design.created_at).sum()),
        slices=tuple(slices),
        planes=tuple(planes),
        horizons=_horizons(design, slices),
        failures=failures(ledger, design.hash),
    )


def _horizons(design: RegisteredDesign, slices: list[Slice]) -> tuple[Shift, ...]:
    if not design.recipe.horizon_path:
        return ()
    varied = [design.axis.path, *(axis.path for axis in design.nuisance)]
    fitted = [
        (", ".join(f"{path} = {value}" for path, value in part.others.items()), part.frame, part.fit)
        for part in slices
        if part.criterion is design.criterion and part.fit is not None
    ]
    return horizon_shifts(fitted, varied, design.flank, design.recipe.horizon_path)


def _slices(design: RegisteredDesign) -> Iterator[tuple[dict[str, Any], tuple[float, ...]]]:
    """The values of series and further axes of every slice, and its grid of the first axis."""
    for series in design.series or (None,):
        named = {} if series is None else {SERIES: series.name}
        grids = {} if series is None else series.grids
        (_, first), *rest = [(axis.path, grids.get(axis.path, axis.values)) for axis in design.axes]
        for values in itertools.product(*(sorted(values) for _, values in rest)):
            others = dict(zip((path for path, _ in rest), values, strict=True))
            yield named | others, tuple(float(value) for value in first)


def to_json(answer_: StudyAnswer) -> dict[str, Any]:
    """The answer as plain values; missing numbers are null."""
    design = answer_.design

    def shift(s: Shift) -> dict[str, Any]:
        return {"name": s.name, **crossing_json(s.crossing), "octaves": s.octaves}

    slices = []
    for part in answer_.slices:
        fit = part.fit
        slices.append(
            {
                "others": part.others,
                "criterion": part.criterion.sentence,
                "minimum": None if fit is None else crossing_json(fit.rising),
                "maximum_useful": None if fit is None else crossing_json(fit.falling),
                "floor": None if fit is None else fit.floor,
                "ceiling": None if fit is None else fit.ceiling.value,
                "level": None if fit is None else fit.level.value,
                "flags": [] if fit is None else list(fit.flags),
                "no_fit": part.no_fit,
                "points": _points(part, part.frame, design),
                "untuned_setting": part.untuned_setting,
                "untuned": _points(part, part.untuned, design),
                "tuned": {f"{x:g}": setting for x, setting in part.tuned.items()},
                "at_edge": list(part.at_edge),
                **_readings(design, part),
                "laws": [law_json(line) for line in part.laws],
                "outcomes": part.outcomes,
                "bootstrap": [crossing_json(found) for found in part.cross_check],
                "search": None if part.search is None else part.search.as_json(),
                "sensitivity": [shift(found) for found in part.shifts],
            }
        )
    return {
        "study": design.study,
        "variant": design.variant,
        "dataset": design.dataset,
        "dataset_fallback": answer_.dataset_fallback,
        "design": design.hash,
        "commit": design.commit or None,
        "dirty": design.dirty,
        "exploratory": design.is_exploratory,
        "criterion": design.criterion.sentence,
        "margin_octaves": design.margin_octaves,
        "counts": answer_.counts,
        "num_planned": answer_.num_planned,
        "num_older_than_design": answer_.num_older,
        "failures": [failure.as_json() for failure in answer_.failures],
        "flank": design.flank,
        "verdicts": {str(name): sum(line.verdict is name for line in answer_.laws) for name in Verdict},
        "horizons": [shift(found) for found in answer_.horizons],
        "slices": slices,
        "planes": [plane_json(plane, design) for plane in answer_.planes],
    }


def _readings(design: RegisteredDesign, part: Slice) -> dict[str, Any]:
    """What the recipe reads besides, by name; null where there is nothing to read."""
    found = {reading.name: reading.as_json() for reading in part.readings}
    assert found.keys() <= {*design.recipe.reading_names}, "a recipe names its readings"
    return {name: found.get(name) for name in design.recipe.reading_names}


def _points(part: Slice, frame: pd.DataFrame, design: RegisteredDesign) -> list[dict[str, Any]]:
    """Mean, standard deviation and count at every point as plain values."""
    if frame.empty:
        return []
    rows = mean_curve(frame, design.axis.path, design, part.criterion).to_dict("records")
    return [{str(k): None if isinstance(v, float) and math.isnan(v) else _plain(v) for k, v in r.items()} for r in rows]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
