"""The benchmarks of coverage and economy, on tiny sizes: what they count is what they say they count."""

import itertools
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.inference.posterior import HEIGHT_SD, LOG_WIDTH_SD, RISE_MAX, RISE_MIN
from study.inference.statements import Crossing, CrossingStatus
from verification.coverage.designs import covers, simulate
from verification.coverage.recognition import is_recognised
from verification.coverage.sets import NUM_OCTAVES, Replicates, Truth, draw_truth
from verification.coverage.tables import coverage_table, failures
from verification.economy import methods, nuisance, pools
from verification.economy.__main__ import document, names_for, rows_of
from verification.economy.figure import draw
from verification.economy.oracle import ThresholdVariance, best_design, cramer_rao, gradients
from verification.economy.problem import LEVEL, Curve, PoolExhausted, Problem, half_width, simulated
from verification.economy.report import OURS, best_of

SIMULATED = ["width", "noise sd"]
KINDS = ("threshold", "falling", "peaked", "below", "above", "flat", "ceiling")


def narrow(num: int) -> Crossing:
    """An interval around 4 whose half-width is 1/4 octave from `num` = 8 on."""
    half = 1.99 / max(num, 1)
    return Crossing(status=CrossingStatus.FOUND, estimate=4.0, low=2 ** (2 - half), high=2 ** (2 + half))


class TestOracle:
    curve = Curve(threshold=4.3, width=2.0, noise_sd=0.1)
    octaves_C = np.linspace(0, 10, 9)

    @pytest.mark.parametrize("num", [1, 2, 3, 4])
    def test_its_design_is_the_best_of_all_designs(self, num: int) -> None:
        variance = ThresholdVariance(self.curve, self.octaves_C)
        every = itertools.combinations_with_replacement(range(len(self.octaves_C)), num)
        best = min(variance(list(points)) for points in every)
        assert variance(best_design(self.curve, self.octaves_C, num)) == pytest.approx(best, rel=1e-6)

    def test_the_variance_is_that_of_bayesian_linear_regression(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a departure from the curve."""
        monkeypatch.setattr("verification.economy.oracle.DISCREPANCY_MEAN", 0.0)
        gradient_C3, target_3 = gradients(self.curve, self.octaves_C)
        precision_33 = np.diag([(HEIGHT_SD * 0.7) ** -2, 12 / (10 * (RISE_MAX - RISE_MIN)) ** 2, LOG_WIDTH_SD**-2])
        points = [0, 3, 4, 4, 7]
        information_33 = precision_33 + gradient_C3[points].T @ gradient_C3[points] / 0.1**2
        expected = target_3 @ np.linalg.solve(information_33, target_3)
        assert ThresholdVariance(self.curve, self.octaves_C)(points) == pytest.approx(expected, rel=1e-6)

    def test_gradients_are_those_of_differences(self) -> None:
        step = 1e-5
        wide, narrow_ = (
            Curve(threshold=self.curve.threshold, width=2.0 * np.exp(s), noise_sd=0.1) for s in (step, -step)
        )
        # The threshold is held, so the middle moves with the width: its gradient is the one of both together.
        gradient_C3, target_3 = gradients(self.curve, self.octaves_C)
        middle = (wide.middle - narrow_.middle) / (2 * step)
        along_C = gradient_C3 @ np.array([0.0, middle, 1.0])
        assert along_C == pytest.approx((wide(self.octaves_C) - narrow_(self.octaves_C)) / (2 * step), abs=1e-6)
        assert target_3 @ np.array([0.0, middle, 1.0]) == pytest.approx(0, abs=1e-9)

    def test_a_classical_design_at_the_threshold_needs_what_the_slope_says(self) -> None:
        """With a candidate on the threshold the bound is (1.96 s / (slope / 4))^2."""
        curve = Curve(threshold=5.0, width=2.0, noise_sd=0.1)
        share = (LEVEL - 0.05) / 0.7
        slope = 0.7 * share * (1 - share) * np.log(9)
        assert cramer_rao(curve, np.linspace(0, 10, 81)) == pytest.approx((1.96 * 0.1 / (slope / 4)) ** 2, rel=1e-6)


class TestCounting:
    def test_the_first_interval_that_is_narrow_enough_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Problem, "crossing", lambda _self, points: narrow(len(points)))
        problem = simulated(1, 1.0, 0.05, 0)
        run = methods._smallest(problem, lambda num: list(range(num)), 3, 100)
        assert run.num_replicates == 8
        assert not run.is_capped

    def test_a_grid_counts_whole_seeds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Problem, "crossing", lambda _self, points: narrow(len(points) // 4))
        assert methods.grid(simulated(1, 1.0, 0.05, 0), 0, spacing=1.0).num_replicates == 33

    def test_a_run_that_never_ends_is_capped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Problem, "crossing", lambda _self, _points: None)
        run = methods.random_points(simulated(1, 1.0, 0.05, 0), 0)
        assert run.is_capped
        assert run.num_replicates == methods.MAX_REPLICATES

    def test_a_pool_gives_replicates_in_the_order_of_seeds_and_then_ends(self) -> None:
        problem = Problem(
            octaves_C=np.array([0.0, 1.0]), outcome_CR=np.array([[1.0, 2.0], [3.0, 4.0]]), floor=0.0,
            flank="rising", truth=0.5,
        )  # fmt: skip
        assert problem.columns([0, 1, 0]) == ([1.0, 2.0, 1.0], [1.0, 3.0, 2.0], [0, 0, 1], [0.0, 0.0, 0.0])
        with pytest.raises(PoolExhausted):
            problem.columns([0, 0, 0])

    def test_a_curve_passes_the_level_at_its_threshold(self) -> None:
        curve = simulated(3, 0.5, 0.1, 7).curve
        assert curve is not None
        assert curve(np.array(curve.threshold)) == pytest.approx(LEVEL)
        assert np.diff(curve(curve.middle + np.array([-0.25, 0.25])))[0] == pytest.approx(0.8 * 0.7)

    @pytest.mark.parametrize("name", ["Optuna TPE", "random"])
    def test_rivals_draw_the_same_points_again(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[list[int]] = []
        monkeypatch.setattr(Problem, "crossing", lambda _self, points: seen.append(list(points)) or narrow(len(points)))
        for _ in range(2):
            methods.METHODS[name](simulated(1, 1.0, 0.05, 0), 5)
        assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


class TestReport:
    def test_all_tables_and_the_figure_come_from_the_rows(self, tmp_path: Path) -> None:
        counts = {"grid, 1 octave": 44, "grid, 0.5 octave": 42, "random": 50, "Optuna TPE": 30, "Optuna GP": 25}
        counts |= {
            "oracle, c-optimal": 12,
            "oracle, ±0.25 octaves": 10,
            **{f"ours, rounds of {size}": 11 + size for size in methods.ROUND_SIZES},
        }
        rows = [
            {"width": width, "noise sd": 0.05, "repeat": repeat, "method": name, "num_replicates": num + repeat,
             "is_capped": name == "random", "covered": True}
            for width in (0.5, 1.0) for repeat in range(3) for name, num in counts.items()
        ]  # fmt: skip
        frame = pd.DataFrame(rows)
        assert best_of(frame, "grid") == "grid, 0.5 octave"
        text = document({"simulated": frame}, "command")
        assert "| 0.5 | 0.05 | 13 (12.5 to 13.5) | 43 (42.5 to 43.5) [0.5 octave] | ≥ 51" in text
        assert "| 0.5 | 3.31 | 1.00 | 3.91 | 0.85 | Optuna GP | 0.50 | 100.0% ± 0.0% |" in text
        assert draw(frame, SIMULATED).axes[0].get_ylabel() == "replicates until ± 1/4 octave"

    def test_costly_variants_are_given_a_part_of_the_repeats(self) -> None:
        given = Counter(name for repeat in range(100) for name in names_for(repeat, 100))
        assert given[OURS] == given["Optuna GP"] == given["oracle, c-optimal"] == 100
        assert given["random"] == 50
        assert given["oracle, ±0.25 octaves"] == given["ours, rounds of 8"] == 25


def test_ours_ends_with_an_interval_that_is_narrow_enough() -> None:
    problem = simulated(1, 1.0, 0.05, 1)
    labels = {"width": 1.0, "noise sd": 0.05, "repeat": 1}
    (row,) = rows_of(lambda: problem, labels, ["ours, rounds of 4"], 0)
    assert row["method"] == "ours, rounds of 4"
    assert not row["is_capped"]
    assert methods.FIRST_POINTS * methods.FIRST_SEEDS < row["num_replicates"] < 40


def test_a_real_pool_is_a_falling_problem_between_its_own_seeds() -> None:
    setting = pools.SETTINGS[2]
    x_C = np.array(setting.sigmas)
    assert len(x_C) == 41
    assert np.log2(x_C[-1] / x_C[0]) == pytest.approx(10, abs=1e-3)
    config = setting.config(2.0)
    assert (config.data.name, config.data.strength, config.model.init) == ("clusters", 2.0, "identity")
    rows = [
        {"recipe": setting.recipe, "sigma": x, "seed": seed, "p": 1 / (1 + (x / 2) ** 3) + 0.01 * (seed - 1)}
        for x in x_C for seed in range(3)
    ]  # fmt: skip
    problem = pools.problem(setting, pd.DataFrame(rows))
    assert problem.flank == "falling"
    assert problem.truth == pytest.approx(1.0, abs=0.05)
    shuffled = problem.shuffled(np.random.default_rng(0))
    assert sorted(shuffled.outcome_CR[5]) == sorted(problem.outcome_CR[5])


def test_a_played_study_counts_what_tuning_cost() -> None:
    borrowed, whole = (nuisance.measure(1, 0.5, name, 0) for name in nuisance.PLANNERS)
    assert borrowed["tuned first"] == whole["tuned first"]
    # Three rates, or four where the best lies at an edge, on two seeds.
    assert 6 <= whole["tuned new"] / whole["new cells"] <= 8
    assert borrowed["tuned new"] / borrowed["new cells"] <= 8
    header, rule, row = nuisance.nuisance_table(pd.DataFrame([whole]))
    assert header.count("|") == rule.count("|") == row.count("|") == 9


class TestCoverage:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_drawn_truth_is_of_its_kind(self, kind: str) -> None:
        rng = np.random.default_rng(3)
        for _ in range(20):
            truth = draw_truth(rng, kind)  # type: ignore[arg-type]
            rising, falling = truth.crossings
            assert np.isfinite(rising) == (kind in ("threshold", "peaked", "ceiling")) or kind == "threshold"
            if kind in ("falling", "peaked"):
                assert np.isfinite(falling)
            if kind == "below":
                assert rising == -np.inf
            if kind in ("above", "flat"):
                assert rising == np.inf

    def test_replicates_of_a_seed_share_their_shift(self) -> None:
        truth = plain(seed_sd=0.2)
        runs = Replicates(truth, np.random.default_rng(0))
        runs.add([1.0, 1.0, 1024.0, 1024.0])
        assert runs.seeds == [0, 1, 0, 1]
        assert runs.outcome[2] - runs.outcome[0] == pytest.approx(runs.outcome[3] - runs.outcome[1])

    def test_the_truth_is_half_of_the_rise(self) -> None:
        assert plain().crossings[0] == pytest.approx(2.0**4, rel=1e-3)
        assert plain(level=0.05 + 0.4 * 0.9).crossings[0] == pytest.approx(2.0**5, rel=1e-3)

    def test_a_fit_that_breaks_down_counts_as_not_covered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_arguments: object, **_options: object) -> None:
            raise FloatingPointError("no fit")

        monkeypatch.setattr("verification.coverage.designs.fit_curve", broken)
        statement = simulate("fixed", 1, 0)
        assert not statement.covers("rising")
        assert "FloatingPointError: no fit" in failures([statement])
        assert "0.0%" in list(coverage_table([statement]))[2]

    def test_no_crossing_covers_nothing(self) -> None:
        none = Crossing(status=CrossingStatus.NO_CROSSING, estimate=None, low=None, high=None)
        assert not covers(none, 4.0)
        assert covers(narrow(4), 4.0)
        assert half_width(none) == np.inf

    def test_seeking_stops_at_the_precision_and_is_reproducible(self) -> None:
        first, second = (simulate("adaptive", 1, 3) for _ in range(2))
        assert first.num_replicates == second.num_replicates
        assert first.rising == second.rising
        assert first.is_capped or half_width(first.rising) <= 0.25

    def test_a_plain_rise_and_nothing_at_all_are_recognised(self) -> None:
        recognised = partial(simulate, "fixed", 1, num_seeds=5)
        for kind in ("below", "flat"):
            assert is_recognised(kind, recognised(0, kind=kind))


def plain(seed_sd: float = 0.0, level: float | None = None) -> Truth:
    """A Hill curve of two octaves' width with its middle in the fourth octave, without noise."""
    return Truth(
        family="hill", rise_at=4.0, rise_width=2.0, fall_at=np.inf, fall_width=1.0, floor=0.05, height=0.4,
        noise_sd=0.0, noise_shape="constant", tails="normal", seed_sd=seed_sd, seed_kind="additive", level=level,
        reach=NUM_OCTAVES,
    )  # fmt: skip
