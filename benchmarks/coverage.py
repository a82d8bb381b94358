"""How often do the 95 % intervals of `fit_curve` contain the crossing? Simulated studies with known answers.

    python benchmarks/coverage.py --sets 600 --seed 1
    python benchmarks/coverage.py --sets 100 --seed 1 --method bootstrap

The generator is not the prior of the fit: three families of flanks, of which only the Hill curve is the fitted
one, seed effects that may grow with the curve, noise that may change along it and may have heavy tails. Each set
is eight batch sizes 4 to 512 with five shared seeds. The crossing that counts is that of the noiseless curve at
half the rise from the floor to its maximum within 4 to 512.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import norm

from study.inference.threshold import Crossing, CrossingStatus, fit_curve

Array = NDArray[np.float64]

BATCHES = 2.0 ** np.arange(2, 10)
NUM_SEEDS = 5
WIDTHS_OCTAVES = (0.5, 1.0, 2.0, 3.0)

Crossings: TypeAlias = tuple[Crossing, Crossing]  # rising, falling


@dataclass(frozen=True, kw_only=True)
class SimulatedSet:
    """One simulated study, its true crossings (infinite outside the range) and its strata."""

    x: Array
    outcome: Array
    seeds: NDArray[np.intp]
    floor: Array
    rising: float
    falling: float
    strata: dict[str, str]


def flank(family: str, octaves: Array, width: float) -> Array:
    """Return a rise from 0 to 1, one half at 0, with the given 10-90 % width."""
    if family == "hill":
        return 1 / (1 + 9.0 ** (-2 * octaves / width))
    if family == "normal":
        return np.asarray(norm.cdf(octaves * 2 * norm.ppf(0.9) / width))
    z = octaves * (np.log(-np.log(0.1)) - np.log(-np.log(0.9))) / width
    if family == "gompertz":
        return np.asarray(np.exp(-np.log(2) * np.exp(-z)))
    assert family == "gompertz_mirrored"
    return np.asarray(1 - np.exp(-np.log(2) * np.exp(z)))


def simulate(seed: int, index: int) -> SimulatedSet:
    """Draw set number `index` of the run `seed`."""
    rng = np.random.default_rng([seed, index])
    family = str(rng.choice(["hill", "normal", "gompertz", "gompertz_mirrored"]))
    rise_width, fall_width = rng.choice(WIDTHS_OCTAVES, 2)
    position = str(rng.choice(["middle", "edge"], p=[0.8, 0.2]))
    threshold = rng.uniform(3.5, 7.5) if position == "middle" else rng.uniform(0.5, 3.5)
    fall = str(rng.choice(["none", "inside", "at the end"], p=[0.4, 0.35, 0.25]))
    fall_at = rng.uniform(threshold + 1.5, max(8.5, threshold + 2)) if fall == "inside" else rng.uniform(8.5, 10)
    floor, height = rng.uniform(0.0, 0.06), rng.uniform(0.2, 0.55)

    def curve(octaves: Array) -> Array:
        rise = flank(family, octaves - threshold, rise_width)
        return floor + height * (rise if fall == "none" else rise * flank(family, fall_at - octaves, fall_width))

    noise_sd = float(rng.choice([0.02, 0.05]))
    shape, tails = str(rng.choice(["constant", "varying"])), str(rng.choice(["normal", "heavy"]))
    seed_sd, seed_kind = rng.uniform(0.02, 0.05), str(rng.choice(["additive", "proportional"]))
    mean_P = curve(np.log2(BATCHES))
    share_P = (mean_P - floor) / height
    sd_P = noise_sd * (0.4 + 1.2 * 4 * share_P * (1 - share_P) if shape == "varying" else np.ones(len(BATCHES)))
    noise_PS = rng.standard_normal((len(BATCHES), NUM_SEEDS))
    if tails == "heavy":
        noise_PS = rng.standard_t(3, noise_PS.shape) / np.sqrt(3)
    effect_S = seed_sd * rng.standard_normal(NUM_SEEDS)
    effect_PS = np.outer(share_P if seed_kind == "proportional" else np.ones(len(BATCHES)), effect_S)
    floor_S = floor + 0.01 * rng.standard_normal(NUM_SEEDS)
    rising, falling = true_crossings(curve, floor)
    return SimulatedSet(
        x=np.repeat(BATCHES, NUM_SEEDS),
        outcome=(mean_P[:, None] + effect_PS + sd_P[:, None] * noise_PS).ravel(),
        seeds=np.tile(np.arange(NUM_SEEDS), len(BATCHES)),
        floor=np.tile(floor_S, len(BATCHES)),
        rising=rising,
        falling=falling,
        strata={
            "flank": family, "rise width": f"{rise_width:g} octaves", "threshold": position, "fall": fall,
            "noise sd": f"{noise_sd:g}", "noise": shape, "tails": tails, "seed effect": seed_kind,
            "height": "under 0.35" if height < 0.35 else "over 0.35",
        },
    )  # fmt: skip


def true_crossings(curve: Callable[[Array], Array], floor: float) -> tuple[float, float]:
    """Return where the noiseless curve crosses half its rise, up and down, in units of x."""
    octaves = np.linspace(np.log2(BATCHES[0]), np.log2(BATCHES[-1]), 7001)
    values = curve(octaves)
    peak = int(values.argmax())
    above = values >= floor + 0.5 * (values[peak] - floor)
    rising = -np.inf if above[0] else float(2 ** octaves[int(above.argmax())])
    falling = np.inf if above[-1] else float(2 ** octaves[len(above) - 1 - int(above[::-1].argmax())])
    return rising, falling


def covers(crossing: Crossing, truth: float) -> bool:
    """Return whether the statement is true: the interval, or the one-sided range of a censored one."""
    if crossing.status is CrossingStatus.NO_CROSSING:
        return False
    low = -np.inf if crossing.low is None else crossing.low
    high = np.inf if crossing.high is None else crossing.high
    return bool(low <= truth <= high)


def fit(data: SimulatedSet) -> Crossings:
    """Fit one simulated set with the defaults."""
    result = fit_curve(data.x, data.outcome, data.seeds, data.floor)
    return result.rising, result.falling


def bootstrap(data: SimulatedSet, num_resamples: int = 100) -> Crossings:
    """Fit by least squares, with percentile intervals from resampling seeds: the method that is not used."""
    y_PS = data.outcome.reshape(len(BATCHES), NUM_SEEDS)
    floor_S = data.floor[:NUM_SEEDS]
    octaves = np.log2(BATCHES)

    def curve(parameters: Array, at: Array, floor: float) -> Array:
        rise_at, rise_log_width, fall_at, fall_log_width, height = parameters
        rise = flank("hill", at - rise_at, float(np.exp(rise_log_width)))
        return np.asarray(floor + height * rise * flank("hill", fall_at - at, float(np.exp(fall_log_width))))

    def crossings(chosen_S: NDArray[np.intp], start: Array) -> tuple[Array, float, float]:
        mean_P, floor = y_PS[:, chosen_S].mean(1), float(floor_S[chosen_S].mean())
        bounds = ([-1, -2, 2, -2, 0], [9, 2, 13, 2, 3])

        def misfit(parameters: Array) -> Array:
            return np.asarray(curve(parameters, octaves, floor) - mean_P)

        found = least_squares(misfit, start, bounds=bounds, max_nfev=60)
        return found.x, *true_crossings(lambda at: curve(found.x, at, floor), floor)

    height = float(np.clip(y_PS.mean(1).max() - floor_S.mean(), 0.05, 2.9))
    starts = [np.array([rise_at, 0.5, fall_at, 0.5, height]) for rise_at in (3.0, 5.0, 7.0) for fall_at in (8.0, 11.0)]
    everyone = np.arange(NUM_SEEDS)
    fits = [crossings(everyone, start) for start in starts]
    best = min((x for x, _, _ in fits), key=lambda x: np.sum((curve(x, octaves, floor_S.mean()) - y_PS.mean(1)) ** 2))
    rng = np.random.default_rng(0)
    draws = [crossings(rng.choice(NUM_SEEDS, NUM_SEEDS), best)[1:] for _ in range(num_resamples)]
    quantiles_32 = np.quantile(draws, [0.025, 0.5, 0.975], axis=0, method="inverted_cdf")
    return _percentile_crossing(quantiles_32[:, 0]), _percentile_crossing(quantiles_32[:, 1])


def _percentile_crossing(quantiles_3: Array) -> Crossing:
    low, middle, high = (float(q) for q in quantiles_3)
    if middle == -np.inf:
        return Crossing(status=CrossingStatus.BELOW_RANGE, estimate=None, low=None, high=max(high, BATCHES[0]))
    if middle == np.inf:
        return Crossing(status=CrossingStatus.ABOVE_RANGE, estimate=None, low=min(low, BATCHES[-1]), high=None)
    return Crossing(
        status=CrossingStatus.FOUND,
        estimate=middle,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
    )


def half_width_octaves(crossing: Crossing) -> float:
    """Return half the interval in octaves, nan where a side is open."""
    if crossing.low is None or crossing.high is None:
        return float("nan")
    return float(0.5 * np.log2(crossing.high / crossing.low))


def table(rows: list[tuple[SimulatedSet, Crossings]]) -> Iterable[str]:
    """Yield the lines of a Markdown table: all sets, then each stratum.

    Half-widths are medians in octaves of closed intervals; "open" is the share of numbers with an open side.
    """
    side_head = "covered | half-width | open | censored (true)"
    yield f"| stratum | sets | rising {side_head} | falling {side_head} |"
    yield "|---" * 10 + "|"
    names = [(key, value) for key in rows[0][0].strata for value in sorted({d.strata[key] for d, _ in rows})]
    for name in [None, *names]:
        chosen = [(d, c) for d, c in rows if name is None or d.strata[name[0]] == name[1]]
        cells = ["all" if name is None else f"{name[0]}: {name[1]}", str(len(chosen))]
        cells += _side_cells([(c[0], d.rising) for d, c in chosen])
        cells += _side_cells([(c[1], d.falling) for d, c in chosen])
        yield "| " + " | ".join(cells) + " |"


def _side_cells(pairs: list[tuple[Crossing, float]]) -> list[str]:
    covered = np.mean([covers(crossing, truth) for crossing, truth in pairs])
    widths = np.array([half_width_octaves(crossing) for crossing, _ in pairs])
    width = f"{np.nanmedian(widths):.2f}" if np.isfinite(widths).any() else "--"
    found = CrossingStatus.FOUND
    is_open = np.mean([c.status is found and (c.low is None or c.high is None) for c, _ in pairs])
    censored = [covers(crossing, truth) for crossing, truth in pairs if crossing.status is not found]
    true_share = f" ({np.mean(censored):.0%})" if censored else ""
    return [f"{covered:.1%}", width, f"{is_open:.0%}", f"{len(censored) / len(pairs):.0%}{true_share}"]


def main() -> None:
    """Print the coverage table of a simulated run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200, help="simulated studies (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the run (default 1)")
    parser.add_argument("--method", choices=["posterior", "bootstrap"], default="posterior", help="(default posterior)")
    arguments = parser.parse_args()
    method = {"posterior": fit, "bootstrap": bootstrap}[arguments.method]
    start = time.perf_counter()
    sets = [simulate(arguments.seed, index) for index in range(arguments.sets)]
    rows = [(data, method(data)) for data in sets]
    seconds = (time.perf_counter() - start) / arguments.sets
    print(f"{arguments.method}: {arguments.sets} sets, seed {arguments.seed}, {seconds:.2f} s per fit\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
