"""The sampler finds a threshold in a plain Optuna study, with any range, beside any other parameter."""

import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial

from study.planning.optuna_sampler import ThresholdSampler, values_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
ROOT = Path(__file__).resolve().parent.parent
BATCH = IntDistribution(2, 2048, log=True)
FIRST = [2, 8, 32, 128, 512, 2048]


def rise(x: float, at: float = 37.0) -> float:
    return 0.1 + 0.8 / (1 + (at / x) ** 3)


def noisy(function: Callable[[float], float], seed: int = 0, sd: float = 0.03) -> Callable[[float], float]:
    noise = random.Random(seed)
    return lambda x: function(x) + noise.gauss(0, sd)


def sought(num_trials: int = 14, outcome: Callable[[float], float] | None = None, **options: object) -> optuna.Study:
    """A study of the batch from which 0.5 is reached, run in order."""
    outcome = outcome or noisy(rise)
    sampler = ThresholdSampler("batch", **{"level": 0.5, "floor": 0.1, **options})
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: outcome(trial.suggest_int("batch", 2, 2048, log=True)), n_trials=num_trials)
    return study


@pytest.fixture(scope="module")
def found() -> optuna.Study:
    return sought()


def batches(study: optuna.Study) -> list[int]:
    return [trial.params["batch"] for trial in study.trials]


def told(x: list[float], distribution: object = BATCH, **options: object) -> optuna.Study:
    """A study with completed trials at x."""
    study = optuna.create_study(sampler=ThresholdSampler("batch", **{"level": 0.5, "floor": 0.1, **options}))
    outcome = noisy(rise)
    for value in x:
        study.add_trial(
            create_trial(params={"batch": value}, distributions={"batch": distribution}, value=outcome(value))
        )
    return study


class TestSeeking:
    def test_the_first_points_span_the_range_and_the_rest_is_near_the_threshold(self, found: optuna.Study) -> None:
        assert sorted(batches(found)[:6]) == pytest.approx(FIRST, rel=0.1)
        # One of the first proposals repeats a point, to know the noise.
        assert sum(abs(math.log2(batch / 37)) < 1 for batch in batches(found)[7:]) >= 5

    def test_the_threshold_is_a_crossing_with_an_interval(self, found: optuna.Study) -> None:
        crossing = found.sampler.threshold(found)
        assert crossing.low < 37 < crossing.high
        assert crossing.high / crossing.low < 2

    def test_a_fraction_of_the_rise_and_a_fall(self) -> None:
        study = sought(outcome=noisy(lambda x: 1.0 - rise(x)), flank="falling", level=None, fraction=0.5)
        crossing = study.sampler.threshold(study)
        assert crossing.low < 37 < crossing.high

    def test_the_same_trials_give_the_same_proposals(self, found: optuna.Study) -> None:
        assert batches(sought(9)) == batches(found)[:9]

    def test_the_order_of_trials_does_not_matter(self) -> None:
        x = [2, 8, 32, 128, 512, 2048, 32, 64]
        study, other = told(x), optuna.create_study(sampler=ThresholdSampler("batch", level=0.5, floor=0.1))
        for trial in reversed(study.trials):
            other.add_trial(trial)
        assert study.ask({"batch": BATCH}).params == other.ask({"batch": BATCH}).params

    def test_reseeding_moves_no_proposal(self) -> None:
        study, again = told([*FIRST, 32, 64]), told([*FIRST, 32, 64])
        again.sampler.reseed_rng()
        assert study.ask({"batch": BATCH}).params == again.ask({"batch": BATCH}).params

    def test_running_trials_count_as_asked(self) -> None:
        study = told([])
        assert sorted(study.ask({"batch": BATCH}).params["batch"] for _ in range(6)) == pytest.approx(FIRST, rel=0.1)
        study = told([*FIRST, 32, 32])
        asked = [study.ask({"batch": BATCH}).params["batch"] for _ in range(4)]
        assert len(set(asked)) > 1

    def test_without_a_floor_the_smallest_outcome_stands_in(self) -> None:
        study = sought(12, floor=None)
        crossing = study.sampler.threshold(study)
        assert crossing.low < 37 < crossing.high

    def test_a_step_that_no_value_is_left_in_is_repeated_at_its_sides(self) -> None:
        study = sought(20, lambda x: 0.9 if x > 37 else 0.1)
        crossing = study.sampler.threshold(study)
        assert all(abs(math.log2(batch / crossing.estimate)) < 0.5 for batch in batches(study)[-3:])

    def test_trials_without_a_repeat_ask_for_more(self) -> None:
        study = told(FIRST)
        with pytest.raises(ValueError, match="run more trials"):
            study.sampler.threshold(study)

    def test_a_crossing_outside_the_range_is_said_to_be_outside(self) -> None:
        study = sought(outcome=noisy(lambda x: 0.9), num_trials=10)
        assert study.sampler.threshold(study).describe("batch").startswith("below 2")


class TestTrialsThatAreNoData:
    def test_failed_pruned_and_infinite_trials_are_ignored_and_counted(self) -> None:
        study = told([*FIRST, 32, 64])
        before = study.sampler.threshold(study)
        for state, value in ((TrialState.FAIL, None), (TrialState.PRUNED, None), (TrialState.COMPLETE, math.inf)):
            trial = create_trial(state=state, value=value, params={"batch": 40}, distributions={"batch": BATCH})
            study.add_trial(trial)
        assert study.sampler.num_ignored(study) == 3
        assert study.sampler.threshold(study) == before

    def test_a_point_that_always_fails_does_not_stop_the_search(self) -> None:
        def outcome(batch: float) -> float:
            return math.nan if batch > 1000 else noisy(rise, seed=int(batch))(batch)

        study = sought(outcome=outcome)
        assert study.sampler.num_ignored(study) == 1
        assert study.sampler.threshold(study).low is not None

    @pytest.mark.parametrize("ending", ["pruned", "infinite"])
    def test_a_point_that_gives_no_number_does_not_stop_the_search(self, ending: str) -> None:
        measure = noisy(rise)

        def outcome(x: float) -> float:
            if 33 < x < 60:
                if ending == "pruned":
                    raise optuna.TrialPruned
                return math.inf
            return measure(x)

        asked = batches(sought(24, outcome))
        assert max(asked.count(x) for x in asked if 33 < x < 60) == 2

    def test_an_empty_study_says_what_to_do(self) -> None:
        study = told([])
        with pytest.raises(ValueError, match="call study"):
            study.sampler.threshold(study)


class TestOtherParameters:
    def test_they_come_from_the_sampler_that_was_given(self) -> None:
        def learning_rates(sampler: optuna.samplers.BaseSampler, *, with_batch: bool) -> list[float]:
            study = optuna.create_study(sampler=sampler)
            for _ in range(4):
                trial = study.ask({"batch": BATCH} if with_batch else {})
                rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
                study.tell(trial, rate)
            return [trial.params["rate"] for trial in study.trials]

        inside = ThresholdSampler("batch", level=0.5, others=RandomSampler(seed=5))
        assert learning_rates(inside, with_batch=True) == learning_rates(RandomSampler(seed=5), with_batch=False)

    @pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
    def test_a_threshold_over_varied_values_of_others_comes_with_a_warning(self, found: optuna.Study) -> None:
        study = optuna.create_study(sampler=ThresholdSampler("batch", level=0.5, floor=0.1, seed=2))
        study.optimize(
            lambda trial: rise(trial.suggest_int("batch", 2, 2048, log=True), 37 + trial.suggest_float("rate", 0, 9)),
            n_trials=9,
        )
        with pytest.warns(UserWarning, match="one over the values of rate that were tried"):
            study.sampler.threshold(study)

    def test_a_sampler_that_draws_jointly_never_draws_the_sought_one(self) -> None:
        jointly = optuna.samplers.TPESampler(seed=1, multivariate=True, n_startup_trials=2)
        sampler = ThresholdSampler("batch", level=0.5, floor=0.1, others=jointly)
        study = optuna.create_study(sampler=sampler)
        outcome = noisy(rise)

        def objective(trial: optuna.Trial) -> float:
            trial.suggest_float("rate", 0.0, 1.0)
            trial.suggest_float("decay", 0.0, 1.0)
            return outcome(trial.suggest_int("batch", 2, 2048, log=True))

        study.optimize(objective, n_trials=8)
        assert sorted(batches(study)[:6]) == pytest.approx(FIRST, rel=0.1)


class TestRanges:
    @pytest.mark.parametrize(
        "distribution",
        [
            FloatDistribution(0.01, 5.0, log=True),
            FloatDistribution(0.0, 3.0),
            FloatDistribution(0.0, 1.0, step=0.25),
            IntDistribution(1, 64, log=True),
            IntDistribution(0, 1000, step=50),
            IntDistribution(1, 100_000),
        ],
    )
    def test_values_lie_in_the_distribution_and_reach_its_ends(
        self, distribution: FloatDistribution | IntDistribution
    ) -> None:
        values = values_of(distribution)
        assert values[0] == distribution.low
        assert values[-1] == distribution.high
        assert len(values) <= 130
        assert all(distribution._contains(distribution.to_internal_repr(value)) for value in values)
        if distribution.step is not None:
            steps = (values - distribution.low) / distribution.step
            assert np.allclose(steps, np.round(steps))

    def test_a_category_has_no_threshold(self) -> None:
        with pytest.raises(ValueError, match="categorical"):
            values_of(CategoricalDistribution(["a", "b"]))

    def test_a_linear_range_is_sought_on_a_linear_axis(self) -> None:
        outcome = noisy(lambda x: 0.1 + 0.8 / (1 + math.exp(-(x - 12) / 0.7)))
        sampler = ThresholdSampler("depth", level=0.5, floor=0.1)
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda trial: outcome(trial.suggest_int("depth", 1, 31)), n_trials=12)
        crossing = sampler.threshold(study)
        assert crossing.low < 12 < crossing.high
        assert sum(abs(trial.params["depth"] - 12) <= 3 for trial in study.trials) >= 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "exactly one criterion"),
        ({"level": 0.5, "fraction": 0.5}, "exactly one criterion"),
        ({"fraction": 0.5}, "needs the floor"),
        ({"level": 0.5, "flank": "both"}, "flank must be"),
        ({"level": 0.5, "first": 2}, "at least 3"),
    ],
)
def test_a_wrong_option_is_explained(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ThresholdSampler("batch", **options)


def test_two_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=ThresholdSampler("batch", level=0.5))
    with pytest.raises(ValueError, match="multi-objective"):
        study.ask({"batch": BATCH})


def test_the_example_finds_its_threshold_and_uses_nothing_else_of_the_platform() -> None:
    example = ROOT / "docs" / "examples" / "threshold_sampler.py"
    assert re.findall(r"^(?:from|import) (study\S*)", example.read_text(), re.MULTILINE) == [
        "study.planning.optuna_sampler"
    ]
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, check=True, timeout=120, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    estimate, low, high = re.findall(r": ([\d.]+), 95 % interval ([\d.]+) to ([\d.]+)", done.stdout)[0]
    assert float(low) < 37 < float(high)
    assert float(estimate) == pytest.approx(37, rel=0.15)
