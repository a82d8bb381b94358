"""What one more replicate is expected to tell of a threshold.

    gain_c = Cov(t, y_c)^2 / (Var y_c + s_c^2)

is what one more replicate at candidate c takes off the variance of the threshold t, as far as t depends linearly on
its outcome over the posterior draws; s_c^2 is the noise of a replicate. For a step hidden between two points this is
exact and picks the middle. A round is chosen greedily (Krause et al. 2008, "Near-optimal sensor placements in
Gaussian processes"): every choice conditions the joint covariance of thresholds and outcomes, so that the next goes
elsewhere, or to the same point again where noise is what is left.

Shapes: D posterior draws, C candidates, T sought thresholds.
"""

import numpy as np
from numpy.typing import NDArray

from study.inference.noise import Array

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2


class Forecast:
    """The joint covariance of sought thresholds and of the outcomes at the candidates, conditioned step by step."""

    def __init__(self, target_DT: Array, predicted_DC: Array, noise_C: Array, allowed_C: NDArray[np.bool_]) -> None:
        low_T, high_T = np.quantile(target_DT, [TAIL, 1 - TAIL], axis=0)
        self.width_T = 0.5 * (high_T - low_T)
        self.num_targets = len(self.width_T)
        self.joint = np.cov(np.hstack([target_DT, predicted_DC]), rowvar=False)
        self.start_T = np.maximum(np.diag(self.joint)[: self.num_targets], 1e-12)
        self.noise_C, self.allowed_C = noise_C, allowed_C

    def choose(
        self, targets: list[int], precision: float, limit: int, among_C: NDArray[np.bool_] | None = None
    ) -> list[int]:
        """Choose up to `limit` candidates for the given thresholds, fewer once all are expected to be narrow enough."""
        chosen: list[int] = []
        while len(chosen) < limit:
            variance_C = np.diag(self.joint)[self.num_targets :] + self.noise_C
            gain_C = np.sum(self.joint[targets, self.num_targets :] ** 2, 0) / variance_C
            allowed_C = self.allowed_C if among_C is None else self.allowed_C & among_C
            pick = int(np.argmax(np.where(allowed_C, gain_C, -1.0)))
            chosen.append(pick)
            self.condition(pick)
            left_T = np.maximum(np.diag(self.joint)[: self.num_targets] / self.start_T, 0)
            if np.all((self.width_T * np.sqrt(left_T))[targets] <= precision):
                break
        return chosen

    def condition(self, pick: int) -> None:
        """Take one more replicate at a candidate as measured."""
        column = self.joint[:, self.num_targets + pick].copy()
        self.joint -= np.outer(column, column) / (column[self.num_targets + pick] + self.noise_C[pick])
