"""Laws beside a measured threshold: what each predicts of its setting, and the ratio."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from study.answers.registered import RegisteredDesign
from study.designs.criterion import Criterion
from study.designs.values import from_json
from study.inference.boundary import BoundaryFit
from study.inference.statements import Crossing, CrossingStatus
from study.inference.threshold import CurveFit
from study.inference.verdict import Judgement, Verdict, judge_boundary, judge_fit, judge_together, undecided
from study.interface.recipe import Recipe
from study.interface.theory import Law, NotApplicableError

_NUM_CURVE_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class LawLine:
    """A law beside a measured crossing, in units of the axis.

    ``reason`` says why it is not comparable (empty where it is). The ratio is measured / predicted; an end is None
    where the measurement is open there. ``curve`` is the predicted metric over the axis, where the law has one.

    Two scales stand beside each other. The verdict asks whether the threshold is the law's within the design's margin,
    set before the data. The band low to high is what the law itself promises: the largest error seen in its
    verification, which is narrower than the margin for an exact law and may be wider for a rough one.
    """

    law: Law
    reason: str = ""
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    judgement: Judgement | None = None

    @property
    def verdict(self) -> Verdict:
        return Verdict.NOT_COMPARABLE if self.judgement is None else self.judgement.verdict

    @property
    def place(self) -> Literal["inside", "reaching", "outside"] | None:
        """Where the measurement stands to the largest error seen in the law's verification.

        inside: the estimate lies in that band; reaching: only a part of its interval does. A control has no band.
        """
        if self.law.is_control or self.ratio is None or self.predicted is None or self.low is None or self.high is None:
            return None
        if self.low <= self.ratio * self.predicted <= self.high:
            return "inside"
        starts = 0.0 if self.ratio_low is None else self.ratio_low * self.predicted
        ends = math.inf if self.ratio_high is None else self.ratio_high * self.predicted
        return "reaching" if starts <= self.high and ends >= self.low else "outside"


def is_of_rise(law: Law, recipe: Recipe[Any]) -> bool:
    """Whether a law predicts the rising crossing; what works up to a value falls out of its criterion there."""
    return (law.direction == "smallest") != (recipe.metric(law.metric).broken == "high")


def laws_of(
    design: RegisteredDesign, criterion: Criterion, frame: pd.DataFrame, fit: CurveFit | None
) -> tuple[LawLine, ...]:
    """The design's laws of its axis beside a fit, or what they predict where there is none.

    Laws of one of the design's other criteria are left to the lines of that one.
    """
    theory = design.recipe.theory
    if theory is None or frame.empty:
        return ()
    config: Any = from_json(design.recipe.config_class, frame["config"].iloc[0])
    if not theory.covers(config):
        return ()
    axis = design.axis.path
    setting = theory.setting(config, axis, frame, is_tuned=bool(design.nuisance))
    scale = theory.units(config, axis)
    others = [other for other in design.criteria if other is not criterion]
    lines = []
    for law in (theory.laws[name] for name in design.laws if theory.path_of(theory.laws[name]) == axis):
        if _is_of(law, criterion):
            lines.append(_line(law, setting, scale, fit, design))
        elif not any(_is_of(law, other) for other in others):
            lines.append(LawLine(law=law, reason=f"its criterion is {law.criterion}"))
    return tuple(lines)


def _is_of(law: Law, criterion: Criterion) -> bool:
    return (law.metric, law.level, law.fraction) == (criterion.metric, criterion.level, criterion.fraction)


def _line(law: Law, setting: Any, scale: float, fit: CurveFit | None, design: RegisteredDesign) -> LawLine:
    margin_octaves = design.margin_octaves
    try:
        prediction = law.predict(setting)
    except NotApplicableError as error:
        return LawLine(law=law, reason=str(error))
    predicted = prediction.value * scale
    line = LawLine(law=law, predicted=predicted, low=prediction.low * scale, high=prediction.high * scale)
    if fit is None:
        return dataclasses.replace(line, judgement=undecided("nothing measured to compare", margin_octaves))
    is_rising = is_of_rise(law, design.recipe)
    judgement = judge_fit(fit, predicted, margin_octaves, is_rising=is_rising, is_fraction=law.fraction is not None)
    line = dataclasses.replace(line, curve=_curve(law, setting, scale, fit), judgement=judgement)
    return _beside(line, fit.rising if is_rising else fit.falling)


def at_boundary(
    line: LawLine, fit: BoundaryFit, y: float, design: RegisteredDesign, *, lowest: float, highest: float
) -> LawLine:
    """A law's line beside a boundary at a value of the other axis; ``lowest`` and ``highest`` end the measured x."""
    if line.judgement is None:
        return line
    assert line.predicted is not None
    if is_of_rise(line.law, design.recipe) != (design.flank != "falling"):
        return LawLine(law=line.law, reason="it is about the other side of the curve")
    judgement = judge_boundary(
        fit, y, line.predicted, line.judgement.margin_octaves,
        lowest=lowest, highest=highest, is_fraction=line.law.fraction is not None,
    )  # fmt: skip
    return _beside(dataclasses.replace(line, judgement=judgement), fit.crossing_at(y))


def _beside(line: LawLine, crossing: Crossing) -> LawLine:
    """A law's line with the ratio of a measured crossing to it."""
    if crossing.status is CrossingStatus.NO_CROSSING:
        return line
    assert line.predicted is not None
    ends = (crossing.estimate, crossing.low, crossing.high)
    ratio, low, high = (None if x is None else x / line.predicted for x in ends)
    return dataclasses.replace(line, ratio=ratio, ratio_low=low, ratio_high=high)


def corrected(groups: Sequence[tuple[LawLine, ...]]) -> list[tuple[LawLine, ...]]:
    """The lines of a study's slices with the verdicts of all comparable laws, controls included, corrected together."""
    found = iter(judge_together([line.judgement for lines in groups for line in lines if line.judgement is not None]))
    return [
        tuple(line if line.judgement is None else dataclasses.replace(line, judgement=next(found)) for line in lines)
        for lines in groups
    ]


def _curve(
    law: Law, setting: Any, scale: float, fit: CurveFit
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if law.outcome is None:
        return None
    x = np.geomspace(fit.grid_x[0], fit.grid_x[-1], _NUM_CURVE_POINTS)
    changes: list[dict[str, Any]] = [{law.quantity: float(value) / scale} for value in x]
    y = np.array([law.outcome(dataclasses.replace(setting, **change)) for change in changes])
    is_finite = np.isfinite(y)
    return (x[is_finite], y[is_finite]) if is_finite.any() else None
