"""Laws beside a measured threshold: the setting of a configuration, what each law predicts of it, and the ratio."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from study.config import ReplicateConfig
from study.inference.threshold import Crossing, CrossingStatus, CurveFit
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
_HIGH_IS_BROKEN = ("mean_cosine",)
_NUM_CURVE_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class LawLine:
    """A law beside a measured crossing, in units of the axis.

    ``reason`` says why it is not comparable (empty where it is). The ratio is measured / predicted; an end is None
    where the measurement is open there. ``curve`` is the predicted metric over the axis, where the law has one.
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
    """A configuration on ``clusters`` in the symbols of the theory; ``is_tuned``: its rate differs between points."""
    clusters, model, is_trained = config.data.clusters, config.model, config.num_steps > 0
    is_identity = model.init == "identity"
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
        optimizer=config.optimizer.name,
        schedule=config.optimizer.schedule,
        learning_rate=config.optimizer.learning_rate,
        is_tuned=is_tuned,
        temperature=config.loss.temperature if config.trainer == "oar" and config.loss.contrast != "none" else None,
        oar_weight=config.loss.oar_weight if config.trainer == "oar" else None,
        num_labels=config.data.label_fraction * clusters.num_sources,
        embedding_dim=model.embedding_dim,
    )


def crossing_of(law: Law, fit: CurveFit) -> Crossing:
    """The crossing that a law predicts: a method that works up to a value falls out of its criterion there."""
    is_rising = (law.direction == "smallest") != (law.metric in _HIGH_IS_BROKEN)
    return fit.rising if is_rising else fit.falling


def law_lines(
    names: tuple[str, ...],
    config: ReplicateConfig,
    axis: str,
    criterion: Criterion,
    other_criteria: Sequence[Criterion],
    fit: CurveFit | None,
    measured_inputs: Mapping[str, Any],
    *,
    is_tuned: bool,
) -> tuple[LawLine, ...]:
    """Every named law of this axis beside the fit, but for those whose criterion is one of ``other_criteria``.

    Args:
        config: a configuration of the slice; its value on ``axis`` plays no part.
        other_criteria: further ones that are read off the same replicates, with lines of their own.
        measured_inputs: fields of the setting that only a run can give, such as ``first_step_norm``.
    """
    setting = setting_of(config, is_tuned=is_tuned)
    # A run's own value on the axis is one of many and says nothing about the threshold; nor does what follows from it.
    unknown: dict[str, Any] = {quantity: None for quantity, path in PATHS.items() if path == axis}
    if axis == PATHS["train_batch"]:
        unknown |= {"steps": None} if config.horizon.unit == "examples" else {"num_examples": None}
    setting = dataclasses.replace(setting, **(unknown | dict(measured_inputs)))
    scale = 1 / config.data.clusters.num_sources if axis == PATHS["num_labels"] else 1.0
    lines = []
    is_of_sources = config.trainer == "transfusion" and config.loss.target == "source" and config.num_steps > 0
    for law in (LAWS[name] for name in names if PATHS[LAWS[name].quantity] == axis):
        if is_of_sources:
            lines.append(
                LawLine(law=law, reason="training was towards sources, and laws of training are about classes")
            )
        elif _is_of(law, criterion):
            lines.append(_line(law, setting, scale, fit))
        elif not any(_is_of(law, other) for other in other_criteria):
            lines.append(LawLine(law=law, reason=f"its criterion is {law.criterion}"))
    return tuple(lines)


def _is_of(law: Law, criterion: Criterion) -> bool:
    return (law.metric, law.level, law.fraction) == (criterion.metric, criterion.level, criterion.fraction)


def _line(law: Law, setting: Setting, scale: float, fit: CurveFit | None) -> LawLine:
    try:
        prediction = law.predict(setting)
    except NotApplicableError as error:
        return LawLine(law=law, reason=str(error))
    predicted = prediction.value * scale
    line = LawLine(law=law, predicted=predicted, low=prediction.low * scale, high=prediction.high * scale)
    if fit is None:
        return line
    line = dataclasses.replace(line, curve=_curve(law, setting, scale, fit))
    crossing = crossing_of(law, fit)
    if crossing.status is CrossingStatus.NO_CROSSING:
        return line
    ratio, low, high = (None if x is None else x / predicted for x in (crossing.estimate, crossing.low, crossing.high))
    return dataclasses.replace(line, ratio=ratio, ratio_low=low, ratio_high=high)


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


def word_laws(lines: Sequence[LawLine]) -> list[str]:
    """A line of text for every comparable law, and one for all others with their reasons."""
    words = []
    for line in lines:
        if not line.reason:
            assert line.predicted is not None
            words.append(f"{f'law {line.law.name}':<30}{line.predicted:.3g}    {_ratio(line)}")
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.reason:
            reasons.setdefault(line.reason, []).append(line.law.name)
    if reasons:
        words.append("not comparable: " + "; ".join(f"{', '.join(laws)}: {why}" for why, laws in reasons.items()))
    return words


def _ratio(line: LawLine) -> str:
    ends = (line.ratio, line.ratio_low, line.ratio_high)
    if all(end is None for end in ends):
        return "nothing measured to compare"
    ratio, low, high = (None if end is None else f"{end:.2f}" for end in ends)
    if ratio is None:
        return f"measured/law below {high}" if low is None else f"measured/law above {low}"
    interval = f"{low or 'open'} to {high or 'open'}"
    if line.law.is_control:
        return f"measured/law {ratio} ({interval}), a control that must fail"
    return f"measured/law {ratio} ({interval}), {line.place} its verified band {line.low:.3g} to {line.high:.3g}"


def law_json(line: LawLine) -> dict[str, Any]:
    """A law's line as plain values."""
    values = {name: getattr(line, name) for name in ("predicted", "low", "high", "ratio", "ratio_low", "ratio_high")}
    return {"law": line.law.name, "reason": line.reason, "place": line.place} | {
        name: None if value is not None and not math.isfinite(value) else value for name, value in values.items()
    }
