"""The complete configuration of one replicate, its canonical form and its key.

Every field that can change a number is here and nowhere else; what cannot (storage, workers, pack, budget)
is not. Configurations are frozen; variants derive with :func:`with_values`.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

from study.designs.values import digest, flatten
from study.errors import ConfigError, unknown_name_sentence
from study.recipes.contrastive import components


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
        known = components.DATASETS
        _require(self.name in known, unknown_name_sentence("data set", self.name, known))
        _require(self.num_views >= 1, "data.num_views must be at least 1")
        _require(0 < self.label_fraction <= 1, "data.label_fraction must lie in (0, 1]")
        _require(self.strength >= 0, "data.strength must not be negative")
        _require(
            components.dataset(self.name).is_vector or self.strength <= 1.5,
            "data.strength on images must lie in [0, 1.5] (0 shows every image unchanged)",
        )

    @property
    def num_classes(self) -> int:
        """Classes of the data set."""
        fixed = components.dataset(self.name).num_classes
        return self.clusters.num_classes if fixed is None else fixed


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

    encoder: str = "small"
    width: int = 16
    embedding_dim: int = 64
    projection_dim: int = 0
    norm: Literal["group", "batch"] = "group"
    num_blocks: int = 2
    residual: bool = True
    layer_norm: bool = False
    init: Literal["default", "identity"] = "default"

    def __post_init__(self) -> None:
        known = components.ENCODERS
        _require(self.encoder in known, unknown_name_sentence("encoder", self.encoder, known))
        _require(self.width >= 4 and self.width % 4 == 0, "model.width must be a multiple of 4 (GroupNorm)")
        _require(self.embedding_dim >= 2, "model.embedding_dim must be at least 2")
        _require(self.projection_dim >= 0, "model.projection_dim must not be negative (0: no projection)")
        _require(self.num_blocks >= 1, "model.num_blocks must be at least 1")
        _require(
            self.norm == "group" or components.encoder(self.encoder).has_norm,
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

    trainer: str = "transfusion"
    precision: Literal["float32", "bfloat16"] = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    horizon: HorizonConfig = field(default_factory=HorizonConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        known = components.METHODS
        _require(self.trainer in known, unknown_name_sentence("trainer", self.trainer, known))
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
        kind = "vectors" if components.dataset(self.data.name).is_vector else "images"
        fitting = [name for name in components.ENCODERS if components.encoder(name).takes in (kind, "both")]
        _require(
            self.model.encoder in fitting,
            f"model.encoder must be {' or '.join(fitting)} on {self.data.name}, whose rows are {kind}",
        )
        _require(
            self.batch.labelled == 0 or self.trainer == "oar",
            "batch.labelled feeds the anchor regression of trainer=oar: leave it out",
        )
        _require(
            not self.evaluation.escape or self.trainer == "oar",
            "evaluation.escape watches the embeddings of trainer=oar: leave it out",
        )
        components.method(self.trainer).check(self)

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


def pack_shape(config: ReplicateConfig) -> str:
    """Replicates whose configurations share this value can train as one batched tensor program.

    Members may differ in seed, learning rate and augmentation strength.
    """
    values = flatten(config)
    for path in ("optimizer.learning_rate", "data.strength"):
        del values[path]
    return digest(values)
