"""What kind of run a law is about: its method, its encoder, its optimiser. Sizes and strengths are each law's own.

A law names one of these as its ``kind``, so that a new law cannot forget what a configuration may say besides what
its formula asks for. What is not said passes; what was not verified is refused.
"""

from collections.abc import Callable

from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.laws.untrained import first_reason

Kind = Callable[[Setting], str | None]


def fusion(setting: Setting) -> str | None:
    """Blocks of ReLU attention on the vectors of the data model, without an encoder."""
    return first_reason(
        _of_vectors(setting),
        _of_trainer(setting, "transfusion", "fusion"),
        None
        if setting.encoder in (None, "none")
        else f"assumes that blocks see the inputs themselves, but there is an encoder ({setting.encoder})",
        _without_projection(setting),
        "assumes ReLU affinities, but they are softmax" if setting.affinity == "softmax" else None,
    )


def trained_fusion(setting: Setting) -> str | None:
    """The same, trained towards classes by Adam from identity weights on single views, centres in a random basis."""
    if (reason := fusion(setting)) is not None:
        return reason
    if setting.weights == "identity":
        return "is about training, but the weights stay the identity"
    if setting.target == "source":
        return "training was towards sources, and laws of training are about classes"
    if setting.optimizer == "sgd":
        return "was verified with adam only, but the optimiser is sgd"
    if setting.weight_decay > 0:
        return f"assumes training without weight decay, but it is {setting.weight_decay:g}"
    if setting.init == "default":
        return "assumes that training starts from identity weights, but the start is random"
    if setting.basis == "axes":
        return "was verified for centres in a random basis: Adam learns centres on coordinate axes more slowly"
    if setting.num_views > 1:
        return f"assumes one view of each image, but there are {setting.num_views}, which are partners in any batch"
    return None


def free_embeddings(setting: Setting) -> str | None:
    """InfoNCE on embeddings that are parameters of their own, which no run of the project trains."""
    if setting.encoder is not None:
        return "is about free embeddings, but here an encoder ties them together"
    return first_reason(_of_vectors(setting), _of_info_nce(setting), _plain_descent(setting))


def collapsed_encoder(setting: Setting) -> str | None:
    """A linear encoder that plain gradient descent trains by InfoNCE; OAR joins with a labelled batch of its own."""
    return first_reason(
        _of_vectors(setting),
        _of_info_nce(setting),
        _linear_encoder(setting),
        _plain_descent(setting),
        _oar_after_first_step(setting) if setting.oar_weight else None,
    )


def class_means(setting: Setting) -> str | None:
    """Means of labelled sources, as one step from a vanishing start makes them; the start of a run does not vanish."""
    if setting.encoder is None:
        return None
    return "covers class means, as after one step: an encoder that is trained on needs more labels"


def anchor_regression(setting: Setting) -> str | None:
    """A linear encoder trained by OAR alone."""
    if setting.contrast in ("info_nce", "supcon"):
        return f"covers anchor regression alone, not beside a contrast ({setting.contrast})"
    return first_reason(
        _of_vectors(setting), _of_trainer(setting, "oar", "anchor regression"), _linear_encoder(setting),
        _plain_descent(setting),
    )  # fmt: skip


def random_labels(setting: Setting) -> str | None:
    """Labels drawn one by one, whatever their class; no training."""
    if setting.labelling == "stratified":
        return "assumes labels drawn at random, but here every class gets its share"
    return None


def _of_vectors(setting: Setting) -> str | None:
    if setting.data == "images":
        return "is about vectors of the data model (clusters), but the data are images"
    if setting.precision == "bfloat16":
        return "was verified in float32, but the precision is bfloat16"
    return None


def _of_trainer(setting: Setting, trainer: str, about: str) -> str | None:
    if setting.trainer in (None, trainer):
        return None
    return f"is about {about} (trainer {trainer}), but the trainer is {setting.trainer}"


def _of_info_nce(setting: Setting) -> str | None:
    if setting.contrast not in (None, "info_nce"):
        return f"is about InfoNCE, but the contrast is {setting.contrast}"
    return _of_trainer(setting, "oar", "InfoNCE")


def _linear_encoder(setting: Setting) -> str | None:
    if setting.encoder not in (None, "linear"):
        return f"covers a linear encoder, but it is {setting.encoder}"
    return _without_projection(setting)


def _without_projection(setting: Setting) -> str | None:
    if setting.projection_dim == 0:
        return None
    return f"assumes that nothing lies behind the embeddings, but there is a projection to {setting.projection_dim}"


def _plain_descent(setting: Setting) -> str | None:
    """Neither momentum nor weight decay: one multiplies the rate with time, the other shrinks what is not renewed."""
    if setting.momentum > 0:
        return f"covers training without momentum, but it is {setting.momentum:g}"
    if setting.weight_decay > 0:
        return f"covers training without weight decay, but it is {setting.weight_decay:g}"
    return None


def _oar_after_first_step(setting: Setting) -> str | None:
    if setting.oar_from_step not in (None, 1):
        return f"assumes that OAR joins after the first step (oar_from_step 1), but it is {setting.oar_from_step}"
    if setting.labelled is None or setting.labelled >= (setting.num_classes or 0):
        return None
    return f"needs labelled views of every class at every step, but a step has {setting.labelled} of its own"
