"""Laws beside a measured threshold: the setting of a configuration, what each law predicts of it, and the ratio."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from study.config import ReplicateConfig
from study.inference.boundary import BoundaryFit
from study.inference.threshold import Crossing, CrossingStatus, CurveFit
from study.inference.verdict import Judgement, Verdict, judge_boundary, judge_fit, judge_together, undecided
from study.limits import LAWS
from study.limits.law import Law, NotApplicableError, Setting
from study.space import Criterion

# Which configuration path a law's quantity is the value of.
PATHS = {
    "sigma": "data.strength",
    "batch": "batch.eval",
    "train_batch": "batch.train",
    "num_blocks": "model.num_blocks",
    "steps": "horizon.length",
    "learning_rate": "optimizer.learning_rate",
    "num_labels": "data.label_fraction",
}
# Metrics that are high where the method has failed.
HIGH_IS_BROKEN = ("mean_cosine",)
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


def setting_of(config: ReplicateConfig, *, is_tuned: bool) -> Setting:
    """A configuration in the symbols of the theory; ``is_tuned``: its rate differs between points.

    Sizes of the data are those of ``clusters``: on images the setting says so, and laws of vectors refuse it.
    """
    clusters, model, is_trained = config.data.clusters, config.model, config.num_steps > 0
    is_identity, optimizer, loss = model.init == "identity", config.optimizer, config.loss
    return Setting(
        dim=clusters.dim,
        num_classes=clusters.num_classes,
        cosine=clusters.cosine,
        sigma=config.data.strength,
        batch=config.batch.eval,
        train_batch=config.batch.train,
        num_blocks=model.num_blocks,
        residual=model.residual,
        layer_norm=model.layer_norm,
        weights="trained" if is_trained else ("identity" if is_identity else None),
        init=model.init,
        num_views=config.data.num_views,
        spread=clusters.spread,
        mean_norm=clusters.mean_norm,
        basis=clusters.basis,
        num_sources=clusters.num_sources,
        steps=config.num_steps,
        num_examples=config.num_steps * config.num_images,
        optimizer=optimizer.name,
        schedule=optimizer.schedule,
        learning_rate=optimizer.learning_rate,
        is_tuned=is_tuned,
        temperature=loss.temperature if config.trainer == "oar" and loss.contrast != "none" else None,
        oar_weight=loss.oar_weight if config.trainer == "oar" else None,
        num_labels=config.data.label_fraction * clusters.num_sources,
        embedding_dim=model.embedding_dim,
        data="clusters" if config.data.name == "clusters" else "images",
        trainer=config.trainer,
        precision=config.precision,
        encoder=model.encoder,
        projection_dim=model.projection_dim,
        affinity=loss.affinity,
        target=loss.target,
        contrast=loss.contrast,
        oar_from_step=loss.oar_from_step,
        labelled=config.batch.labelled,
        labelling="stratified",
        momentum=optimizer.momentum if optimizer.name == "sgd" else 0.0,
        weight_decay=optimizer.weight_decay,
    )


def setting_along(config: ReplicateConfig, axis: str, measured_inputs: Mapping[str, Any], *, is_tuned: bool) -> Setting:
    """What a law is asked of a threshold along an axis: the setting of a configuration but for its value there.

    A run's own value on the axis is one of many and says nothing about the threshold; nor does what follows from it.
    ``measured_inputs`` are fields of the setting that only a run can give, such as ``first_step_norm``.
    """
    unknown: dict[str, Any] = {quantity: None for quantity, path in PATHS.items() if path == axis}
    if axis == PATHS["train_batch"]:
        is_in_images = config.horizon.unit == "examples"
        unknown |= {"steps": None, "num_examples": config.horizon.length} if is_in_images else {"num_examples": None}
    return dataclasses.replace(setting_of(config, is_tuned=is_tuned), **(unknown | dict(measured_inputs)))


def axis_units(config: ReplicateConfig, axis: str) -> float:
    """Units of an axis in one of the law's quantity: labels are a share of the sources, steps may be told in images."""
    if axis == PATHS["num_labels"]:
        return 1 / config.data.clusters.num_sources
    is_in_images = axis == PATHS["steps"] and config.horizon.unit == "examples"
    return float(config.num_images) if is_in_images else 1.0


def is_of_rise(law: Law) -> bool:
    """Whether a law predicts the rising crossing; what works up to a value falls out of its criterion there."""
    return (law.direction == "smallest") != (law.metric in HIGH_IS_BROKEN)


def law_lines(
    names: tuple[str, ...],
    config: ReplicateConfig,
    axis: str,
    criterion: Criterion,
    other_criteria: Sequence[Criterion],
    fit: CurveFit | None,
    measured_inputs: Mapping[str, Any],
    *,
    margin_octaves: float,
    is_tuned: bool,
) -> tuple[LawLine, ...]:
    """Every named law of this axis beside the fit, but for those whose criterion is one of ``other_criteria``.

    Args:
        config: a configuration of the slice; its value on ``axis`` plays no part.
        other_criteria: further ones that are read off the same replicates, with lines of their own.
        measured_inputs: fields of the setting that only a run can give, such as ``first_step_norm``.
    """
    setting = setting_along(config, axis, measured_inputs, is_tuned=is_tuned)
    scale = axis_units(config, axis)
    lines = []
    for law in (LAWS[name] for name in names if PATHS[LAWS[name].quantity] == axis):
        if _is_of(law, criterion):
            lines.append(_line(law, setting, scale, fit, margin_octaves))
        elif not any(_is_of(law, other) for other in other_criteria):
            lines.append(LawLine(law=law, reason=f"its criterion is {law.criterion}"))
    return tuple(lines)


def _is_of(law: Law, criterion: Criterion) -> bool:
    return (law.metric, law.level, law.fraction) == (criterion.metric, criterion.level, criterion.fraction)


def _line(law: Law, setting: Setting, scale: float, fit: CurveFit | None, margin_octaves: float) -> LawLine:
    try:
        prediction = law.predict(setting)
    except NotApplicableError as error:
        return LawLine(law=law, reason=str(error))
    predicted = prediction.value * scale
    line = LawLine(law=law, predicted=predicted, low=prediction.low * scale, high=prediction.high * scale)
    if fit is None:
        return dataclasses.replace(line, judgement=undecided("nothing measured to compare", margin_octaves))
    judgement = judge_fit(
        fit, predicted, margin_octaves, is_rising=is_of_rise(law), is_fraction=law.fraction is not None
    )
    line = dataclasses.replace(line, curve=_curve(law, setting, scale, fit), judgement=judgement)
    return _beside(line, fit.rising if is_of_rise(law) else fit.falling)


def at_boundary(
    line: LawLine, fit: BoundaryFit, y: float, *, is_rising: bool, lowest: float, highest: float
) -> LawLine:
    """A law's line beside a boundary at a value of the other axis; ``lowest`` and ``highest`` end the measured x."""
    if line.judgement is None:
        return line
    assert line.predicted is not None
    if is_of_rise(line.law) != is_rising:
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
    law: Law, setting: Setting, scale: float, fit: CurveFit
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if law.outcome is None:
        return None
    x = np.geomspace(fit.grid_x[0], fit.grid_x[-1], _NUM_CURVE_POINTS)
    changes: list[dict[str, Any]] = [{law.quantity: float(value) / scale} for value in x]
    y = np.array([law.outcome(dataclasses.replace(setting, **change)) for change in changes])
    is_finite = np.isfinite(y)
    return (x[is_finite], y[is_finite]) if is_finite.any() else None
