"""Fixed designs of someone who knows the curve and its noise: by Fisher information, and brackets of the threshold.

The curve is FLOOR + height * Hill(middle, width) with a known floor, linearised at the truth. Classical c-optimality
puts nearly everything on the two candidates beside the threshold, and from those no inference that does not know the
curve gives an interval. So the information is that of the model behind every interval here: with the priors of height,
middle and width, and with the smooth departure from a logistic flank, both from `study.inference`. What is minimised is
the posterior variance of the threshold. Brackets are pairs of points at fixed distances from the threshold, in turn;
they do better where linearisation at the truth is what fails. Every design has one replicate at either end of the
range, which says to the fit what the range is.

Shapes: C candidates, 3 parameters (height, middle, log width).
"""

import numpy as np
from scipy.optimize import linprog

from study.inference.noise import DISCREPANCY_MEAN, discrepancy_kernel
from study.inference.posterior import HEIGHT_SD, LOG_WIDTH_SD, RISE_MAX, RISE_MIN
from verification.economy.problem import CEILING, FLOOR, NUM_OCTAVES, PRECISION_OCTAVES, Array, Curve

HEIGHT = CEILING - FLOOR
# Half the width of a 95 % interval in units of its standard deviation.
Z = 1.96


def gradients(curve: Curve, octaves_C: Array) -> tuple[Array, Array]:
    """Return the curve's gradient by its parameters at the candidates (C, 3), and the threshold's (3,)."""

    def at(octaves: Array) -> tuple[Array, Array]:
        share = (curve(octaves) - FLOOR) / HEIGHT
        slope = HEIGHT * share * (1 - share) * 2 * np.log(9) / curve.width
        return np.stack([share, -slope, -slope * (octaves - curve.middle)], -1), slope

    here, slope = at(np.array(curve.threshold))
    return at(octaves_C)[0], -here / slope


class ThresholdVariance:
    """Posterior variance of the threshold, in octaves squared, as a function of where replicates are."""

    def __init__(self, curve: Curve, octaves_C: Array) -> None:
        # The outcome at the threshold stands first: over the slope it is the threshold, departure included.
        octaves_X = np.append(curve.threshold, octaves_C)
        gradient_X3, _ = gradients(curve, octaves_X)
        slope = -gradient_X3[0, 1]
        prior_33 = np.diag(
            [(HEIGHT_SD * HEIGHT) ** 2, ((RISE_MAX - RISE_MIN) * NUM_OCTAVES) ** 2 / 12, LOG_WIDTH_SD**2]
        )
        unit_X = octaves_X / NUM_OCTAVES
        departure_XX = (DISCREPANCY_MEAN * HEIGHT) ** 2 * discrepancy_kernel(unit_X, unit_X)
        outcome_XX = gradient_X3 @ prior_33 @ gradient_X3.T + departure_XX
        self.outcome_CC: Array = outcome_XX[1:, 1:]
        self.cross_C: Array = -outcome_XX[0, 1:] / slope
        self.prior = float(outcome_XX[0, 0]) / slope**2
        self.noise = curve.noise_sd**2

    def __call__(self, points: list[int]) -> float:
        """The variance with one replicate at each of `points`."""
        return self.prior - float(self._gained(points)[0])

    def _gained(self, points: list[int]) -> tuple[float, Array, Array]:
        """What `points` take off, and the cross-covariances and variances that they leave at every candidate."""
        if not points:
            return 0.0, self.cross_C, np.diag(self.outcome_CC)
        where_P, count_P = np.unique(points, return_counts=True)
        covariance_PP = self.outcome_CC[np.ix_(where_P, where_P)] + np.diag(self.noise / count_P)
        solved_PX = np.linalg.solve(covariance_PP, np.column_stack([self.cross_C[where_P], self.outcome_CC[where_P]]))
        cross_C = self.cross_C - self.cross_C[where_P] @ solved_PX[:, 1:]
        variance_C = np.diag(self.outcome_CC) - np.sum(self.outcome_CC[where_P] * solved_PX[:, 1:], 0)
        return float(self.cross_C[where_P] @ solved_PX[:, 0]), cross_C, variance_C

    def best_next(self, points: list[int]) -> int:
        """The candidate at which one more replicate leaves the least variance."""
        _, cross_C, variance_C = self._gained(points)
        return int(np.argmax(cross_C**2 / (variance_C + self.noise)))


def best_design(curve: Curve, octaves_C: Array, num: int) -> list[int]:
    """Return the candidates of the best design of `num` replicates: chosen one by one, exchanged while it helps."""
    variance = ThresholdVariance(curve, octaves_C)
    points: list[int] = []
    for _ in range(num):
        points.append(variance.best_next(points))
    current, improved = variance(points), True
    while improved:
        improved = False
        for point in sorted(set(points)):
            rest = list(points)
            rest.remove(point)
            candidate = [*rest, variance.best_next(rest)]
            value = variance(candidate)
            if value < current * (1 - 1e-9):
                points, current, improved = candidate, value, True
                break
    return sorted(points)


def c_optimal(curve: Curve, octaves_C: Array, num: int) -> list[int]:
    """Return the candidates of both ends and the best design of the other `num - 2` replicates."""
    return [0, len(octaves_C) - 1, *best_design(curve, octaves_C, num - 2)]


def bracket(curve: Curve, octaves_C: Array, num: int, *, distances: tuple[float, ...]) -> list[int]:
    """Return the candidates of both ends and, in turn, those nearest to the threshold -+ each distance in octaves."""
    signed = (sign * distance for distance in distances for sign in (-1, 1))
    around = [int(np.argmin(np.abs(octaves_C - curve.threshold - distance))) for distance in signed]
    return [0, len(octaves_C) - 1, *(around[i % len(around)] for i in range(num - 2))]


def cramer_rao(curve: Curve, octaves_C: Array) -> float:
    """Return how many replicates the classical c-optimal design needs: no priors, no departure, an exact curve.

    The weights solve Elfving's problem, the least sum of |u| with gradient' u = the threshold's gradient.
    """
    gradient_C3, target_3 = gradients(curve, octaves_C)
    num = len(octaves_C)
    found = linprog(np.ones(2 * num), A_eq=np.hstack([gradient_C3.T, -gradient_C3.T]), b_eq=target_3)
    assert found.x is not None, "three gradients that span the space reach any target"
    return float((Z * curve.noise_sd * found.x.sum() / PRECISION_OCTAVES) ** 2)
