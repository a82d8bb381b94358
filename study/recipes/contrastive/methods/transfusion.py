"""TransFusion (arXiv 2403.18681): attention blocks over the batch, trained towards the target affinity."""

from typing import TYPE_CHECKING, Any

from study.errors import ConfigError
from study.interface.metrics import Reported
from study.recipes.contrastive.methods import TrainingMethod, names

if TYPE_CHECKING:
    from study.recipes.contrastive.config import ReplicateConfig
    from study.recipes.contrastive.trainers.base import Trainer


def _trainer() -> "Trainer[Any]":
    from study.recipes.contrastive.trainers.transfusion import TransFusionTrainer

    return TransFusionTrainer()


def _reported(config: "ReplicateConfig") -> Reported:
    judged = {"p", "s_j", "p_clean", "s_j_clean", "pair_auc", "dead_row_share"}
    if config.data.num_views > 1:
        judged |= {"source_mass"}
    return names(judged, {"partnerless_row_share"})


def _check(config: "ReplicateConfig") -> None:
    if config.data.label_fraction < 1:
        raise ConfigError(
            "data.label_fraction below 1 has no meaning for trainer=transfusion, which uses every label: leave it out"
        )


METHOD = TrainingMethod(
    numerics=1,
    trainer=_trainer,
    reported=_reported,
    check=_check,
    num_blocks=lambda config: config.model.num_blocks,
    head_parameters=lambda config, width: (3 * config.model.num_blocks - 1) * width**2,
)
