"""The supervised baseline: cross-entropy of the labelled images."""

from typing import TYPE_CHECKING, Any

from study.interface.metrics import Reported
from study.recipes.contrastive.methods import TrainingMethod, names

if TYPE_CHECKING:
    from study.recipes.contrastive.config import ReplicateConfig
    from study.recipes.contrastive.trainers.base import Trainer


def _trainer() -> "Trainer[Any]":
    from study.recipes.contrastive.trainers.supervised import SupervisedTrainer

    return SupervisedTrainer()


def _reported(_: "ReplicateConfig") -> Reported:
    return names({"accuracy", "accuracy_clean"})


METHOD = TrainingMethod(numerics=1, trainer=_trainer, reported=_reported, has_pairs=False)
