"""The weights that minimise the divergence of blocks in the class subspace, by the gradient that training follows.

Symmetry between classes leaves a trained block an offset per affinity and gains of its values
(:class:`laws.class_space.Weights`); they are optimised on the same simulated batches at every noise.

Shape suffixes: R batches, N rows of a batch, K coordinates, n rows of a class, L blocks.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from study.recipes.contrastive.laws.class_space import (
    Affinities,
    Shape,
    Single,
    Weights,
    affinities,
    mixed,
    projector,
    split,
    views,
    within_class,
)
from study.recipes.contrastive.laws.law import Array
from study.recipes.contrastive.laws.moments import jsd_of_mass

_LEAST = np.float32(1e-12)
_QUARTER = np.pi / 2
# Offsets from which the first search starts: none, and that of identity weights, whose scores are z z' + h h'.
_FIRST_OFFSETS = (0.0, -1.0)
_MOST_ITERATIONS = 80


class _Step(NamedTuple):
    """What the backward pass needs of one block: its input, affinities and weighted sum A x."""

    x_RNK: Single
    affinity: Affinities
    ax_RNK: Single


def divergence(shape: Shape, noise: float, weights: Weights) -> tuple[float, Weights]:
    """Mean JSD over that of chance, 1 - S_J, at s = ``noise``, and its derivative in each weight."""
    x_RNK, steps = views(shape, noise), list[_Step]()
    for offset, angle, mean_angle in zip(*weights, strict=True):
        affinity = affinities(x_RNK, offset)
        steps.append(_Step(x_RNK, affinity, affinity.a_RNN @ x_RNK))
        x_RNK = mixed(*steps[-1][::2], angle, mean_angle)
    value, da_RNN = _divergence_of_affinities(steps[-1].affinity, shape)

    slopes = Weights(*(np.zeros(shape.num_blocks) for _ in weights))
    dx_RNK, slopes.offset_L[-1] = _through_affinity(steps[-1], da_RNN, weights.offset_L[-1])
    for block in reversed(range(shape.num_blocks - 1)):
        step, (offset, angle, mean_angle) = steps[block], (each[block] for each in weights)
        # Turning an angle by a quarter differentiates cosine and sine.
        turned_RNK = mixed(step.x_RNK, step.ax_RNK, angle + _QUARTER, mean_angle + _QUARTER)
        slope_K = np.einsum("rnk,rnk->k", dx_RNK, turned_RNK)
        slopes.angle_L[block], slopes.mean_angle_L[block] = slope_K[:-1].sum(), slope_K[-1]
        kept_K, added_K = split(dx_RNK.shape[-1], angle, mean_angle)
        dax_RNK = dx_RNK * added_K
        da_RNN = np.matmul(dax_RNK, _turned(step.x_RNK))
        through_RNK, slopes.offset_L[block] = _through_affinity(step, da_RNN, offset)
        dx_RNK = dx_RNK * kept_K + _turned(step.affinity.a_RNN) @ dax_RNK + through_RNK
    return value, slopes


def _turned(x: Single) -> Single:
    return x.transpose(0, 2, 1)


def _divergence_of_affinities(affinity: Affinities, shape: Shape) -> tuple[float, Single]:
    """Mean JSD over that of chance (dead rows: 1), and its derivative in every affinity (R, N, N).

    With x = (n - 1) a the divergence of a row is log 2 - E h(x) / 2 (docs/theory.md, section 0.3), so its derivative in
    a is -(log(1 + x) - log x) / 2 for a partner and 0 for a stranger.
    """
    is_dead_RN, others = affinity.is_dead_RN, shape.rows - 1
    share = others * within_class(affinity.a_RNN, shape.rows)
    log_whole = np.log1p(share)
    slope = np.log(np.maximum(share, _LEAST)) - log_whole
    gain_RN = (log_whole - share * slope).sum(-1).reshape(is_dead_RN.shape) / others
    jsd_chance = float(jsd_of_mass(shape.chance))
    jsd_RN = np.where(is_dead_RN, jsd_chance, np.log(2) - 0.5 * gain_RN)
    da_RNN = np.zeros_like(affinity.a_RNN)
    rows_n = np.arange(shape.rows)
    slope[..., rows_n, rows_n] = 0
    within_class(da_RNN, shape.rows)[...] = slope * np.float32(0.5 / (is_dead_RN.size * jsd_chance))
    return float(jsd_RN.mean()) / jsd_chance, da_RNN


def _through_affinity(step: _Step, da_RNN: Single, offset: float) -> tuple[Single, float]:
    """The derivative in a block's input and in its offset, from that in its affinities; overwrites ``da_RNN``."""
    x_RNK, (a_RNN, keys_RNK, norms_RN, sums_RN, _) = step.x_RNK, step.affinity
    da_RNN -= np.einsum("rij,rij->ri", da_RNN, a_RNN)[..., None]
    da_RNN /= sums_RN[..., None]
    da_RNN *= a_RNN > 0
    dkeys_RNK = _turned(da_RNN) @ x_RNK
    dscaled_RNK = dkeys_RNK / norms_RN[..., None]
    dx_RNK = da_RNN @ keys_RNK
    dx_RNK[..., :-1] += dscaled_RNK[..., :-1]
    dx_RNK[..., -1] -= np.float32(offset) * dscaled_RNK[..., -1]
    dnorms_RN = -np.einsum("rnk,rnk->rn", dkeys_RNK, keys_RNK) / norms_RN**2
    dx_RNK[..., :-1] += dnorms_RN[..., None] * x_RNK[..., :-1]
    return dx_RNK, -float(np.einsum("rn,rn->", dscaled_RNK[..., -1], x_RNK[..., -1]))


def tuned(shape: Shape, noise: float, start: Weights) -> Weights:
    """The weights with the least divergence at s = ``noise`` that descent from ``start`` finds."""
    return _descend(shape, noise, start)[1]


def widely_tuned(shape: Shape, noise: float, start: Weights | None = None) -> Weights:
    """The best that descents from no offset, from the identity and from ``start`` find: several blocks have minima."""
    starts = [] if start is None else [start]
    for offset in _FIRST_OFFSETS[: shape.num_blocks]:
        starts.append(projector(shape)._replace(offset_L=np.full(shape.num_blocks, offset)))
    return min((_descend(shape, noise, weights) for weights in starts), key=lambda found: found[0])[1]


def _descend(shape: Shape, noise: float, start: Weights) -> tuple[float, Weights]:
    flat, is_free = np.stack(start), _is_free(shape)

    def objective(free: Array) -> tuple[float, Array]:
        flat[is_free] = free
        value, slopes = divergence(shape, noise, Weights(*flat))
        return value, np.stack(slopes)[is_free]

    found = minimize(
        objective,
        flat[is_free],
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-6, "gtol": 1e-5, "maxiter": _MOST_ITERATIONS},
    )
    flat[is_free] = found.x
    return float(found.fun), Weights(*flat)


def _is_free(shape: Shape) -> Array:
    """Which weights matter, in the order of :class:`Weights` (3, L): gains only beside a residual, never in the end."""
    is_free = np.ones((3, shape.num_blocks), dtype=bool)
    is_free[1:, -1] = False
    if not shape.residual:
        is_free[1:] = False
    return is_free
