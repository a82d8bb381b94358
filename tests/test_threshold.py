"""Threshold fits recover known crossings, say what they cannot know, and ignore what must not matter."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from study.inference.statements import FLOOR_FLAG, START_CEILING_FLAG, Crossing, CrossingStatus, crossing_of
from study.inference.threshold import CurveFit, fit_curve
from verification.coverage.designs import covers, half_width_octaves, simulate

Array = NDArray[np.float64]
Replicates = tuple[Array, Array, NDArray[np.intp], Array]

BATCHES = np.exp2(np.arange(2.0, 10.0))
OCTAVES = np.log2(BATCHES)


def logistic(octaves: Array, width: float) -> Array:
    return np.asarray(1 / (1 + 9.0 ** (-2 * octaves / width)))


def replicates(mean_P: Array, *, noise: float = 0.01, seed_sd: float = 0.02, x_P: Array = BATCHES) -> Replicates:
    """Five shared seeds per point around `mean_P`, with a floor of about 0.04."""
    rng = np.random.default_rng(7)
    seeds = np.tile(np.arange(5), len(x_P))
    effect_S, floor_S = seed_sd * rng.standard_normal(5), 0.04 + 0.01 * rng.standard_normal(5)
    y = np.repeat(mean_P, 5) + effect_S[seeds] + noise * rng.standard_normal(5 * len(x_P))
    return np.repeat(x_P, 5), y, seeds, floor_S[seeds]


RISE = 0.04 + 0.5 * logistic(OCTAVES - 5.3, 1.5)
PEAK = 0.04 + 0.5 * logistic(OCTAVES - 4.3, 1.0) * logistic(7.6 - OCTAVES, 1.0)


def same(a: Crossing, b: Crossing, factor: float = 1.0) -> bool:
    ends = [(getattr(a, name), getattr(b, name)) for name in ("estimate", "low", "high")]
    return a.status is b.status and all(
        (p is None and q is None) or (p is not None and q is not None and np.isclose(p * factor, q, rtol=1e-3))
        for p, q in ends
    )


class TestRecovery:
    def test_a_rise_to_a_plateau(self) -> None:
        result = fit_curve(*replicates(RISE))
        assert result.rising.status is CrossingStatus.FOUND
        assert result.rising.estimate == pytest.approx(2**5.3, rel=0.08)
        assert covers(result.rising, 2**5.3)
        assert half_width_octaves(result.rising) < 0.2
        assert result.falling.status is CrossingStatus.ABOVE_RANGE
        assert result.falling.low == 512
        assert result.falling.high is None
        assert result.ceiling.low < 0.54 < result.ceiling.high
        assert result.level.low < 0.29 < result.level.high
        assert result.flags == ()

    def test_a_peak_has_both_crossings(self) -> None:
        result = fit_curve(*replicates(PEAK))
        assert covers(result.rising, 2**4.3)
        assert covers(result.falling, 2**7.6)
        assert result.falling.estimate == pytest.approx(2**7.6, rel=0.1)

    def test_an_absolute_level(self) -> None:
        result = fit_curve(*replicates(RISE), fraction=None, level=0.29)
        assert result.level.value == result.level.low == result.level.high == pytest.approx(0.29)
        assert covers(result.rising, 2**5.3)

    def test_another_fraction_of_the_rise(self) -> None:
        result = fit_curve(*replicates(RISE), fraction=0.9)
        assert covers(result.rising, 2 ** (5.3 + 0.75))

    def test_a_fall_alone_on_a_linear_axis(self) -> None:
        strengths = np.linspace(0.0, 1.5, 8)
        falling_P = 0.04 + 0.6 / (1 + np.exp((strengths - 0.73) / 0.08))
        result = fit_curve(*replicates(falling_P, x_P=strengths), scale="linear")
        assert result.rising.status is CrossingStatus.BELOW_RANGE
        assert covers(result.falling, 0.73)
        assert result.falling.status is CrossingStatus.FOUND

    @pytest.mark.parametrize("criterion", [{"fraction": 0.5}, {"fraction": None, "level": 0.5}])
    def test_a_fall_over_ten_octaves_from_a_floor_at_zero(self, criterion: dict[str, float | None]) -> None:
        octaves = np.arange(11.0)
        rng = np.random.default_rng(4)
        x, seeds = np.repeat(2**octaves, 3), np.tile(np.arange(3), 11)
        outcome = np.repeat(1 - logistic(octaves - 5.6, 1.5), 3) + 0.02 * rng.standard_normal(33)
        result = fit_curve(x, outcome, seeds, np.zeros(33), **criterion)  # type: ignore[arg-type]
        assert result.rising.status is CrossingStatus.BELOW_RANGE
        assert result.falling.status is CrossingStatus.FOUND
        assert covers(result.falling, 2**5.6)

    def test_the_ceiling_of_overlapping_flanks_is_the_peak(self) -> None:
        peak_P = 0.04 + 0.6 * logistic(OCTAVES - 4, 3.0) * logistic(7 - OCTAVES, 3.0)
        result = fit_curve(*replicates(peak_P, noise=0.005, seed_sd=0.0))
        assert result.ceiling.value == pytest.approx(peak_P.max(), abs=0.03)

    def test_the_position_of_the_peak_has_an_interval(self) -> None:
        result = fit_curve(*replicates(PEAK))
        top = float(BATCHES[PEAK.argmax()])
        assert result.peak.low < top < result.peak.high
        assert result.peak.low <= result.peak.value <= result.peak.high
        assert 2**4.3 < result.peak.low < result.peak.high < 2**7.6

    def test_draws_lie_behind_the_interval(self) -> None:
        result = fit_curve(*replicates(PEAK))
        for crossing, draws in ((result.rising, result.rising_draws), (result.falling, result.falling_draws)):
            assert np.quantile(draws, [(1 - 0.95) / 2, 0.5, (1 + 0.95) / 2], method="inverted_cdf") == pytest.approx(
                [crossing.low, crossing.estimate, crossing.high]
            )

    def test_draws_beyond_the_range_are_infinite(self) -> None:
        above = fit_curve(*replicates(RISE), fraction=None, level=0.8)
        assert (above.rising_draws == np.inf).mean() > 0.9
        below = fit_curve(*replicates(np.full(8, 0.5)))
        assert (below.rising_draws == -np.inf).mean() > 0.9
        assert np.isnan(fit_curve(*replicates(np.full(8, 0.04))).rising_draws).all()

    def test_the_sampler_says_that_it_converged(self) -> None:
        assert fit_curve(*replicates(RISE)).converged

    def test_the_band_lies_on_the_measured_range(self) -> None:
        result = fit_curve(*replicates(RISE))
        assert result.grid_x[0] == pytest.approx(4)
        assert result.grid_x[-1] == pytest.approx(512)
        assert (result.curve_low <= result.curve_median).all()
        assert (result.curve_median <= result.curve_high).all()
        inside = np.interp(BATCHES, result.grid_x, result.curve_median)
        assert np.abs(inside - RISE).max() < 0.05

    def test_less_confidence_gives_a_shorter_interval(self) -> None:
        wide, narrow = (fit_curve(*replicates(RISE), confidence=c).rising for c in (0.95, 0.5))
        assert half_width_octaves(narrow) < half_width_octaves(wide)


class TestStatements:
    def test_below_range(self) -> None:
        result = fit_curve(*replicates(np.full(8, 0.5)))
        assert result.rising.status is CrossingStatus.BELOW_RANGE
        assert (result.rising.estimate, result.rising.low, result.rising.high) == (None, None, 4)
        assert result.rising.describe("batch") == "below 4: already reached at the smallest batch"

    def test_above_range(self) -> None:
        rising = fit_curve(*replicates(RISE), fraction=None, level=0.8).rising
        assert rising.status is CrossingStatus.ABOVE_RANGE
        assert rising.describe("batch") == "above 512: not reached up to the largest batch"

    def test_no_crossing(self) -> None:
        result = fit_curve(*replicates(np.full(8, 0.04)))
        assert result.rising.status is result.falling.status is CrossingStatus.NO_CROSSING
        assert result.rising.describe("batch").startswith("no crossing: no rise")

    def test_an_unreached_ceiling_leaves_the_interval_open(self) -> None:
        result = fit_curve(*replicates(0.04 + 0.5 * logistic(OCTAVES - 8.6, 1.5)))
        assert "ceiling not reached" in result.flags
        assert result.rising.high is None
        assert result.rising.low is not None
        assert result.rising.describe("batch").endswith("open above")

    def test_a_fall_from_a_ceiling_before_the_range_is_open_below(self) -> None:
        x_P = 0.1 * 2.0 ** np.arange(0, 4.0, 0.5)
        mean_P = 0.8 / (1 + (x_P / 0.15) ** 1.2)
        result = fit_curve(*replicates(mean_P, seed_sd=0.0, x_P=x_P))
        assert START_CEILING_FLAG in result.flags
        assert result.falling.low is None
        assert "open below" in result.falling.describe("strength")
        assert fit_curve(*replicates(mean_P, seed_sd=0.0, x_P=x_P), fraction=None, level=0.3).falling.low is not None

    @pytest.mark.parametrize(
        ("rising", "words"),
        [
            (True, "below 41: probably already reached at the smallest batch, 4"),
            (False, "above 25: probably no fall below the level up to the largest batch, 256"),
        ],
    )
    def test_a_bound_inside_the_range_is_not_the_end_where_the_level_was_looked_for(
        self, rising: bool, words: str
    ) -> None:
        """Nine draws in ten lie beyond the range, the rest at 41 or 25."""
        inside = np.log(np.full(10, 41 if rising else 25) / 4) / np.log(64)
        draws_D = np.concatenate([np.full(90, -np.inf if rising else np.inf), inside])
        crossing = crossing_of(draws_D, lambda u: 4 * 64.0**u, 0.95, rising=rising, is_open=False)
        assert crossing.describe("batch") == words

    def test_draws_that_never_reach_the_level_are_said(self) -> None:
        draws_D = np.concatenate([np.linspace(0.4, 0.6, 80), np.full(20, np.nan)])
        crossing = crossing_of(draws_D, lambda u: u, 0.95, rising=False, is_open=False)
        assert crossing.status is CrossingStatus.FOUND
        assert crossing.describe("x").endswith("(if the level is reached at all, which 20% of the draws deny)")

    def test_a_threshold_beside_the_smallest_batch(self) -> None:
        pilot_P = np.array([0.15, 0.22, 0.30, 0.33, 0.36, 0.35, 0.30, 0.22])
        result = fit_curve(*replicates(pilot_P, noise=0.02, seed_sd=0.03))
        assert result.rising.status is CrossingStatus.FOUND
        assert covers(result.rising, 6.5)
        assert result.falling.status is not CrossingStatus.NO_CROSSING

    def test_a_peak_below_the_level_is_said(self) -> None:
        result = fit_curve(*replicates(PEAK), fraction=None, level=0.8)
        assert "the curve peaks below the level" in result.flags
        assert result.falling.status is CrossingStatus.NO_CROSSING

    def test_a_dip_is_flagged(self) -> None:
        dipping_P = RISE.copy()
        dipping_P[6] -= 0.3
        flags = fit_curve(*replicates(dipping_P)).flags
        assert "non-monotone beyond noise" in flags
        assert "the residuals reject the fitted curve" in flags

    def test_an_interval_in_words(self) -> None:
        crossing = Crossing(status=CrossingStatus.FOUND, estimate=14.2, low=10.1, high=19.3)
        assert crossing.describe("batch") == "14, 95 % interval 10 to 19"


class TestWhatMustNotMatter:
    def fit_peak(self) -> CurveFit:
        return fit_curve(*replicates(PEAK))

    def test_row_order_does_not_matter(self) -> None:
        order = np.random.default_rng(0).permutation(40)
        shuffled = fit_curve(*(column[order] for column in replicates(PEAK)))
        assert dataclasses.asdict(shuffled.rising) == dataclasses.asdict(self.fit_peak().rising)
        assert shuffled.curve_median.tolist() == self.fit_peak().curve_median.tolist()

    def test_names_of_seeds_do_not_matter(self) -> None:
        x, y, seeds, floor = replicates(PEAK)
        renamed = fit_curve(x, y, np.array([f"seed {s}" for s in seeds]), floor)
        assert renamed.rising == self.fit_peak().rising
        # Another order of the names draws other noise: the ends move by the error of sampling.
        reversed_, reference = fit_curve(x, y, 4 - seeds, floor).rising, self.fit_peak().rising
        for name in ("estimate", "low", "high"):
            assert getattr(reversed_, name) == pytest.approx(getattr(reference, name), rel=0.05)

    def test_floors_that_differ_along_the_axis_are_flagged(self) -> None:
        x, y, seeds, floor = replicates(RISE)
        assert FLOOR_FLAG not in fit_curve(x, y, seeds, floor + 0.02 * (x > 60)).flags
        assert FLOOR_FLAG in fit_curve(x, y, seeds, floor + 0.1 * (x > 60)).flags

    def test_units_of_the_outcome_do_not_matter(self) -> None:
        x, y, seeds, floor = replicates(PEAK)
        scaled = fit_curve(x, 100 * y - 7, seeds, 100 * floor - 7)
        assert same(self.fit_peak().rising, scaled.rising)
        assert same(self.fit_peak().falling, scaled.falling)
        assert scaled.ceiling.value == pytest.approx(100 * self.fit_peak().ceiling.value - 7, rel=1e-3)

    @pytest.mark.parametrize("scale", ["log", "linear"])
    def test_units_of_x_only_rescale_the_crossings(self, scale: str) -> None:
        x, y, seeds, floor = replicates(PEAK)
        plain, tripled = (fit_curve(k * x, y, seeds, floor, scale=scale) for k in (1.0, 3.0))
        assert same(plain.rising, tripled.rising, 3.0)
        assert same(plain.falling, tripled.falling, 3.0)

    def test_a_missing_replicate_hardly_matters(self) -> None:
        keep = np.arange(40) != 12
        fewer = fit_curve(*(column[keep] for column in replicates(PEAK)))
        assert fewer.rising.estimate == pytest.approx(self.fit_peak().rising.estimate, rel=0.1)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"x": np.repeat([4.0, 8.0], 20)}, "at least 3 distinct x"),
            ({"x": np.arange(1.0, 41.0)}, "at least 2 seeds per point"),
            ({"outcome": np.full(40, np.nan)}, "40 entries of outcome are not finite"),
            ({"floor": np.full(40, np.inf)}, "40 entries of floor are not finite"),
            ({"outcome": np.zeros(39)}, "one entry per replicate each, not 40, 39, 40 and 40"),
            ({"x": np.repeat(np.arange(8.0), 5)}, "x must be positive on a log scale"),
            ({"outcome": np.zeros((8, 5))}, "one-dimensional"),
        ],
    )
    def test_rows(self, changes: dict[str, Array], sentence: str) -> None:
        x, outcome, seeds, floor = replicates(RISE)
        columns: dict[str, ArrayLike] = {"x": x, "outcome": outcome, "seeds": seeds, "floor": floor, **changes}
        with pytest.raises(ValueError, match=sentence):
            fit_curve(columns["x"], columns["outcome"], columns["seeds"], columns["floor"])

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"level": 0.5}, "exactly one criterion"),
            ({"fraction": None}, "exactly one criterion"),
            ({"fraction": 1.5}, "between 0 and 1"),
            ({"fraction": None, "level": float("nan")}, "finite number"),
            ({"confidence": 95}, "such as 0.95"),
            ({"scale": "log10"}, "'log' or 'linear'"),
        ],
    )
    def test_options(self, options: dict[str, float | None], sentence: str) -> None:
        with pytest.raises(ValueError, match=sentence):
            fit_curve(*replicates(RISE), **options)  # type: ignore[arg-type]


def pooled_coverage(seed: int, num_sets: int) -> tuple[float, float]:
    """Return coverage over both crossings of fixed grids with five seeds, and the median half-width in octaves."""
    statements = [simulate("fixed", seed, index, num_seeds=5) for index in range(num_sets)]
    covered, widths = [], []
    for statement in statements:
        truths = zip((statement.rising, statement.falling), statement.truth.crossings, strict=True)
        for crossing, truth in truths:
            assert crossing is not None, statement.error
            if not np.isnan(truth):
                covered.append(statement.converged and covers(crossing, truth))
                widths.append(half_width_octaves(crossing))
    return float(np.mean(covered)), float(np.nanmedian(widths))


def test_intervals_cover_the_truth_and_stay_short() -> None:
    coverage, half_width = pooled_coverage(seed=41, num_sets=60)
    assert coverage >= 0.90
    assert half_width < 0.5


@pytest.mark.slow
def test_intervals_cover_the_truth_in_many_sets() -> None:
    coverage, half_width = pooled_coverage(seed=42, num_sets=500)
    assert coverage >= 0.93
    assert half_width < 0.4
