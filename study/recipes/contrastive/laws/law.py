"""What a law is: a predicted threshold, its criterion, what it assumes, where it holds and how well it was verified.

Laws are derived in docs/theory.md and are not formulas of the papers. Symbols there and names here: d ``dim``,
K ``num_classes``, c ``cosine``, sigma ``sigma``, N ``batch`` (rows of the affinity that is judged) and
``train_batch``, L ``num_blocks``, T ``steps``, V ``num_views``, tau ``spread``, t ``temperature``, eta
``learning_rate``, lambda ``oar_weight``, n_F ``num_labels``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.interface.theory import NotApplicableError

Array = NDArray[np.float64]
Quantity = Literal["sigma", "batch", "train_batch", "num_blocks", "steps", "learning_rate", "num_labels"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A run in the symbols of the theory. None: not given, so a law that needs it does not apply.

    ``batch`` and ``train_batch`` count rows (images times views). ``class_sizes`` are rows of the judged batch where
    classes differ in size, in place of ``batch`` and ``num_classes``. ``num_examples`` (S) is given instead of
    ``steps`` where the number of training images is what is held fixed; ``is_tuned`` says that the learning rate is
    chosen anew at every value. ``first_step_norm`` (R_1) and ``first_step_variance`` (v_0, one minus the mean cosine)
    are measured after the first training step. ``basis`` says whether centres lie on coordinate axes. ``labelled``
    counts rows of a step that go to OAR alone.
    """

    dim: int | None = None
    num_classes: int | None = None
    cosine: float = 0.0
    sigma: float | None = None
    batch: float | None = None
    train_batch: float | None = None
    class_sizes: tuple[int, ...] | None = None
    num_blocks: float | None = None
    residual: bool = True
    centred: bool = False
    layer_norm: bool = False
    weights: Literal["identity", "trained"] | None = None
    init: Literal["identity", "default"] | None = None
    num_views: int = 1
    spread: float = 0.0
    mean_norm: float = 0.0
    basis: Literal["axes", "random"] | None = None
    num_sources: int | None = None
    steps: float | None = None
    num_examples: float | None = None
    optimizer: Literal["adam", "sgd"] | None = None
    schedule: Literal["constant", "cosine"] | None = None
    learning_rate: float | None = None
    is_tuned: bool = False
    temperature: float | None = None
    oar_weight: float | None = None
    num_labels: float | None = None
    embedding_dim: int | None = None
    first_step_norm: float | None = None
    first_step_variance: float | None = None
    data: Literal["clusters", "images"] | None = None
    trainer: Literal["transfusion", "supervised", "oar"] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    encoder: Literal["none", "linear", "mlp", "small", "resnet18"] | None = None
    projection_dim: int = 0
    affinity: Literal["relu", "softmax"] | None = None
    target: Literal["class", "source"] | None = None
    contrast: Literal["info_nce", "supcon", "none"] | None = None
    oar_from_step: int | None = None
    labelled: int | None = None
    labelling: Literal["random", "stratified"] | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def per_class(self) -> float | None:
        """Rows of a class in the judged batch, where both are given."""
        return None if self.batch is None or self.num_classes is None else self.batch / self.num_classes

    def given(self, *names: str) -> tuple[float, ...]:
        """The numbers of fields that a law lists among its inputs."""
        values = tuple(getattr(self, name) for name in names)
        assert None not in values, names
        return values


@dataclass(frozen=True, kw_only=True)
class Band:
    """Relative error |predicted - measured| / measured of a law over the settings it was verified on.

    ``median`` and ``maximum`` are frozen in the code; docs/theory-tables.md has further settings, drawn afresh.
    """

    median: float
    maximum: float
    num_settings: int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A threshold, and the measured values that the largest error seen in verification allows."""

    law: str
    value: float
    low: float
    high: float
    band: Band


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law.

    ``threshold`` maps a valid setting to the predicted value of ``quantity`` (NaN: the level is not crossed).
    ``outcome`` maps a setting, the quantity's own value included, to the metric. ``kind`` says in a sentence why a
    run is not of the kind that the law is about (laws/kinds.py), ``outside`` why a setting breaks its further
    assumptions (None: it does not), and ``ranges`` are the values of fields (and of rows per class,
    ``per_class``) that were verified; others are refused. ``direction``: the method works up to the threshold
    ("largest") or from it on ("smallest"). Exactly one of ``level`` (absolute) and ``fraction`` (of the rise from
    floor to ceiling) is set. A control predicts something else and is declared to fail.
    """

    name: str
    says: str
    quantity: Quantity
    direction: Literal["largest", "smallest"]
    metric: str
    level: float | None = None
    fraction: float | None = None
    inputs: tuple[str, ...]
    assumptions: str
    validity: str
    kind: Callable[[Setting], str | None]
    outside: Callable[[Setting], str | None]
    threshold: Callable[[Setting], float]
    outcome: Callable[[Setting], float] | None = None
    band: Callable[[Setting], Band]
    section: str
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    is_control: bool = False

    def __post_init__(self) -> None:
        assert (self.level is None) != (self.fraction is None), self.name
        fields = {item.name for item in dataclasses.fields(Setting)}
        assert {*self.inputs, self.quantity} <= fields, self.name
        assert self.quantity not in self.inputs, self.name
        assert set(self.ranges) <= {*fields, "per_class"}, self.name

    @property
    def criterion(self) -> str:
        """The criterion as a phrase, such as "p = 0.5"."""
        if self.fraction is None:
            return f"{self.metric} = {self.level:g}"
        return f"half rise of {self.metric}" if self.fraction == 0.5 else f"{self.fraction:.0%} rise of {self.metric}"

    @property
    def source(self) -> str:
        return f"derived in docs/theory.md, {self.section}"

    def why_not(self, setting: Setting) -> str | None:
        """Why the law does not apply to a setting, in a sentence; None where it does."""
        if (reason := self.kind(setting)) is not None:
            return reason
        missing = [name for name in self.inputs if getattr(setting, name) is None]
        if missing:
            return f"needs {' and '.join(missing)}"
        if setting.class_sizes is not None and "class_sizes" not in self.inputs:
            return "assumes classes of one size, but class_sizes are given"
        return self.outside(setting) or self._outside_ranges(setting)

    def _outside_ranges(self, setting: Setting) -> str | None:
        for name, (low, high) in self.ranges.items():
            value = setting.per_class if name == "per_class" else getattr(setting, name)
            if value is not None and not low <= value <= high:
                words = "rows of a class from" if name == "per_class" else name
                return f"was verified for {words} {low:g} to {high:g}, but it is {value:g}"
        return None

    def predict(self, setting: Setting) -> Prediction:
        """The threshold for a setting; :class:`NotApplicableError` where the law does not apply or none exists."""
        reason = self.why_not(setting)
        if reason is not None:
            raise NotApplicableError(reason)
        value = float(self.threshold(setting))
        if not np.isfinite(value):
            raise NotApplicableError(f"{self.criterion} is not crossed at any {self.quantity} that the law covers")
        band = self.band(setting)
        return Prediction(
            law=self.name,
            value=value,
            low=value / (1 + band.maximum),
            high=value / (1 - band.maximum) if band.maximum < 1 else np.inf,
            band=band,
        )

    def thresholds(self, setting: Setting, **values: ArrayLike) -> Array:
        """Thresholds of a setting with some fields replaced by arrays, broadcast together; NaN where there is none."""
        names = list(values)
        arrays = np.broadcast_arrays(*(np.asarray(value) for value in values.values()))
        out = np.full(arrays[0].shape, np.nan)
        for index in np.ndindex(out.shape):
            changes: dict[str, Any] = {name: array[index].item() for name, array in zip(names, arrays, strict=True)}
            changed = dataclasses.replace(setting, **changes)
            if self.why_not(changed) is None:
                out[index] = self.threshold(changed)
        return out


def frozen(median: float, maximum: float, num_settings: int) -> Callable[[Setting], Band]:
    """A band that is the same for every setting."""
    band = Band(median=median, maximum=maximum, num_settings=num_settings)
    return lambda _setting: band
