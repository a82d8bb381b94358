"""OAR (arXiv 2403.18699): contrast of all views plus orthonormal anchor regression of the labelled ones."""

from typing import TYPE_CHECKING, Any

from study.errors import ConfigError
from study.interface.metrics import Reported
from study.recipes.contrastive.methods import TrainingMethod, names

if TYPE_CHECKING:
    from study.recipes.contrastive.config import ReplicateConfig
    from study.recipes.contrastive.data.datasets import Dataset
    from study.recipes.contrastive.trainers.base import Trainer


def _trainer() -> "Trainer[Any]":
    from study.recipes.contrastive.trainers.oar import OarTrainer

    return OarTrainer()


def _reported(config: "ReplicateConfig") -> Reported:
    judged = {"accuracy", "accuracy_clean", "embedding_norm", "uniformity"}
    if config.data.num_views > 1:
        judged |= {"alignment"}
    trained = {"first_step_norm", "first_step_variance"}
    if config.loss.contrast != "none":
        trained |= {"contrast_loss"}
    if config.loss.oar_weight > 0 and config.loss.oar_from_step < config.num_steps:
        trained |= {"oar_loss"}
    return names(judged, trained, {"escape_step"} if config.evaluation.escape else set())


def _check(config: "ReplicateConfig") -> None:
    views, contrast = config.data.num_views, config.loss.contrast
    if config.model.encoder == "none" and not config.model.projection_dim:
        raise ConfigError("trainer=oar has nothing to train with model.encoder=none: use linear or mlp")
    if contrast == "info_nce" and views < 2:
        raise ConfigError("loss.contrast=info_nce needs data.num_views of at least 2: one view has no positive")
    if contrast != "none" and config.num_images < 2:
        raise ConfigError(
            f"batch.train={config.batch.train} holds one image, and the least of a contrast without negatives is "
            f"collapse: use at least {2 * views}"
        )
    if contrast == "none" and (config.loss.oar_weight <= 0 or config.loss.oar_from_step != 0):
        raise ConfigError(
            "loss.contrast=none leaves OAR alone to learn from: it needs loss.oar_weight above 0 and "
            "loss.oar_from_step=0"
        )


def _check_data(config: "ReplicateConfig", dataset: "Dataset") -> None:
    width = config.model.projection_dim or config.model.embedding_dim
    if dataset.num_classes > width:
        raise ConfigError(
            f"{dataset.num_classes} classes need as many orthonormal anchors, which {width} dimensions do not hold: "
            "raise model.projection_dim (or model.embedding_dim where there is no projection)"
        )


METHOD = TrainingMethod(numerics=1, trainer=_trainer, reported=_reported, check=_check, check_data=_check_data)
