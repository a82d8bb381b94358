"""Simulated studies with known answers: the generator, which is not the prior of the fit.

Flanks of four families, of which only the Hill curve is the fitted one; seed effects that may grow with the curve;
noise that may change along it and may have heavy tails; measured floors with an error of their own. The range is ten
octaves, 1 to 1024, and thresholds are uniform over the middle eight. The truth of a set is the crossing of its
noiseless curve: half-way from the floor to the maximum within the range, or an absolute level.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from study.planning.limit_state import next_seed

Array: TypeAlias = NDArray[np.float64]
Kind = Literal["threshold", "falling", "peaked", "below", "above", "flat", "ceiling"]

NUM_OCTAVES = 10
GRID_OCTAVES = np.arange(NUM_OCTAVES + 1.0)
WIDTHS_OCTAVES = (0.5, 1.0, 2.0, 3.0)
FAMILIES = ("hill", "normal", "gompertz", "gompertz_mirrored")
# Of the height, as every number of noise here.
NOISE_SDS = (0.05, 0.1, 0.2)
SEED_SDS = (0.05, 0.15)
FLOOR_SD = 0.02
MAX_SEEDS = 256
# The height whose shares a flat curve scatters by.
FLAT_UNIT = 0.3


def flank(family: str, octaves: Array, width: float) -> Array:
    """Return a rise from 0 to 1, one half at 0, with the given 10-90 % width."""
    if family == "hill":
        return np.asarray(1 / (1 + 9.0 ** (-2 * octaves / width)))
    if family == "normal":
        return np.asarray(norm.cdf(octaves * 2 * norm.ppf(0.9) / width))
    z = octaves * (np.log(-np.log(0.1)) - np.log(-np.log(0.9))) / width
    if family == "gompertz":
        return np.asarray(np.exp(-np.log(2) * np.exp(-z)))
    assert family == "gompertz_mirrored"
    return np.asarray(1 - np.exp(-np.log(2) * np.exp(z)))


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A noiseless curve, how its replicates scatter, and the criterion; infinite positions stand for no such flank.

    `height` is that of the curve's maximum over the floor, looked for from the smallest x up to `reach` octaves above
    it, which is the range but for a curve that rises beyond it. 0 is a flat curve, whose noise is that of another.
    """

    family: str
    rise_at: float
    rise_width: float
    fall_at: float
    fall_width: float
    floor: float
    height: float
    noise_sd: float
    noise_shape: str
    tails: str
    seed_sd: float
    seed_kind: str
    level: float | None
    reach: float = NUM_OCTAVES

    @property
    def unit(self) -> float:
        """What noise is measured in."""
        return self.height or FLAT_UNIT

    @property
    def fraction(self) -> float | None:
        """The share of the rise that is sought where no level is."""
        return 0.5 if self.level is None else None

    @cached_property
    def _peak(self) -> float:
        return float(self._raw(np.linspace(0, self.reach, 1001)).max())

    def _raw(self, octaves: Array) -> Array:
        rise = flank(self.family, octaves - self.rise_at, self.rise_width) if np.isfinite(self.rise_at) else 1.0
        fall = flank(self.family, self.fall_at - octaves, self.fall_width) if np.isfinite(self.fall_at) else 1.0
        return np.ones_like(octaves) * rise * fall

    def share(self, octaves: Array) -> Array:
        """The curve between the floor (0) and its maximum (1)."""
        return self._raw(octaves) / self._peak if self.height else np.zeros_like(octaves)

    @cached_property
    def crossings(self) -> tuple[float, float]:
        """Where the noiseless curve rises and falls through the criterion, in x; infinite outside the range."""
        octaves = np.linspace(0, NUM_OCTAVES, 8001)
        target = 0.5 if self.level is None else (self.level - self.floor) / self.unit
        above = self.share(octaves) >= target
        if not above.any():
            return np.inf, np.nan
        rising = -np.inf if above[0] else float(2 ** octaves[int(above.argmax())])
        falling = np.inf if above[-1] else float(2 ** octaves[len(above) - 1 - int(above[::-1].argmax())])
        return rising, falling


@dataclass
class Replicates:
    """Replicates of one truth, one more wherever asked: by the r-th seed, or by seeds in turn as a search does."""

    truth: Truth
    rng: np.random.Generator
    in_turn: bool = False
    x: list[float] = field(default_factory=list)
    outcome: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        unit = self.truth.unit
        self._shift_S = unit * self.truth.seed_sd * self.rng.standard_normal(MAX_SEEDS)
        self._floor_S = self.truth.floor + unit * FLOOR_SD * self.rng.standard_normal(MAX_SEEDS)

    def add(self, points: Iterable[float]) -> None:
        """Run one more replicate at each of `points` (units of x)."""
        truth = self.truth
        for x in points:
            used = {seed for other, seed in zip(self.x, self.seeds, strict=True) if other == x}
            seed = next_seed(used, Counter(self.seeds), 0) if self.in_turn else len(used)
            share = float(truth.share(np.log2([x]))[0])
            along = 0.4 + 4.8 * share * (1 - share) if truth.noise_shape == "varying" else 1.0
            z = self.rng.standard_t(3) / np.sqrt(3) if truth.tails == "heavy" else self.rng.standard_normal()
            shift = self._shift_S[seed] * (share if truth.seed_kind == "proportional" else 1.0)
            self.x.append(x)
            self.outcome.append(truth.floor + truth.height * share + shift + truth.unit * truth.noise_sd * along * z)
            self.seeds.append(seed)
            self.floor.append(self._floor_S[seed])

    def __len__(self) -> int:
        return len(self.x)


def draw_truth(rng: np.random.Generator, kind: Kind = "threshold") -> Truth:
    """Draw a truth: a threshold in the middle eight octaves with or without a fall, or a kind to be recognised.

    falling: high at the smallest x, falls inside. peaked: rises and falls inside, at least three octaves apart. below
    and above: at least one octave outside the range. flat: nothing but the floor. ceiling: half-way is inside, and the
    curve still climbs at the largest x.
    """
    widths, has_level = rng.choice(WIDTHS_OCTAVES, 2), bool(rng.random() < 0.5)
    rise_at, fall_at, height, reach = float(rng.uniform(1, 9)), np.inf, float(rng.uniform(0.2, 0.7)), NUM_OCTAVES
    if kind == "threshold" and rng.random() < 0.6:
        fall_at = float(rng.uniform(rise_at + 1.5, max(11.5, rise_at + 2)))
    elif kind == "falling":
        rise_at, fall_at = -np.inf, float(rng.uniform(1, 9))
    elif kind == "peaked":
        rise_at = float(rng.uniform(1, 6))
        fall_at = float(rng.uniform(rise_at + 3, 9))
    elif kind == "below":
        rise_at = float(rng.uniform(-4, -1))
    elif kind == "above":
        # A fraction of a rise that was never seen means nothing: only a level can lie above the range.
        rise_at, has_level, reach = float(rng.uniform(11, 14)), True, 2 * NUM_OCTAVES
    elif kind == "flat":
        height = 0.0
    elif kind == "ceiling":
        rise_at, has_level, widths[0] = float(rng.uniform(8.5, 10)), False, rng.choice([2.0, 3.0])
    floor = float(rng.uniform(0.0, 0.06))
    return Truth(
        family=str(rng.choice(FAMILIES)), rise_at=rise_at, rise_width=float(widths[0]), fall_at=fall_at,
        fall_width=float(widths[1]), floor=floor, height=height, reach=reach,
        noise_sd=float(rng.choice(NOISE_SDS)), noise_shape=str(rng.choice(["constant", "varying"])),
        tails=str(rng.choice(["normal", "heavy"])),
        seed_sd=float(rng.uniform(*SEED_SDS)), seed_kind=str(rng.choice(["additive", "proportional"])),
        level=floor + float(rng.uniform(0.35, 0.65)) * (height or FLAT_UNIT) if has_level else None,
    )  # fmt: skip


def strata(truth: Truth) -> dict[str, str]:
    """The one-way strata of a set with a threshold."""
    fall = "beyond the range" if np.isinf(truth.crossings[1]) else "inside"
    return {
        "rise width": f"{truth.rise_width:g} octaves",
        "noise sd": f"{truth.noise_sd:g} of the height",
        "flank": truth.family,
        "fall": "none" if np.isinf(truth.fall_at) else fall,
        "criterion": "half of the rise" if truth.level is None else "level",
        "threshold": "outer" if abs(truth.rise_at - NUM_OCTAVES / 2) > NUM_OCTAVES / 5 else "inner",
        "noise": truth.noise_shape,
        "tails": truth.tails,
        "seed effect": truth.seed_kind,
        "height": "under 0.45" if truth.height < 0.45 else "over 0.45",
    }
