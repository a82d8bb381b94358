"""The shape of a curve that rises and falls: two skewed logistic flanks, and where their product is largest.

    g(u) = 1 / (1 + exp(-(u - c1) / s1))^a1 / (1 + exp((u - c2) / s2))^a2

The parameters are the half-way points t1, t2 of the flanks, the logarithms of their scales, and the logarithms of the
exponents a1, a2 (left out: both 0). c and s follow, such that the half-way point and the 10-90 % width mean the same
for every exponent: 1 is the logistic flank; large and small ones come near the Gompertz curve and its mirror image.

Shapes: D draws, K = 4 or 6 parameters (t1, log s1, t2, log s2, log a1, log a2).
"""

import numpy as np

from study.inference.noise import Array

# 10-90 % width of a logistic flank in units of its scale.
WIDTH_PER_SCALE = 2.0 * np.log(9.0)
# Below NO_RISE the rise is complete before the smallest point, above NO_FALL the fall begins after the largest: the
# flank is then absent.
NO_RISE, NO_FALL = -0.3, 1.3

LOG_SHARES = tuple(np.log(1 / share) for share in (0.1, 0.5, 0.9))
MAX_EXPONENT = 300.0
NEWTON_STEPS, PEAK_TOLERANCE, TINY = 8, 1e-4, 1e-300


def log_shape(theta_DK: Array, u_D: Array) -> Array:
    """Return log g at positions `u_D` of shape (D,) or (D, K): the sum of the logarithms of the two flanks."""
    return _log_shape(_flanks(theta_DK), u_D)


def relative_shape(theta_DK: Array, u_D: Array) -> Array:
    """Return g at positions `u_D` of shape (D,) or (D, K) in units of its maximum within [0, 1]."""
    flanks = _flanks(theta_DK)
    top_D = _log_shape(flanks, _peak(flanks))
    # Newton's method may end a little beside the peak; nothing lies above it.
    result: Array = np.exp(np.minimum(_log_shape(flanks, u_D) - (top_D[:, None] if u_D.ndim > 1 else top_D), 0))
    return result


def _log_shape(flanks: tuple[Array, ...], u_D: Array) -> Array:
    if u_D.ndim > 1:
        flanks = tuple(part[:, None] for part in flanks)
    c1, s1, a1, c2, s2, a2 = flanks
    result: Array = -a1 * _softplus((c1 - u_D) / s1) - a2 * _softplus((u_D - c2) / s2)
    return result


def _softplus(z: Array) -> Array:
    """Return log(1 + exp(z)); numpy's logaddexp is several times slower, and this is the inner loop."""
    result: Array = np.log1p(np.exp(np.minimum(z, 30.0))) + np.maximum(z - 30.0, 0.0)
    return result


def _flanks(theta_DK: Array) -> tuple[Array, ...]:
    """Return centre, scale and exponent of both flanks, six of (D,), from half-way points, widths and skews."""
    parts: list[Array] = []
    for flank, sign in ((0, 1.0), (1, -1.0)):
        half, scale = theta_DK[:, 2 * flank], np.exp(theta_DK[:, 2 * flank + 1])
        exponent = np.ones_like(half)
        if theta_DK.shape[1] > 4:
            inverse = np.exp(-theta_DK[:, 4 + flank])
            exponent = 1 / inverse
            at_10, at_50, at_90 = (np.log(np.expm1(inverse * log_share)) for log_share in LOG_SHARES)
            scale = scale * (WIDTH_PER_SCALE / (at_10 - at_90))
            half = half + sign * scale * at_50
        absent = theta_DK[:, 0] < NO_RISE if flank == 0 else theta_DK[:, 2] > NO_FALL
        # An absent flank is one that lies infinitely far away.
        parts += [np.where(absent, -sign * np.inf, half), scale, exponent]
    return tuple(parts)


def peak_position(theta_DK: Array) -> Array:
    """Return where g is largest within [0, 1]."""
    return _peak(_flanks(theta_DK))


def _peak(flanks: tuple[Array, ...]) -> Array:
    # Without a rise g is largest at the start, without a fall at the end.
    peak = np.where(np.isinf(flanks[0]), 0.0, 1.0)
    both = np.flatnonzero(np.isfinite(flanks[0]) & np.isfinite(flanks[3]))
    if len(both):
        peak[both] = _peak_between(*(part[both] for part in flanks))
    return peak


def _peak_between(c1: Array, s1: Array, a1: Array, c2: Array, s2: Array, a2: Array) -> Array:
    """Return where two flanks make a peak, within [0, 1].

    log g is concave, so that their slopes are equal at one place: Newton's method on the logarithm of the ratio of
    slopes, with bisection where it leaves the bracket.
    """
    low, high = np.zeros_like(s1), np.ones_like(s1)
    log_ratio, rate1, rate2 = np.log(a1 * s2 / (a2 * s1)), 1 / s1, 1 / s2
    # Exact where both flanks are far away.
    peak = (c1 * rate1 + c2 * rate2 + log_ratio) / (rate1 + rate2)
    for _ in range(NEWTON_STEPS):
        peak = np.where((peak > low) & (peak < high), peak, 0.5 * (low + high))
        below = np.exp(np.minimum((peak - c1) * rate1, MAX_EXPONENT))
        above = np.exp(np.minimum((c2 - peak) * rate2, MAX_EXPONENT))
        excess = log_ratio + np.log((1 + above) / (1 + below))
        low, high = np.where(excess > 0, peak, low), np.where(excess > 0, high, peak)
        # The slope vanishes far outside both flanks, where the bracket takes over.
        step = excess / (below / (1 + below) * rate1 + above / (1 + above) * rate2 + TINY)
        peak = peak + step
        if np.abs(step).max() < PEAK_TOLERANCE:
            break
    result: Array = np.minimum(np.maximum(peak, low), high)
    return result
