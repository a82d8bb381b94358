"""How large a training batch must be for its rows to have partners, where classes are drawn independently.

A row without a partner has no target and leaves the loss (docs/theory.md, section 7.1).
"""

import numpy as np

from study.recipes.contrastive.laws.class_space import scale
from study.recipes.contrastive.laws.kinds import trained_fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import Values
from study.recipes.contrastive.laws.untrained import outside_views

# The share of rows without a partner at which 90 % of the rise of P was reached; calibrated at five classes.
MISSED = 0.2
_RATE = 0.03
# The noise s that projection leaves at which the law was verified, with some room.
_NOISES = (0.45, 0.75)


def partner_share(batch: Values, num_classes: Values) -> Array:
    """Probability that another of ``batch`` rows has the class of a row: 1 - (1 - 1/K)^(N - 1)."""
    return np.asarray(-np.expm1((np.asarray(batch, np.float64) - 1) * np.log1p(-1 / np.asarray(num_classes))))


def covering_batch(num_classes: Values, missed: float = MISSED) -> Array:
    """Rows from which on a share of at most ``missed`` has no partner, 1 + ln(1 / missed) / -ln(1 - 1/K)."""
    return np.asarray(1 + np.log(missed) / np.log1p(-1 / np.asarray(num_classes, np.float64)))


def _outside(setting: Setting) -> str | None:
    if setting.layer_norm or setting.centred:
        return "assumes a block without layer normalisation that keeps the batch mean"
    if setting.steps is not None and setting.num_examples is None:
        return "assumes that the number of training images is held fixed, but that of steps is"
    if setting.is_tuned:
        return "assumes one learning rate, but it is chosen anew for every value"
    if setting.learning_rate not in (None, _RATE) or setting.schedule == "constant":
        return f"was verified at a learning rate of {_RATE:g} with a cosine schedule"
    if setting.cosine != 0:
        return f"was verified for orthonormal centres, but their cosine is {setting.cosine:.3g}"
    return outside_views(setting) or _outside_noise(setting)


def _outside_noise(setting: Setting) -> str | None:
    if setting.dim is None or setting.num_classes is None or setting.sigma is None:
        return None
    low, high = (noise * scale(setting) for noise in _NOISES)
    if low <= setting.sigma <= high:
        return None
    return f"was verified for sigma from {low:.3g} to {high:.3g} here, but it is {setting.sigma:g}"


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
    validity="K 3 to 10, one block, Adam at 0.03 with a cosine schedule, d 24 to 64, s = sigma sqrt(K / d) 0.45 to "
    "0.75, 1,500 to 6,000 examples, judged on 10 to 30 rows of a class",
    kind=trained_fusion,
    outside=_outside,
    threshold=lambda setting: float(covering_batch(*setting.given("num_classes"))),
    band=frozen(0.14, 0.57, 6),
    ranges={
        "num_classes": (3, 10),
        "num_blocks": (1, 1),
        "dim": (24, 64),
        "num_examples": (1_500, 6_000),
        "per_class": (10, 30),
    },
    section="section 7.1",
)

LAWS = (COVERAGE,)
