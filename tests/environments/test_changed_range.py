"""A reused Optuna study whose ranges have changed: every proposal lies in the range that is asked for now."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial, TrialState, create_trial

from study.planning.optuna_sampler import ThresholdSampler, contains, values_of

optuna.logging.set_verbosity(optuna.logging.ERROR)

# An old and a new range of one kind; the threshold of the objective lies at 16, in none, one or both of them.
CHANGES = {
    "narrower": (IntDistribution(1, 1000, log=True), IntDistribution(10, 20, log=True)),
    "wider": (IntDistribution(10, 20, log=True), IntDistribution(1, 1000, log=True)),
    "below": (FloatDistribution(10.0, 1000.0, log=True), FloatDistribution(0.1, 5.0, log=True)),
    "above": (FloatDistribution(1.0, 50.0, log=True), FloatDistribution(100.0, 900.0, log=True)),
    "another step": (IntDistribution(2, 32, step=3), IntDistribution(4, 32, step=4)),
    "a shifted step": (FloatDistribution(0.0, 40.0, step=0.5), FloatDistribution(10.25, 20.25, step=0.5)),
    "linear": (FloatDistribution(0.0, 1000.0), FloatDistribution(200.0, 300.0)),
    "one value": (IntDistribution(1, 64), IntDistribution(30, 31)),
}
OTHERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(seed=0, n_startup_trials=5),
    "tpe together": lambda: TPESampler(seed=0, n_startup_trials=5, multivariate=True),
}


def suggest(trial: Trial, name: str, distribution: FloatDistribution | IntDistribution) -> float:
    return trial._suggest(name, distribution)


def rise(x: float) -> float:
    return 1 / (1 + (16 / max(x, 1e-3)) ** 3)


def reused(old: dict[str, Any], **options: Any) -> optuna.Study:
    """A study with trials spread over old ranges, whose parameter ``x`` is sought."""
    study = optuna.create_study(sampler=ThresholdSampler("x", level=0.5, first=3, seed=0, **options))
    for place in np.linspace(0, 1, 8):
        params = {name: values_of(given)[round(place * (len(values_of(given)) - 1))] for name, given in old.items()}
        params = {name: int(x) if isinstance(old[name], IntDistribution) else float(x) for name, x in params.items()}
        study.add_trial(create_trial(params=params, distributions=old, value=rise(params["x"])))
    return study


@pytest.mark.parametrize("kind", CHANGES)
def test_the_sought_parameter_stays_inside(kind: str) -> None:
    old, new = CHANGES[kind]
    study = reused({"x": old})
    study.optimize(lambda trial: rise(suggest(trial, "x", new)), n_trials=6)
    given = [trial.params["x"] for trial in study.trials[8:]]
    assert all(contains(new, x) for x in given), given


@pytest.mark.parametrize("others", OTHERS)
def test_every_other_parameter_stays_inside_too(others: str) -> None:
    def ranges(scale: int) -> dict[str, Any]:
        return {
            "x": FloatDistribution(1.0 * scale, 10.0 * scale, log=True),
            "rate": FloatDistribution(1e-4 * scale, 1e-3 * scale, log=True),
            "width": IntDistribution(1 * scale, 5 * scale),
            "step": FloatDistribution(0.0, 0.5 * scale, step=0.25),
        }

    def objective(trial: Trial) -> float:
        values = {name: suggest(trial, name, distribution) for name, distribution in ranges(100).items()}
        assert all(contains(distribution, values[name]) for name, distribution in ranges(100).items()), values
        return rise(values["x"])

    reused(ranges(1), others=OTHERS[others]()).optimize(objective, n_trials=7)


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL, TrialState.PRUNED])
def test_trials_of_the_old_range_without_a_result_are_not_repeated_either(state: TrialState) -> None:
    old, new = FloatDistribution(1.0, 1000.0, log=True), FloatDistribution(10.0, 20.0, log=True)
    study = optuna.create_study(sampler=ThresholdSampler("x", level=0.5, first=4))
    for x in (2.0, 12.0, 18.0, 15.0, 700.0):
        study.add_trial(create_trial(params={"x": x}, distributions={"x": old}, value=rise(x)))
    for x in (3.0, 500.0):
        study.add_trial(create_trial(params={"x": x}, distributions={"x": old}, state=state))
    study.optimize(lambda trial: rise(trial.suggest_float("x", 10.0, 20.0, log=True)), n_trials=5)
    assert all(contains(new, trial.params["x"]) for trial in study.trials[7:])


def test_what_was_measured_in_the_old_range_still_counts() -> None:
    """After a search over a wide range, a narrow one around the threshold starts from what is known."""
    study = reused({"x": FloatDistribution(1.0, 256.0, log=True)})
    study.optimize(lambda trial: rise(trial.suggest_float("x", 8.0, 32.0, log=True)), n_trials=7)
    # The first three span the new range.
    assert all(abs(math.log2(trial.params["x"] / 16)) < 0.6 for trial in study.trials[11:])
