"""A threshold to be found, as a pool of replicates: simulated with a known curve, or run once and kept.

Every method draws from the same pool, the replicates of a point in the order of their seeds, and asks the same fit for
its interval.

Shapes: C candidates, R replicates of each in the pool.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from study.inference.statements import Crossing
from study.inference.threshold import CurveFit, fit_curve

Array: TypeAlias = NDArray[np.float64]

NUM_OCTAVES = 10
LEVEL = 0.5
PRECISION_OCTAVES = 0.25

WIDTHS_OCTAVES = (0.5, 1.0, 2.0, 3.0)
NOISE_SDS = (0.05, 0.1)
FLOOR, CEILING = 0.05, 0.75
SIMULATED_SPACING = 1 / 8
POOL_SIZE = 200


class PoolExhausted(Exception):
    """A method asks for more replicates of a point than the pool holds."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A Hill rise from FLOOR to CEILING that passes LEVEL at `threshold`, with what its replicates scatter by."""

    threshold: float  # octaves above the smallest x
    width: float
    noise_sd: float

    @property
    def middle(self) -> float:
        """Where the rise is half complete, in octaves."""
        share = (LEVEL - FLOOR) / (CEILING - FLOOR)
        return self.threshold - self.width * float(np.log(share / (1 - share))) / (2 * float(np.log(9)))

    def __call__(self, octaves: Array) -> Array:
        rise: Array = 1 / (1 + 9.0 ** (-2 * (octaves - self.middle) / self.width))
        return FLOOR + (CEILING - FLOOR) * rise


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One threshold to be found; `truth` is its octave, of a real pool the estimate from all of its replicates."""

    octaves_C: Array
    outcome_CR: Array
    floor: float
    flank: Literal["rising", "falling"]
    truth: float
    curve: Curve | None = None

    def columns(self, points: Iterable[int]) -> tuple[list[float], list[float], list[int], list[float]]:
        """x, outcome, seeds and floor of the replicates at candidates `points`, as a fit takes them."""
        counts: Counter[int] = Counter()
        x, outcome, seeds = [], [], []
        for point in points:
            seed = counts[point]
            if seed >= self.outcome_CR.shape[1]:
                raise PoolExhausted
            counts[point] += 1
            x.append(float(2.0 ** self.octaves_C[point]))
            outcome.append(float(self.outcome_CR[point, seed]))
            seeds.append(seed)
        return x, outcome, seeds, [self.floor] * len(x)

    def every(self, octaves: float) -> list[int]:
        """Candidates of a uniform grid over the whole range."""
        return list(range(0, len(self.octaves_C), self.steps(octaves)))

    def steps(self, octaves: float) -> int:
        """How many candidates lie within so many octaves."""
        return round(octaves / float(self.octaves_C[1] - self.octaves_C[0]))

    def spread(self, num: int) -> list[int]:
        """`num` candidates spread evenly over the range, both ends included."""
        return [round(i) for i in np.linspace(0, len(self.octaves_C) - 1, num)]

    def crossing(self, points: Sequence[int]) -> Crossing | None:
        """The sought crossing by the fit that a study reports; None where it asks for more points or replicates."""
        has_curve = len(set(points)) >= 3 and max(Counter(points).values()) >= 2
        if not has_curve:
            return None
        fit: CurveFit = fit_curve(*self.columns(points), fraction=None, level=LEVEL)
        return fit.rising if self.flank == "rising" else fit.falling

    def shuffled(self, rng: np.random.Generator) -> "Problem":
        """The same pool with its seeds in another order."""
        order_R = rng.permutation(self.outcome_CR.shape[1])
        return Problem(
            octaves_C=self.octaves_C, outcome_CR=self.outcome_CR[:, order_R], floor=self.floor, flank=self.flank,
            truth=self.truth,
        )  # fmt: skip


def half_width(crossing: Crossing | None) -> float:
    """Half the interval in octaves, infinite where it is open or there is none."""
    if crossing is None or crossing.low is None or crossing.high is None:
        return np.inf
    return float(0.5 * np.log2(crossing.high / crossing.low))


def simulated(seed: int, width: float, noise_sd: float, repeat: int) -> Problem:
    """Draw a threshold, uniform over the middle eight octaves, and a pool of independent replicates."""
    key = [seed, WIDTHS_OCTAVES.index(width), NOISE_SDS.index(noise_sd), repeat]
    rng = np.random.default_rng(key)
    curve = Curve(threshold=float(rng.uniform(1, NUM_OCTAVES - 1)), width=width, noise_sd=noise_sd)
    octaves_C = np.arange(0, NUM_OCTAVES + SIMULATED_SPACING / 2, SIMULATED_SPACING)
    noise_CR = noise_sd * rng.standard_normal((len(octaves_C), POOL_SIZE))
    return Problem(
        octaves_C=octaves_C, outcome_CR=curve(octaves_C)[:, None] + noise_CR, floor=FLOOR, flank="rising",
        truth=curve.threshold, curve=curve,
    )  # fmt: skip
