"""The depth at which identity blocks over-fuse: every stack with positive cross-class cosines collapses to one point.

docs/theory.md, section 4. Suffix L: blocks.
"""

import dataclasses

import numpy as np

from study.recipes.contrastive.laws.fusion_state import success_by_block
from study.recipes.contrastive.laws.geometric import noise_free_success
from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Band, Law, Setting
from study.recipes.contrastive.laws.moments import Values, chance_mass, cosine_moments, success_of_mass
from study.recipes.contrastive.laws.one_block import mass_from_moments
from study.recipes.contrastive.laws.untrained import first_reason, outside_batch, outside_model, outside_sigma

LEAST_ROWS = 3
MOST_BLOCKS = 12


def fused(ratio: Values, success: Values, *, residual: bool) -> Array:
    """The ratio r of between-class to common power after a block whose affinity has that success P.

    Class means are scaled by (1 + P) between classes and by 2 along their mean with the residual, by P and 1 without:
    r <- r ((1 + P) / 2)^2, or r P^2. Without noise P = r: r (1 + r)^2 / 4 and r^3.
    """
    kept = (1 + np.asarray(success)) / 2 if residual else np.asarray(success)
    return np.asarray(ratio * kept**2)


def success_by_depth(first: float, start: float = 1.0, *, residual: bool, num_blocks: int = MOST_BLOCKS) -> Array:
    """P of blocks 1 to ``num_blocks``, from the P of the first, noisy one; ``start`` is r of the centres; (L,)."""
    success_L, ratio = [first], start
    while len(success_L) < num_blocks:
        ratio = float(fused(ratio, success_L[-1], residual=residual))
        success_L.append(ratio)
    return np.array(success_L)


def depth_at(success_L: Array, level: float = 0.5) -> float:
    """The depth, in blocks and linear between them, where success first falls below a level; NaN: nowhere."""
    falls = np.flatnonzero((success_L[:-1] >= level) & (success_L[1:] < level))
    if not falls.size:
        return float("nan")
    last = falls[0]
    return float(last + 1 + (success_L[last] - level) / (success_L[last] - success_L[last + 1]))


def _by_map(setting: Setting) -> Array:
    sigma, batch, dim, num_classes = setting.given("sigma", "batch", "dim", "num_classes")
    mass = mass_from_moments(cosine_moments(sigma, dim, setting.cosine), batch, num_classes)
    first = success_of_mass(mass, chance_mass(batch, num_classes))
    start = noise_free_success(num_classes, setting.cosine)
    return success_by_depth(float(first), float(start), residual=setting.residual)


def _by_state_evolution(setting: Setting) -> Array:
    sigma, batch, dim, num_classes = setting.given("sigma", "batch", "dim", "num_classes")
    success_LG = success_by_block(
        sigma, batch, dim, num_classes, MOST_BLOCKS, setting.cosine, residual=setting.residual
    )
    return np.asarray(success_LG[:, 0])


def _between_blocks(setting: Setting, success_L: Array) -> float:
    (num_blocks,) = setting.given("num_blocks")
    return float(np.interp(num_blocks, np.arange(1, len(success_L) + 1), success_L))


def _outside(setting: Setting) -> str | None:
    if setting.centred:
        return "needs a common component to collapse to, but the batch mean is removed"
    return first_reason(
        outside_model(setting, least_cosine=0.0), outside_batch(setting, LEAST_ROWS), outside_sigma(setting)
    )


_BANDS = {
    True: Band(median=0.071, maximum=0.216, num_settings=15),
    False: Band(median=0.024, maximum=0.117, num_settings=15),
}
_BANDS_STATE_EVOLUTION = {
    True: Band(median=0.027, maximum=0.127, num_settings=15),
    False: Band(median=0.016, maximum=0.108, num_settings=15),
}

DEPTH = Law(
    name="depth",
    says="without noise the leak across classes doubles (residual) or triples per block until all rows are one point",
    quantity="num_blocks",
    direction="largest",
    metric="p",
    level=0.5,
    inputs=("dim", "num_classes", "batch", "sigma"),
    assumptions="identity weights; noise acts in the first block only, later blocks see class means",
    validity="cosine 0 to 0.08, d 64 to 2048, K 3 to 15, sigma 0.3 to 1, depths 1.5 to 7.4; worst at n < 5",
    kind=fusion,
    outside=_outside,
    threshold=lambda setting: depth_at(_by_map(setting)),
    outcome=lambda setting: _between_blocks(setting, _by_map(setting)),
    band=lambda setting: _BANDS[setting.residual],
    ranges={"dim": (64, 2048), "num_classes": (3, 15), "sigma": (0.3, 1.0), "cosine": (0.0, 0.08)},
    section="section 4.1",
)
DEPTH_STATE_EVOLUTION = dataclasses.replace(
    DEPTH,
    name="depth_state_evolution",
    says="state evolution, noise of every block included, loses the classes at this depth",
    assumptions="identity weights, Gaussian cosines, balanced classes; powers of signal and noise stand for the batch",
    threshold=lambda setting: depth_at(_by_state_evolution(setting)),
    outcome=lambda setting: _between_blocks(setting, _by_state_evolution(setting)),
    band=lambda setting: _BANDS_STATE_EVOLUTION[setting.residual],
)

LAWS = (DEPTH, DEPTH_STATE_EVOLUTION)
