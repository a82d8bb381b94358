"""The next replicates go where the threshold hides, stop when it is known, and depend on the data alone."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from study.inference.binary import fit_success
from study.inference.curve import curve_posterior
from study.inference.forecast import Forecast
from study.inference.seeking import NextPoints, propose, propose_success
from study.inference.threshold import fit_curve

Array = NDArray[np.float64]

CANDIDATES = np.exp2(np.arange(81) / 8)
FIRST = CANDIDATES[::16]
FLOOR = 0.05
THRESHOLD, WIDTH = 4.4, 1.0


def rise(x: Array, at: float = THRESHOLD, width: float = WIDTH) -> Array:
    return np.asarray(FLOOR + 0.7 / (1 + 9.0 ** (-2 * (np.log2(x) - at) / width)))


def step(x: Array) -> Array:
    return np.where(np.log2(x) > THRESHOLD, 0.75, FLOOR)


def peak(x: Array) -> Array:
    octaves = np.log2(x)
    return np.asarray(FLOOR + 0.7 / (1 + 9.0 ** (2 * (2.7 - octaves))) / (1 + 9.0 ** (2 * (octaves - 7.2))))


def measured(mean: Callable[[Array], Array], x: Array, sd: float = 0.03, seed: int = 3) -> dict[str, Array]:
    """One replicate for each entry of x; repeats of a point carry seeds 0, 1, 2, ..."""
    rng = np.random.default_rng(seed)
    seeds = [int(np.sum(x[:n] == x[n])) for n in range(len(x))]
    return {
        "x": x, "outcome": mean(x) + sd * rng.standard_normal(len(x)), "seeds": np.array(seeds),
        "floor": np.full(len(x), FLOOR),
    }  # fmt: skip


def ask(data: dict[str, Array], **changes: object) -> NextPoints:
    options = {
        "fraction": None, "level": 0.4, "flank": "rising", "scale": "log", "candidates": CANDIDATES,
        "precision": 0.25, "round_replicates": 1,
    }  # fmt: skip
    return propose(**data, **{**options, **changes})


def octaves(points: tuple[float, ...]) -> list[float]:
    return [float(np.log2(point)) for point in points]


def twice(x: Array) -> Array:
    return np.repeat(x, 2)


class TestWhere:
    def test_a_step_in_a_gap_is_halved(self) -> None:
        (point,) = octaves(ask(measured(step, twice(FIRST), sd=0.01)).points)
        assert point == pytest.approx(5, abs=0.3)

    def test_a_round_of_three_takes_the_quarters_of_the_gap(self) -> None:
        points = octaves(ask(measured(step, twice(FIRST), sd=0.01), round_replicates=3, precision=0.05).points)
        assert sorted(points) == pytest.approx([4.5, 5, 5.5], abs=0.3)

    def test_what_is_not_repeated_yet_is_repeated_where_it_tells_most(self) -> None:
        data = measured(rise, FIRST)
        proposal = ask(data)
        assert proposal.points[0] in FIRST
        assert proposal.half_width is None
        assert not proposal.is_settled
        first, second = ask(data, round_replicates=2).points
        assert first == proposal.points[0]
        assert 3 < np.log2(second) < 7

    def test_noise_is_met_by_replicates_near_the_crossing(self) -> None:
        data = measured(rise, np.append(twice(FIRST), CANDIDATES[[32, 34, 36, 38]]), sd=0.15)
        points = octaves(ask(data, round_replicates=4, precision=0.05).points)
        assert len(points) == 4
        assert np.all(np.abs(np.array(points) - THRESHOLD) < 1.5)

    def test_both_flanks_of_a_peak_are_sought(self) -> None:
        points = octaves(ask(measured(peak, twice(FIRST), sd=0.01), flank="both", round_replicates=4).points)
        assert any(abs(point - 2.7) < 1.3 for point in points)
        assert any(abs(point - 7.2) < 1.3 for point in points)

    def test_a_flank_that_is_not_sought_gets_nothing(self) -> None:
        points = octaves(ask(measured(peak, twice(FIRST), sd=0.01), flank="falling", round_replicates=3).points)
        assert np.all(np.abs(np.array(points) - 7.2) < 1.3)

    def test_a_crossing_that_may_lie_outside_is_looked_for_at_the_edge(self) -> None:
        data = measured(lambda x: rise(x, at=9.7), np.append(FIRST, FIRST[-2:]), sd=0.1)
        proposal = ask(data)
        assert proposal.half_width is None
        assert np.log2(proposal.points[0]) > 8

    def test_runs_that_have_not_ended_are_not_asked_again(self) -> None:
        data = measured(step, twice(FIRST), sd=0.01)
        first = ask(data, precision=0.05).points
        second = ask(data, precision=0.05, pending=first).points
        assert second == ask(data, precision=0.05, round_replicates=2).points[1:]
        assert second != first

    def test_integers_of_a_linear_axis(self) -> None:
        x = twice(np.array([1.0, 4, 8, 12, 16]))
        data = measured(lambda x: rise(x, at=np.log2(6.5), width=0.2), x, sd=0.01)
        proposal = ask(data, scale="linear", candidates=np.arange(1, 17), precision=0.05)
        assert proposal.points[0] in (5, 6, 7)
        assert proposal.half_width is not None


class TestStopping:
    def test_a_narrow_interval_of_the_reported_fit_ends_the_search(self) -> None:
        data = measured(rise, np.append(twice(FIRST), CANDIDATES[[32, 33, 34, 35, 36, 37, 38, 39]]), sd=0.02)
        proposal = ask(data)
        crossing = fit_curve(**data, fraction=None, level=0.4).rising
        assert crossing.low is not None
        assert crossing.high is not None
        assert proposal.half_width == pytest.approx(0.5 * np.log2(crossing.high / crossing.low), rel=1e-6)
        assert proposal.half_width <= 0.25
        assert proposal.is_settled
        assert proposal.points == ()
        assert not ask(data, precision=0.5 * proposal.half_width).is_settled

    def test_a_round_is_no_larger_than_it_must_be(self) -> None:
        data = measured(step, np.append(twice(FIRST), CANDIDATES[[36, 40]]), sd=0.01)
        assert len(ask(data, round_replicates=8).points) < 8
        assert len(ask(data, round_replicates=8, precision=0.01).points) == 8

    @pytest.mark.parametrize(("mean", "edge"), [(0.75, 0), (FLOOR, -1)])
    def test_a_crossing_firmly_outside_ends_it_once_the_edge_has_two_replicates(self, mean: float, edge: int) -> None:
        single = np.append(twice(FIRST[1:-1]), FIRST[[0, -1]])
        data = measured(lambda x: np.full(len(x), mean), single, sd=0.01)
        proposal = ask(data)
        assert FIRST[edge] in ask(data, round_replicates=2).points
        assert not proposal.is_settled
        proposal = ask(measured(lambda x: np.full(len(x), mean), twice(FIRST), sd=0.01))
        assert proposal.is_settled
        assert proposal.half_width is None
        assert proposal.points == ()

    def test_no_rise_is_believed_only_when_every_point_was_looked_at_three_times(self) -> None:
        data = measured(lambda x: np.full(len(x), FLOOR), np.append(twice(FIRST), FIRST[:4]))
        proposal = ask(data, fraction=0.5, level=None, round_replicates=4)
        assert not proposal.is_settled
        assert sorted(proposal.points) == sorted(FIRST[4:])
        proposal = ask(measured(lambda x: np.full(len(x), FLOOR), np.repeat(FIRST, 3)), fraction=0.5, level=None)
        assert proposal.is_settled
        assert "no rise" in proposal.reason

    def test_between_two_neighbouring_candidates_there_is_nothing_to_measure(self) -> None:
        x = np.repeat([1.0, 2, 3, 4, 8, 16], 3)
        data = measured(lambda x: np.where(x < 2.5, FLOOR, 0.75), x, sd=0.01)
        proposal = ask(data, candidates=np.arange(1, 17), precision=0.1)
        assert proposal.half_width is not None
        assert proposal.half_width > 0.1
        assert proposal.is_settled

    def test_a_ceiling_beyond_the_range_cannot_be_measured_inside_it(self) -> None:
        x = np.append(twice(FIRST), np.repeat(CANDIDATES[[56, 60, 64, 68, 72, 80]], 4))
        proposal = ask(measured(lambda x: rise(x, at=8.6, width=3.0), x, sd=0.005), fraction=0.5, level=None)
        assert proposal.is_settled
        assert proposal.half_width is None
        assert "ceiling" in proposal.reason

    def test_the_loop_finds_a_threshold_with_few_replicates(self) -> None:
        x, rng, outcome = list(FIRST), np.random.default_rng(5), []
        while True:
            outcome += [float(rise(np.array([v]))[0] + 0.05 * rng.standard_normal()) for v in x[len(outcome) :]]
            seeds = [x[:n].count(x[n]) for n in range(len(x))]
            data = {"x": np.array(x), "outcome": np.array(outcome), "seeds": np.array(seeds)}
            proposal = ask({**data, "floor": np.full(len(x), FLOOR)}, round_replicates=2)
            if proposal.is_settled:
                break
            x += proposal.points
            assert len(x) < 30
        assert proposal.half_width is not None


class TestWhatMustNotMatter:
    DATA = measured(rise, np.append(twice(FIRST), CANDIDATES[[32, 36]]), sd=0.05)

    def test_row_order_does_not_matter(self) -> None:
        order = np.random.default_rng(0).permutation(len(self.DATA["x"]))
        shuffled = {name: column[order] for name, column in self.DATA.items()}
        assert ask(shuffled, round_replicates=3) == ask(self.DATA, round_replicates=3)

    def test_order_and_repeats_of_candidates_do_not_matter(self) -> None:
        again = np.append(CANDIDATES[::-1], CANDIDATES[:9])
        assert ask(self.DATA, candidates=again) == ask(self.DATA)

    def test_candidates_outside_the_range_do_not_matter(self) -> None:
        assert ask(self.DATA, candidates=np.append(CANDIDATES, [0.1, 5000.0])) == ask(self.DATA)

    def test_the_unit_of_the_outcome_does_not_matter(self) -> None:
        scaled = {**self.DATA, "outcome": 100 * self.DATA["outcome"], "floor": 100 * self.DATA["floor"]}
        assert ask(scaled, level=40.0, round_replicates=3).points == ask(self.DATA, round_replicates=3).points

    def test_the_unit_of_x_does_not_matter(self) -> None:
        scaled = {**self.DATA, "x": 8 * self.DATA["x"]}
        points = ask(scaled, candidates=8 * CANDIDATES, round_replicates=3).points
        assert points == pytest.approx([8 * x for x in ask(self.DATA, round_replicates=3).points])

    def test_asking_twice_gives_the_same(self) -> None:
        assert ask(self.DATA, round_replicates=4) == ask(self.DATA, round_replicates=4)


class TestForecast:
    """The greedy choice against closed forms."""

    def forecast(self) -> Forecast:
        data = TestWhatMustNotMatter.DATA
        posterior = curve_posterior(**data)
        rising_D, _ = posterior.crossings(level=0.4)
        predicted_DC, noise_C = posterior.predict(CANDIDATES), posterior.noise_variance(CANDIDATES)
        return Forecast(rising_D[:, None], predicted_DC, noise_C, np.ones(len(CANDIDATES), bool))

    def test_the_variance_left_is_that_of_the_whole_round_at_once(self) -> None:
        forecast = self.forecast()
        joint, noise_C = forecast.joint.copy(), forecast.noise_C
        picks = forecast.choose([0], 1e-9, 5)
        rows = [1 + pick for pick in picks]
        outcomes = joint[np.ix_(rows, rows)] + np.diag(noise_C[picks])
        left = joint[0, 0] - joint[0, rows] @ np.linalg.solve(outcomes, joint[rows, 0])
        assert forecast.joint[0, 0] == pytest.approx(left, rel=1e-6)

    def test_each_choice_is_the_best_single_one(self) -> None:
        forecast = self.forecast()
        joint, noise_C = forecast.joint.copy(), forecast.noise_C
        left_C = [joint[0, 0] - joint[0, 1 + c] ** 2 / (joint[1 + c, 1 + c] + noise_C[c]) for c in range(81)]
        assert forecast.choose([0], 1e-9, 1) == [int(np.argmin(left_C))]

    def test_a_round_of_two_is_nearly_the_best_pair(self) -> None:
        forecast = self.forecast()
        joint, noise_C = forecast.joint.copy(), forecast.noise_C

        def left(pair: tuple[int, int]) -> float:
            rows = [1 + c for c in pair]
            outcomes = joint[np.ix_(rows, rows)] + np.diag(noise_C[list(pair)])
            return float(joint[0, 0] - joint[0, rows] @ np.linalg.solve(outcomes, joint[rows, 0]))

        best = min(left(pair) for pair in itertools.combinations_with_replacement(range(0, 81, 2), 2))
        first, second = forecast.choose([0], 1e-9, 2)
        assert joint[0, 0] - left((first, second)) > 0.85 * (joint[0, 0] - best)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"flank": "up"}, "flank must be"),
        ({"precision": 0.0}, "precision must be"),
        ({"round_replicates": 0}, "round_replicates must be"),
        ({"level": None}, "exactly one criterion"),
    ],
)
def test_a_wrong_option_is_explained(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ask(TestWhatMustNotMatter.DATA, **changes)


class TestWhatIsNotAskedAgain:
    def test_a_hopeless_point_is_not_repeated_although_it_was_measured(self) -> None:
        data = measured(step, FIRST)
        first = ask(data)
        (again,) = first.points
        assert again in FIRST
        assert set(ask(data, hopeless=[again], round_replicates=4).points).isdisjoint({again})

    def test_with_nothing_left_nothing_is_proposed(self) -> None:
        proposal = ask(measured(step, FIRST), hopeless=CANDIDATES)
        assert not proposal.points
        assert not proposal.is_settled


def test_a_range_below_zero_is_sought_in_its_own_units() -> None:
    x = np.repeat(np.linspace(-5, 5, 6), 2)
    outcome = 1 / (1 + np.exp(-(x + 3.3) / 0.2)) + 0.02 * np.random.default_rng(0).standard_normal(12)
    data = {"x": x, "outcome": outcome, "seeds": np.tile([0, 1], 6), "floor": np.zeros(12)}
    for _ in range(30):
        proposal = ask(data, level=0.5, scale="linear", candidates=np.linspace(-5, 5, 81), precision=0.1)
        if proposal.is_settled:
            break
        assert all(-5 < point < -2.5 for point in proposal.points)
        new = np.array(proposal.points)
        seed = np.array([int(np.sum(data["x"] == point)) for point in new])
        value = 1 / (1 + np.exp(-(new + 3.3) / 0.2)) + 0.02 * np.random.default_rng(len(data["x"])).standard_normal(
            len(new)
        )
        more = {"x": new, "outcome": value, "seeds": seed, "floor": np.zeros(len(new))}
        data = {name: np.concatenate([data[name], more[name]]) for name in data}
    assert proposal.is_settled
    assert proposal.half_width <= 0.1
    assert fit_curve(**data, fraction=None, level=0.5, scale="linear").rising.estimate == pytest.approx(-3.3, abs=0.15)


def test_a_share_of_an_unfinished_rise_is_no_settled_bound() -> None:
    """Half of the rise within the range lies before it, half of the whole rise far beyond."""
    octaves_P = np.linspace(6, 9, 7)
    low, high = np.log(0.2 / 0.8), np.log(0.385 / 0.615)
    width = 3 / (high - low)
    x, seeds = np.repeat(np.exp2(octaves_P), 5), np.tile(np.arange(5), 7)
    mean_P = 1 / (1 + np.exp(-(octaves_P - 6 + low * width) / width))
    outcome = np.repeat(mean_P, 5) + 0.005 * np.random.default_rng(0).standard_normal(35)
    fit = fit_curve(x, outcome, seeds, 0 * x)
    assert "ceiling not reached" in fit.flags
    assert fit.rising.describe("batch").startswith("no crossing: the ceiling is not reached")
    data = {"x": x, "outcome": outcome, "seeds": seeds, "floor": 0 * x}
    proposal = ask(data, fraction=0.5, level=None, candidates=x, precision=0.1)
    assert proposal.reason == "the ceiling is not reached"


def test_outcomes_below_their_floor_are_not_called_noise() -> None:
    octaves_P, rng = np.arange(8.0), np.random.default_rng(0)
    x, seeds = np.repeat(np.exp2(octaves_P), 3), np.tile(np.arange(3), 8)
    outcome = np.repeat(0.1 + 0.5 / (1 + 9.0 ** (octaves_P - 4)), 3) + 0.01 * rng.standard_normal(24)
    data = {"x": x, "outcome": outcome, "seeds": seeds, "floor": np.full(24, 0.5)}
    falling = fit_curve(**data).falling
    assert "do outcomes lie below their floor?" in falling.describe("strength")
    proposal = ask(data, fraction=0.5, level=None, flank="falling", candidates=x)
    assert not proposal.is_settled


class TestSuccesses:
    """Replicates that succeed or fail: the same rounds by the fit of probabilities."""

    def ask(self, x: Array, success: Array, **changes: object) -> NextPoints:
        options = {"candidates": CANDIDATES, "precision": 0.5, "round_replicates": 1, **changes}
        return propose_success(x, success, np.arange(len(x)), **options)

    def test_the_next_replicate_goes_where_failures_turn_to_successes(self) -> None:
        x = np.repeat(FIRST, 4)
        proposal = self.ask(x, (np.log2(x) > THRESHOLD).astype(float))
        assert not proposal.is_settled
        assert all(4 < octave < 6 for octave in octaves(proposal.points))

    def test_a_search_ends_with_the_threshold_inside_a_narrow_interval(self) -> None:
        rng = np.random.default_rng(2)
        x = np.repeat(FIRST, 4)

        def ran(x: Array) -> Array:
            probability = 1 / (1 + 9.0 ** (-2 * (np.log2(x) - THRESHOLD)))
            return (rng.random(len(x)) < probability).astype(float)

        success = ran(x)
        for _ in range(10):
            proposal = self.ask(x, success, round_replicates=8)
            if proposal.is_settled:
                break
            points = np.array(proposal.points)
            x = np.concatenate([x, points])
            success = np.concatenate([success, ran(points)])
        assert proposal.is_settled
        assert proposal.half_width is not None
        assert proposal.half_width <= 0.5
        rising = fit_success(x, success, level=0.5).rising
        assert rising.low is not None
        assert rising.high is not None
        assert rising.low < 2**THRESHOLD < rising.high

    def test_a_hopeless_point_is_not_repeated(self) -> None:
        x = np.repeat(FIRST, 4)
        success = (np.log2(x) > THRESHOLD).astype(float)
        success[x == FIRST[3]] = [0.0, 1.0, 0.0, 1.0]
        best = FIRST[3]
        assert best in self.ask(x, success, candidates=FIRST, round_replicates=6).points
        assert best not in self.ask(x, success, candidates=FIRST, hopeless=[best], round_replicates=6).points
        assert not self.ask(x, success, hopeless=CANDIDATES).points

    @pytest.mark.parametrize("outcome", [0.0, 1.0])
    def test_nothing_is_left_to_seek_where_all_replicates_end_alike(self, outcome: float) -> None:
        x = np.repeat(FIRST, 8)
        proposal = self.ask(x, np.full(len(x), outcome))
        assert proposal.is_settled
        assert not proposal.points

    def test_the_order_of_replicates_does_not_matter(self) -> None:
        x = np.repeat(FIRST, 3)
        success = (np.log2(x) > THRESHOLD).astype(float)
        success[4] = 1.0
        order = np.random.default_rng(0).permutation(len(x))
        assert self.ask(x, success) == self.ask(x[order], success[order])

    def test_outcomes_between_success_and_failure_are_refused(self) -> None:
        with pytest.raises(ValueError, match="success must be 0 or 1"):
            self.ask(FIRST, np.linspace(0, 1, len(FIRST)))
