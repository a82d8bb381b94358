"""Do searches of a share of seeds that succeed stop with the truth inside their interval?

Success rises from 0 to 1 by one of the four families of flanks; six points with four seeds come first, then rounds
until the half-width is as wanted or the replicates run out. Every replicate has a seed of its own, as in a study.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from study.inference.binary import fit_success
from study.inference.seeking import propose_success
from verification.coverage.designs import covers
from verification.coverage.parallel import spread
from verification.coverage.sets import FAMILIES, flank
from verification.coverage.tables import with_error

NUM_OCTAVES = 8
FIRST_OCTAVES, FIRST_SEEDS = np.linspace(0, NUM_OCTAVES, 6), 4
CANDIDATES = np.exp2(np.arange(0, NUM_OCTAVES + 1 / 16, 1 / 8))
WIDTHS_OCTAVES = (0.5, 1.5, 3.0, 4.0)
PRECISION, MAX_REPLICATES, ROUND = 0.4, 96, 12


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one search ended."""

    width: float
    num_replicates: int
    is_settled: bool
    covered: bool
    error: float  # octaves


def search(seed: int, index: int) -> Ended:
    """Seek one threshold."""
    rng = np.random.default_rng([seed, index])
    truth, width = float(rng.uniform(1.5, NUM_OCTAVES - 1.5)), float(rng.choice(WIDTHS_OCTAVES))
    family = str(rng.choice(FAMILIES))
    octaves = np.repeat(FIRST_OCTAVES, FIRST_SEEDS)
    success = rng.random(len(octaves)) < flank(family, octaves - truth, width)
    while True:
        left = MAX_REPLICATES - len(octaves)
        proposal = propose_success(
            np.exp2(octaves), success, np.arange(len(octaves)), candidates=CANDIDATES, precision=PRECISION,
            round_replicates=max(1, min(ROUND, left)),
        )  # fmt: skip
        if not proposal.points or not left:
            break
        new = np.log2(proposal.points)
        octaves = np.concatenate([octaves, new])
        success = np.concatenate([success, rng.random(len(new)) < flank(family, new - truth, width)])
    rising = fit_success(np.exp2(octaves), success, level=0.5).rising
    return Ended(
        width=width,
        num_replicates=len(octaves),
        is_settled=proposal.is_settled,
        covered=covers(rising, 2**truth),
        error=np.nan if rising.estimate is None else abs(float(np.log2(rising.estimate)) - truth),
    )


def success_lines(seed: int, sets: int, processes: int) -> Iterable[str]:
    """Yield the lines of a Markdown table: all searches, then each width."""
    ended = spread(partial(search, seed), sets, processes)
    yield "| width | searches | covered | median error | replicates | ended at the cap |"
    yield "|---" * 6 + "|"
    for width in (None, *sorted({one.width for one in ended})):
        chosen = [one for one in ended if width in (None, one.width)]
        share = float(np.mean([one.covered for one in chosen]))
        cells = [
            "all" if width is None else f"{width:g} octaves",
            str(len(chosen)),
            with_error(share, len(chosen)),
            f"{np.nanmedian([one.error for one in chosen]):.2f}",
            f"{np.median([one.num_replicates for one in chosen]):.0f}",
            f"{np.mean([not one.is_settled for one in chosen]):.0%}",
        ]
        yield f"| {' | '.join(cells)} |"
