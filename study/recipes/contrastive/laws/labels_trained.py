"""How many labels a linear encoder needs that is trained by anchor regression until it has forgotten its start.

Training to the end does not stop at class means: it fits the noise of its few labelled sources as well. Fresh views at
every step act as a ridge, so what it ends at is ridge regression of the anchors on n_F sources; its accuracy follows
from the resolvent of a Wishart matrix. With few labels it is that of class means; near n_F = d, where the sources can
just be fitted exactly, it stalls or falls (docs/theory.md, section 10.2).
"""

from typing import NamedTuple

import numpy as np

from study.recipes.contrastive.laws.kinds import anchor_regression
from study.recipes.contrastive.laws.labels import best_of_classes, half_rise
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import crossing

# The start must have decayed to exp(-3).
_LEAST_DECAY = 3.0
# Adam's decay, measured at one setting: d = 64, K = 5, spread 2, sigma 1/2, one label of each class, 600 steps of 3e-3.
_ADAM_DECAY = 0.4
# A threshold is one only if a relative error of 3 % in accuracy moves it by less than this factor.
_TOLERANCE, _LARGEST_MOVE = 0.03, 2.5
_MOST_LABELS_PER_DIM = 100.0


class Resolvent(NamedTuple):
    """Normalised traces of M^-1 and M^-2, M = noise G G' / d + ridge: the noise Gram matrix of the labelled sources."""

    first: float
    second: float


def wishart_resolvent(num_rows: float, num_columns: float, variance: float, ridge: float) -> Resolvent:
    """Of G G' + ridge, G Gaussian of ``num_rows`` x ``num_columns`` entries with that variance (Marchenko-Pastur).

    m is the positive root of ridge variance rows m^2 + (ridge + variance (columns - rows)) m = 1; m2 = -dm/d ridge.
    """
    square = ridge * variance * num_rows
    linear = ridge + variance * (num_columns - num_rows)
    first = 2 / (linear + np.sqrt(linear**2 + 4 * square))
    second = (variance * num_rows * first**2 + first) / (2 * square * first + linear)
    return Resolvent(float(first), float(second))


def trained_accuracy(num_labels: float, num_classes: float, dim: float, spread: float, sigma: float) -> float:
    """Nearest-anchor accuracy on fresh sources of the ridge solution on ``num_labels`` sources, orthonormal centres.

    With alpha the response to a centre, N the squared norm of the fitted noise and V the errors along the centres,
    1 / kappa^2 = (spread^2/d (alpha^2 + N) + V) / alpha^2. A large ridge gives back the class means.
    """
    variance, per_class = spread**2 / dim, num_labels / num_classes
    ridge = num_labels * sigma**2 / dim
    first, second = wishart_resolvent(num_labels, dim - num_classes, variance, ridge)
    gain = first * per_class
    whole = 1 + gain + first * variance * num_labels
    response = gain / whole
    residual = (1 - response) ** 2 * per_class + response**2 * variance * num_labels
    fitted_noise = (first - ridge * second) * residual
    along = second * variance * per_class * ((1 - response) ** 2 + response**2) / whole**2
    return best_of_classes(response / np.sqrt(variance * (response**2 + fitted_noise) + along), num_classes)


def start_decay(setting: Setting) -> float:
    """-log of what is left of the start (nn.Linear's default) across all inputs, at one label of each class.

    Views' noise shrinks it: gradient descent at the rate lambda eta sigma^2 / (d R^2), R the norm of the embeddings;
    Adam, which divides by the gradient's noise, at a rate of order eta sigma sqrt(n_F) / sqrt(spread^2 + sigma^2).
    """
    num_classes, spread, sigma, steps, rate = setting.given("num_classes", "spread", "sigma", "steps", "learning_rate")
    travelled = steps * rate * (0.5 if setting.schedule == "cosine" else 1.0)
    if setting.optimizer == "adam":
        return float(_ADAM_DECAY * travelled * sigma * np.sqrt(num_classes) / np.hypot(spread, sigma))
    weight = 1.0 if setting.oar_weight is None else setting.oar_weight
    return float(3 * weight * travelled * sigma**2 / (num_classes * (1 + spread**2 + sigma**2)))


def _labels_at(setting: Setting, factor: float = 1.0) -> float:
    num_classes, dim, spread, sigma = setting.given("num_classes", "dim", "spread", "sigma")

    def accuracies(labels_X: Array) -> Array:
        return np.array([trained_accuracy(n, num_classes, dim, spread, sigma) for n in labels_X])

    level = factor * half_rise(num_classes, dim, spread)
    return crossing(accuracies, num_classes, _MOST_LABELS_PER_DIM * dim, level=level, direction="smallest")


def _outside(setting: Setting) -> str | None:
    num_classes, dim, spread, sigma = setting.given("num_classes", "dim", "spread", "sigma")
    if setting.cosine != 0 or setting.mean_norm != 0:
        return "covers orthonormal centres without a common mean"
    if spread <= 0:
        return "needs a spread above 0: where all sources of a class are alike, one label of each class tells all"
    if dim < 16:
        return "was verified for dim from 16 on"
    if setting.temperature is not None:
        return "covers anchor regression alone, not beside a contrast (temperature)"
    if start_decay(setting) < _LEAST_DECAY:
        return "covers training until the start is forgotten: more steps, a larger rate or a larger sigma are needed"
    if trained_accuracy(num_classes, num_classes, dim, spread, sigma) >= half_rise(num_classes, dim, spread):
        return "one label of each class is already more than half-way from chance to all labels"
    low, high = _labels_at(setting, 1 - _TOLERANCE), _labels_at(setting, 1 + _TOLERANCE)
    if np.isnan(high) or high > _LARGEST_MOVE * (num_classes if np.isnan(low) else low):
        return "accuracy stalls half-way while labels become as many as dimensions: there is no sharp threshold"
    return None


LABELS_TRAINED = Law(
    name="labels_trained",
    says="labels from which a linear encoder trained to the end by anchor regression is half-way to all labels",
    quantity="num_labels",
    direction="smallest",
    metric="accuracy_clean",
    fraction=0.5,
    inputs=("dim", "num_classes", "spread", "sigma", "optimizer", "learning_rate", "steps"),
    assumptions="a linear encoder of orthonormal centres, OAR alone, fresh views of the same labelled sources in every "
    "step, equally many of each class; trained until its start is forgotten; the rise from chance",
    validity="dim >= 16, sigma > 0, K <= 10, where accuracy does not stall half-way",
    kind=anchor_regression,
    outside=_outside,
    threshold=_labels_at,
    outcome=lambda setting: trained_accuracy(*setting.given("num_labels", "num_classes", "dim", "spread", "sigma")),
    band=frozen(0.073, 0.312, 14),
    ranges={"num_classes": (2, 10)},
    section="section 10.2",
)

LAWS = (LABELS_TRAINED,)
