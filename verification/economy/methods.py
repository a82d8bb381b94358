"""The methods: limit seeking, uniform grids, random points, Optuna, and an oracle; each returns what it needed.

The interval is looked at after every replicate up to `2 * LOOKS`, so that no method is denied the luck of stopping
early; from there on after every twelfth more, but for limit seeking, which always looks. A grid is run as grids are,
in whole seeds at all of its points; beside it stands the same grid stopped in the middle of a seed.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import optuna

from study.inference.seeking import propose
from study.inference.statements import Crossing
from verification.economy.oracle import bracket, c_optimal
from verification.economy.problem import LEVEL, PRECISION_OCTAVES, Array, Curve, PoolExhausted, Problem, half_width

optuna.logging.set_verbosity(optuna.logging.WARNING)

FIRST_POINTS = 6
FIRST_SEEDS = 1
ROUND_SIZES = (1, 2, 4, 8)
GRID_SPACINGS = (1.0, 0.5, 0.25)
# Distances from the threshold in octaves, those that did best for one of the conditions on seed 1.
BRACKETS = ((0.125,), (0.25,), (0.25, 2.0), (0.5, 1.5))
LOOKS = 12
MAX_REPLICATES = 123
# Optuna's Gaussian process takes a twentieth of a second and more per trial.
MAX_TRIALS = 80


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one method needed for one problem; a capped run counts as what it had spent."""

    num_replicates: int
    is_capped: bool
    covered: bool


Method = Callable[[Problem, int], Run]


def _run(problem: Problem, num_replicates: int, crossing: Crossing | None, *, is_capped: bool) -> Run:
    covered = crossing is not None and (
        (crossing.low or 0.0) <= 2.0**problem.truth <= (np.inf if crossing.high is None else crossing.high)
    )
    return Run(num_replicates=num_replicates, is_capped=is_capped, covered=bool(covered))


def ours(problem: Problem, _seed: int, *, round_size: int) -> Run:
    """Limit seeking, as a study does it: `FIRST_POINTS`, then rounds of at most `round_size` replicates."""
    points = problem.spread(FIRST_POINTS) * FIRST_SEEDS
    x_C = 2.0**problem.octaves_C
    while True:
        proposal = propose(
            *problem.columns(points), fraction=None, level=LEVEL, flank=problem.flank, scale="log", candidates=x_C,
            precision=PRECISION_OCTAVES, round_replicates=round_size,
        )  # fmt: skip
        if not proposal.points:
            is_narrow = proposal.half_width is not None and proposal.half_width <= PRECISION_OCTAVES
            spent = len(points) if is_narrow else MAX_REPLICATES
            return _run(problem, spent, problem.crossing(points), is_capped=not is_narrow)
        more = [int(np.argmin(np.abs(x_C - x))) for x in proposal.points[: MAX_REPLICATES - len(points)]]
        try:
            problem.columns(points + more)
        except PoolExhausted:
            return _run(problem, len(points), problem.crossing(points), is_capped=True)
        points += more
        if len(points) >= MAX_REPLICATES:
            return _run(problem, len(points), problem.crossing(points), is_capped=True)


def _smallest(problem: Problem, take: Callable[[int], list[int]], first: int, most: int) -> Run:
    """The first number of steps n at which the interval of the replicates at `take(n)` is narrow enough."""
    steps, points, crossing = first, list[int](), None
    while len(following := take(steps)) <= most:
        try:
            crossing = problem.crossing(following)
        except PoolExhausted:
            return _run(problem, len(points), crossing, is_capped=True)
        points = following
        if half_width(crossing) <= PRECISION_OCTAVES:
            return _run(problem, len(points), crossing, is_capped=False)
        steps += max(1, steps // LOOKS)
    return _run(problem, most, crossing, is_capped=True)


def grid(problem: Problem, _seed: int, *, spacing: float) -> Run:
    """A uniform grid over the whole range, one seed after another at all of its points."""
    points = problem.every(spacing)
    return _smallest(problem, lambda seeds: points * seeds, 1, MAX_REPLICATES)


def grid_by_replicates(problem: Problem, seed: int, *, spacing: float) -> Run:
    """The same grid, looked at after every replicate: one seed everywhere, then one replicate at a time."""
    points, rng = problem.every(spacing), np.random.default_rng([seed, 2])
    order = _Order(point for _ in iter(int, 1) for point in rng.permutation(points).tolist())
    return _smallest(problem, order, len(points) + 1, MAX_REPLICATES)


class _Order:
    """An endless order of candidates, drawn as far as it is asked for."""

    def __init__(self, source: Iterator[int]) -> None:
        self._source, self._drawn = source, list[int]()

    def __call__(self, num: int) -> list[int]:
        while len(self._drawn) < num:
            self._drawn.append(next(self._source))
        return self._drawn[:num]


def random_points(problem: Problem, seed: int) -> Run:
    """One replicate at a time at a candidate drawn uniformly, which is log-uniform in x."""
    rng = np.random.default_rng([seed, 1])
    order = _Order(int(rng.integers(len(problem.octaves_C))) for _ in iter(int, 1))
    return _smallest(problem, order, FIRST_POINTS, MAX_REPLICATES)


def optimiser(problem: Problem, seed: int, *, make: Callable[[int], optuna.samplers.BaseSampler]) -> Run:
    """Optuna maximising -|P - level| over the candidates, after the same first points as ours."""
    return _smallest(problem, _Order(_trials(problem, make(seed))), FIRST_POINTS, MAX_TRIALS)


def _trials(problem: Problem, sampler: optuna.samplers.BaseSampler) -> Iterator[int]:
    study = optuna.create_study(sampler=sampler, direction="maximize")
    last, counts = len(problem.octaves_C) - 1, [0] * len(problem.octaves_C)
    for point in problem.spread(FIRST_POINTS):
        study.enqueue_trial({"candidate": point})
    while True:
        trial = study.ask()
        point = trial.suggest_int("candidate", 0, last)
        # Past the end of a pool the optimiser hears its last replicate again; the run ends there in any case.
        seed = min(counts[point], problem.outcome_CR.shape[1] - 1)
        counts[point] += 1
        study.tell(trial, -abs(float(problem.outcome_CR[point, seed]) - LEVEL))
        yield point


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_POINTS)


def _gp(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=FIRST_POINTS)


def oracle(problem: Problem, _seed: int, *, design: Callable[[Curve, Array, int], list[int]]) -> Run:
    """A fixed design of n replicates, of someone who knows the curve."""
    assert problem.curve is not None
    return _smallest(problem, partial(design, problem.curve, problem.octaves_C), 5, MAX_REPLICATES)


def _words(distances: tuple[float, ...]) -> str:
    return " and ".join(f"±{distance:g}" for distance in distances)


METHODS: dict[str, Method] = {
    **{f"ours, rounds of {size}": partial(ours, round_size=size) for size in ROUND_SIZES},
    **{f"grid, {spacing:g} octave": partial(grid, spacing=spacing) for spacing in GRID_SPACINGS},
    **{f"by replicates, {spacing:g} octave": partial(grid_by_replicates, spacing=spacing) for spacing in GRID_SPACINGS},
    "random": random_points,
    "Optuna TPE": partial(optimiser, make=_tpe),
    "Optuna GP": partial(optimiser, make=_gp),
    "oracle, c-optimal": partial(oracle, design=c_optimal),
    **{f"oracle, {_words(d)} octaves": partial(oracle, design=partial(bracket, distances=d)) for d in BRACKETS},
}
