"""How many labels a classifier needs that knows its classes by the means of their labelled examples.

Anchors that are tied to class means decide like the nearest mean. Its error has two parts: the sources of a class
differ by the spread tau, and a mean of n_F / K labelled sources keeps a part of it (docs/theory.md, section 10.1).
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from study.recipes.contrastive.laws.kinds import class_means, random_labels
from study.recipes.contrastive.laws.law import Law, Setting, frozen

# The share of label draws that may miss a class.
MISSED = 0.1

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LARGEST_SEPARATION = 40.0


def best_of_classes(separation: float, num_classes: float) -> float:
    """Probability that the true one of K scores is the largest: E Phi(kappa + g)^(K - 1), kappa its lead in s.d."""
    return float(_WEIGHTS @ ndtr(_NODES + separation) ** (num_classes - 1))


def separation_for(accuracy: float, num_classes: float) -> float:
    """The kappa at which :func:`best_of_classes` has that accuracy, above chance and below 1."""
    return float(brentq(lambda kappa: best_of_classes(kappa, num_classes) - accuracy, 0.0, _LARGEST_SEPARATION))


def _noise(num_classes: float, dim: float, spread: float, cosine: float, in_subspace: bool) -> tuple[float, float]:
    """(a, b) of 1 / kappa^2 = a + b K / n_F: what all labels leave, and what the noise of the means adds.

    A score x m_k has the lead 1 - c. Its variance is tau^2/d (1 - c) of the source along the centres, and per label
    tau^2/d of the mean along the source's own centre and tau^4/d across it; within K known dimensions tau^4 K/d^2.
    """
    lead, per_dim = 1 - cosine, spread**2 / dim
    across = per_dim * (num_classes / dim if in_subspace else 1.0) * spread**2
    return per_dim / lead, (per_dim + across) / lead**2


def class_mean_accuracy(
    num_labels: float,
    num_classes: float,
    dim: float,
    spread: float,
    cosine: float = 0.0,
    *,
    in_subspace: bool = False,
) -> float:
    """Nearest-class-mean accuracy on fresh sources from ``num_labels`` labelled ones, equally many of each class.

    ``in_subspace``: where the K dimensions of the centres are known beforehand. ``num_labels`` may be infinite.
    """
    limit, per_label = _noise(num_classes, dim, spread, cosine, in_subspace)
    return best_of_classes((limit + per_label * num_classes / num_labels) ** -0.5, num_classes)


def class_mean_labels(
    accuracy: float,
    num_classes: float,
    dim: float,
    spread: float,
    cosine: float = 0.0,
    *,
    in_subspace: bool = False,
) -> float:
    """The least number of labels with that accuracy, which must lie above chance and below that of all labels."""
    limit, per_label = _noise(num_classes, dim, spread, cosine, in_subspace)
    return num_classes * per_label / (separation_for(accuracy, num_classes) ** -2 - limit)


def half_rise(num_classes: float, dim: float, spread: float, cosine: float = 0.0) -> float:
    """The accuracy half-way from chance to that of all labels."""
    return (1 / num_classes + class_mean_accuracy(np.inf, num_classes, dim, spread, cosine)) / 2


def coverage_labels(num_classes: float, missed: float = MISSED) -> float:
    """Labels drawn at random until every class has one but for a share ``missed`` of draws, about K ln(K / missed).

    By the union bound, so never too few; 2 % too many at two classes and less than 1 % from three on.
    """
    return float(np.log(num_classes / missed) / -np.log1p(-1 / num_classes))


def two_class_labels(num_classes: float, missed: float = MISSED) -> float:
    """Labels drawn at random until they are of two classes at least but for a share ``missed`` of draws."""
    return float(1 - np.log(missed) / np.log(num_classes))


def coverage_probability(num_labels: float, num_classes: float) -> float:
    """Probability that labels drawn at random cover every class, by inclusion and exclusion."""
    missing = np.arange(1, int(num_classes))
    # K choose m, as a product: 1, K, K (K - 1) / 2, ...
    ways = np.cumprod((num_classes - missing + 1) / missing)
    return float(1 + np.sum((-1.0) ** missing * ways * (1 - missing / num_classes) ** num_labels))


def two_class_probability(num_labels: float, num_classes: float) -> float:
    """Probability that labels drawn at random are of two classes at least, the least that gives OAR a direction."""
    return float(1 - num_classes ** (1 - num_labels))


def _labels(setting: Setting, in_subspace: bool) -> float:
    model = setting.given("num_classes", "dim", "spread", "cosine")
    return class_mean_labels(half_rise(*model), *model, in_subspace=in_subspace)


def _accuracy(setting: Setting, in_subspace: bool) -> float:
    return class_mean_accuracy(
        *setting.given("num_labels", "num_classes", "dim", "spread", "cosine"), in_subspace=in_subspace
    )


def _outside(setting: Setting, in_subspace: bool) -> str | None:
    dim, num_classes = setting.given("dim", "num_classes")
    if setting.optimizer is not None and setting.steps != 1:
        return "covers class means, as after one step: an encoder that is trained on needs more labels"
    if setting.spread <= 0:
        return "needs a spread above 0: where all sources of a class are alike, one label of each class tells all"
    if dim < 16:
        return "was verified for dim from 16 on"
    if _labels(setting, in_subspace) < num_classes:
        return "one label of each class is already more than half-way from chance to all labels"
    return None


CLASS_MEAN_LABELS = Law(
    name="class_mean_labels",
    says="labels from which the class means of labelled sources classify half-way from chance to all labels",
    quantity="num_labels",
    direction="smallest",
    metric="accuracy_clean",
    fraction=0.5,
    inputs=("dim", "num_classes", "spread"),
    assumptions="anchors tied to class means, as after one step of OAR on a linear encoder with small weights; equally "
    "many labels of each class; the rise from chance; an encoder trained by OAR needs more labels",
    validity="dim >= 16, spread > 0, at least one label of each class",
    kind=class_means,
    outside=lambda setting: _outside(setting, in_subspace=False),
    threshold=lambda setting: _labels(setting, in_subspace=False),
    outcome=lambda setting: _accuracy(setting, in_subspace=False),
    band=frozen(0.013, 0.067, 17),
    section="section 10.1",
)

LABELS_SUBSPACE = Law(
    name="labels_subspace",
    says="the same where the subspace of the class centres is known without labels: fewer no method can hope for",
    quantity="num_labels",
    direction="smallest",
    metric="accuracy_clean",
    fraction=0.5,
    inputs=("dim", "num_classes", "spread"),
    assumptions="class means within the K dimensions of the centres; a reference that training does not reach: "
    "InfoNCE keeps the differences between the sources of a class",
    validity="dim >= 16, spread > 0, at least one label of each class",
    kind=class_means,
    outside=lambda setting: _outside(setting, in_subspace=True),
    threshold=lambda setting: _labels(setting, in_subspace=True),
    outcome=lambda setting: _accuracy(setting, in_subspace=True),
    band=frozen(0.014, 0.038, 8),
    section="section 10.1",
    is_control=True,
)

LABEL_COVERAGE = Law(
    name="label_coverage",
    says="labels drawn at random that cover every class in nine draws of ten",
    quantity="num_labels",
    direction="smallest",
    metric="class_coverage",
    level=1 - MISSED,
    inputs=("num_classes",),
    assumptions="labels drawn independently, all classes equally likely; drawn class by class they always cover",
    validity="two classes or more",
    kind=random_labels,
    outside=lambda setting: None,
    threshold=lambda setting: coverage_labels(*setting.given("num_classes")),
    outcome=lambda setting: coverage_probability(*setting.given("num_labels", "num_classes")),
    band=frozen(0.006, 0.018, 6),
    section="section 10.3",
)

TWO_CLASSES = Law(
    name="two_classes",
    says="labels drawn at random that are of two classes at least in nine draws of ten, the least that directs OAR",
    quantity="num_labels",
    direction="smallest",
    metric="two_class_share",
    level=1 - MISSED,
    inputs=("num_classes",),
    assumptions=LABEL_COVERAGE.assumptions,
    validity="two classes or more; exact",
    kind=random_labels,
    outside=lambda setting: None,
    threshold=lambda setting: two_class_labels(*setting.given("num_classes")),
    outcome=lambda setting: two_class_probability(*setting.given("num_labels", "num_classes")),
    band=frozen(0.0, 0.0, 6),
    section="section 10.3",
)

LAWS = (CLASS_MEAN_LABELS, LABELS_SUBSPACE, LABEL_COVERAGE, TWO_CLASSES)
