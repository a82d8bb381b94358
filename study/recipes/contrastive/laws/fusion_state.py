"""State evolution of a stack of identity blocks: success after every block (docs/theory.md, section 3.3).

The state of a batch is kept as a few powers, each an array over a grid of settings, so that one call evaluates a whole
grid. Shape suffixes: G grid points, 2 the K - 1 between-class directions and the one common direction, Q quadrature
points, L blocks.
"""

from dataclasses import dataclass, replace

import numpy as np

from study.recipes.contrastive.laws.law import Array
from study.recipes.contrastive.laws.moments import (
    RectifiedGaussian,
    Values,
    chance_mass,
    concentration,
    rectified_gaussian,
    rectified_mean,
    success_of_mass,
)

_SPECTRUM_NODES = 96
_ROW_SCORE_Q, _ROW_WEIGHT_Q = np.polynomial.hermite_e.hermegauss(9)
_ROW_WEIGHT_Q = _ROW_WEIGHT_Q / _ROW_WEIGHT_Q.sum()


def marchenko_pastur(ratio: Values, num_nodes: int = _SPECTRUM_NODES) -> tuple[Array, Array]:
    """Nodes and weights (Q, ...) of the Marchenko-Pastur law of mean 1 with that ratio of sides, at most 1."""
    angle_Q = (np.arange(num_nodes) + 0.5) / num_nodes * np.pi
    shape = (num_nodes, *([1] * np.ndim(ratio)))
    root = np.sqrt(ratio)
    node = 1 + root**2 + 2 * root * np.cos(angle_Q).reshape(shape)
    weight = np.sin(angle_Q).reshape(shape) ** 2 / node
    return node, weight / weight.sum(0)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What does not change from block to block."""

    rows: Array
    per_class: Array
    num_classes: float
    subspace: float
    outside_dims: float
    spectrum_weight_QG: Array
    spectrum_size_G: Array


@dataclass(frozen=True, kw_only=True)
class _State:
    """Powers of a batch before a block.

    ``signal_2G`` and ``sample_2G``: eigenvalues of the Gram matrix of class means, from the centres and from the noise
    that a mean keeps. ``inside_G``: noise of single rows within the span of the centres. ``spectrum_QG``: eigenvalues
    of the noise outside it. ``disorder_G``: variance of the overlaps of class means, shared by all rows of two classes.
    """

    signal_2G: Array
    sample_2G: Array
    inside_G: Array
    spectrum_QG: Array
    disorder_G: Array


@dataclass(frozen=True, kw_only=True)
class _Affinity:
    """Statistics of the unnormalised affinity of a state; "within" a class and "across" classes."""

    power: Array
    outside: Array
    own_signal: Array
    outside_variance: Array
    within: RectifiedGaussian
    across: RectifiedGaussian
    row_sum: Array
    mass: Array


def _start(sigma: Array, rows: Array, dim: float, num_classes: float, cosine: float) -> tuple[_Batch, _State]:
    per_class = rows / num_classes
    # A simplex has no common direction, also where its cosine was rounded.
    is_simplex = abs(cosine * (num_classes - 1) + 1) < 1e-2
    common = 0.0 if is_simplex else 1 + (num_classes - 1) * cosine
    subspace = num_classes - 1 if is_simplex else num_classes
    outside_dims = dim - subspace
    rho = concentration(sigma)
    noise = 1 - rho
    own_share = 1 - 1 / per_class
    # Noise outside the span: min(N, d) eigenvalues of a Gram matrix of N rows.
    ratio = np.minimum(rows / outside_dims, outside_dims / rows)
    node_QG, weight_QG = marchenko_pastur(ratio)
    outside = noise * own_share * outside_dims / dim
    size = np.minimum(rows, outside_dims)
    batch = _Batch(
        rows=rows,
        per_class=per_class,
        num_classes=num_classes,
        subspace=subspace,
        outside_dims=outside_dims,
        spectrum_weight_QG=weight_QG,
        spectrum_size_G=size,
    )
    sample = noise / per_class
    state = _State(
        signal_2G=np.stack([rho * (1 - cosine), rho * common]),
        sample_2G=np.stack([sample, sample]),
        inside_G=noise * own_share * subspace / dim,
        spectrum_QG=outside * rows / size * node_QG,
        disorder_G=(2 * rho * sample + sample**2) / dim,
    )
    return batch, state


def _within_and_across(eigenvalues_2G: Array, num_classes: float) -> tuple[Array, Array]:
    """Squared norm of a class mean and overlap of two of them, from the eigenvalues of their Gram matrix."""
    between, common = eigenvalues_2G
    return (between * (num_classes - 1) + common) / num_classes, (common - between) / num_classes


def _affinity(batch: _Batch, state: _State) -> _Affinity:
    rows, per_class, inside = batch.rows, batch.per_class, state.inside_G
    signal_within, signal_across = _within_and_across(state.signal_2G, batch.num_classes)
    sample_within, sample_across = _within_and_across(state.sample_2G, batch.num_classes)
    outside = batch.spectrum_size_G * (batch.spectrum_weight_QG * state.spectrum_QG).sum(0) / rows
    squares = batch.spectrum_size_G * (batch.spectrum_weight_QG * state.spectrum_QG**2).sum(0)
    outside_variance = np.maximum((squares - rows * outside**2) / (rows * (rows - 1)), 0)
    noise = inside + outside
    power = signal_within + sample_within + noise
    # A row's noise sums to zero over its class, so two rows of a class share a little of it, with a minus sign.
    cosine_within = (signal_within + sample_within - noise / (per_class - 1)) / power
    cosine_across = (signal_across + sample_across) / power

    def variance(cosine: Array, signal: Array, sample: Array) -> Array:
        """Noise with noise, and the noise of each row with the other's class mean, its own projected out."""
        with_signal = signal_within * (1 + cosine**2) - 2 * cosine * signal
        with_sample = sample_within * (1 + cosine**2) - 2 * cosine * sample
        return np.asarray(
            inside**2 / batch.subspace
            + outside_variance
            + 2 * with_signal * inside / batch.subspace
            + 2 * with_sample * outside / batch.outside_dims
        )

    norms = cosine_within**2 * inside**2 / batch.subspace
    var_within = (variance(cosine_within, signal_within, sample_within) + norms) / power**2
    var_across = (variance(cosine_across, signal_across, sample_across) + state.disorder_G) / power**2
    within = rectified_gaussian(cosine_within, np.sqrt(var_within))
    across = rectified_gaussian(cosine_across, np.sqrt(var_across))
    # A row's overlap with its own class mean is common to all its partners: the mass is averaged over it.
    shared = inside / batch.subspace * (signal_within * (1 - cosine_within) ** 2 + 0.5 * inside * cosine_within**2)
    shared = np.minimum(shared / power**2, 0.9 * var_within)
    row_mean_QG = cosine_within + _ROW_SCORE_Q[:, None] * np.sqrt(shared)
    on_partners_QG = (per_class - 1) * rectified_mean(row_mean_QG, np.sqrt(var_within - shared))
    on_others = (rows - per_class) * across.mean
    return _Affinity(
        power=power,
        outside=outside,
        own_signal=signal_within,
        outside_variance=outside_variance,
        within=within,
        across=across,
        row_sum=(per_class - 1) * within.mean + on_others,
        mass=np.asarray(_ROW_WEIGHT_Q @ (on_partners_QG / (on_partners_QG + on_others))),
    )


def _next_state(batch: _Batch, state: _State, affinity: _Affinity, *, residual: bool) -> _State:
    """The state after A v (+ x) with the affinity of this state."""
    rows, per_class, inside = batch.rows, batch.per_class, state.inside_G
    others, row_sum, own_signal = rows - per_class, affinity.row_sum, affinity.own_signal
    within, across = affinity.within, affinity.across
    weight_within, weight_across = within.mean / row_sum, across.mean / row_sum
    own = float(residual) - weight_within
    between = own + per_class * (weight_within - weight_across)
    # A row's weights follow its own noise (Stein's lemma), so the noise is fed back to it.
    slope = (per_class * within.positive + others * across.positive) / rows / (affinity.power * row_sum)
    fed_back_inside = slope * rows * inside / batch.subspace
    fed_back_outside = slope * rows * affinity.outside / batch.outside_dims
    # What is random in the weights mixes classes and noise; the part that follows the noise is counted above.
    coherent = inside / batch.subspace * own_signal / affinity.power**2
    partners = per_class - 1
    mixing = (
        partners * np.maximum(within.variance - within.positive**2 * coherent, 0)
        + others * np.maximum(across.variance - across.positive**2 * coherent, 0)
    ) / row_sum**2
    along_means = per_class * own_signal / (batch.subspace * affinity.power * row_sum)
    along_means = along_means * (within.positive + (batch.num_classes - 1) * across.positive)
    averaging = (partners * within.variance + others * across.variance) / (rows * row_sum**2)
    averaging = np.maximum(averaging - slope**2 * affinity.outside_variance, 0) * rows
    disorder_gain = between**2 + 2 * between * per_class * across.positive * own_signal / (affinity.power * row_sum)
    common = between + rows * weight_across
    coefficient_2G = np.stack([between, common])
    gain_QG = (own + slope * (state.spectrum_QG - affinity.outside)) ** 2 + averaging
    return _State(
        signal_2G=state.signal_2G * (coefficient_2G + fed_back_inside) ** 2,
        sample_2G=state.sample_2G * (coefficient_2G + fed_back_outside) ** 2,
        inside_G=inside * ((own + along_means + fed_back_inside) ** 2 + averaging) + mixing * own_signal,
        spectrum_QG=state.spectrum_QG * gain_QG,
        disorder_G=state.disorder_G * disorder_gain**2,
    )


def success_by_block(
    sigma: Values,
    batch: Values,
    dim: float,
    num_classes: float,
    num_blocks: int,
    cosine: float = 0.0,
    *,
    residual: bool = True,
    centred: bool = False,
) -> Array:
    """P of the affinity of blocks 1 to ``num_blocks``, identity weights: (L, G) for ``sigma`` and ``batch`` (G,).

    ``centred``: every block removes the batch mean of its queries, keys and values.
    """
    sigma_G, rows_G = np.broadcast_arrays(np.atleast_1d(np.asarray(sigma, np.float64)), np.asarray(batch, np.float64))
    fixed, state = _start(sigma_G, rows_G, dim, num_classes, cosine)
    masses = []
    for block in range(num_blocks):
        if centred:
            kept_2G = np.array([[1.0], [0.0]])
            state = replace(state, signal_2G=state.signal_2G * kept_2G, sample_2G=state.sample_2G * kept_2G)
        affinity = _affinity(fixed, state)
        masses.append(affinity.mass)
        if block < num_blocks - 1:
            state = _next_state(fixed, state, affinity, residual=residual)
    return success_of_mass(np.stack(masses), chance_mass(rows_G, num_classes))
