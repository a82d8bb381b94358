"""Thresholds of success: known curves are recovered, small samples are honest, and what must not matter does not."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expit, ndtr, ndtri
from scipy.stats import norm

from study.inference import binary, successes
from study.inference.binary import SuccessFit, fit_success
from study.inference.statements import CEILING_FLAG, MISFIT_FLAG, NO_RISE_FLAG, Crossing, CrossingStatus

Array = NDArray[np.float64]

X = np.exp2(np.arange(10.0))
TRIALS = 10
X_N = np.repeat(X, TRIALS)
SEEDS_N = np.tile(np.arange(TRIALS), len(X))


def logistic(octaves: Array, width: float) -> Array:
    return np.asarray(1 / (1 + 9.0 ** (-2 * octaves / width)))


def trials(probability_N: Array, seed: int = 1) -> NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(len(probability_N)) < probability_N)


RISE = trials(logistic(np.log2(X_N) - 4.3, 2.0))
# Each seed has a threshold of its own and succeeds beyond it.
OWN_THRESHOLDS = np.log2(X_N) > 4.3 + 1.2 * norm.ppf((SEEDS_N + 0.5) / TRIALS)


def octaves(crossing: Crossing) -> Array:
    assert crossing.status is CrossingStatus.FOUND
    ends = np.array([crossing.low, crossing.estimate, crossing.high], dtype=np.float64)
    assert np.isfinite(ends).all()
    return np.asarray(np.log2(ends))


def covers(crossing: Crossing, truth: float) -> bool:
    low, _, high = octaves(crossing)
    return bool(low <= truth <= high)


class TestRecovery:
    @pytest.mark.parametrize("criterion", [{}, {"level": 0.5}, {"fraction": 0.5}])
    def test_a_rise(self, criterion: dict[str, Any]) -> None:
        fit = fit_success(X_N, RISE, **criterion)
        assert covers(fit.rising, 4.3)
        assert octaves(fit.rising)[1] == pytest.approx(4.3, abs=0.4)
        assert fit.falling.status is CrossingStatus.ABOVE_RANGE
        assert fit.width.low < 2.0 < fit.width.high
        assert np.quantile(fit.curves.floor_D, 0.975) < 0.15
        assert fit.ceiling.low > 0.85
        assert (fit.num_successes, fit.num_replicates) == (int(RISE.sum()), 100)
        assert fit.seed_correlation is None
        assert fit.converged
        assert fit.flags == ()

    def test_a_fall(self) -> None:
        fit = fit_success(X_N, ~RISE)
        assert covers(fit.falling, 4.3)
        assert fit.rising.status is CrossingStatus.BELOW_RANGE

    def test_a_peak_has_both_crossings(self) -> None:
        peak = trials(logistic(np.log2(X_N) - 2.4, 1.0) * logistic(6.7 - np.log2(X_N), 1.0))
        fit = fit_success(X_N, peak)
        assert covers(fit.rising, 2.4)
        assert covers(fit.falling, 6.7)
        assert 2.4 < np.log2(fit.peak.value) < 6.7

    def test_another_level(self) -> None:
        fit = fit_success(X_N, RISE, level=0.8)
        assert covers(fit.rising, 4.3 + np.log(4) / np.log(9))
        assert fit.level.value == fit.level.low == fit.level.high == 0.8

    def test_lapses_do_not_move_the_half_way_point(self) -> None:
        lapsing = trials(0.06 + 0.86 * logistic(np.log2(X_N) - 4.3, 1.0), seed=4)
        fit = fit_success(X_N, lapsing, fraction=0.5)
        assert covers(fit.rising, 4.3)
        assert fit.ceiling.low < 0.92 < fit.ceiling.high

    def test_a_linear_axis(self) -> None:
        strengths = np.repeat(np.linspace(0, 1.5, len(X)), TRIALS)
        fit = fit_success(strengths, trials(expit((0.7 - strengths) / 0.08)), scale="linear")
        assert fit.falling.low is not None
        assert fit.falling.high is not None
        assert fit.falling.low < 0.7 < fit.falling.high
        assert fit.width.value == pytest.approx(0.08 * 2 * np.log(9), abs=0.2)

    def test_intervals_contain_the_threshold_in_simulated_studies(self) -> None:
        rng = np.random.default_rng(5)
        covered = []
        for width, direction, num_points in itertools.product((0.5, 1.0, 2.0, 3.0), (1, -1), (6, 8, 10)):
            at, axis_N = rng.uniform(2, 8), np.repeat(np.linspace(0, 10, num_points), 8)
            fit = fit_success(np.exp2(axis_N), rng.random(len(axis_N)) < logistic(direction * (axis_N - at), width))
            covered.append(covers(fit.rising if direction > 0 else fit.falling, at))
        assert len(covered) == 24
        assert np.mean(covered) >= 0.87


class TestSmallSamples:
    @pytest.mark.parametrize("num_trials", [3, 20])
    def test_perfect_separation_spans_nearly_all_of_the_gap(self, num_trials: int) -> None:
        x = np.repeat(X, num_trials)
        low, estimate, high = octaves(fit_success(x, x > 20).rising)
        assert low < 4.16
        assert high > 4.84
        assert estimate == pytest.approx(4.5, abs=0.2)
        assert low > 3.0
        assert high < 6.0

    def test_three_points_with_one_replicate_each(self) -> None:
        fit = fit_success([1, 16, 256], [0, 0, 1])
        assert fit.rising.status is not CrossingStatus.BELOW_RANGE
        widest = fit.rising_draws[np.isfinite(fit.rising_draws)]
        assert widest.min() < 16
        assert widest.max() > 128

    def test_all_successes_are_above_a_level_everywhere(self) -> None:
        fit = fit_success(X_N, np.ones(len(X_N)))
        assert fit.rising.describe("batch") == "below 1: already reached at the smallest batch"
        assert fit.falling.status is CrossingStatus.ABOVE_RANGE
        assert NO_RISE_FLAG in fit.flags

    def test_no_success_is_below_a_level_everywhere(self) -> None:
        fit = fit_success(X_N, np.zeros(len(X_N)))
        assert fit.rising.describe("batch") == "above 512: not reached up to the largest batch"
        assert fit.falling.status in (CrossingStatus.BELOW_RANGE, CrossingStatus.NO_CROSSING)

    @pytest.mark.parametrize("rate", [0.3, 0.5])
    def test_a_constant_rate_has_no_crossing(self, rate: float) -> None:
        fit = fit_success(X_N, trials(np.full(len(X_N), rate)), fraction=0.5)
        assert fit.rising.status is fit.falling.status is CrossingStatus.NO_CROSSING
        assert "constant rate" in fit.rising.reason
        assert np.isnan(fit.rising_draws).mean() > 0.5

    def test_all_successes_say_nothing_of_a_fraction(self) -> None:
        fit = fit_success(X_N, np.ones(len(X_N)), fraction=0.5)
        assert fit.rising.status is CrossingStatus.NO_CROSSING

    def test_a_rise_at_the_end_of_the_range_has_not_reached_its_ceiling(self) -> None:
        fit = fit_success(X_N, trials(logistic(np.log2(X_N) - 8.8, 2.0)))
        assert CEILING_FLAG in fit.flags

    def test_a_valley_is_rejected_by_its_residuals(self) -> None:
        valley = (X_N < 5) | (X_N > 100)
        assert MISFIT_FLAG in fit_success(X_N, valley).flags


class TestSeeds:
    def test_thresholds_of_few_seeds_are_less_certain_than_independent_trials(self) -> None:
        independent = fit_success(X_N, OWN_THRESHOLDS)
        shared = fit_success(X_N, OWN_THRESHOLDS, SEEDS_N)
        assert np.ptp(octaves(shared.rising)) > 1.15 * np.ptp(octaves(independent.rising))
        assert shared.seed_correlation is not None
        assert shared.seed_correlation > 0.5

    def test_seeds_without_an_effect_hardly_matter(self) -> None:
        alone, shared = fit_success(X_N, RISE), fit_success(X_N, RISE, SEEDS_N)
        assert shared.seed_correlation is not None
        assert shared.seed_correlation < 0.4
        assert octaves(shared.rising) == pytest.approx(octaves(alone.rising), abs=0.25)

    def test_a_seed_run_at_one_point_only_is_an_independent_trial(self) -> None:
        named = fit_success(X_N, RISE, np.arange(len(X_N)))
        assert same(named, fit_success(X_N, RISE))

    def test_the_average_over_seeds_is_the_marginal_probability(self) -> None:
        p_DP, rho_D1 = np.array([[0.02, 0.3, 0.5, 0.97]] * 3), np.array([[0.0], [0.4], [0.9]])
        weight_E = np.exp(successes.LOG_WEIGHT_E)
        average_DP = np.einsum("dep,e->dp", successes.seed_probability(p_DP, rho_D1), weight_E)
        assert average_DP == pytest.approx(p_DP, abs=0.004)


class TestAgainstSlowVersions:
    def test_the_likelihood_of_shared_seeds(self) -> None:
        axis, seeds, success = np.array([0, 1, 2, 0, 1, 2, 1]), np.array([0, 0, 0, 1, 1, 1, 2]), [0, 1, 1, 0, 0, 1, 1]
        counts = successes.Successes(binary._check_success(np.exp2(axis), success, seeds, log_axis=True))
        theta_DK = successes.draw_prior(20, 7, np.random.default_rng(0))
        for theta, log_like in zip(theta_DK, counts.log_like(theta_DK), strict=True):
            p_P = successes.probability(theta[None], np.array([0.0, 0.5, 1.0]))[0]
            product = 1.0
            for seed in range(3):
                mine = [(axis[n], success[n]) for n in range(7) if seeds[n] == seed]

                def joint(effect: float, mine: list[Any] = mine, p_P: Array = p_P, rho: float = theta[6]) -> float:
                    value = norm.pdf(effect)
                    for point, outcome in mine:
                        p = ndtr((ndtri(p_P[point]) + np.sqrt(rho) * effect) / np.sqrt(1 - rho))
                        value *= p if outcome else 1 - p
                    return float(value)

                product *= quad(joint, -8, 8, limit=200)[0]
            assert log_like == pytest.approx(np.log(product), abs=0.05)

    def test_the_posterior_of_weighted_prior_draws(self) -> None:
        x, success = np.repeat(X[::2], 4), np.repeat([0, 0, 1, 1, 1], 4).astype(float)
        success[[8, 9]] = 0
        counts = successes.Successes(binary._check_success(x, success, None, log_axis=True))
        theta = successes.draw_prior(200_000, 6, np.random.default_rng(0))
        weight = np.exp(counts.log_like(theta))
        is_constant = 1 / (1 + weight.mean() / np.exp(counts.log_null))
        fit = fit_success(x, success)
        tails = [0.025, 0.5, 0.975]
        floor, ceiling = np.quantile(fit.curves.floor_D, tails), (fit.ceiling.low, fit.ceiling.value, fit.ceiling.high)
        for found, parameter in ((floor, theta[:, 4]), (ceiling, 1 - theta[:, 5])):
            order = np.argsort(parameter)
            share = np.cumsum(weight[order]) / weight.sum()
            expected = np.interp([0.025, 0.5, 0.975], share, parameter[order])
            assert found == pytest.approx(expected, abs=0.03)
        assert is_constant < 0.01
        # The logistic flank alone crosses one half where its logit makes up for unequal floor and lapses.
        rises = (theta[:, 2] > successes.NO_FALL) & (theta[:, 4:6].max(1) < 0.5)
        weight, (t1, log_scale, _, _, floor, lapse) = weight[rises], theta[rises].T
        at = t1 + np.exp(log_scale) * np.log((0.5 - floor) / (0.5 - lapse))
        order = np.argsort(at)
        share = np.cumsum(weight[order]) / weight.sum()
        expected = 8 * np.interp([0.025, 0.5, 0.975], share, at[order])
        assert octaves(fit.rising) == pytest.approx(expected, abs=0.3)

    def test_the_prior_density_is_that_of_its_draws(self) -> None:
        draws = successes.draw_prior(20_000, 7, np.random.default_rng(0))
        assert np.isfinite(successes.log_prior(draws)).all()
        low, high = successes.NO_RISE - successes.ABSENT, successes.NO_FALL + successes.ABSENT
        rng = np.random.default_rng(1)
        theta = np.repeat(draws[:1], 200_000, 0)
        theta[:, [0, 2]] = rng.uniform(low, high, (200_000, 2))
        weight = np.exp(successes.log_prior(theta))
        weight /= weight.sum()
        rises, falls = theta[:, 0] >= successes.NO_RISE, theta[:, 2] <= successes.NO_FALL
        shares = [weight[kind].sum() for kind in (rises & ~falls, ~rises & falls, rises & falls)]
        assert shares == pytest.approx([0.375, 0.375, 0.25], abs=0.01)
        assert (weight * theta[:, 0]).sum() == pytest.approx(draws[:, 0].mean(), abs=0.02)

    def test_the_evidence_of_a_constant_rate(self) -> None:
        counts = successes.Successes(binary._check_success(X[:3].repeat(2), [0, 0, 1, 0, 0, 1], None, log_axis=True))
        assert np.exp(counts.log_null) == pytest.approx(1 / (7 * 15), rel=1e-3)


def same(a: SuccessFit, b: SuccessFit) -> bool:
    return (a.rising, a.falling, a.width, a.floor, a.ceiling, a.flags) == (
        b.rising, b.falling, b.width, b.floor, b.ceiling, b.flags,
    )  # fmt: skip


class TestWhatMustNotMatter:
    def test_row_order(self) -> None:
        order = np.random.default_rng(0).permutation(len(X_N))
        assert same(fit_success(X_N[order], RISE[order], SEEDS_N[order]), fit_success(X_N, RISE, SEEDS_N))

    def test_the_names_of_seeds(self) -> None:
        names = np.array([f"seed {9 - s}" for s in SEEDS_N])
        renamed = fit_success(X_N, OWN_THRESHOLDS, names)
        assert octaves(renamed.rising) == pytest.approx(octaves(fit_success(X_N, OWN_THRESHOLDS, SEEDS_N).rising))

    def test_the_unit_of_x(self) -> None:
        scaled = octaves(fit_success(3 * X_N, RISE).rising)
        assert scaled == pytest.approx(octaves(fit_success(X_N, RISE).rising) + np.log2(3), abs=1e-6)

    def test_the_direction_of_the_axis(self) -> None:
        mirrored = octaves(fit_success(1 / X_N, RISE).falling)
        assert -mirrored[::-1] == pytest.approx(octaves(fit_success(X_N, RISE).rising), abs=0.15)

    def test_which_outcome_is_called_success(self) -> None:
        failures = octaves(fit_success(X_N, ~RISE, fraction=0.5).falling)
        assert failures == pytest.approx(octaves(fit_success(X_N, RISE, fraction=0.5).rising), abs=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"success": np.full(len(X_N), 0.5)}, "0 or 1"),
        ({"success": np.full(len(X_N), np.nan)}, "0 or 1"),
        ({"level": 1.5}, "probability"),
        ({"level": 0.5, "fraction": 0.5}, "one criterion"),
        ({"fraction": 1.0}, "between 0 and 1"),
        ({"confidence": 95}, "such as 0.95"),
        ({"scale": "ln"}, "'log' or 'linear'"),
        ({"x": np.zeros(len(X_N))}, "positive on a log scale"),
        ({"x": np.repeat([1.0, 2.0], len(X_N) // 2)}, "at least 3 distinct x"),
    ],
)
def test_a_wrong_argument_says_what_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_success(**{"x": X_N, "success": RISE} | change)
