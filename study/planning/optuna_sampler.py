"""An Optuna sampler that seeks where an outcome crosses a level, for a plain Optuna study.

    sampler = ThresholdSampler("batch", level=0.5)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=20)
    print(sampler.threshold(study).describe("batch"))

An optimiser looks for the best value of a parameter; this looks for the value from which the objective holds a level.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from study.inference.seeking import propose
from study.inference.statements import Crossing
from study.inference.threshold import fit_curve

Array = NDArray[np.float64]

STEPS_PER_OCTAVE = 8
# More values than these of a linear range are thinned.
MAX_LINEAR = 129
# There is always a next trial: the sampler never calls an interval narrow enough, its user does.
NO_PRECISION = 1e-9


class ThresholdSampler(BaseSampler):
    """Propose values of one parameter that narrow the threshold of the objective.

    Other parameters come from another sampler, which the study's direction steers, and the threshold is then one over
    whatever they were: for the threshold at the best of them, fix them or tune them within the objective. Values are a
    grid of an eighth of an octave.

    Parameters
    ----------
    parameter
        Name of a float or int parameter; its range may be logarithmic and may have a step.
    level, fraction
        The criterion, exactly one: an absolute outcome, or a share of the rise from `floor` to the curve's maximum.
    floor
        The outcome where nothing works, such as chance. With a level the smallest outcome stands in where it is not
        given.
    flank
        Whether the outcome rises through the level as the parameter grows, or falls.
    first
        Number of points, spread over the range, that are measured before any proposal.
    others
        Sampler of all other parameters, by default TPE.
    seed
        Seed of the default for `others`; the proposals themselves draw nothing at random.

    Raises
    ------
    ValueError
        Where the criterion is incomplete or fewer than three first points are wanted.
    """

    def __init__(
        self,
        parameter: str,
        *,
        level: float | None = None,
        fraction: float | None = None,
        floor: float | None = None,
        flank: Literal["rising", "falling"] = "rising",
        first: int = 6,
        others: BaseSampler | None = None,
        seed: int | None = None,
    ) -> None:
        if (level is None) == (fraction is None):
            raise ValueError("Give exactly one criterion: level=0.5, or fraction=0.5 with a floor.")
        if fraction is not None and floor is None:
            raise ValueError("A fraction of the rise needs the floor that it rises from, such as floor=0.1 for chance.")
        if flank not in ("rising", "falling"):
            raise ValueError(f"flank must be 'rising' or 'falling', not {flank!r}.")
        if first < 3:
            raise ValueError(f"A curve needs at least 3 first points, not {first}.")
        self.parameter, self.level, self.fraction, self.floor = parameter, level, fraction, floor
        self.flank, self.first = flank, first
        self.others = TPESampler(seed=seed) if others is None else others

    def threshold(self, study: Study) -> Crossing:
        """Return the threshold with its 95 % interval, from the completed trials of a study.

        Raises
        ------
        ValueError
            Where they are too few; the message says what to do.
        """
        trials = self._measured(study)
        if not trials:
            raise ValueError(f"No completed trial has a value of {self.parameter!r} yet; call study.optimize first.")
        x_N, outcome_N, floor_N = self._columns(trials)
        if len(np.unique(x_N)) == len(x_N):
            raise ValueError("No value has been tried twice, so the noise is unknown; run more trials.")
        others = {name for trial in trials for name in trial.params} - {self.parameter}
        varied = sorted(name for name in others if len({trial.params.get(name) for trial in trials}) > 1)
        if varied:
            warnings.warn(
                f"The threshold of {self.parameter!r} is one over the values of {', '.join(varied)} that were tried, "
                "and its interval takes their differences for noise; fix them, or tune them within the objective.",
                stacklevel=2,
            )
        return self._crossing(x_N, outcome_N, floor_N, trials[-1].distributions[self.parameter])

    def num_ignored(self, study: Study) -> int:
        """Return the number of finished trials that are no data: failed, pruned, or without a finite value."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED))
        return len(finished) - len(self._measured(study))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what the sampler of the other parameters draws together, without the sought parameter."""
        space = self.others.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in space.items() if name != self.parameter}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the other parameters."""
        return self.others.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Propose the sought parameter, or draw another one."""
        if param_name != self.parameter:
            return self.others.sample_independent(study, trial, param_name, param_distribution)
        self._raise_error_if_multi_objective(study)
        value = self._next(study, trial, param_distribution)
        return round(value) if isinstance(param_distribution, IntDistribution) else value

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass on to the sampler of the other parameters."""
        self.others.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass on to the sampler of the other parameters."""
        self.others.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the sampler of the other parameters; proposals depend on the trials alone."""
        self.others.reseed_rng()

    def _next(self, study: Study, trial: FrozenTrial, distribution: BaseDistribution) -> float:
        grid_C = values_of(distribution)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        space = np.geomspace if self._is_log(distribution) else np.linspace
        spread_P = space(grid_C[0], grid_C[-1], self.first)
        first_P = grid_C[np.argmin(np.abs(grid_C - spread_P[:, None]), 1)]
        measured = self._measured(study)
        x_N, outcome_N, floor_N = self._columns(measured)
        others = [
            other
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and self.parameter in other.params
        ]
        pending = [float(other.params[self.parameter]) for other in others if other.state is TrialState.RUNNING]
        # Each first point once, whatever became of it; the least asked again wherever there is nothing to propose.
        asked = Counter(float(other.params[self.parameter]) for other in others)
        least_asked = float(min(first_P, key=lambda x: asked[float(x)]))
        if not asked[least_asked] or len(np.unique(x_N)) < 3:
            return least_asked
        # A value that ends twice without a result, failed, pruned or infinite, would be asked for again and again.
        ended = Counter(float(other.params[self.parameter]) for other in others if other.state.is_finished())
        results = Counter(x_N.tolist())
        hopeless = [x for x, count in ended.items() if count - results[x] >= max(2, results[x])]
        # A trial of another range or step tells of the curve, and is not to be repeated here.
        hopeless += [x for x in asked if not contains(distribution, x)]
        left_C = grid_C[~np.isin(grid_C, hopeless)]
        proposal = propose(
            x_N, outcome_N, np.arange(len(x_N)), floor_N, fraction=self.fraction, level=self.level, flank=self.flank,
            scale="log" if self._is_log(distribution) else "linear",
            candidates=left_C, precision=NO_PRECISION,
            round_replicates=1, pending=pending, hopeless=hopeless,
        )  # fmt: skip
        if proposal.points:
            return proposal.points[0]
        try:
            estimate = self._crossing(x_N, outcome_N, floor_N, distribution).estimate
        except ValueError:  # too few to know the noise
            estimate = None
        if estimate is None or not len(left_C):
            return least_asked
        # No value is left inside the interval: of the two next to the threshold, the one that was asked less.
        nearest_C = left_C[np.argsort(np.abs(left_C - estimate), kind="stable")]
        return float(min(nearest_C[:2], key=lambda x: asked[float(x)]))

    def _crossing(self, x_N: Array, outcome_N: Array, floor_N: Array, distribution: BaseDistribution) -> Crossing:
        fit = fit_curve(
            x_N, outcome_N, np.arange(len(x_N)), floor_N, fraction=self.fraction, level=self.level,
            scale="log" if self._is_log(distribution) else "linear",
        )  # fmt: skip
        return fit.rising if self.flank == "rising" else fit.falling

    def _measured(self, study: Study) -> list[FrozenTrial]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in complete if self.parameter in trial.params and np.isfinite(trial.values[0])]

    def _columns(self, trials: Sequence[FrozenTrial]) -> tuple[Array, Array, Array]:
        x_N = np.array([float(trial.params[self.parameter]) for trial in trials])
        outcome_N = np.array([float(trial.values[0]) for trial in trials])
        floor = outcome_N.min(initial=np.inf) if self.floor is None else self.floor
        return x_N, outcome_N, np.full(len(x_N), floor)

    @staticmethod
    def _is_log(distribution: BaseDistribution) -> bool:
        return bool(distribution.log)


def contains(distribution: FloatDistribution | IntDistribution, value: float) -> bool:
    """Return whether a distribution may give a value: it lies in the range and, where there is one, on a step."""
    steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
    return bool(distribution.low <= value <= distribution.high and abs(steps - round(steps)) < 1e-8)


def values_of(distribution: BaseDistribution) -> Array:
    """Return the values of a distribution that may be proposed: 8 per octave, or up to 129 of a linear range.

    Raises
    ------
    ValueError
        Where the parameter is categorical: a threshold needs an order.
    """
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise ValueError("A threshold needs a float or int parameter; a categorical one has no order.")
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        num = int(np.ceil(STEPS_PER_OCTAVE * np.log2(high / low))) + 1
        values_C = np.geomspace(low, high, max(num, 2))
    else:
        num = MAX_LINEAR if step is None else round((high - low) / step) + 1
        values_C = np.linspace(low, high, min(num, MAX_LINEAR))
    if step is not None:
        values_C = low + np.round((values_C - low) / step) * step
    # The ends of a geometric sequence may miss the range by a rounding error.
    unique_C: Array = np.unique(np.clip(values_C, low, high))
    return unique_C
