"""Where in a plane to measure next, so that the band of a boundary narrows most.

A further replicate at c tells about the boundary b at every y as far as both vary together over the posterior draws:
its variance falls by Cov(b, outcome_c)^2 / (Var(outcome_c) + noise). The replicate that narrows the band most, in the
mean over y, is chosen, the covariances are conditioned on it, and the next is chosen, so that a round spreads over the
boundary or repeats a point as the information says.

Shapes: N replicates, C candidates, D posterior draws, G positions along y.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from study.inference.boundary import BoundaryFit, fit_boundary
from study.inference.noise import Array
from study.inference.plane import variances
from study.inference.statements import CEILING_FLAG, MISFIT_FLAG

NUM_POSITIONS = 13
# A boundary outside the range is taken to lie this far outside: that it does is worth knowing, how far is not.
MARGIN = 0.1
# Fewer repeated replicates than this say too little about the noise to stop.
LEAST_SPARE = 3
# A rise is given up only after this many replicates.
LEAST_LOOK = 12


@dataclass(frozen=True, kw_only=True)
class NextInPlane:
    """The points (x, y) of the next replicates, repeated for several at one point; empty when nothing is wanted.

    `half_width` is that of the present band in octaves of x, its mean over y (None where no part of it lies in the
    range); `is_settled` says that it is within the precision, or that the boundary is firmly outside the range.
    """

    points: tuple[tuple[float, float], ...]
    half_width: float | None
    is_settled: bool
    reason: str


def propose_boundary(
    x: ArrayLike,
    y: ArrayLike,
    outcome: ArrayLike,
    seeds: ArrayLike,
    floor: ArrayLike,
    *,
    fraction: float | None = 0.5,
    level: float | None = None,
    flank: str = "rising",
    candidates: ArrayLike,
    precision: float,
    round_replicates: int,
    confidence: float = 0.95,
) -> NextInPlane:
    """Propose up to `round_replicates` points of `candidates` (C, 2) that narrow the band of the boundary most.

    Replicates and criterion are those of `fit_boundary`; `precision` is the wanted half-width of the band in octaves
    of x, in the mean over y. The round ends early where the forecast reaches the precision. ValueError as in
    `fit_boundary`, or where a candidate lies outside the measured range.
    """
    candidate_C2 = np.asarray(candidates, dtype=np.float64)
    if candidate_C2.ndim != 2 or candidate_C2.shape[1] != 2 or not len(candidate_C2):
        raise ValueError("candidates must be pairs (x, y), at least one.")
    if precision <= 0 or round_replicates < 1:
        raise ValueError("precision must be positive and round_replicates at least 1.")
    fit = fit_boundary(
        x, y, outcome, seeds, floor, fraction=fraction, level=level, confidence=confidence, flank=flank
    )  # fmt: skip
    reason = _why_settled(fit, precision, len(np.asarray(x)))
    if reason is None:
        picks, why = choose(fit, candidate_C2, precision, round_replicates)
        return _proposal(fit, candidate_C2[picks], why)
    measured_P2 = np.unique(np.column_stack([x, y]), axis=0)
    missing = LEAST_SPARE - (len(np.asarray(x)) - len(measured_P2))
    if missing <= 0:
        return NextInPlane(points=(), half_width=fit.half_width, is_settled=True, reason=reason)
    # All that is missing is a measurement of the noise: by repeats of a point that has been measured, where possible.
    is_measured_C = (candidate_C2[:, None] == measured_P2).all(2).any(1)
    pool_C2 = candidate_C2[is_measured_C] if is_measured_C.any() else candidate_C2
    picks, _ = choose(fit, pool_C2, precision, 1)
    # A point that is new needs one replicate more before there is a repeat of it.
    num_repeats = min(missing + (not is_measured_C.any()), round_replicates)
    return _proposal(fit, np.repeat(pool_C2[picks], num_repeats, axis=0), "repeats a point to measure the noise")


def _proposal(fit: BoundaryFit, point_X2: Array, reason: str) -> NextInPlane:
    points = tuple((float(x), float(y)) for x, y in point_X2)
    return NextInPlane(points=points, half_width=fit.half_width, is_settled=False, reason=reason)


def _why_settled(fit: BoundaryFit, precision: float, num_replicates: int) -> str | None:
    """Return why more replicates would not change the statement, or None where they would."""
    if not fit.converged:
        return None
    is_misfit = MISFIT_FLAG in fit.flags
    if fit.half_width is not None:
        doubt = ", but the residuals reject the surface" if is_misfit else ""
        return f"the band is as narrow as wanted{doubt}" if fit.half_width <= precision else None
    if is_misfit:
        return None
    if np.isnan(fit.median).any():
        why = "the ceiling is not reached" if CEILING_FLAG in fit.flags else "no rise distinguishable from noise"
        return why if num_replicates >= LEAST_LOOK else None
    return "the boundary lies outside the range"


def choose(fit: BoundaryFit, candidate_C2: Array, precision: float, num: int) -> tuple[list[int], str]:
    """Return the indices of at most `num` replicates, chosen greedily, and why."""
    scales, surfaces = fit.posterior.data.scales, fit.posterior.surfaces
    u_C, v_C = scales.to_u(candidate_C2[:, 0]), scales.to_v(candidate_C2[:, 1])
    if min(u_C.min(), v_C.min()) < -1e-6 or max(u_C.max(), v_C.max()) > 1 + 1e-6:
        raise ValueError("Every candidate must lie within the measured range of x and y; measure the corners first.")
    position_DG = fit.posterior.positions(np.linspace(0, 1, NUM_POSITIONS))
    position_DG = np.clip(np.where(np.isnan(position_DG), np.inf, position_DG), -MARGIN, 1 + MARGIN)
    outcome_DC = surfaces(u_C, v_C)
    position_DG, outcome_DC = position_DG - position_DG.mean(0), outcome_DC - outcome_DC.mean(0)
    num_draws = len(outcome_DC)
    shared_GC = position_DG.T @ outcome_DC / num_draws
    outcome_CC = outcome_DC.T @ outcome_DC / num_draws
    variance_G = position_DG.var(0)
    noise_D, seed_D, _ = variances(surfaces.theta_DK)
    noise = float(np.median(noise_D) + np.median(seed_D))
    now = max(float(np.sqrt(variance_G).sum()), 1e-12)
    picks: list[int] = []
    reason = "the band is wider than wanted"
    while len(picks) < num:
        spread_C = np.diag(outcome_CC) + noise
        left_GC = np.maximum(variance_G[:, None] - shared_GC**2 / spread_C, 0)
        gain_C = np.sqrt(variance_G).sum() - np.sqrt(left_GC).sum(0)
        if gain_C.max() <= 1e-9 * now:
            gain_C, reason = np.diag(outcome_CC), "no replicate is expected to narrow the band"
        pick = int(np.argmax(gain_C))
        picks.append(pick)
        shared_C, outcome_C = shared_GC[:, pick].copy(), outcome_CC[pick].copy()
        variance_G = np.maximum(variance_G - shared_C**2 / spread_C[pick], 0)
        shared_GC = shared_GC - np.outer(shared_C, outcome_C) / spread_C[pick]
        outcome_CC = outcome_CC - np.outer(outcome_C, outcome_C) / spread_C[pick]
        forecast = None if fit.half_width is None else fit.half_width * float(np.sqrt(variance_G).sum()) / now
        if forecast is not None and forecast <= precision < (fit.half_width or 0.0):
            break
    return picks, reason
