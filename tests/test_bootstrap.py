"""The bootstrap agrees with least squares done slowly, moves whole seeds, and ignores what must not matter."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from study.inference import bootstrap
from study.inference.bootstrap import bootstrap_crossing
from study.inference.statements import Crossing, CrossingStatus

Array = NDArray[np.float64]

X = np.exp2(np.arange(10.0))
NUM_SEEDS = 5
SEEDS = np.tile(np.arange(NUM_SEEDS), len(X))


def logistic(octaves: Array, width: float) -> Array:
    return np.asarray(1 / (1 + 9.0 ** (-2 * octaves / width)))


RISE = 0.04 + 0.5 * logistic(np.log2(X) - 4.3, 1.5)
PEAK = 0.04 + 0.5 * logistic(np.log2(X) - 2.7, 1.0) * logistic(6.4 - np.log2(X), 1.0)


def replicates(mean_P: Array, *, noise: float = 0.01, seed_sd: float = 0.02) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    effect_S, floor_S = seed_sd * rng.standard_normal(NUM_SEEDS), 0.04 + 0.01 * rng.standard_normal(NUM_SEEDS)
    outcome = np.repeat(mean_P, NUM_SEEDS) + effect_S[SEEDS] + noise * rng.standard_normal(len(SEEDS))
    return {"x": np.repeat(X, NUM_SEEDS), "outcome": outcome, "seeds": SEEDS, "floor": floor_S[SEEDS]}


def rows(data: dict[str, Any], keep: NDArray[Any]) -> dict[str, Any]:
    return {name: column[keep] for name, column in data.items()}


def octaves(crossing: Crossing) -> Array:
    assert crossing.status is CrossingStatus.FOUND
    ends = np.array([crossing.low, crossing.estimate, crossing.high], dtype=np.float64)
    assert np.isfinite(ends).all()
    return np.asarray(np.log2(ends))


class TestRecovery:
    def test_a_curve_without_noise_gives_its_crossing(self) -> None:
        data = replicates(RISE, noise=0.0, seed_sd=0.0) | {"floor": np.full(len(SEEDS), 0.04)}
        assert octaves(bootstrap_crossing(**data)) == pytest.approx(4.3, abs=0.02)
        at_30 = bootstrap_crossing(**data, fraction=None, level=0.3)
        assert octaves(at_30) == pytest.approx(4.3 + 1.5 / 2 * np.log(0.26 / 0.24) / np.log(9), abs=0.02)

    def test_both_sides_of_a_peak(self) -> None:
        rising, falling = (bootstrap_crossing(**replicates(PEAK), flank=flank) for flank in ("rising", "falling"))
        assert octaves(rising)[1] == pytest.approx(2.7, abs=0.15)
        assert octaves(falling)[1] == pytest.approx(6.4, abs=0.15)

    def test_a_linear_axis(self) -> None:
        strengths = np.repeat(np.linspace(0.0, 1.5, len(X)), NUM_SEEDS)
        fall = 0.04 + 0.6 / (1 + np.exp((strengths - 0.73) / 0.08))
        data = replicates(RISE) | {"x": strengths, "outcome": fall + 0.01 * np.cos(np.arange(len(SEEDS)))}
        falling = bootstrap_crossing(**data, scale="linear", flank="falling")
        assert falling.estimate == pytest.approx(0.73, abs=0.03)
        assert bootstrap_crossing(**data, scale="linear").status is CrossingStatus.BELOW_RANGE

    def test_resamples_equal_least_squares_done_one_by_one(self) -> None:
        data, num = replicates(RISE), 12
        found = bootstrap_crossing(**data, fraction=None, level=0.29, resamples=num, confidence=0.8)
        y_PS, floor_S = data["outcome"].reshape(-1, NUM_SEEDS), data["floor"][:NUM_SEEDS]
        shape = (NUM_SEEDS - 2) / NUM_SEEDS
        weight_RS = np.random.default_rng(bootstrap.SEED).standard_gamma(shape, (num, NUM_SEEDS))
        crossings = []
        for weight_S in weight_RS / weight_RS.sum(1, keepdims=True):
            floor, mean_P = float(floor_S @ weight_S), y_PS @ weight_S

            def misfit(p: Array, floor: float = floor, mean_P: Array = mean_P) -> Array:
                return floor + p[2] * logistic(np.log2(X) - p[0], np.exp(p[1])) - mean_P

            at, log_width, height = least_squares(misfit, [4.3, 0.4, 0.5]).x
            share = (0.29 - floor) / height
            crossings.append(at + np.exp(log_width) / 2 * np.log(share / (1 - share)) / np.log(9))
        # A fall beyond the range may bend the plateau a little, which the literal curve cannot.
        expected = np.quantile(crossings, [0.1, 0.5, 0.9], method="inverted_cdf")
        assert octaves(found) == pytest.approx(expected, abs=0.04)


class TestSeeds:
    def test_a_seed_moves_at_all_its_points_together(self) -> None:
        wide = 0.04 + 0.5 * logistic(np.log2(X) - 4.5, 6.0)
        data = replicates(wide, noise=0.0, seed_sd=0.05) | {"floor": np.full(len(SEEDS), 0.04)}
        shared = bootstrap_crossing(**data, fraction=None, level=0.25)
        rng = np.random.default_rng(0)
        mixed = np.concatenate([rng.permutation(point) for point in data["outcome"].reshape(-1, NUM_SEEDS)])
        alone = bootstrap_crossing(
            **data | {"outcome": mixed, "seeds": np.arange(len(SEEDS))}, fraction=None, level=0.25
        )
        assert np.ptp(octaves(shared)) > 1.3 * np.ptp(octaves(alone))

    def test_points_may_miss_seeds_and_have_unequal_numbers(self) -> None:
        data = replicates(RISE)
        is_near = np.abs(np.log2(data["x"]) - 4.3) < 1.5
        keep = is_near | (SEEDS == 0) | ((SEEDS == 3) & (data["x"] > 100))
        assert octaves(bootstrap_crossing(**rows(data, keep)))[1] == pytest.approx(4.3, abs=0.25)

    def test_noisier_replicates_give_a_wider_interval(self) -> None:
        quiet, noisy = (octaves(bootstrap_crossing(**replicates(RISE, noise=noise))) for noise in (0.01, 0.05))
        assert np.ptp(noisy) > np.ptp(quiet)


class TestStatements:
    def test_a_plateau_already_reached(self) -> None:
        crossing = bootstrap_crossing(**replicates(np.full(len(X), 0.5)))
        assert crossing.status is CrossingStatus.BELOW_RANGE
        assert (crossing.estimate, crossing.low, crossing.high) == (None, None, 1)

    def test_a_level_never_reached(self) -> None:
        crossing = bootstrap_crossing(**replicates(RISE), fraction=None, level=0.8)
        assert crossing.status is CrossingStatus.ABOVE_RANGE
        assert crossing.low == 512

    def test_no_fall_within_the_range(self) -> None:
        assert bootstrap_crossing(**replicates(RISE), flank="falling").status is CrossingStatus.ABOVE_RANGE

    def test_outcomes_below_the_floor_have_no_crossing(self) -> None:
        data = replicates(np.full(len(X), -0.5))
        assert bootstrap_crossing(**data).status is CrossingStatus.NO_CROSSING


class TestWhatMustNotMatter:
    def test_row_order(self) -> None:
        data = replicates(RISE)
        shuffled = rows(data, np.random.default_rng(0).permutation(len(SEEDS)))
        assert bootstrap_crossing(**shuffled) == bootstrap_crossing(**data)

    def test_the_unit_and_zero_of_the_outcome(self) -> None:
        data = replicates(RISE)
        scaled = data | {"outcome": 100 * data["outcome"] - 7, "floor": 100 * data["floor"] - 7}
        assert octaves(bootstrap_crossing(**scaled)) == pytest.approx(octaves(bootstrap_crossing(**data)), abs=0.01)

    def test_the_unit_of_x(self) -> None:
        data = replicates(RISE)
        scaled = bootstrap_crossing(**data | {"x": 3 * data["x"]})
        assert octaves(scaled) == pytest.approx(octaves(bootstrap_crossing(**data)) + np.log2(3), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 0.3}, "exactly one criterion"),
        ({"flank": "both"}, "'rising' or 'falling'"),
        ({"scale": "ln"}, "'log' or 'linear'"),
        ({"x": np.zeros(len(SEEDS))}, "positive on a log scale"),
    ],
)
def test_a_wrong_argument_says_what_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_crossing(**replicates(RISE) | change)
