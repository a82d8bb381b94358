"""Error and coverage on binary outcomes, beside psignifit (Schuett et al. 2016) on the same simulated sets.

Success rises from a floor to a ceiling with lapses, by one of the four families of flanks; replicates are independent
and the criterion is half-way, psignifit's own. psignifit gets log2 x and the logistic sigmoid, and is told that nothing
is overdispersed (eta = 0, which is true and makes it eight times faster); everything else is its default.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from study.inference.binary import fit_success
from verification.coverage.parallel import spread
from verification.coverage.sets import FAMILIES, GRID_OCTAVES, WIDTHS_OCTAVES, Array, flank
from verification.coverage.tables import with_error

TRIALS = (5, 10, 20)
METHODS = ("ours", "psignifit")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both methods' estimate and interval of one set in octaves, (estimate, low, high) with nan for what is missing."""

    truth: float
    strata: dict[str, str]
    ours: tuple[float, float, float]
    psignifit: tuple[float, float, float]


def measure(seed: int, index: int) -> Pair:
    """Draw one set and fit it by both."""
    rng = np.random.default_rng([seed, index])
    family, width = str(rng.choice(FAMILIES)), float(rng.choice(WIDTHS_OCTAVES))
    truth, trials = float(rng.uniform(1, 9)), int(rng.choice(TRIALS))
    floor, lapse = rng.uniform(0, 0.05, 2)
    probability_P = floor + (1 - floor - lapse) * flank(family, GRID_OCTAVES - truth, width)
    success_PR = rng.random((len(GRID_OCTAVES), trials)) < probability_P[:, None]
    return Pair(
        truth=truth,
        strata={"width": f"{width:g} octaves", "trials per point": str(trials), "flank": family},
        ours=_ours(success_PR),
        psignifit=_psignifit(success_PR),
    )


def _ours(success_PR: Array) -> tuple[float, float, float]:
    x_PR = np.broadcast_to(2.0 ** GRID_OCTAVES[:, None], success_PR.shape)
    rising = fit_success(x_PR.ravel(), success_PR.ravel(), fraction=0.5).rising
    ends = (np.nan if rising.estimate is None else rising.estimate, rising.low or 0.0, rising.high or np.inf)
    with np.errstate(divide="ignore"):
        estimate, low, high = np.log2(ends)
    return float(estimate), float(low), float(high)


def _psignifit(success_PR: Array) -> tuple[float, float, float]:
    from psignifit import psignifit  # installed for this comparison only, see the Makefile

    data = np.column_stack([GRID_OCTAVES, success_PR.sum(1), np.full(len(success_PR), success_PR.shape[1])])
    fit: Any = psignifit(
        data, experiment_type="yes/no", sigmoid="logistic", fixed_parameters={"eta": 1e-8}, verbose=False
    )
    low, high = fit.confidence_intervals["threshold"]["0.95"]
    return float(fit.parameter_estimate["threshold"]), float(low), float(high)


def binary_lines(seed: int, sets: int, processes: int) -> Iterable[str]:
    """Yield the lines of a Markdown table: all sets, then each stratum.

    Errors are of sets to which both gave a number, in octaves.
    """
    pairs = spread(partial(measure, seed), sets, processes)
    head = "covered | median error | root mean square | half-width"
    yield f"| stratum | sets | ours {head} | psignifit {head} |"
    yield "|---" * 10 + "|"
    names = [(key, value) for key in pairs[0].strata for value in sorted({p.strata[key] for p in pairs})]
    for name in [None, *names]:
        chosen = [p for p in pairs if name is None or p.strata[name[0]] == name[1]]
        cells = ["all" if name is None else f"{name[0]}: {name[1]}", str(len(chosen))]
        for method in METHODS:
            cells += _cells(chosen, method)
        yield "| " + " | ".join(cells) + " |"
    missing = sum(np.isnan(p.ours[0]) for p in pairs)
    yield f"\nSets without a number of ours: {missing} of {len(pairs)}."


def _cells(pairs: Sequence[Pair], method: str) -> list[str]:
    truth_N = np.array([p.truth for p in pairs])
    result_N3 = np.array([getattr(p, method) for p in pairs])
    covered_N = (result_N3[:, 1] <= truth_N) & (truth_N <= result_N3[:, 2])
    both_N = ~np.isnan([p.ours[0] for p in pairs])
    error_N = np.abs(result_N3[:, 0] - truth_N)[both_N]
    width_N = 0.5 * (result_N3[:, 2] - result_N3[:, 1])
    return [
        with_error(float(covered_N.mean()), len(pairs)), f"{np.median(error_N):.3f}",
        f"{np.sqrt(np.mean(error_N**2)):.3f}", f"{np.median(width_N):.2f}",
    ]  # fmt: skip
