"""Which metrics a replicate reports, by its configuration: what every trainer declares, before anything is trained."""

from dataclasses import dataclass

from study.config import ReplicateConfig

# What every trainer says of its embeddings: whether they have collapsed.
_OF_EMBEDDINGS = frozenset({"effective_rank", "mean_cosine"})


@dataclass(frozen=True, kw_only=True)
class Reported:
    """Names of metrics: ``judged`` before training and at the end, ``trained`` at the end alone.

    ``sometimes`` are those that a replicate may end without.
    """

    judged: frozenset[str]
    trained: frozenset[str]
    sometimes: frozenset[str]

    @property
    def at_end(self) -> frozenset[str]:
        """What every replicate with a result has."""
        return self.judged | self.trained


def reported(config: ReplicateConfig) -> Reported:
    """The metrics of a configuration, whose trainer is one of those in study/trainers/loop.py."""
    own = {"transfusion": _transfusion, "supervised": _supervised, "oar": _oar}[config.trainer](config)
    is_trained = config.num_steps > 0
    return Reported(
        judged=own.judged | _OF_EMBEDDINGS | _downstream(config),
        trained=own.trained | {"train_loss"} if is_trained else frozenset(),
        sometimes=own.sometimes if is_trained else frozenset(),
    )


def _transfusion(config: ReplicateConfig) -> Reported:
    judged = {"p", "s_j", "p_clean", "s_j_clean", "pair_auc", "dead_row_share"}
    if config.data.num_views > 1:
        judged |= {"source_mass"}
    return _reported(judged, {"partnerless_row_share"})


def _supervised(_: ReplicateConfig) -> Reported:
    return _reported({"accuracy", "accuracy_clean"})


def _oar(config: ReplicateConfig) -> Reported:
    judged = {"accuracy", "accuracy_clean", "embedding_norm", "uniformity"}
    if config.data.num_views > 1:
        judged |= {"alignment"}
    trained = {"first_step_norm", "first_step_variance"}
    if config.loss.contrast != "none":
        trained |= {"contrast_loss"}
    if config.loss.oar_weight > 0 and config.loss.oar_from_step < config.num_steps:
        trained |= {"oar_loss"}
    return _reported(judged, trained, {"escape_step"} if config.evaluation.escape else set())


def _reported(judged: set[str], trained: set[str] | None = None, sometimes: set[str] | None = None) -> Reported:
    return Reported(
        judged=frozenset(judged), trained=frozenset(trained or set()), sometimes=frozenset(sometimes or set())
    )


def _downstream(config: ReplicateConfig) -> set[str]:
    """What frozen embeddings are good for, with all labels and with those that the method had."""
    evaluation = config.evaluation
    names: set[str] = set()
    if evaluation.knn_bank:
        names |= {"knn_accuracy"}
        if config.data.label_fraction < 1:
            names |= {"knn_labelled_accuracy"}
    if evaluation.linear_probe:
        names |= {"probe_accuracy", "probe_full_accuracy"}
    return names
