"""Verdicts on laws: two one-sided tests on posterior draws, several laws corrected together."""

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from study.inference.boundary import fit_boundary
from study.inference.threshold import CurveFit, fit_curve
from study.inference.verdict import Judgement, Verdict, judge, judge_boundary, judge_fit, judge_together, undecided

MARGIN = 0.15
NUM_DRAWS = 1200


def octaves(mean: float, sd: float, num: int = NUM_DRAWS, seed: int = 1) -> NDArray[np.float64]:
    """Draws of a threshold around 2 ** mean, in octaves normal; the law says 1."""
    draws: NDArray[np.float64] = np.exp2(np.random.default_rng(seed).normal(mean, sd, num))
    return draws


def judged(draws: NDArray[np.float64], **changes: float) -> Judgement:
    return judge(draws, 1.0, MARGIN, **{"lowest": 0.1, "highest": 10.0, **changes})


class TestOneLaw:
    @pytest.mark.parametrize(
        ("mean", "sd", "verdict"),
        [
            (0.0, 0.03, Verdict.EQUIVALENT),
            (0.05, 0.03, Verdict.EQUIVALENT),
            (0.15, 0.03, Verdict.UNDECIDED),
            (0.0, 0.3, Verdict.UNDECIDED),
            (0.4, 0.05, Verdict.DIFFERENT),
            (-0.4, 0.05, Verdict.DIFFERENT),
        ],
    )
    def test_the_interval_and_the_margin_decide(self, mean: float, sd: float, verdict: Verdict) -> None:
        assert judged(octaves(mean, sd)).verdict is verdict

    def test_the_rule_is_the_definition_by_the_interval(self) -> None:
        """Against the interval as order statistics, on draws whose interval ends anywhere around the margin."""
        rng = np.random.default_rng(2)
        seen = set()
        for _ in range(400):
            draws = octaves(rng.uniform(-0.5, 0.5), rng.uniform(0.01, 0.2), seed=int(rng.integers(1 << 30)))
            low, high = np.sort(np.log2(draws))[[29, NUM_DRAWS - 30]]
            expected = Verdict.UNDECIDED
            if low >= -MARGIN and high <= MARGIN:
                expected = Verdict.EQUIVALENT
            if low > MARGIN or high < -MARGIN:
                expected = Verdict.DIFFERENT
            assert judged(draws).verdict is expected
            seen.add(expected)
        assert len(seen) == 3

    def test_the_interval_of_a_fit_decides_alike_but_for_one_draw(self) -> None:
        draws = octaves(0.0, 0.05)
        low, high = np.quantile(np.log2(draws), [0.025, 0.975], method="inverted_cdf")
        reach = max(-low, high)
        for margin, verdict in ((reach + 0.01, Verdict.EQUIVALENT), (reach - 0.01, Verdict.UNDECIDED)):
            assert judge(draws, 1.0, margin, lowest=0.1, highest=10.0).verdict is verdict

    def test_the_claims_exclude_each_other(self) -> None:
        for mean in np.linspace(-0.5, 0.5, 21):
            found = judged(octaves(mean, 0.05))
            assert max(found.p_equivalent, found.p_different) > 0.9

    def test_units_of_the_axis_and_the_order_of_draws_do_not_matter(self) -> None:
        draws = octaves(0.1, 0.04)
        scaled = judge(8 * draws[::-1], 8.0, MARGIN, lowest=0.8, highest=80.0)
        assert scaled == judged(draws)

    def test_above_and_below_are_treated_alike(self) -> None:
        draws = octaves(0.2, 0.1)
        assert judged(1 / draws).p_different == judged(draws).p_different
        assert judged(1 / draws).p_equivalent == judged(draws).p_equivalent

    def test_p_is_never_nought_and_is_bounded_by_the_number_of_draws(self) -> None:
        assert judged(octaves(0.0, 0.001)).p_equivalent == pytest.approx(1 / (NUM_DRAWS + 1))
        assert judged(octaves(2.0, 0.001, num=400)).p_different == pytest.approx(1 / 401)

    def test_the_margin_is_told_as_a_ratio(self) -> None:
        assert judged(octaves(0, 1)).margin == pytest.approx((0.9013, 1.1096), abs=1e-4)

    @pytest.mark.parametrize(("predicted", "margin"), [(0.0, 0.15), (-1.0, 0.15), (math.nan, 0.15), (1.0, 0.0)])
    def test_what_is_no_prediction_or_no_margin_is_refused(self, predicted: float, margin: float) -> None:
        with pytest.raises(ValueError, match="must be a positive number"):
            judge(np.ones(3), predicted, margin, lowest=0.1, highest=10.0)

    def test_no_draws_are_refused(self) -> None:
        with pytest.raises(ValueError, match="posterior draws"):
            judge([], 1.0, MARGIN, lowest=0.1, highest=10.0)


class TestCensored:
    """A draw outside the measured range is a one-sided interval, not a number far away."""

    @pytest.mark.parametrize("share", [1.0, 0.99])
    def test_a_threshold_above_a_range_that_ends_over_the_law_differs(self, share: float) -> None:
        draws = np.where(np.arange(NUM_DRAWS) < share * NUM_DRAWS, np.inf, 3.0)
        assert judged(draws, highest=4.0).verdict is Verdict.DIFFERENT

    @pytest.mark.parametrize("highest", [0.5, 1.0, 1.1])
    def test_a_threshold_above_a_range_that_ends_under_the_law_is_undecided(self, highest: float) -> None:
        found = judged(np.full(NUM_DRAWS, np.inf), highest=highest)
        assert found.verdict is Verdict.UNDECIDED
        assert found.p_different == 1.0

    def test_a_threshold_below_a_range_is_judged_by_its_smallest_value(self) -> None:
        below = np.full(NUM_DRAWS, -np.inf)
        assert judged(below, lowest=0.5).verdict is Verdict.DIFFERENT
        assert judged(below, lowest=0.95).verdict is Verdict.UNDECIDED
        assert judged(below, lowest=2.0).verdict is Verdict.UNDECIDED

    def test_it_is_never_equivalent(self) -> None:
        for draws in (np.full(NUM_DRAWS, np.inf), np.full(NUM_DRAWS, -np.inf)):
            for edge in (0.5, 0.99, 1.0, 1.01, 2.0):
                assert judged(draws, lowest=edge, highest=edge).p_equivalent == 1.0

    def test_an_interval_within_the_margin_that_some_draws_deny_says_so(self) -> None:
        draws = np.concatenate([octaves(0.0, 0.02, num=1900), np.full(100, np.nan)])
        item = judged(draws)
        assert item.verdict is Verdict.UNDECIDED
        assert item.reason == "5% of the draws have no such crossing"

    def test_draws_without_a_crossing_speak_against_both_claims(self) -> None:
        inside, outside = octaves(0.0, 0.01), octaves(1.0, 0.01)
        missing = np.arange(NUM_DRAWS) < 0.05 * NUM_DRAWS
        assert judged(np.where(missing, np.nan, inside)).verdict is Verdict.UNDECIDED
        assert judged(np.where(missing, np.nan, outside)).verdict is Verdict.UNDECIDED
        assert judged(np.full(NUM_DRAWS, np.nan)).verdict is Verdict.UNDECIDED

    def test_a_threshold_at_or_under_zero_on_a_linear_axis_lies_under_every_law(self) -> None:
        assert judged(np.zeros(NUM_DRAWS), lowest=-1.0).verdict is Verdict.DIFFERENT


def curve(x_P: NDArray[np.float64], middle: float, *, seed: int = 3, sd: float = 0.01, seeds: int = 5) -> CurveFit:
    """The fit of a rise of P from 0 to 0.8 around ``middle``."""
    rng = np.random.default_rng(seed)
    x, label = np.repeat(x_P, seeds), np.tile(np.arange(seeds), len(x_P))
    y = 0.8 / (1 + (x / middle) ** -3.0) + rng.normal(0, sd, len(x))
    return fit_curve(x, y, label, rng.normal(0, 0.002, seeds)[label], fraction=0.5)


BATCHES = np.exp2(np.arange(2.0, 10.0))


class TestFits:
    def test_a_law_that_made_the_data_is_equivalent_and_one_twice_as_large_differs(self) -> None:
        fit = curve(BATCHES, 40.0)
        options = {"is_rising": True, "is_fraction": True}
        assert judge_fit(fit, 40.0, 0.5, **options).verdict is Verdict.EQUIVALENT
        assert judge_fit(fit, 80.0, 0.5, **options).verdict is Verdict.DIFFERENT
        assert judge_fit(fit, 40.0 * 2**0.5, 0.5, **options).verdict is Verdict.UNDECIDED

    def test_the_falling_side_is_judged_by_its_own_draws(self) -> None:
        fit = curve(BATCHES, 40.0)
        found = judge_fit(fit, 40.0, 0.5, is_rising=False, is_fraction=True)
        assert found.verdict is Verdict.DIFFERENT  # no fall up to 512, far above 40

    def test_a_ceiling_that_is_not_reached_leaves_a_fraction_undecided(self) -> None:
        fit = curve(BATCHES[:5], 60.0)
        assert "ceiling not reached" in fit.flags
        for predicted in (2.0, 30.0, 600.0):
            found = judge_fit(fit, predicted, 0.5, is_rising=True, is_fraction=True)
            assert found.verdict is Verdict.UNDECIDED
            assert "ceiling" in found.reason
        assert judge_fit(fit, 2.0, 0.5, is_rising=True, is_fraction=False).verdict is Verdict.DIFFERENT

    def test_no_crossing_is_undecided_with_its_reason(self) -> None:
        rng = np.random.default_rng(4)
        x, label = np.repeat(BATCHES, 3), np.tile(np.arange(3), len(BATCHES))
        flat = fit_curve(x, rng.normal(0, 0.01, len(x)), label, rng.normal(0, 0.01, 3)[label])
        found = judge_fit(flat, 40.0, 0.5, is_rising=True, is_fraction=True)
        assert found.verdict is Verdict.UNDECIDED
        assert found.reason.startswith("no crossing: no rise")

    def test_a_fit_that_has_not_converged_is_undecided(self) -> None:
        fit = dataclasses.replace(curve(BATCHES, 40.0), converged=False)
        found = judge_fit(fit, 40.0, 0.5, is_rising=True, is_fraction=True)
        assert (found.verdict, found.reason) == (Verdict.UNDECIDED, "the fit has not converged")


class TestBoundaries:
    def test_a_ceiling_beyond_the_range_at_one_height_leaves_the_others_their_verdicts(self) -> None:
        rng = np.random.default_rng(5)
        x, y = (np.repeat(a.ravel(), 3) for a in np.meshgrid(2.0 ** np.arange(8), 2.0 ** np.arange(4)))
        share = 1 / (1 + 9.0 ** (-2 * (np.log2(x) - 3 - 1.5 * np.log2(y)) / 2.0))
        outcome, seeds = 0.7 * share + 0.01 * rng.standard_normal(len(x)), np.tile(np.arange(3), len(x) // 3)
        fit = fit_boundary(x, y, outcome, seeds, np.zeros(len(x)), fraction=0.5)
        assert fit.ceiling_is_ahead_at(8.0)
        assert not fit.ceiling_is_ahead_at(1.0)
        options = {"lowest": 1.0, "highest": 128.0, "is_fraction": True}
        assert judge_boundary(fit, 1.0, 8.0, 0.5, **options).verdict is Verdict.EQUIVALENT  # type: ignore[arg-type]
        above = judge_boundary(fit, 8.0, 181.0, 0.5, **options)  # type: ignore[arg-type]
        assert above.verdict is Verdict.UNDECIDED
        assert "ceiling" in above.reason


def holm(p_values: list[float]) -> list[float]:
    """Holm's adjusted p by its definition: the largest of the step-down products up to each."""
    count = len(p_values)
    ranked = sorted(range(count), key=lambda index: p_values[index])
    adjusted = [0.0] * count
    for rank, index in enumerate(ranked):
        products = [(count - before) * p_values[ranked[before]] for before in range(rank + 1)]
        adjusted[index] = min(1.0, max(products))
    return adjusted


class TestTogether:
    def test_one_law_needs_no_correction(self) -> None:
        alone = judged(octaves(0.0, 0.03))
        assert judge_together([alone]) == (alone,)

    def test_no_laws_have_no_verdicts(self) -> None:
        assert judge_together([]) == ()

    def test_p_values_are_those_of_the_definition(self) -> None:
        rng = np.random.default_rng(5)
        laws = [judged(octaves(rng.uniform(-0.3, 0.3), rng.uniform(0.02, 0.1), seed=k)) for k in range(12)]
        together = judge_together(laws)
        claims = [min(law.p_equivalent, law.p_different) for law in laws]
        assert [law.p_corrected for law in together] == pytest.approx(holm(claims))
        assert {law.num_together for law in together} == {12}
        for law in together:
            assert (law.verdict is not Verdict.UNDECIDED) == (law.p_corrected <= 0.05)

    def test_the_order_of_laws_does_not_matter(self) -> None:
        laws = [judged(octaves(0.02 * k, 0.05, seed=k)) for k in range(9)]
        assert judge_together(laws[::-1]) == judge_together(laws)[::-1]

    def test_a_claim_that_falls_by_the_correction_says_so(self) -> None:
        weak = judged(octaves(0.085, 0.03))
        assert weak.verdict is Verdict.EQUIVALENT
        found = judge_together([weak, *[judged(octaves(0.0, 0.5, seed=k)) for k in range(9)]])[0]
        assert (found.alone, found.verdict) == (Verdict.EQUIVALENT, Verdict.UNDECIDED)
        assert found.reason.startswith("equivalent on its own, but not among 10 laws")

    def test_a_law_without_a_measurement_keeps_its_place_among_those_corrected(self) -> None:
        laws = [judged(octaves(0.0, 0.03)), undecided("nothing measured to compare", MARGIN)]
        first, second = judge_together(laws)
        assert first.p_corrected == pytest.approx(2 * laws[0].p_equivalent)
        assert (second.verdict, second.reason) == (Verdict.UNDECIDED, "nothing measured to compare")

    @pytest.mark.parametrize(("count", "verdict"), [(60, Verdict.EQUIVALENT), (61, Verdict.UNDECIDED)])
    def test_draws_carry_a_twentieth_as_many_laws_and_more_are_refused_with_the_reason(
        self, count: int, verdict: Verdict
    ) -> None:
        found = judge_together([judged(octaves(0.0, 0.01))] * count)[0]
        assert found.verdict is verdict
        assert ("more than 1,200 draws are needed" in found.reason) == (verdict is Verdict.UNDECIDED)

    def test_wrong_verdicts_among_laws_on_the_edge_of_the_margin_stay_below_five_percent(self) -> None:
        """Laws that are exactly the margin off: any verdict would be wrong, 20 laws at a time."""
        rng = np.random.default_rng(6)
        num_studies, num_wrong = 200, 0
        for _ in range(num_studies):
            estimates = MARGIN + 0.03 * rng.standard_normal(20)
            laws = [judged(octaves(mean, 0.03, seed=int(rng.integers(1 << 30)))) for mean in estimates]
            num_wrong += any(law.verdict is not Verdict.UNDECIDED for law in judge_together(laws))
        # 5 % of 200 and two standard errors.
        assert num_wrong <= 16
