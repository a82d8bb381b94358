"""One identity block on classes of unequal sizes (docs/theory.md, section 2.6). Shape suffix K: classes."""

import dataclasses

import numpy as np

from study.recipes.contrastive.laws.law import Array, Setting, frozen
from study.recipes.contrastive.laws.moments import Values, cosine_moments, crossing, rectified_mean, success_of_mass
from study.recipes.contrastive.laws.one_block import LEAST_SIGMA, MOST_CLASSES, ONE_BLOCK, most_sigma
from study.recipes.contrastive.laws.untrained import first_reason, outside_blocks, outside_model

# Ten, and what rounding small classes to whole rows makes of it.
_MOST_IMBALANCE = 11.0


def success_of_sizes(sigma: Values, dim: int, sizes_K: Array, cosine: float = 0.0) -> Array:
    """P of one block for classes of unequal sizes, against the chance that they have; shape of ``sigma``.

    A row of class k puts (n_k - 1) f_in / ((n_k - 1) f_in + (N - n_k) f_out) on its partners; p_in and chance are means
    over rows, so a class counts by its share.
    """
    sizes_K = np.asarray(sizes_K, np.float64)
    rows = sizes_K.sum()
    moments = cosine_moments(np.asarray(sigma, np.float64)[..., None], dim, cosine)
    within = (sizes_K - 1) * rectified_mean(moments.within_mean, moments.within_sd)
    across = (rows - sizes_K) * rectified_mean(moments.across_mean, moments.across_sd)
    share_K = sizes_K / rows
    mass = np.asarray((share_K * within / (within + across)).sum(-1))
    return success_of_mass(mass, float((share_K * (sizes_K - 1)).sum() / (rows - 1)))


def sigma_max_of_sizes(dim: int, sizes_K: Array, cosine: float = 0.0, level: float = 0.5) -> float:
    """The largest sigma with P at ``level`` for classes of unequal sizes; NaN where there is none."""
    return crossing(
        lambda sigma: success_of_sizes(sigma, dim, sizes_K, cosine), LEAST_SIGMA, most_sigma(dim), level=level
    )


def _sizes(setting: Setting) -> Array:
    assert setting.class_sizes is not None
    return np.asarray(setting.class_sizes, np.float64)


def _outside(setting: Setting) -> str | None:
    sizes_K = _sizes(setting)
    if setting.centred:
        return "assumes that the batch mean is kept, but it is removed"
    if not (3 <= len(sizes_K) <= 10 and sizes_K.min() >= 3 and sizes_K.sum() <= 300):
        return "was verified for 3 to 10 classes of at least three rows each and at most 300 rows in all"
    if sizes_K.max() > _MOST_IMBALANCE * sizes_K.min():
        return f"was verified for classes that differ up to {_MOST_IMBALANCE:g} times in size"
    same_number = dataclasses.replace(setting, num_classes=len(sizes_K))
    return first_reason(outside_blocks(setting, 1, 1), outside_model(same_number, most_classes=MOST_CLASSES))


def _threshold(setting: Setting) -> float:
    (dim,) = setting.given("dim")
    return sigma_max_of_sizes(int(dim), _sizes(setting), setting.cosine)


def _outcome(setting: Setting) -> float:
    dim, sigma = setting.given("dim", "sigma")
    return float(success_of_sizes(sigma, int(dim), _sizes(setting), setting.cosine))


ONE_BLOCK_UNBALANCED = dataclasses.replace(
    ONE_BLOCK,
    name="one_block_unbalanced",
    says="one untrained block on unequal classes: each row has its own leak, and a class counts by its share",
    inputs=("dim", "class_sizes", "num_blocks"),
    assumptions="identity weights, Gaussian cosines; rows are replaced by the mean field of their class",
    validity="d 32 to 256, K 3 to 10, N 30 to 300, classes that differ up to 10 times in size",
    outside=_outside,
    threshold=_threshold,
    outcome=_outcome,
    band=frozen(0.016, 0.031, 12),
    section="section 2.6",
    ranges={"dim": (32, 256)},
)

LAWS = (ONE_BLOCK_UNBALANCED,)
