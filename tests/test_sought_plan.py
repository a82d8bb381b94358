"""The plan of a study that seeks a limit: stage one, then rounds where the inference asks for them."""

import dataclasses
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import SERIES, Budget, Series
from study.errors import ConfigError
from study.inference.binary import fit_success
from study.inference.seeking import NextPoints
from study.inference.seeking_plane import NextInPlane
from study.outcome import Outcome
from study.planning import limit_state as limit_seeking
from study.planning.limit_state import opposite
from study.planning.planner import PlannedRound, RoundPlanner
from study.planning.proposals import Entry
from study.rows import before_column, metric_column
from tests.synthetic import DATA_DIGEST, FLOOR, RATES, STRENGTHS, known_design

Row = dict[str, Any]
RowOf = Callable[[Entry], Row]
Rounds = list[list[Entry]]

BATCHES = Axis(path="batch.train", values=(4, 16, 64, 256), steps_per_octave=2, multiple=2)
BUDGET = Budget(tuning_seeds=2, replicates=1, precision=0.25, max_replicates=16, round_replicates=3)
RECIPES = (
    Series(name="narrow", values={"model.width": 8}),
    Series(name="wide", values={"model.width": 32}, grids={"batch.train": (8, 32, 128)}),
)


def sought_design(**changes: Any) -> Design:
    return known_design(**({"scientific": (BATCHES,), "budget": BUDGET, "nuisance": ()} | changes))


def planner_for(design: Design, replicates: int | None = None) -> RoundPlanner:
    return RoundPlanner(design=design, digest_of=lambda _: DATA_DIGEST, replicates=replicates or design.replicates)


def batch(entry: Entry) -> int:
    return int(entry.point[BATCHES.path])


def row(value: float | None, outcome: Outcome = Outcome.OK, floor: float | None = FLOOR) -> Row:
    return {"outcome": str(outcome), metric_column("p"): value, before_column("p"): floor}


def play(
    planner: RoundPlanner, row_of: RowOf, rounds: Rounds | None = None, limit: int = 30
) -> tuple[list[PlannedRound], Rounds, dict[str, Row]]:
    """Settle round after round until the plan ends; what was planned, what is recorded and what is known."""
    rounds = list(rounds or [])
    settled = {e.replicate.key: row_of(e) for round_ in rounds for e in round_}
    planned = []
    while len(rounds) < limit:
        planned.append(planner.plan(rounds, settled))
        if not planned[-1].entries:
            return planned, rounds, settled
        rounds.append(planned[-1].entries)
        settled |= {e.replicate.key: row_of(e) for e in planned[-1].entries}
    raise AssertionError("the plan has no end")


def steep(entry: Entry) -> Row:
    """P rises over two octaves about batch 24, best at a learning rate of 3e-3, with noise where it is reported."""
    noise = 0.02 * random.Random(entry.replicate.key).gauss(0, 1) if entry.role == "reported" else 0.0
    detuning = abs(math.log2(float(entry.nuisance.get(RATES.path, 3e-3)) / 3e-3))
    return row(FLOOR + 0.5 / (1 + (24 / batch(entry)) ** 3) / (1 + 0.3 * detuning) + noise)


class Script:
    """Stands in for the inference: proposes ``points[n]`` at its n-th new question, then is settled."""

    def __init__(self, *points: tuple[float, ...]) -> None:
        self.points = points
        self.asked: list[dict[str, Any]] = []

    def __call__(self, x: Sequence[float], outcome: Sequence[float], seeds: Any, floor: Any, **rest: Any) -> NextPoints:
        self.asked.append(rest | {"x": list(x), "outcome": list(outcome), "seeds": list(seeds), "floor": list(floor)})
        number = len(self.asked) - 1
        points = self.points[number] if number < len(self.points) else ()
        return NextPoints(points=points, half_width=0.5 if points else 0.1, is_settled=not points, reason="scripted")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    def use(*points: tuple[float, ...]) -> Script:
        scripted = Script(*points)
        monkeypatch.setattr(limit_seeking, "propose", scripted)
        return scripted

    return use


class TestRounds:
    def test_stage_one_is_tuned_and_reported_before_the_inference_is_asked(self, script: Callable[..., Script]) -> None:
        scripted = script()
        planned, rounds, _ = play(planner_for(sought_design(nuisance=(RATES,))), steep)
        assert [p.purpose for p in planned] == ["tuning", "reporting", "seeking"]
        assert {batch(e) for e in rounds[0]} == {batch(e) for e in rounds[1]} == set(BATCHES.values)
        assert [e.replicate.seed for e in rounds[1]] == [101, 102, 103, 104]
        assert len(scripted.asked) == 1

    def test_what_the_inference_asks_for_is_reported_with_seeds_that_take_turns(
        self, script: Callable[..., Script]
    ) -> None:
        script((16.0, 16.0, 22.0), (22.0,))
        _, rounds, _ = play(planner_for(sought_design()), steep)
        ran = [[(batch(e), e.replicate.seed) for e in round_] for round_ in rounds[1:]]
        assert ran == [[(16, 105), (16, 101), (22, 102)], [(22, 103)]]

    def test_it_is_asked_with_the_criterion_the_flank_the_budget_and_every_candidate(
        self, script: Callable[..., Script]
    ) -> None:
        scripted = script()
        criterion = Criterion(metric="p", level=0.3)
        play(planner_for(sought_design(criterion=criterion, flank="both")), steep)
        (asked,) = scripted.asked
        assert (asked["fraction"], asked["level"], asked["flank"], asked["scale"]) == (None, 0.3, "both", "log")
        assert (asked["precision"], asked["round_replicates"]) == (0.25, 3)
        assert asked["candidates"] == list(BATCHES.candidates())
        assert (asked["x"], asked["seeds"], asked["floor"]) == ([4, 16, 64, 256], [101, 102, 103, 104], [FLOOR] * 4)

    def test_all_slices_propose_for_one_round_each_on_its_own_grid(self, script: Callable[..., Script]) -> None:
        scripted = script((22.0,), (16.0, 32.0))
        _, rounds, _ = play(planner_for(sought_design(series=RECIPES)), steep)
        assert [a["x"] for a in scripted.asked[:2]] == [[4, 16, 64, 256], [8, 32, 128]]
        ran = [(e.point[SERIES], batch(e), e.replicate.seed) for e in rounds[1]]
        assert ran == [("narrow", 22, 105), ("wide", 16, 104), ("wide", 32, 105)]

    def test_a_settled_slice_gets_no_more_and_the_plan_ends_when_all_are(self, script: Callable[..., Script]) -> None:
        script((22.0,), (), (32.0,), ())
        planned, rounds, _ = play(planner_for(sought_design(series=RECIPES)), steep)
        assert [{e.point[SERIES] for e in round_} for round_ in rounds[1:]] == [{"narrow"}, {"narrow"}]
        assert [state.is_settled for state in planned[-1].slices] == [True, True]

    def test_further_axes_are_slices_of_their_own(self, script: Callable[..., Script]) -> None:
        scripted = script((22.0,))
        _, rounds, _ = play(planner_for(sought_design(scientific=(BATCHES, STRENGTHS))), steep)
        assert len(scripted.asked) == 3
        assert [(batch(e), e.point[STRENGTHS.path]) for e in rounds[1]] == [(22, 0.1)]

    def test_a_value_of_stage_one_keeps_the_spelling_that_names_its_cell(self, script: Callable[..., Script]) -> None:
        strengths = Axis(path="data.strength", values=(0.25, 0.5, 1), steps_per_octave=2)
        script((1.0, 0.5, 0.707))
        _, rounds, _ = play(planner_for(sought_design(scientific=(strengths,))), lambda e: row(0.3))
        assert [e.cell for e in rounds[1]] == [
            json.dumps({"data.strength": 1}),
            json.dumps({"data.strength": 0.5}),
            json.dumps({"data.strength": 0.707}),
        ]
        assert [e.replicate.seed for e in rounds[1]] == [104, 105, 101]

    def test_a_plane_is_one_slice_and_asks_for_its_boundary(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def scripted(x: Sequence[float], y: Sequence[float], *rest: Any, **options: Any) -> NextInPlane:
            asked.append((list(x), list(y), options))
            points = ((0.2, 16.0), (0.283, 16.0)) if len(asked) == 1 else ()
            return NextInPlane(points=points, half_width=0.5, is_settled=not points, reason="scripted")

        monkeypatch.setattr(limit_seeking, "propose_boundary", scripted)
        strengths = Axis(path="data.strength", values=(0.2, 0.4, 0.8), steps_per_octave=2)
        few = Axis(path="batch.train", values=(4, 16), steps_per_octave=1, multiple=2)
        design = sought_design(scientific=(strengths, few), plane=True, flank="falling")
        _, rounds, _ = play(planner_for(design), lambda e: row(0.3))
        x, y, options = asked[0]
        assert sorted(zip(x, y, strict=True)) == list(itertools.product((0.2, 0.4, 0.8), (4, 16)))
        assert options["flank"] == "falling"
        assert len(options["candidates"]) == 5 * 3
        ran = [(e.point["data.strength"], batch(e), e.replicate.seed) for e in rounds[1]]
        assert ran == [(0.2, 16, 103), (0.283, 16, 102)]


class TestTuning:
    def test_a_new_point_between_cells_that_agree_is_reported_at_their_setting_without_tuning(
        self, script: Callable[..., Script]
    ) -> None:
        script((22.0,))
        planned, rounds, _ = play(planner_for(sought_design(nuisance=(RATES,))), steep)
        assert [p.purpose for p in planned] == ["tuning", "reporting", "seeking", "seeking"]
        assert [(batch(e), e.nuisance) for e in rounds[2]] == [(22, {RATES.path: 3e-3})]

    def test_where_they_disagree_only_the_new_cells_are_tuned_and_then_the_same_proposal_is_reported(
        self, script: Callable[..., Script]
    ) -> None:
        scripted = script((22.0, 16.0))
        best = {4: 1e-3, 16: 1e-3, 64: 1e-2, 256: 1e-2}

        def row_of(entry: Entry) -> Row:
            return row(0.3 - 0.02 * math.log2(float(entry.nuisance[RATES.path]) / best.get(batch(entry), 3e-3)) ** 2)

        planned, rounds, _ = play(planner_for(sought_design(nuisance=(RATES,))), row_of)
        purposes = [p.purpose for p in planned]
        assert purposes == ["tuning", "tuning", "reporting", "tuning new points", "seeking", "seeking"]
        assert {batch(e) for e in rounds[3]} == {22}
        tried = Counter(float(e.nuisance[RATES.path]) for e in rounds[3])
        assert {1e-3, 1e-2} < set(tried)
        assert set(tried.values()) == {2}
        assert all(e.replicate.config.evaluation.split == "validation" for e in rounds[3])
        (between,) = set(tried) - {1e-3, 1e-2}
        assert 1e-3 < between < 1e-2
        assert [(batch(e), e.nuisance[RATES.path]) for e in rounds[4]] == [(22, between), (16, 1e-3)]
        # Stage one, and once more with the new rows: tuning rows move no proposal.
        assert len(scripted.asked) == 2

    def test_a_new_cell_is_extended_once_beyond_what_anyone_tried(self, script: Callable[..., Script]) -> None:
        script((22.0,))
        best = {4: 1e-3, 16: 1e-3}

        def row_of(entry: Entry) -> Row:
            rate = float(entry.nuisance[RATES.path])
            # From batch 22 on the largest rate is best, however large.
            return row(0.1 * math.log10(rate) + 0.5 if batch(entry) > 16 else 0.3 - abs(math.log(rate / best[16])))

        planned, rounds, _ = play(planner_for(sought_design(nuisance=(RATES,))), row_of)
        assert [p.purpose for p in planned][3:] == ["tuning new points", "tuning", "seeking", "seeking"]
        assert {float(e.nuisance[RATES.path]) for e in rounds[4]} == {0.105}
        assert [e.nuisance[RATES.path] for e in rounds[5]] == [0.105]

    def test_a_new_cell_whose_tuning_failed_takes_the_setting_of_its_nearest_neighbour(
        self, script: Callable[..., Script]
    ) -> None:
        script((22.0, 22.0))

        def row_of(entry: Entry) -> Row:
            if batch(entry) == 22 and entry.role == "tuning":
                return row(None, Outcome.OUT_OF_MEMORY, None)
            target = 1e-3 if batch(entry) <= 16 else 1e-2
            return row(0.3 - abs(math.log(float(entry.nuisance[RATES.path]) / target)))

        planned, rounds, _ = play(planner_for(sought_design(nuisance=(RATES,))), row_of)
        assert [p.purpose for p in planned][-3:] == ["tuning new points", "seeking", "seeking"]
        assert [(batch(e), e.nuisance[RATES.path]) for e in rounds[-1]] == [(22, 1e-3)] * 2

    def test_neighbours_are_the_nearest_and_the_nearest_on_its_other_side(self) -> None:
        assert opposite((3.0,), [(1.0,), (2.0,), (5.0,), (9.0,)]) == [1, 2]
        assert opposite((3.0,), [(1.0,), (2.0,)]) == [1]
        assert opposite((3.0,), []) == []
        assert opposite((0.0, 0.0), [(1.0, 0.0), (0.0, 2.0), (-3.0, 1.0)]) == [0, 2]


class TestBudget:
    def test_a_slice_ends_with_its_budget_of_reported_replicates(self, script: Callable[..., Script]) -> None:
        scripted = script(*[(22.0, 22.0, 22.0)] * 9)
        planned, rounds, _ = play(planner_for(sought_design()), steep)
        assert [len(round_) for round_ in rounds] == [4, 3, 3, 3, 3]
        assert [a["round_replicates"] for a in scripted.asked] == [3, 3, 3, 3, 1]
        (state,) = planned[-1].slices
        assert (state.is_settled, state.points, state.num_planned, state.half_width) == (False, (), 16, 0.5)

    def test_a_round_never_exceeds_what_is_left_of_the_budget(self, script: Callable[..., Script]) -> None:
        script(*[(22.0,)] * 20)
        budget = Budget(replicates=1, max_replicates=9, round_replicates=3)
        assert sum(map(len, play(planner_for(sought_design(budget=budget)), steep)[1])) == 9

    def test_a_point_whose_replicates_all_fail_is_not_proposed_for_ever(self, script: Callable[..., Script]) -> None:
        scripted = script(*[(22.0,)] * 30)

        def row_of(entry: Entry) -> Row:
            return row(None, Outcome.FAILED, None) if batch(entry) == 22 else steep(entry)

        _, rounds, _ = play(planner_for(sought_design()), row_of)
        assert sum(map(len, rounds)) == BUDGET.max_replicates
        assert {tuple(a["x"]) for a in scripted.asked} == {(4, 16, 64, 256)}

    def test_a_point_that_failed_twice_is_no_candidate_any_more(self, script: Callable[..., Script]) -> None:
        scripted = script((22.0,), (22.0,), (16.0,))

        def row_of(entry: Entry) -> Row:
            return row(None, Outcome.FAILED, None) if batch(entry) == 22 else steep(entry)

        play(planner_for(sought_design()), row_of)
        assert [22.0 in asked["candidates"] for asked in scripted.asked] == [True, True, False, False]

    def test_a_point_that_mostly_fails_does_not_take_the_budget_although_it_was_measured_once(self) -> None:
        def row_of(entry: Entry) -> Row:
            failed = batch(entry) == 4 and entry.replicate.seed != 101
            return row(None, Outcome.FAILED, None) if failed else row(0.5)

        budget = dataclasses.replace(BUDGET, max_replicates=30)
        _, rounds, _ = play(planner_for(sought_design(budget=budget)), row_of)
        assert sum(batch(e) == 4 for round_ in rounds for e in round_) <= 5

    def test_a_plane_with_one_end_that_always_fails_ends_unsettled_without_an_error(self) -> None:
        strengths = Axis(path="data.strength", values=(0.2, 0.4, 0.8), steps_per_octave=2)
        few = Axis(path="batch.train", values=(4, 16), steps_per_octave=1, multiple=2)
        design = sought_design(scientific=(strengths, few), plane=True, flank="falling")

        def row_of(entry: Entry) -> Row:
            return row(None, Outcome.FAILED, None) if batch(entry) == 16 else row(0.3)

        planned, _, _ = play(planner_for(design), row_of)
        (state,) = planned[-1].slices
        assert not state.is_settled
        assert "2 of the other" in state.reason

    def test_a_slice_with_too_few_measured_points_ends_unsettled_without_an_error(self) -> None:
        def row_of(entry: Entry) -> Row:
            return row(None, Outcome.FAILED, None) if batch(entry) > 16 else steep(entry)

        planned, rounds, _ = play(planner_for(sought_design()), row_of)
        assert len(rounds) == 1
        (state,) = planned[-1].slices
        assert not state.is_settled
        assert "needs 3 measured points" in state.reason

    def test_more_replicates_are_one_appended_round_at_every_reported_point(
        self, script: Callable[..., Script]
    ) -> None:
        script((22.0, 22.0))
        design = sought_design()
        _, before, _ = play(planner_for(design), steep)
        script()
        planned, after, _ = play(planner_for(design, 3), steep, rounds=before)
        assert [p.purpose for p in planned] == ["reporting", "seeking"]
        assert Counter(batch(e) for e in after[-1]) == {**dict.fromkeys(BATCHES.values, 2), 22: 1}
        reported = [(batch(e), e.replicate.seed) for round_ in after for e in round_]
        assert len(set(reported)) == len(reported) == 3 * len({x for x, _ in reported})

    def test_a_finer_precision_goes_on_where_the_plan_had_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def halving(x: Sequence[float], *_: Any, precision: float, **__: Any) -> NextPoints:
            width = 2.0 / len(x)
            points = (22.0,) if width > precision else ()
            return NextPoints(points=points, half_width=width, is_settled=not points, reason="scripted")

        monkeypatch.setattr(limit_seeking, "propose", halving)
        coarse, fine = (sought_design(budget=dataclasses.replace(BUDGET, precision=p)) for p in (0.4, 0.2))
        assert coarse.hash == fine.hash
        _, rounds, settled = play(planner_for(coarse), steep)
        assert planner_for(coarse).next_round(rounds, settled) == []
        _, more, _ = play(planner_for(fine), steep, rounds=rounds)
        assert (sum(map(len, rounds)), sum(map(len, more))) == (5, 10)
        assert more[: len(rounds)] == rounds


class TestMeasurements:
    def test_failed_replicates_are_left_out_and_a_diverged_one_stands_at_its_floor(
        self, script: Callable[..., Script]
    ) -> None:
        scripted = script()
        rows = {
            4: row(None, Outcome.FAILED, None),
            16: row(None, Outcome.DIVERGED, 0.07),
            64: row(0.4, Outcome.COLLAPSED, 0.01),
        }
        budget = Budget(replicates=1, max_replicates=16)
        axis = Axis(path="batch.train", values=(2, 4, 16, 64), steps_per_octave=2, multiple=2)
        play(planner_for(sought_design(scientific=(axis,), budget=budget)), lambda e: rows.get(batch(e), row(0.2)))
        (asked,) = scripted.asked
        assert (asked["x"], asked["outcome"], asked["floor"]) == ([2, 16, 64], [0.2, 0.07, 0.4], [FLOOR, 0.07, 0.01])

    @pytest.mark.parametrize(
        ("metric", "floor", "expected"),
        [("p", "zero", 0.0), ("p", "chance", 0.0), ("knn_accuracy", "chance", 0.1), ("p", "before", FLOOR)],
    )
    def test_the_floor_is_that_of_the_criterion(
        self, metric: str, floor: Any, expected: float, script: Callable[..., Script]
    ) -> None:
        scripted = script()
        criterion = Criterion(metric=metric, level=0.3, floor=floor)
        play(planner_for(sought_design(criterion=criterion)), lambda e: steep(e) | {metric_column(metric): 0.5})
        assert scripted.asked[0]["floor"] == [expected] * 4

    def test_a_control_at_zero_is_reported_and_belongs_to_no_fit(self, script: Callable[..., Script]) -> None:
        scripted = script()
        strengths = Axis(path="data.strength", values=(0.0, 0.25, 0.5, 1.0), steps_per_octave=2)
        _, rounds, _ = play(planner_for(sought_design(scientific=(strengths,))), lambda e: row(0.3))
        assert {e.point["data.strength"] for e in rounds[0]} == {0.0, 0.25, 0.5, 1.0}
        assert scripted.asked[0]["x"] == [0.25, 0.5, 1.0]
        assert min(scripted.asked[0]["candidates"]) == 0.25


class TestDeterminism:
    @pytest.mark.parametrize("seed", range(2))
    def test_a_planner_rebuilt_from_the_ledger_proposes_what_one_never_stopped_proposes(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        limit, width, sd = 2 ** rng.uniform(3, 7), rng.uniform(0.5, 2), rng.uniform(0.01, 0.05)

        def row_of(entry: Entry) -> Row:
            noise = np.random.default_rng([seed, int(entry.replicate.key[:8], 16)]).normal(0, sd)
            rate = math.log2(float(entry.nuisance[RATES.path]) / 2e-3) - 0.4 * math.log2(batch(entry) / 16)
            shape = 1 / (1 + (limit / batch(entry)) ** (4 / width)) * math.exp(-0.05 * rate**2)
            failed = int(entry.replicate.key[:2], 16) < 6
            return row(None, Outcome.FAILED, None) if failed else row(FLOOR + 0.5 * shape + noise)

        design = sought_design(
            nuisance=(RATES,), budget=Budget(tuning_seeds=1, replicates=2, max_replicates=14, round_replicates=2)
        )
        _, rounds, settled = play(planner_for(design), row_of)
        assert len(rounds) > 2
        for index in range(2, len(rounds) + 1):
            recorded = [
                [
                    Entry.from_row(e.row(design.hash, i), design.recipe.config_class, lambda _: DATA_DIGEST)
                    for e in round_
                ]
                for i, round_ in enumerate(rounds[:index])
            ]
            items = list(settled.items())
            random.Random(seed + index).shuffle(items)
            proposed = planner_for(design).next_round(recorded, dict(items))
            expected = rounds[index] if index < len(rounds) else []
            assert [e.row("", 0) for e in proposed] == [e.row("", 0) for e in expected]

    def test_the_inference_is_asked_once_for_the_same_rows(self, script: Callable[..., Script]) -> None:
        scripted = script((22.0,))
        planner = planner_for(sought_design(series=RECIPES))
        _, rounds, settled = play(planner, steep)
        # Both slices after stage one, and one of them again with its new row.
        assert len(scripted.asked) == 3
        planner.plan(rounds, settled)
        planner.slice_states(rounds, settled)
        assert len(scripted.asked) == 3

    def test_a_fixed_grid_never_asks_the_inference(self, script: Callable[..., Script]) -> None:
        scripted = script()
        fixed = Axis(path="batch.train", values=(4, 16, 64))
        planned, _, _ = play(planner_for(sought_design(scientific=(fixed,))), steep)
        assert scripted.asked == []
        assert planned[-1].slices == ()


class TestSuccesses:
    """A limit of the share of seeds that succeed: a run ends high or low, by its seed."""

    design = sought_design(
        criterion=Criterion(metric="p", level=0.5, share=0.5),
        budget=Budget(replicates=4, precision=0.5, max_replicates=60, round_replicates=8),
        scientific=(BATCHES, STRENGTHS),
    )

    @staticmethod
    def high_or_low(entry: Entry) -> Row:
        """Half of the seeds end high from batch 24 on, nearly all from 60 on."""
        own = 24 * 2 ** random.Random(entry.replicate.seed).gauss(0, 0.7)
        return row(0.97 if batch(entry) >= own else 0.02)

    def test_they_are_no_boundary_in_a_plane(self) -> None:
        strengths = Axis(path="data.strength", values=(0.2, 0.4, 0.8), steps_per_octave=2)
        criterion = Criterion(metric="p", level=0.5, share=0.5)
        with pytest.raises(ConfigError, match="along one axis"):
            sought_design(scientific=(strengths, BATCHES), plane=True, flank="falling", criterion=criterion)

    def test_every_replicate_of_a_slice_has_a_seed_of_its_own(self) -> None:
        _, rounds, _ = play(planner_for(self.design), self.high_or_low)
        assert len(rounds) > 1
        for strength in STRENGTHS.values:
            entries = [e for round_ in rounds for e in round_ if e.point[STRENGTHS.path] == strength]
            seeds = [e.replicate.seed for e in entries]
            assert seeds == list(range(101, 101 + len(entries)))

    def test_the_search_ends_with_the_middle_seed_inside_the_interval(self) -> None:
        _, rounds, settled = play(planner_for(self.design), self.high_or_low)
        for strength in STRENGTHS.values:
            entries = [e for round_ in rounds for e in round_ if e.point[STRENGTHS.path] == strength]
            assert len(entries) < 60
            success = [settled[e.replicate.key][metric_column("p")] >= 0.5 for e in entries]
            rising = fit_success([batch(e) for e in entries], success, level=0.5).rising
            assert rising.low is not None
            assert rising.high is not None
            assert rising.low < 24 < rising.high
