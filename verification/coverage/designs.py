"""The two designs whose intervals are checked: a fixed grid, and limit seeking that stops at the wanted precision."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from study.inference.bootstrap import bootstrap_crossing
from study.inference.seeking import Flank, propose
from study.inference.statements import Crossing, CrossingStatus
from study.inference.threshold import fit_curve
from verification.coverage.sets import GRID_OCTAVES, NUM_OCTAVES, Kind, Replicates, Truth, draw_truth, strata

Design = Literal["fixed", "adaptive", "bootstrap"]
Setting: TypeAlias = dict[str, str]
Side = Literal["rising", "falling"]
SIDES: tuple[Side, Side] = ("rising", "falling")

GRID = tuple(float(x) for x in 2**GRID_OCTAVES)
FIXED_SEEDS = (3, 5, 8)

FIRST_POINTS = tuple(float(x) for x in 2.0 ** np.linspace(0, NUM_OCTAVES, 6))
FIRST_SEEDS = (1, 2)
ROUND_REPLICATES = (1, 2, 4)
CANDIDATES = tuple(float(x) for x in 2.0 ** np.arange(0, NUM_OCTAVES + 0.01, 1 / 8))
PRECISION_OCTAVES = 0.25
MAX_REPLICATES = 60


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a design says of one set: None stands for a crossing that was not sought, or for a fit that broke down."""

    truth: Truth
    rising: Crossing | None
    falling: Crossing | None
    flags: tuple[str, ...]
    converged: bool
    num_replicates: int
    is_capped: bool
    strata: Setting
    error: str = ""

    def covers(self, side: Side) -> bool:
        """Whether the statement about a side is true; one without a converged fit counts as false."""
        crossing = self.rising if side == "rising" else self.falling
        truth = self.truth.crossings[0 if side == "rising" else 1]
        return self.converged and crossing is not None and covers(crossing, truth)


def covers(crossing: Crossing, truth: float) -> bool:
    """Return whether the statement is true: the interval, or the one-sided range of a censored one."""
    if crossing.status is CrossingStatus.NO_CROSSING:
        return False
    low = -np.inf if crossing.low is None else crossing.low
    high = np.inf if crossing.high is None else crossing.high
    return bool(low <= truth <= high)


def half_width_octaves(crossing: Crossing) -> float:
    """Return half the interval in octaves, nan where a side is open."""
    if crossing.low is None or crossing.high is None:
        return float("nan")
    return float(0.5 * np.log2(crossing.high / crossing.low))


def simulate(
    design: Design, seed: int, index: int, kind: Kind = "threshold", num_seeds: int | None = None
) -> Statement:
    """Draw set `index` of the run `seed`, measure it by a design, and return what the fit says.

    An exception of the fit is kept as text; the set then counts as one that is not covered.
    """
    rng = np.random.default_rng([seed, index])
    truth = draw_truth(rng, kind)
    runs, setting = Replicates(truth, rng, in_turn=design == "adaptive"), strata(truth)
    measure: Callable[[], Statement]
    if design == "adaptive":
        first, size = int(rng.choice(FIRST_SEEDS)), int(rng.choice(ROUND_REPLICATES))
        flank: Flank = "both" if setting["fall"] == "inside" and rng.random() < 0.65 else "rising"
        if kind in ("falling", "peaked"):
            flank = "falling" if kind == "falling" else "both"
        setting |= {"first seeds": str(first), "replicates per round": str(size), "sought": flank}
        measure = partial(_seek, runs, setting, first=first, size=size, flank=flank)
    else:
        seeds = num_seeds or int(rng.choice(FIXED_SEEDS))
        setting |= {"seeds": str(seeds)}
        runs.add(x for x in GRID for _ in range(seeds))
        measure = partial(_bootstrap if design == "bootstrap" else _fit, runs, setting)
    try:
        return measure()
    except Exception:  # Whatever breaks a fit is a failure of the method, and is counted as one.
        return Statement(
            truth=truth, rising=None, falling=None, flags=(), converged=False, num_replicates=len(runs),
            is_capped=False, strata=setting, error=traceback.format_exc(),
        )  # fmt: skip


def _fit(runs: Replicates, setting: Setting, *, is_capped: bool = False, flank: Flank = "both") -> Statement:
    truth = runs.truth
    fit = fit_curve(runs.x, runs.outcome, runs.seeds, runs.floor, fraction=truth.fraction, level=truth.level)
    return Statement(
        truth=truth, rising=fit.rising if flank != "falling" else None,
        falling=fit.falling if flank != "rising" else None, flags=fit.flags, converged=fit.converged,
        num_replicates=len(runs), is_capped=is_capped, strata=setting,
    )  # fmt: skip


def _seek(runs: Replicates, setting: Setting, *, first: int, size: int, flank: Flank) -> Statement:
    runs.add(FIRST_POINTS * first)
    while True:
        proposal = propose(
            runs.x, runs.outcome, runs.seeds, runs.floor, fraction=runs.truth.fraction, level=runs.truth.level,
            flank=flank, candidates=CANDIDATES, precision=PRECISION_OCTAVES, round_replicates=size,
        )  # fmt: skip
        if not proposal.points or len(runs) >= MAX_REPLICATES:
            return _fit(runs, setting, is_capped=not proposal.is_settled, flank=flank)
        runs.add(proposal.points[: MAX_REPLICATES - len(runs)])


def _bootstrap(runs: Replicates, setting: Setting) -> Statement:
    truth = runs.truth
    rising, falling = (
        bootstrap_crossing(
            runs.x, runs.outcome, runs.seeds, runs.floor, fraction=truth.fraction, level=truth.level, flank=flank
        )
        for flank in SIDES
    )
    return Statement(
        truth=truth, rising=rising, falling=falling, flags=(), converged=True, num_replicates=len(runs),
        is_capped=False, strata=setting,
    )  # fmt: skip
