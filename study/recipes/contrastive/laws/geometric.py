"""Geometric limits: what the worst arrangement of views allows, and how much overlap noise-free views may have.

Angles are in radians: theta between a view and its centre, phi between two centres (docs/theory.md, section 1.1).
"""

import numpy as np

from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import Values
from study.recipes.contrastive.laws.untrained import first_reason, outside_blocks, outside_model


def angle_of_ordered_pairs(centre_angle: Values) -> Array:
    """phi / 4: below this theta every within-class pair (at most 2 theta) is closer than any other (phi - 2 theta)."""
    return np.asarray(centre_angle) / 4


def angle_of_no_leak(centre_angle: Values) -> Array:
    """(phi - pi/2) / 2: up to this theta no cross-class affinity is positive; 0 unless centres are obtuse."""
    return np.maximum((np.asarray(centre_angle) - np.pi / 2) / 2, 0)


def sigma_of_angle(angle: Values) -> Array:
    """The strength whose views lie at that angle from their centre, tan theta; sharp in many dimensions."""
    return np.tan(angle)


def most_overlap(num_classes: Values) -> Array:
    """1 / (K + 1): the cosine of centres up to which one block reaches P = 1/2 without any noise."""
    return np.asarray(1 / (np.asarray(num_classes) + 1.0))


def noise_free_success(num_classes: Values, cosine: Values) -> Array:
    """P = (1 - c) / (1 + (K - 1) c) of one block without noise, for centres with cosine c of at least 0."""
    return np.asarray((1 - np.asarray(cosine)) / (1 + (np.asarray(num_classes) - 1) * np.asarray(cosine)))


def _outside(setting: Setting) -> str | None:
    if setting.centred:
        return "assumes that the batch mean is kept, but it is removed"
    return first_reason(outside_blocks(setting, 1, 1), outside_model(setting))


GEOMETRIC = Law(
    name="geometric",
    says="all pairs are ordered for certain up to a quarter of the angle between centres; typical views do far better",
    quantity="sigma",
    direction="largest",
    metric="all_pairs_ordered",
    level=0.5,
    inputs=("dim", "num_classes"),
    assumptions="views at one angle arctan(sigma) from their centre, in the worst directions; a guarantee, no estimate",
    validity="a lower bound at any batch; d 64 to 1024, K 5 and 10, orthonormal centres",
    kind=fusion,
    outside=_outside,
    threshold=lambda setting: float(sigma_of_angle(angle_of_ordered_pairs(float(np.arccos(setting.cosine))))),
    band=frozen(0.685, 0.805, 5),
    section="section 1.1",
)

LAWS = (GEOMETRIC,)
