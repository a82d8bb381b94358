"""The sigma and the batch at which a stack of identity blocks breaks (docs/theory.md, section 3)."""

import dataclasses

import numpy as np

from study.limits.fusion_state import success_by_block
from study.limits.law import Array, Band, Law, Setting
from study.limits.moments import Values, crossing
from study.limits.one_block import centring, most_sigma
from study.limits.untrained import first_reason, outside_batch, outside_blocks, outside_model, outside_sigma

LEAST_ROWS = 3
MOST_ROWS = 400
LEAST_SIGMA = 0.05
MOST_BLOCKS = 5
MOST_CLASSES = 40
# State evolution is optimistic about N; fitted at d = 64 and tested at other d. By residual.
BATCH_CALIBRATION = {True: 1.47, False: 1.17}


def _p(setting: Setting, sigma: Values, batch: Values) -> Array:
    """P of the last block of a setting; (G,)."""
    dim, num_classes, num_blocks = setting.given("dim", "num_classes", "num_blocks")
    factor, cosine = centring(setting.cosine, num_classes) if setting.centred else (1.0, setting.cosine)
    success_LG = success_by_block(
        np.asarray(sigma) * factor, batch, dim, num_classes, int(num_blocks), cosine, residual=setting.residual
    )
    return np.asarray(success_LG[-1])


def _sigma_max(setting: Setting) -> float:
    dim, batch = setting.given("dim", "batch")
    return crossing(lambda sigma: _p(setting, sigma, batch), LEAST_SIGMA, most_sigma(dim))


def _batch_min(setting: Setting) -> float:
    num_classes, sigma = setting.given("num_classes", "sigma")
    factor = BATCH_CALIBRATION[setting.residual]
    per_class = crossing(
        lambda rows: _p(setting, sigma, rows * num_classes),
        LEAST_ROWS / factor,
        MOST_ROWS / factor,
        direction="smallest",
        num_grid=40,
    )
    return factor * num_classes * per_class


def _outcome(setting: Setting) -> float:
    return float(_p(setting, *setting.given("sigma", "batch"))[0])


def _outcome_of_batch(setting: Setting) -> float:
    (batch,) = setting.given("batch")
    return _outcome(dataclasses.replace(setting, batch=batch / BATCH_CALIBRATION[setting.residual]))


def _outside(setting: Setting) -> str | None:
    return first_reason(
        outside_blocks(setting, 2, MOST_BLOCKS),
        outside_model(setting, most_classes=MOST_CLASSES),
        outside_batch(setting, LEAST_ROWS),
    )


def _outside_of_batch(setting: Setting) -> str | None:
    if setting.centred:
        return "was verified with the batch mean kept, but it is removed"
    return first_reason(_outside(setting), outside_sigma(setting))


# By blocks and residual; where there is none, over all of them.
_BANDS = {
    (2, True): Band(median=0.0500, maximum=0.1118, num_settings=16),
    (2, False): Band(median=0.0418, maximum=0.0793, num_settings=10),
    (3, True): Band(median=0.0725, maximum=0.1212, num_settings=10),
    (3, False): Band(median=0.0630, maximum=0.0901, num_settings=6),
    (5, True): Band(median=0.0902, maximum=0.1205, num_settings=6),
}
_BAND = Band(median=0.0579, maximum=0.1212, num_settings=48)
_BANDS_CENTRED = {
    True: Band(median=0.0421, maximum=0.1193, num_settings=12),
    False: Band(median=0.1420, maximum=0.1770, num_settings=6),
}
_BANDS_OF_BATCH = {
    True: Band(median=0.1139, maximum=0.4766, num_settings=4),
    False: Band(median=0.0412, maximum=0.0947, num_settings=6),
}


def _band(setting: Setting) -> Band:
    if setting.centred:
        return _BANDS_CENTRED[setting.residual]
    return _BANDS.get((int(setting.given("num_blocks")[0]), setting.residual), _BAND)


STATE_EVOLUTION = Law(
    name="state_evolution",
    says="untrained blocks fuse a class before noise and cross-class leak are amplified, up to a sigma that N raises",
    quantity="sigma",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "batch", "num_blocks"),
    assumptions="identity weights, Gaussian cosines, balanced classes; powers of signal and noise stand for the batch",
    validity="d 32 to 512, K 2 to 40, N 40 to 300, 2 to 5 blocks; above 2 with a simplex or the batch mean removed",
    outside=_outside,
    threshold=_sigma_max,
    outcome=_outcome,
    band=_band,
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
    assumptions="as state_evolution; N is scaled by 1.47 with the residual and 1.17 without, fitted at d = 64",
    validity="simplex centres, d 32 to 256, K 3 to 10, sigma 1.6 to 2.6, 2 to 5 blocks, 3 to 400 rows of a class",
    outside=_outside_of_batch,
    threshold=_batch_min,
    outcome=_outcome_of_batch,
    band=lambda setting: _BANDS_OF_BATCH[setting.residual],
    section="section 3.5",
)
