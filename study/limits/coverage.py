"""How large a training batch must be for its rows to have partners, where classes are drawn independently.

A row without a partner has no target and leaves the loss (docs/theory.md, section 7.1).
"""

import numpy as np

from study.limits.law import Array, Law, Setting, frozen
from study.limits.moments import Values

# The share of rows without a partner at which 90 % of the rise of P was reached; calibrated at five classes.
MISSED = 0.2


def partner_share(batch: Values, num_classes: Values) -> Array:
    """Probability that another of ``batch`` rows has the class of a row: 1 - (1 - 1/K)^(N - 1)."""
    return np.asarray(-np.expm1((np.asarray(batch, np.float64) - 1) * np.log1p(-1 / np.asarray(num_classes))))


def covering_batch(num_classes: Values, missed: float = MISSED) -> Array:
    """Rows from which on a share of at most ``missed`` has no partner, 1 + ln(1 / missed) / -ln(1 - 1/K)."""
    return np.asarray(1 + np.log(missed) / np.log1p(-1 / np.asarray(num_classes, np.float64)))


def _outside(setting: Setting) -> str | None:
    if setting.weights == "identity":
        return "is about training, but the weights stay the identity"
    if setting.optimizer not in (None, "adam"):
        return f"was verified with adam only, but the optimiser is {setting.optimizer}"
    if setting.layer_norm:
        return "assumes a block without layer normalisation"
    if setting.num_views > 1:
        return f"assumes one view of each image, but there are {setting.num_views}, which are partners in any batch"
    return None


COVERAGE = Law(
    name="coverage",
    says="a training batch reaches 90 % of the rise once four rows in five have a partner, N = 1 + ln 5 / -ln(1 - 1/K)",
    quantity="train_batch",
    direction="smallest",
    metric="p",
    fraction=0.9,
    inputs=("num_classes",),
    assumptions="classes drawn independently, rows without a partner masked, a fixed number of examples that suffices; "
    "the share of four in five is calibrated",
    validity="K 3 to 10, one block, Adam at 0.03 with a cosine schedule",
    outside=_outside,
    threshold=lambda setting: float(covering_batch(*setting.given("num_classes"))),
    band=frozen(0.14, 0.57, 6),
    ranges={"num_classes": (3, 10), "num_blocks": (1, 1)},
    section="section 7.1",
)
