"""The metrics of the contrastive trainers: what each is, and which ones a configuration reports."""

from study.interface.metrics import Metric, Reported
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig


def _guess(config: ReplicateConfig) -> float:
    """The accuracy of a guess."""
    return 1 / config.data.num_classes


# What a replicate measures at its end, on balanced evaluation batches unless said otherwise.
METRICS = (
    Metric(
        name="p",
        meaning="share of affinity mass on same-class rows, 0 at chance, 1 at the target, views of training strength",
        label="P (test batches)",
        chance=0.0,
    ),
    Metric(
        name="s_j",
        meaning="1 - JSD / JSD of chance, views of training strength",
        label="S_J (test batches)",
        chance=0.0,
    ),
    Metric(name="p_clean", meaning="p on unaugmented images", chance=0.0),
    Metric(name="s_j_clean", meaning="s_j on unaugmented images", chance=0.0),
    Metric(name="pair_auc", meaning="probability that a same-class affinity exceeds a cross-class one", chance=0.5),
    Metric(
        name="source_mass",
        meaning="share of affinity mass on views of the same source (more than one view)",
        label="source mass (test batches)",
    ),
    Metric(
        name="dead_row_share", meaning="share of evaluation rows without any positive affinity; they count as uniform"
    ),
    Metric(
        name="partnerless_row_share",
        meaning="share of training rows without a partner in their batch, mean since the last evaluation",
        has_before=False,
    ),
    Metric(
        name="train_loss",
        meaning="training loss in nats, mean since the last evaluation",
        unit="nats",
        has_before=False,
    ),
    Metric(
        name="accuracy",
        meaning="accuracy of the method's own decision (largest logit, nearest anchor), views of training strength",
        chance=_guess,
    ),
    Metric(
        name="accuracy_clean", meaning="the same on unaugmented images", label="accuracy (test images)", chance=_guess
    ),
    Metric(
        name="knn_accuracy",
        meaning="k-nearest-neighbour accuracy of embeddings (cosine, whole split, bank of evaluation.knn_bank)",
        chance=_guess,
    ),
    Metric(
        name="knn_labelled_accuracy",
        meaning="the same with the labelled images of the replicate as bank (label fraction below 1)",
        chance=_guess,
    ),
    Metric(
        name="probe_accuracy",
        meaning="logistic regression on frozen embeddings, with the labels of the replicate (whole split)",
        chance=_guess,
    ),
    Metric(name="probe_full_accuracy", meaning="the same with all labels of the training split", chance=_guess),
    Metric(
        name="effective_rank",
        meaning="RankMe of the evaluation embeddings (of the projections with trainer oar), in dimensions",
        unit="dimensions",
    ),
    Metric(
        name="mean_cosine",
        meaning="mean cosine over all pairs of the same",
        label="mean cosine at the end",
        broken="high",
        broken_word="fused",
    ),
    Metric(name="embedding_norm", meaning="mean norm of the projections (oar)"),
    Metric(name="alignment", meaning="mean squared distance of unit projections of one source, 0 to 4 (oar)"),
    Metric(name="uniformity", meaning="log mean exp(-2 squared distance) of unit projections, 0 for one point (oar)"),
    Metric(
        name="contrast_loss",
        meaning="InfoNCE or SupCon part of the training loss in nats, mean since the last evaluation (oar)",
        unit="nats",
        has_before=False,
    ),
    Metric(
        name="oar_loss",
        meaning="anchor regression part of the training loss, -1 to 1, before lambda (oar)",
        has_before=False,
    ),
    Metric(
        name="first_step_norm",
        meaning="R_1: mean norm of projections of unaugmented rows after the first step (oar)",
        has_before=False,
    ),
    Metric(
        name="first_step_variance",
        meaning="v_0: 1 - mean cosine of the same after the first step (oar)",
        has_before=False,
    ),
    Metric(
        name="escape_step",
        meaning="first step at which their mean cosine is below 1/2; null where it never was (evaluation.escape)",
        unit="steps",
        has_before=False,
    ),
)

# What every trainer says of its embeddings: whether they have collapsed.
_OF_EMBEDDINGS = frozenset({"effective_rank", "mean_cosine"})


def all_metrics() -> tuple[Metric, ...]:
    """Everything that a replicate may report, those of methods and of files beside this one included."""
    of_methods = (metric for name in components.METHODS for metric in components.method(name).metrics)
    return (*METRICS, *of_methods, *(found.metric for found in components.embedding_metrics()))


def reported(config: ReplicateConfig) -> Reported:
    """The metrics of a configuration."""
    own = components.method(config.trainer).reported(config)
    measured = {found.metric.name for found in components.embedding_metrics() if found.is_reported(config)}
    is_trained = config.num_steps > 0
    return Reported(
        judged=own.judged | _OF_EMBEDDINGS | measured | _downstream(config),
        trained=own.trained | {"train_loss"} if is_trained else frozenset(),
        sometimes=own.sometimes if is_trained else frozenset(),
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
