"""What samplers share that temper from the prior to the posterior: resampling, and moves by halves.

Sequential Monte Carlo (Del Moral et al. 2006) with differential-evolution moves (ter Braak 2006). How far a step of
temperature goes and how particles move is each sampler's own.

Shapes: D particles.
"""

import numpy as np
from numpy.typing import NDArray

from study.inference.noise import Array


def tempered(like_D: Array, step: float) -> tuple[Array, float]:
    """Weights of particles after a step of temperature, and what it adds to the log evidence."""
    weight = np.exp(step * (like_D - like_D.max()))
    return weight, float(step * like_D.max() + np.log(weight.mean()))


def resampled(weight_D: Array, num: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of ``num`` particles drawn by their weights, systematically and in random order."""
    edges = (np.arange(num) + rng.random()) / num
    pick = np.minimum(np.searchsorted(np.cumsum(weight_D) / weight_D.sum(), edges), len(weight_D) - 1)
    return rng.permutation(pick)


def halves(num: int) -> tuple[tuple[slice, slice], ...]:
    """Pairs of the particles to move and of those whose differences they move along, which keeps the moves exact."""
    first, second = slice(0, num // 2), slice(num // 2, None)
    return (first, second), (second, first)
