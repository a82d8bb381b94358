"""The sigma and the batch at which a stack of identity blocks breaks (docs/theory.md, section 3)."""

from typing import Literal, NamedTuple

import numpy as np

from study.recipes.contrastive.laws.fusion_state import success_by_block
from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Band, Law, Setting
from study.recipes.contrastive.laws.moments import Values, crossing
from study.recipes.contrastive.laws.one_block import centring, most_sigma
from study.recipes.contrastive.laws.untrained import (
    first_reason,
    outside_batch,
    outside_blocks,
    outside_model,
    outside_sigma,
)

LEAST_ROWS, FEWEST_ROWS = 3, 2
MOST_ROWS = 50
LEAST_SIGMA = 0.05
MOST_BLOCKS = 5
MOST_CLASSES = 19
MOST_CALIBRATED_ROWS = 30
_SIMPLEX_TOLERANCE = 1e-3
Kind = Literal["common", "simplex", "centred"]


class _Calibration(NamedTuple):
    """log(measured / predicted sigma) as a plane in the logarithms of a setting's sizes, and its errors.

    Least squares over settings drawn like those of verification/laws, with seeds of their own (docs/theory.md, section
    3.5): at d = 100, n = 10, K = 6 and 3 blocks it is ``constant``. Errors are those of settings left out one by one.
    """

    constant: float
    dim: float
    per_class: float
    num_classes: float
    num_blocks: float
    inverse_per_class: float
    band: Band


def _errors(median: float, maximum: float, num_settings: int) -> Band:
    return Band(median=median, maximum=maximum, num_settings=num_settings)


# By what centres have in common, and residual.
_CALIBRATIONS: dict[tuple[Kind, bool], _Calibration] = {
    ("common", True): _Calibration(0.088, -0.026, 0.024, -0.079, 0.103, 0.798, _errors(0.022, 0.123, 63)),
    ("common", False): _Calibration(0.086, -0.011, -0.046, -0.045, 0.063, 0.067, _errors(0.010, 0.061, 24)),
    ("simplex", True): _Calibration(-0.063, 0.030, 0.027, -0.030, -0.050, 0.076, _errors(0.011, 0.047, 64)),
    ("simplex", False): _Calibration(-0.054, 0.031, -0.004, -0.048, -0.033, 0.130, _errors(0.016, 0.077, 64)),
    ("centred", True): _Calibration(0.103, 0.102, -0.056, -0.070, 0.128, -0.050, _errors(0.029, 0.087, 32)),
    ("centred", False): _Calibration(0.214, 0.125, -0.035, -0.157, 0.004, 0.117, _errors(0.015, 0.093, 32)),
}


def _is_simplex(setting: Setting) -> bool:
    (num_classes,) = setting.given("num_classes")
    return abs(setting.cosine + 1 / (num_classes - 1)) < _SIMPLEX_TOLERANCE


def _calibration(setting: Setting) -> _Calibration:
    kind: Kind = "centred" if setting.centred else ("simplex" if _is_simplex(setting) else "common")
    return _CALIBRATIONS[kind, setting.residual]


def calibration_factor(setting: Setting, batch: Values) -> Array:
    """Calibrated over raw sigma of state evolution for batches of that many rows."""
    dim, num_classes, num_blocks = setting.given("dim", "num_classes", "num_blocks")
    # Beyond the rows that it was fitted to, a plane in their logarithm would turn the law around.
    per_class = np.minimum(np.asarray(batch, np.float64) / num_classes, MOST_CALIBRATED_ROWS)
    plane = _calibration(setting)
    return np.exp(
        plane.constant
        + plane.dim * np.log(dim / 100)
        + plane.per_class * np.log(per_class / 10)
        + plane.num_classes * np.log(num_classes / 6)
        + plane.num_blocks * np.log(num_blocks / 3)
        + plane.inverse_per_class * (1 / per_class - 0.1)
    )


def _p(setting: Setting, sigma: Values, batch: Values) -> Array:
    """P of the last block of a setting, as if sigma were smaller or larger by the calibration; (G,)."""
    dim, num_classes, num_blocks = setting.given("dim", "num_classes", "num_blocks")
    centring_factor, cosine = centring(setting.cosine, num_classes) if setting.centred else (1.0, setting.cosine)
    raw_sigma = np.asarray(sigma) * centring_factor / calibration_factor(setting, batch)
    success_LG = success_by_block(
        raw_sigma, batch, dim, num_classes, int(num_blocks), cosine, residual=setting.residual
    )
    return np.asarray(success_LG[-1])


def _sigma_max(setting: Setting) -> float:
    dim, batch = setting.given("dim", "batch")
    return crossing(lambda sigma: _p(setting, sigma, batch), LEAST_SIGMA, most_sigma(dim))


def _batch_min(setting: Setting) -> float:
    num_classes, sigma = setting.given("num_classes", "sigma")
    per_class = crossing(
        lambda rows: _p(setting, sigma, rows * num_classes), FEWEST_ROWS, MOST_ROWS, direction="smallest", num_grid=40
    )
    return num_classes * per_class


def _outcome(setting: Setting) -> float:
    return float(_p(setting, *setting.given("sigma", "batch"))[0])


def _outside(setting: Setting) -> str | None:
    reason = first_reason(
        outside_blocks(setting, 2, MOST_BLOCKS),
        outside_model(setting, most_classes=MOST_CLASSES),
        outside_batch(setting, LEAST_ROWS),
    )
    if reason is None and not setting.centred and setting.cosine != 0 and not _is_simplex(setting):
        return f"is calibrated for orthonormal and simplex centres, but their cosine is {setting.cosine:.3g}"
    return reason


def _outside_of_batch(setting: Setting) -> str | None:
    if setting.centred:
        return "was verified with the batch mean kept, but it is removed"
    reason = first_reason(_outside(setting), outside_sigma(setting))
    if reason is None and not _is_simplex(setting):
        return f"was verified for simplex centres, but their cosine is {setting.cosine:.3g}"
    return reason


_BANDS_OF_BATCH = {
    True: Band(median=0.067, maximum=0.620, num_settings=96),
    False: Band(median=0.032, maximum=0.411, num_settings=96),
}

STATE_EVOLUTION = Law(
    name="state_evolution",
    says="untrained blocks fuse a class before noise and cross-class leak are amplified, up to a sigma that N raises",
    quantity="sigma",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "batch", "num_blocks"),
    assumptions="identity weights, Gaussian cosines, balanced classes; powers of signal and noise stand for the batch; "
    "sigma is calibrated by a plane in log d, n, K and blocks",
    validity="d 32 to 256, K 3 to 10, 3 to 50 rows of a class, 2 to 5 blocks; orthonormal, simplex or centred",
    kind=fusion,
    outside=_outside,
    threshold=_sigma_max,
    outcome=_outcome,
    band=lambda setting: _calibration(setting).band,
    ranges={"dim": (32, 256), "num_classes": (3, 10), "per_class": (3, 50)},
    section="section 3.5",
)
STATE_EVOLUTION_BATCH = Law(
    name="state_evolution_batch",
    says="untrained blocks need a batch in which class means stand out of the noise; N_min grows as sigma^5 to sigma^6",
    quantity="batch",
    direction="smallest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "sigma", "num_blocks"),
    assumptions="as state_evolution, whose calibrated sigma is solved for the batch",
    validity="simplex centres, d 32 to 256, K 3 to 10, 2 to 5 blocks, N_min of 3 to 50 rows of a class",
    kind=fusion,
    outside=_outside_of_batch,
    threshold=_batch_min,
    outcome=_outcome,
    band=lambda setting: _BANDS_OF_BATCH[setting.residual],
    ranges={"dim": (32, 256), "num_classes": (3, 10)},
    section="section 3.5",
)

LAWS = (STATE_EVOLUTION, STATE_EVOLUTION_BATCH)
