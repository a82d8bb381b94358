"""The complete configuration of one replicate, its canonical form and its key.

Every field that can change a number is here and nowhere else; what cannot (storage, workers, pack, budget)
is not. Configurations are frozen; variants derive with :func:`with_values`.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scalar = bool | int | float | str

# Bumped by hand when a trainer's numbers change at a fixed configuration and seed (tests/test_numerics.py pins them).
NUMERICS_VERSION = {"transfusion": 1, "supervised": 1, "oar": 1}

VECTOR_DATASETS = ("clusters",)
DATASETS = ("fashion_mnist", "digits", "cifar10", "cifar100", "clusters")


_NUM_CLASSES = {"fashion_mnist": 10, "digits": 10, "cifar10": 10, "cifar100": 100}


class ConfigError(ValueError):
    """A configuration that a user asked for and that cannot be: its message says what to do."""


class DataUnavailable(ConfigError):
    """The data set is neither on disk nor to be had: ``remedy`` names the ways to get it."""

    def __init__(self, trouble: str, remedy: str) -> None:
        super().__init__(trouble, remedy)
        self.trouble, self.remedy = trouble, remedy

    def __str__(self) -> str:
        return f"{self.trouble}: {self.remedy}, or try --dataset digits, which needs no download"


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ConfigError(sentence)


@dataclass(frozen=True, kw_only=True)
class ClustersConfig:
    """The synthetic data model: ``num_classes`` unit centres in R^dim with pairwise cosine ``cosine``.

    A source is a centre plus Gaussian spread (``spread`` in units where a standard Gaussian has norm 1) plus a mean
    of norm ``mean_norm`` that all sources share, orthogonal to the centres; a view of it is
    ``unit(source + sigma g / sqrt(dim))`` with sigma = ``data.strength``. ``basis="random"`` turns all sources by one
    fixed rotation: optimisers that scale coordinates, such as Adam, learn centres on the axes more slowly.
    """

    dim: int = 64
    num_classes: int = 5
    cosine: float = 0.0
    spread: float = 0.0
    num_sources: int = 20_000
    mean_norm: float = 0.0
    basis: Literal["axes", "random"] = "axes"

    def __post_init__(self) -> None:
        _require(self.num_classes >= 2, "data.clusters.num_classes must be at least 2")
        _require(self.dim >= self.num_classes, "data.clusters.dim must be at least data.clusters.num_classes")
        lowest = -1 / (self.num_classes - 1)
        _require(
            lowest - 1e-12 <= self.cosine < 1,
            f"data.clusters.cosine must lie in [-1/(num_classes-1), 1), here [{lowest:.4g}, 1)",
        )
        _require(self.spread >= 0, "data.clusters.spread must not be negative")
        _require(self.num_sources >= 10 * self.num_classes, "data.clusters.num_sources must be at least 10 per class")
        _require(
            self.mean_norm == 0 or (self.mean_norm > 0 and self.dim > self.num_classes),
            "data.clusters.mean_norm must not be negative, and needs data.clusters.dim above data.clusters.num_classes",
        )


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """What a view of an image may change, each as a multiple of its range at strength 1; 0 leaves it out.

    ``saturation``, ``hue`` and ``grayscale`` change images of three channels only.
    """

    crop: float = 1.0
    flip: float = 1.0
    rotation: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            _require(0 <= value <= 2, f"data.views.{item.name} must lie in [0, 2] (0 leaves it out)")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on. ``strength`` is sigma on ``clusters`` and the augmentation scalar (0 to 1.5) on images."""

    name: str = "fashion_mnist"
    strength: float = 0.3
    num_views: int = 1
    label_fraction: float = 1.0
    views: ViewsConfig = field(default_factory=ViewsConfig)
    clusters: ClustersConfig = field(default_factory=ClustersConfig)

    def __post_init__(self) -> None:
        _require(self.name in DATASETS, unknown_name_sentence("data set", self.name, DATASETS))
        _require(self.num_views >= 1, "data.num_views must be at least 1")
        _require(0 < self.label_fraction <= 1, "data.label_fraction must lie in (0, 1]")
        _require(self.strength >= 0, "data.strength must not be negative")
        _require(
            self.name in VECTOR_DATASETS or self.strength <= 1.5,
            "data.strength on images must lie in [0, 1.5] (0 shows every image unchanged)",
        )

    @property
    def num_classes(self) -> int:
        """Classes of the data set."""
        return self.clusters.num_classes if self.name == "clusters" else _NUM_CLASSES[self.name]


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Rows of the affinity (images x views), global over all workers, in training and in evaluation.

    ``labelled`` further views of labelled images per step go to OAR alone; with 0 it takes the labelled views of the
    training batch, whose number then moves with the batch and the label fraction.
    """

    train: int = 64
    eval: int = 120
    labelled: int = 0

    def __post_init__(self) -> None:
        _require(self.train >= 2, "batch.train must be at least 2: the affinity of one row has no entry")
        _require(self.eval >= 4, "batch.eval must be at least 4")
        _require(self.labelled >= 0, "batch.labelled must not be negative")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Encoder, projection and fusion head.

    ``encoder="none"`` feeds vectors, or the pixels of images, straight into the head; ``linear`` and ``mlp`` encode
    vectors. A projection of ``projection_dim`` outputs (0: none) lies between the embeddings, which are judged, and
    what the loss sees.
    """

    encoder: Literal["none", "linear", "mlp", "small", "resnet18"] = "small"
    width: int = 16
    embedding_dim: int = 64
    projection_dim: int = 0
    norm: Literal["group", "batch"] = "group"
    num_blocks: int = 2
    residual: bool = True
    layer_norm: bool = False
    init: Literal["default", "identity"] = "default"

    def __post_init__(self) -> None:
        _require(self.width >= 4 and self.width % 4 == 0, "model.width must be a multiple of 4 (GroupNorm)")
        _require(self.embedding_dim >= 2, "model.embedding_dim must be at least 2")
        _require(self.projection_dim >= 0, "model.projection_dim must not be negative (0: no projection)")
        _require(self.num_blocks >= 1, "model.num_blocks must be at least 1")
        _require(
            self.norm == "group" or self.encoder in ("small", "resnet18"),
            "model.norm=batch needs an encoder of images (small or resnet18)",
        )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is learned.

    transfusion: ``target`` says what counts as a partner (same class, or same source image), ``affinity`` how scores
    become rows (softmax is a control). oar: ``contrast`` plus ``oar_weight`` (lambda) times the anchor regression.
    ``temperature`` serves InfoNCE, SupCon and the softmax. OAR acts from step ``oar_from_step`` on (0: the first).
    """

    target: Literal["class", "source"] = "class"
    affinity: Literal["relu", "softmax"] = "relu"
    contrast: Literal["info_nce", "supcon", "none"] = "info_nce"
    oar_weight: float = 1.0
    oar_from_step: int = 0
    temperature: float = 0.5

    def __post_init__(self) -> None:
        _require(self.oar_weight >= 0, "loss.oar_weight (lambda) must not be negative: 0 is the contrast alone")
        _require(self.oar_from_step >= 0, "loss.oar_from_step must not be negative")
        _require(self.temperature > 0, "loss.temperature must be positive")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Absolute learning rate; scaling rules belong in a search space."""

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "optimizer.learning_rate must be positive")
        _require(0 <= self.momentum < 1, "optimizer.momentum must lie in [0, 1)")
        _require(self.weight_decay >= 0, "optimizer.weight_decay must not be negative")


@dataclass(frozen=True, kw_only=True)
class HorizonConfig:
    """How long a replicate trains, in training images seen (views not counted) or in optimiser steps.

    0 trains nothing: the model is judged as it was initialised.
    """

    unit: Literal["examples", "steps"] = "examples"
    length: int = 20_000

    def __post_init__(self) -> None:
        _require(self.length >= 0, "horizon.length must not be negative (0 judges the untrained model)")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Where and how finely a replicate is judged; ``knn_bank`` = 0 leaves the k-nearest-neighbour metric out.

    ``linear_probe`` fits logistic regressions on the frozen embeddings; ``escape`` looks after every step whether the
    evaluation embeddings have left one point (mean cosine below 1/2).
    """

    split: Literal["validation", "test"] = "test"
    num_batches: int = 20
    num_points: int = 4
    knn_bank: int = 5_000
    knn_neighbours: int = 20
    linear_probe: bool = False
    escape: bool = False

    def __post_init__(self) -> None:
        _require(self.num_batches >= 1, "evaluation.num_batches must be at least 1")
        _require(self.num_points >= 1, "evaluation.num_points must be at least 1")
        _require(self.knn_bank >= 0, "evaluation.knn_bank must not be negative")
        _require(self.knn_neighbours >= 1, "evaluation.knn_neighbours must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ReplicateConfig:
    """Everything that decides a replicate's numbers, but for its seed and the bytes of its data set."""

    trainer: Literal["transfusion", "supervised", "oar"] = "transfusion"
    precision: Literal["float32", "bfloat16"] = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    horizon: HorizonConfig = field(default_factory=HorizonConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        views = self.data.num_views
        _require(
            self.batch.train % views == 0 and self.batch.eval % views == 0,
            f"batch.train ({self.batch.train}) and batch.eval ({self.batch.eval}) count rows and must be multiples of "
            f"data.num_views ({views})",
        )
        _require(
            self.loss.target == "class" or views >= 2,
            "loss.target=source needs data.num_views of at least 2: one view has no partner",
        )
        _require(
            self.data.label_fraction == 1 or self.trainer != "transfusion",
            "data.label_fraction below 1 has no meaning for trainer=transfusion, which uses every label: leave it out",
        )
        is_vector = self.data.name in VECTOR_DATASETS
        _require(
            self.model.encoder == "none" or is_vector == (self.model.encoder in ("linear", "mlp")),
            "model.encoder must be none, linear or mlp on clusters (vectors) and none, small or resnet18 on images",
        )
        _require(
            self.batch.labelled == 0 or self.trainer == "oar",
            "batch.labelled feeds the anchor regression of trainer=oar: leave it out",
        )
        _require(
            not self.evaluation.escape or self.trainer == "oar",
            "evaluation.escape watches the embeddings of trainer=oar: leave it out",
        )
        if self.trainer == "oar":
            self._check_oar()

    def _check_oar(self) -> None:
        views, contrast = self.data.num_views, self.loss.contrast
        _require(
            self.model.encoder != "none" or self.model.projection_dim > 0,
            "trainer=oar has nothing to train with model.encoder=none: use linear or mlp",
        )
        _require(
            contrast != "info_nce" or views >= 2,
            "loss.contrast=info_nce needs data.num_views of at least 2: one view has no positive",
        )
        _require(
            contrast == "none" or self.num_images >= 2,
            f"batch.train={self.batch.train} holds one image, and the least of a contrast without negatives is "
            f"collapse: use at least {2 * views}",
        )
        _require(
            contrast != "none" or (self.loss.oar_weight > 0 and self.loss.oar_from_step == 0),
            "loss.contrast=none leaves OAR alone to learn from: it needs loss.oar_weight above 0 and "
            "loss.oar_from_step=0",
        )

    @property
    def num_images(self) -> int:
        """Training images (sources) per global batch."""
        return self.batch.train // self.data.num_views

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole replicate; the last batch may overshoot an horizon in examples."""
        if self.horizon.unit == "steps":
            return self.horizon.length
        return math.ceil(self.horizon.length / self.num_images)


def unknown_name_sentence(kind: str, name: str, known: typing.Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest one, or all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def error_sentence(error: BaseException) -> str:
    """An error's type and the first line of its message, where it has one."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


@functools.cache
def field_types(config_class: type = ReplicateConfig, prefix: str = "") -> dict[str, Any]:
    """Every settable path of a configuration class with its type, such as ``{"batch.train": int, ...}``."""
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(config_class)
    for item in dataclasses.fields(config_class):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            found |= field_types(typing.cast(type, hint), f"{prefix}{item.name}.")
        else:
            found[prefix + item.name] = hint
    return found


def flatten(config: Any, prefix: str = "") -> dict[str, Scalar]:
    """All values of a configuration by path, sorted."""
    values: dict[str, Scalar] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            values |= flatten(value, f"{prefix}{item.name}.")
        else:
            # A whole number given for a float is the same value and must give the same key.
            values[prefix + item.name] = float(value) if isinstance(item.default, float) else value
    return dict(sorted(values.items()))


def canonical(config: Any) -> dict[str, Scalar]:
    """The values that differ from their defaults: a field added later leaves every earlier key as it was."""
    defaults = flatten(type(config)())
    return {path: value for path, value in flatten(config).items() if value != defaults[path]}


def parse_value(path: str, text: str) -> Scalar:
    """Read a command-line value for a configuration path by its declared type.

    Raises :class:`ConfigError` with the nearest path for an unknown one and the expected type for a wrong one.
    """
    hint = _type_of(path)
    if typing.get_origin(hint) is Literal or hint is str:
        return text
    if hint is bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise ConfigError(f"{path} takes true or false, not {text!r}")
        return lowered == "true"
    try:
        is_whole = hint is int and float(text).is_integer()
        number: Scalar = int(float(text)) if is_whole else hint(text)
    except ValueError:
        raise ConfigError(f"{path} takes a value of type {hint.__name__}, not {text!r}") from None
    if hint is float and not math.isfinite(float(number)):
        raise ConfigError(f"{path} must be a finite number, not {text!r}")
    return number


def _type_of(path: str) -> Any:
    known = field_types()
    if path not in known:
        raise ConfigError(unknown_name_sentence("configuration path", path, known))
    return known[path]


def with_values(config: ReplicateConfig, values: Mapping[str, Scalar]) -> ReplicateConfig:
    """A copy of ``config`` with the given paths replaced together, so that they may depend on each other.

    Raises :class:`ConfigError` for an unknown path, a wrong type or a value out of range.
    """
    for path, value in values.items():
        hint = _type_of(path)
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            _require(value in choices, f"{path} takes one of {', '.join(choices)}, not {value!r}")
            continue
        accepts_int = hint is float and isinstance(value, int) and not isinstance(value, bool)
        is_right = type(value) is hint or accepts_int
        _require(is_right, f"{path} takes a value of type {hint.__name__}, not {value!r}")
    typed = {path: float(v) if _type_of(path) is float else v for path, v in values.items()}
    return typing.cast(ReplicateConfig, _replace(config, typed))


def _replace(config: Any, values: Mapping[str, Scalar]) -> Any:
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Scalar]] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    for head, inner in nested.items():
        changes[head] = _replace(getattr(config, head), inner)
    return dataclasses.replace(config, **changes)


def to_json(config: ReplicateConfig) -> str:
    """The complete configuration as sorted JSON."""
    return json.dumps(flatten(config), sort_keys=True)


def from_json(text: str) -> ReplicateConfig:
    """The inverse of :func:`to_json`; fields that the text does not name keep their defaults."""
    return with_values(ReplicateConfig(), json.loads(text))


def digest(payload: object, length: int = 16) -> str:
    """A hexadecimal SHA-256 prefix of a JSON-able value in canonical form (sorted keys, floats by repr)."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def replicate_key(config: ReplicateConfig, seed: int, data_digest: str) -> str:
    """The identity of a replicate: equal keys mean equal numbers, so a finished key is never run again."""
    return digest(
        {
            "trainer": config.trainer,
            "numerics": NUMERICS_VERSION[config.trainer],
            "config": canonical(config),
            "seed": seed,
            "data": data_digest,
        }
    )


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One training run to do: a resolved configuration, a seed and the key of both."""

    key: str
    config: ReplicateConfig
    seed: int
    data_digest: str

    @classmethod
    def of(cls, config: ReplicateConfig, seed: int, data_digest: str) -> "Replicate":
        return cls(key=replicate_key(config, seed, data_digest), config=config, seed=seed, data_digest=data_digest)


def pack_shape(config: ReplicateConfig) -> str:
    """Replicates whose configurations share this value can train as one batched tensor program.

    Members may differ in seed, learning rate and augmentation strength.
    """
    values = flatten(config)
    for path in ("optimizer.learning_rate", "data.strength"):
        del values[path]
    return digest(values)
