"""How a threshold moves with the criterion and with the training horizon."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.answers.fits import fit_criterion
from study.answers.sensitivity import Shift, criterion_shifts, horizon_shifts
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import Flank
from study.inference.statements import CrossingStatus
from study.inference.threshold import CurveFit
from study.recipes.contrastive.recipe import CONTRASTIVE

AXIS = Axis(path="batch.train", values=(4, 1024))
HORIZON = "horizon.length"
HALF_RISE = Criterion(metric="p", fraction=0.5)
HALF = Criterion(metric="p", level=0.5)
BATCHES = np.exp2(np.arange(2.0, 11.0))


def rise(x: np.ndarray, middle: float) -> np.ndarray:
    """A symmetric rise from 0 to 1 that passes 0.4 and 0.6 a fixed number of octaves from its middle."""
    return np.asarray(1 / (1 + (x / middle) ** -2.0))


def runs(middle: float = 50.0, *, height: float = 0.8, **others: float) -> pd.DataFrame:
    """Three seeds at every batch: P rises around ``middle``, other metrics around their own."""
    x, seed = np.repeat(BATCHES, 3), np.tile(np.arange(3), len(BATCHES))
    noise = 0.005 * np.sin(1.7 * seed + x)
    columns: dict[str, Any] = {AXIS.path: x, "seed": seed, "outcome": "ok"}
    columns |= {"metric.p": height * rise(x, middle) + noise, "before.p": 0.002 * np.cos(seed)}
    for metric, its_middle in others.items():
        columns[f"metric.{metric}"] = 0.1 + 0.7 * rise(x, its_middle) + noise
        columns[f"before.{metric}"] = 0.1 + 0.002 * np.cos(seed)
    return pd.DataFrame(columns)


def shifts_of(frame: pd.DataFrame, criterion: Criterion = HALF_RISE, flank: Flank = "rising") -> dict[str, Shift]:
    fit, why = fit_criterion(frame, AXIS, criterion, CONTRASTIVE)
    assert fit is not None, why
    return {shift.name: shift for shift in criterion_shifts(frame, AXIS, criterion, CONTRASTIVE, flank, fit)}


class TestCriteria:
    def test_other_fractions_lie_where_the_curve_has_them(self) -> None:
        shifts = shifts_of(runs())
        assert [*shifts] == ["40% rise of p", "60% rise of p"]
        # (x / m)^2 = f / (1 - f), so that f = 0.6 lies log2(1.5) / 2 octaves above the middle.
        octaves = 0.5 * math.log2(1.5)
        assert shifts["40% rise of p"].octaves == pytest.approx(-octaves, abs=0.1)
        assert shifts["60% rise of p"].octaves == pytest.approx(octaves, abs=0.1)
        assert all(shift.crossing.low is not None for shift in shifts.values())

    def test_an_absolute_criterion_is_moved_by_levels(self) -> None:
        shifts = shifts_of(runs(height=1.0), HALF)
        assert [*shifts] == ["p = 0.4", "p = 0.6"]
        assert shifts["p = 0.6"].octaves == pytest.approx(0.5 * math.log2(1.5), abs=0.1)

    def test_a_level_that_is_not_reached_is_a_statement_and_no_shift(self) -> None:
        shift = shifts_of(runs(height=0.55), HALF)["p = 0.6"]
        assert shift.crossing.status is CrossingStatus.ABOVE_RANGE
        assert shift.octaves is None

    @pytest.mark.parametrize(
        ("fraction", "names"),
        [
            (0.4, ["30% rise of p", "half rise of p"]),
            (0.8, ["70% rise of p", "90% rise of p"]),
            (0.9, ["85% rise of p", "95% rise of p"]),
            (0.05, ["2.5% rise of p", "7.5% rise of p"]),
        ],
    )
    def test_another_fraction_is_shifted_around_itself_and_stays_a_fraction(
        self, fraction: float, names: list[str]
    ) -> None:
        assert [*shifts_of(runs(), dataclasses.replace(HALF_RISE, fraction=fraction))] == names

    def test_another_level_is_shifted_around_itself(self) -> None:
        criterion = dataclasses.replace(HALF, level=0.8)
        shifts = shifts_of(runs(height=1.0), criterion)
        assert [*shifts] == ["p = 0.7", "p = 0.9"]
        # (x / m)^2 = f / (1 - f): from 0.8 down to 0.7 and up to 0.9.
        for name, level in (("p = 0.7", 0.7), ("p = 0.9", 0.9)):
            octaves = 0.5 * math.log2(level / (1 - level) / 4)
            assert shifts[name].octaves == pytest.approx(octaves, abs=0.15)

    def test_a_level_that_is_no_share_is_shifted_by_a_part_of_itself(self) -> None:
        frame = runs()
        frame["metric.effective_rank"], frame["before.effective_rank"] = 10 * frame["metric.p"], 0.0
        criterion = Criterion(metric="effective_rank", level=5.0, floor="zero")
        assert [*shifts_of(frame, criterion)] == ["effective_rank = 4", "effective_rank = 6"]

    def test_other_metrics_are_read_off_the_same_replicates(self) -> None:
        shifts = shifts_of(runs(s_j=100.0, knn_accuracy=25.0))
        assert [*shifts][2:] == ["half rise of s_j", "half rise of knn_accuracy"]
        assert shifts["half rise of s_j"].octaves == pytest.approx(1, abs=0.1)
        assert shifts["half rise of knn_accuracy"].octaves == pytest.approx(-1, abs=0.1)

    def test_of_s_j_it_is_p_that_is_the_other(self) -> None:
        shifts = shifts_of(runs(s_j=100.0), dataclasses.replace(HALF_RISE, metric="s_j"))
        assert shifts["half rise of p"].octaves == pytest.approx(-1, abs=0.1)

    def test_accuracy_is_a_share_of_its_own_rise_even_where_the_criterion_is_a_level(self) -> None:
        assert "half rise of knn_accuracy" in shifts_of(runs(height=1.0, knn_accuracy=25.0), HALF)

    def test_a_metric_that_is_missing_or_cannot_move_has_no_line(self) -> None:
        frame = runs(s_j=100.0, knn_accuracy=25.0)
        frame.loc[3, "metric.s_j"] = None
        frame["metric.knn_accuracy"] = frame["before.knn_accuracy"]
        assert [*shifts_of(frame)] == ["40% rise of p", "60% rise of p"]

    @pytest.mark.parametrize(
        ("metric", "more"), [("accuracy", ["half rise of knn_accuracy"]), ("mean_cosine", []), ("knn_accuracy", [])]
    )
    def test_a_metric_that_is_no_mass_is_not_compared_with_masses(self, metric: str, more: list[str]) -> None:
        frame = runs(s_j=100.0, **({"knn_accuracy": 25.0} if metric != "knn_accuracy" else {}))
        frame = frame.rename(columns={"metric.p": f"metric.{metric}", "before.p": f"before.{metric}"})
        names = [*shifts_of(frame, dataclasses.replace(HALF_RISE, metric=metric))]
        assert names == [f"40% rise of {metric}", f"60% rise of {metric}", *more]

    def test_a_falling_limit_is_compared_with_falling_limits(self) -> None:
        frame = runs()
        frame["metric.p"] = 0.8 - frame["metric.p"]
        shifts = shifts_of(frame, flank="falling")
        assert shifts["40% rise of p"].octaves == pytest.approx(0.5 * math.log2(1.5), abs=0.1)

    def test_both_limits_have_a_line_each(self) -> None:
        frame = runs()
        fit, _ = fit_criterion(frame, AXIS, HALF_RISE, CONTRASTIVE)
        assert fit is not None
        shifts = criterion_shifts(frame, AXIS, HALF_RISE, CONTRASTIVE, "both", fit)
        assert [shift.crossing.status for shift in shifts] == [
            *(CrossingStatus.FOUND, CrossingStatus.ABOVE_RANGE) * 2,
        ]

    def test_the_order_of_rows_does_not_matter(self) -> None:
        frame = runs(s_j=100.0)
        assert shifts_of(frame.sample(frac=1, random_state=1)) == shifts_of(frame)


def part(name: str, horizon: int, middle: float, **values: Any) -> tuple[str, pd.DataFrame, CurveFit]:
    frame = runs(middle)
    frame["config"] = [
        json.dumps({HORIZON: horizon, AXIS.path: int(x), "model": "a"} | values) for x in frame[AXIS.path]
    ]
    fit, _ = fit_criterion(frame, AXIS, HALF_RISE, CONTRASTIVE)
    assert fit is not None
    return name, frame, fit


class TestHorizons:
    def test_the_shortest_horizon_is_what_others_are_compared_with(self) -> None:
        parts = [part("long", 800, 25.0), part("short", 200, 50.0)]
        short, long = horizon_shifts(parts, [AXIS.path], "rising", HORIZON)
        assert (short.name, short.octaves) == ("short", 0)
        assert long.octaves == pytest.approx(-1, abs=0.1)

    def test_slices_that_differ_in_more_than_the_horizon_are_not_compared(self) -> None:
        assert (
            horizon_shifts([part("a", 200, 50.0), part("b", 800, 25.0, model="b")], [AXIS.path], "rising", HORIZON)
            == ()
        )

    def test_each_group_has_its_own_shortest(self) -> None:
        parts = [part(f"{m} {h}", h, middle, model=m) for m, middle in (("a", 50.0), ("b", 200.0)) for h in (200, 800)]
        shifts = horizon_shifts(parts, [AXIS.path], "rising", HORIZON)
        assert [shift.name for shift in shifts] == ["a 200", "a 800", "b 200", "b 800"]
        assert [shift.octaves for shift in shifts] == pytest.approx([0, 0, 0, 0], abs=0.01)

    def test_what_varies_within_a_slice_does_not_part_the_slices(self) -> None:
        parts = [part("a", 200, 50.0, rate=0.1), part("b", 800, 50.0, rate=0.3)]
        assert horizon_shifts(parts, [AXIS.path], "rising", HORIZON) == ()
        assert len(horizon_shifts(parts, [AXIS.path, "rate"], "rising", HORIZON)) == 2

    def test_one_horizon_is_no_sensitivity(self) -> None:
        assert (
            horizon_shifts([part("a", 200, 50.0), part("b", 200, 25.0, model="b")], [AXIS.path], "rising", HORIZON)
            == ()
        )
        assert horizon_shifts([], [AXIS.path], "rising", HORIZON) == ()
