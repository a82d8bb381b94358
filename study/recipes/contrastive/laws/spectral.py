"""The spectral limit: up to which noise, or from which batch, one batch shows its class subspace (theory, section 5).

Baik, Ben Arous and Peche (2005): an eigenvalue of the between-class covariance stands out of the noise's spectrum only
above a critical ratio. Lesieur et al. (2016): conjectured to be the best possible for K <= 4 + 2 sqrt(N / d).
"""

import dataclasses

import numpy as np

from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import Values
from study.recipes.contrastive.laws.untrained import first_reason, outside_batch, outside_model, outside_sigma

LEAST_ROWS = 3


def bbp_sigma(batch: Values, dim: Values, num_classes: Values, cosine: Values = 0.0) -> Array:
    """(N d (1 - c)^2 / K^2)^(1/4), the largest sigma at which the class subspace shows in N rows."""
    return np.asarray(np.sqrt((1 - np.asarray(cosine)) * np.sqrt(np.asarray(batch) * dim) / num_classes))


def bbp_batch(sigma: Values, dim: Values, num_classes: Values, cosine: Values = 0.0) -> Array:
    """K^2 sigma^4 / (d (1 - c)^2), the least number of rows in which the class subspace shows."""
    ratio = np.asarray(num_classes) * np.square(sigma, dtype=np.float64) / (1 - np.asarray(cosine))
    return np.asarray(ratio**2 / dim)


def subspace_overlap(sigma: Values, batch: Values, dim: Values, num_classes: Values, cosine: Values = 0.0) -> Array:
    """Mean squared cosine of the top K - 1 principal axes of a centred batch and the class subspace, for large N and d.

    (1 - g / l^2) / (1 + g / l) with g = d / N and l = d (1 - c) / (K sigma^2); 0 beyond the threshold.
    """
    aspect = np.asarray(dim, np.float64) / batch
    spike = dim * (1 - np.asarray(cosine)) / (num_classes * np.square(sigma, dtype=np.float64))
    return np.asarray(np.maximum((1 - aspect / spike**2) / (1 + aspect / spike), 0))


def _outside(setting: Setting) -> str | None:
    return first_reason(outside_model(setting), outside_batch(setting, LEAST_ROWS), outside_sigma(setting))


def _sigma_max(setting: Setting) -> float:
    batch, dim, num_classes = setting.given("batch", "dim", "num_classes")
    return float(bbp_sigma(batch, dim, num_classes, setting.cosine))


def _batch_min(setting: Setting) -> float:
    sigma, dim, num_classes = setting.given("sigma", "dim", "num_classes")
    batch = float(bbp_batch(sigma, dim, num_classes, setting.cosine))
    # Fewer rows than one of every class are no batch to look for classes in.
    return batch if batch >= num_classes else float("nan")


SPECTRAL = Law(
    name="spectral",
    says="from one batch without labels, PCA finds the class subspace up to a sigma that grows as (N d)^(1/4)",
    quantity="sigma",
    direction="largest",
    metric="pair_auc",
    level=0.6,
    inputs=("dim", "num_classes", "batch"),
    assumptions="Gaussian noise, balanced classes; the pair AUC of PCA stands for recovery, 0.6 for finite N and d",
    validity="d 64 to 400, K 3 to 10, 10 to 100 rows of a class; fusion tracks PCA centred, without residual",
    kind=fusion,
    outside=_outside,
    threshold=_sigma_max,
    band=frozen(0.070, 0.250, 12),
    ranges={"dim": (64, 400), "num_classes": (3, 10), "per_class": (10, 100)},
    section="section 5.1",
)
SPECTRAL_BATCH = dataclasses.replace(
    SPECTRAL,
    name="spectral_batch",
    says="from one batch without labels, PCA finds the class subspace from K^2 sigma^4 / (d (1 - c)^2) rows on",
    quantity="batch",
    direction="smallest",
    inputs=("dim", "num_classes", "sigma"),
    threshold=_batch_min,
)
CONTROL_BBP_AS_MASS = dataclasses.replace(
    SPECTRAL,
    name="control_bbp_as_mass",
    says="the spectral limit read as the threshold of P: it is 1.5 to 3.4 times too high",
    metric="p",
    level=0.5,
    assumptions="that what PCA can recover, untrained fusion turns into mass on partners; it does not",
    validity="none: declared to fail; measured for d 32 to 256, K 3 to 10, N 40 to 300, 1 to 5 blocks",
    band=frozen(0.970, 2.431, 48),
    is_control=True,
    ranges={},
)

LAWS = (SPECTRAL, SPECTRAL_BATCH, CONTROL_BBP_AS_MASS)
