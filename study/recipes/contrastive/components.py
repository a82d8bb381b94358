"""Every data set, encoder, training method, metric of embeddings and law of this recipe, by the name of its file.

To add one, write a file of that name in its folder and put the name here: nothing else has to know. Files are loaded
when they are first asked for, and say what they are without loading torch.
"""

import importlib
from typing import TYPE_CHECKING, cast

from study.recipes.contrastive.methods import TrainingMethod
from study.recipes.contrastive.metrics import EmbeddingMetric
from study.recipes.contrastive.models.kinds import EncoderKind

if TYPE_CHECKING:
    from study.recipes.contrastive.data.sets import DataSource
    from study.recipes.contrastive.laws.law import Law

DATASETS = ("fashion_mnist", "digits", "cifar10", "cifar100", "clusters")
ENCODERS = ("none", "linear", "mlp", "small", "resnet18")
METHODS = ("transfusion", "supervised", "oar")
METRICS: tuple[str, ...] = ()
LAWS = (
    *("geometric", "extreme_value", "one_block", "unbalanced", "state_evolution", "depth", "spectral", "trained"),
    *("trained_plus", "coverage", "learning_steps", "source_mass", "collapse", "frozen_collapse", "labels"),
    "labels_trained",
)

_HERE = __name__.rpartition(".")[0]


def dataset(name: str) -> "DataSource":
    """A data set: ``data/sets/NAME.py``."""
    return cast("DataSource", importlib.import_module(f"{_HERE}.data.sets.{name}").DATASET)


def encoder(name: str) -> "EncoderKind":
    """An encoder: ``models/kinds/NAME.py``."""
    return cast("EncoderKind", importlib.import_module(f"{_HERE}.models.kinds.{name}").ENCODER)


def method(name: str) -> "TrainingMethod":
    """A training method: ``methods/NAME.py``."""
    return cast("TrainingMethod", importlib.import_module(f"{_HERE}.methods.{name}").METHOD)


def embedding_metrics() -> "list[EmbeddingMetric]":
    """The metrics of embeddings that have a file of their own: ``metrics/NAME.py``."""
    return [importlib.import_module(f"{_HERE}.metrics.{name}").METRIC for name in METRICS]


def laws() -> "dict[str, Law]":
    """All laws by their names: ``laws/NAME.py``."""
    modules = [importlib.import_module(f"{_HERE}.laws.{name}") for name in LAWS]
    return {law.name: law for module in modules for law in module.LAWS}
