"""How many rows, steps or examples a block needs to learn the projection on the class subspace.

The gradient's signal grows with the number of partner pairs and its noise with the root of that number, so a fixed
signal to noise means N^2 T = C K^3 sigma^4 / (d (1 - c)^2) (docs/theory.md, section 7.2). C is calibrated; it belongs
to an optimiser, its rate and schedule, and a start. The exponents should not depend on them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from study.recipes.contrastive.laws.class_space import scale
from study.recipes.contrastive.laws.kinds import trained_fusion
from study.recipes.contrastive.laws.law import Law, Setting, frozen
from study.recipes.contrastive.laws.untrained import first_reason, outside_blocks, outside_views

# C for Adam from identity weights, by schedule and rate, at half of the rise of P.
PAIR_CONSTANTS: dict[str, dict[float, float]] = {
    "cosine": {0.003: 110.0, 0.01: 51.0, 0.03: 60.0, 0.1: 81.0},
    "constant": {0.003: 64.0, 0.01: 28.0, 0.03: 26.0, 0.1: 49.0},
}
DEFAULT_SCHEDULE, DEFAULT_RATE = "cosine", 0.03

_LEAST_DIM = 32
_CLASSES = (3, 10)
# The noise s that projection leaves at which the law was verified, with some room.
_NOISES = (0.4, 1.0)
_LEAST_ROWS = 2


def pair_constant(setting: Setting) -> float:
    """C of a setting's rate and schedule; what is not said is a rate of 0.03 with a cosine schedule."""
    rates = PAIR_CONSTANTS[setting.schedule or DEFAULT_SCHEDULE]
    return rates[DEFAULT_RATE if setting.learning_rate is None else setting.learning_rate]


def pair_steps(setting: Setting) -> float:
    """N^2 T at half of the rise: C K d s^4 with s = sigma sqrt(K / (d (1 - c))), the noise that projection leaves."""
    dim, num_classes, sigma = setting.given("dim", "num_classes", "sigma")
    return pair_constant(setting) * num_classes * dim * (sigma / scale(setting)) ** 4


def _rows_at_steps(setting: Setting) -> float:
    return float(np.sqrt(pair_steps(setting) / setting.given("steps")[0]))


def _rows_at_examples(setting: Setting) -> float:
    return pair_steps(setting) / setting.given("num_examples")[0]


def _steps_at_rows(setting: Setting) -> float:
    return pair_steps(setting) / setting.given("train_batch")[0] ** 2


def _outside_training(setting: Setting) -> str | None:
    """Why a setting is not trained as the constant assumes."""
    if setting.is_tuned:
        return "assumes one learning rate, but it is chosen anew for every value"
    schedule = setting.schedule or DEFAULT_SCHEDULE
    rates = PAIR_CONSTANTS[schedule]
    if setting.learning_rate is not None and setting.learning_rate not in rates:
        known = ", ".join(f"{rate:g}" for rate in rates)
        return f"has constants for learning rates of {known} ({schedule}), but it is {setting.learning_rate:g}"
    if setting.layer_norm or setting.centred:
        return "assumes blocks without layer normalisation that keep the batch mean"
    return outside_blocks(setting, 1, 1)


def _outside_model(setting: Setting) -> str | None:
    """Why the inputs are not those on which the law was verified."""
    dim, num_classes, sigma = setting.given("dim", "num_classes", "sigma")
    if (reason := outside_views(setting)) is not None:
        return reason
    if dim < _LEAST_DIM:
        return f"was verified from {_LEAST_DIM} dimensions on, but there are {dim:g}"
    if not _CLASSES[0] <= num_classes <= _CLASSES[1]:
        return f"was verified for {_CLASSES[0]} to {_CLASSES[1]} classes, but there are {num_classes:g}"
    # The simplex is often written with a rounded cosine.
    lowest = -1 / (num_classes - 1)
    if not lowest - 1e-3 <= setting.cosine <= 0:
        return f"was verified for cosines of centres from {lowest:.3g} to 0, but it is {setting.cosine:.3g}"
    low, high = (edge * scale(setting) for edge in _NOISES)
    if not low <= sigma <= high:
        return f"was verified for sigma from {low:.3g} to {high:.3g} here, but it is {sigma:g}"
    return None


def _outside(rows: Callable[[Setting], float]) -> Callable[[Setting], str | None]:
    def outside(setting: Setting) -> str | None:
        reason = first_reason(_outside_training(setting), _outside_model(setting))
        if reason is not None:
            return reason
        least = _LEAST_ROWS * setting.given("num_classes")[0]
        if rows(setting) < least:
            return f"is about gradients, but below {least:g} rows it is partners that a batch lacks (law coverage)"
        return None

    return outside


N2T = Law(
    name="n2t",
    says="the smallest training batch at fixed steps, N^2 T = C K d s^4: twice the batch is worth four times the steps",
    quantity="train_batch",
    direction="smallest",
    metric="p",
    fraction=0.5,
    inputs=("dim", "num_classes", "sigma", "steps"),
    assumptions="one block from identity weights, balanced batches, Adam at a tabulated rate (0.03 with a cosine "
    "schedule where none is given); the rise from the untrained block to the projector",
    validity="d >= 32, K 3 to 10, s = sigma sqrt(K / (d (1 - c))) 0.4 to 1, at least two rows of a class, judged on 10 "
    "to 30",
    kind=trained_fusion,
    outside=_outside(_rows_at_steps),
    threshold=_rows_at_steps,
    band=frozen(0.112, 0.332, 12),
    ranges={"per_class": (10, 30)},
    section="section 7.2",
)
N2T_EXAMPLES = dataclasses.replace(
    N2T,
    name="n2t_examples",
    says="the smallest training batch at a fixed number S = N T of examples: N = C K d s^4 / S",
    inputs=("dim", "num_classes", "sigma", "num_examples"),
    kind=trained_fusion,
    outside=_outside(_rows_at_examples),
    threshold=_rows_at_examples,
    band=frozen(0.21, 0.55, 12),
)
N2T_STEPS = dataclasses.replace(
    N2T,
    name="n2t_steps",
    says="the fewest training steps at a fixed batch: T = C K d s^4 / N^2",
    quantity="steps",
    inputs=("dim", "num_classes", "sigma", "train_batch"),
    kind=trained_fusion,
    outside=_outside(lambda setting: setting.given("train_batch")[0]),
    threshold=_steps_at_rows,
    band=frozen(0.21, 0.55, 12),
)

LAWS = (N2T, N2T_EXAMPLES, N2T_STEPS)
