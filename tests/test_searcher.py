"""The plan: tune in every cell, extend once at an edge, report every point with fresh shared seeds."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.planning.planner import RoundPlanner
from study.planning.proposals import Entry
from study.recipes.contrastive.config import ReplicateConfig
from study.rows import before_column, metric_column
from tests.synthetic import BATCHES, DATA_DIGEST, FLOOR, RATES, STRENGTHS, known_design

Row = dict[str, Any]
Rounds = list[list[Entry]]
RowOf = Callable[[Entry], Row]


def rate(entry: Entry) -> float:
    return float(entry.nuisance[RATES.path])


def batch(entry: Entry) -> int:
    return int(entry.point[BATCHES.path])


def row(value: float | None, outcome: Outcome = Outcome.OK, metric: str = "p") -> Row:
    return {"outcome": str(outcome), metric_column(metric): value, before_column(metric): FLOOR}


def best_at(best: Mapping[int, float] | float) -> RowOf:
    """Rows whose outcome is largest at a given learning rate, the same in every cell or by batch."""

    def row_of(entry: Entry) -> Row:
        target = best if isinstance(best, float) else best[batch(entry)]
        return row(0.9 if rate(entry) == pytest.approx(target) else 0.1)

    return row_of


def planner_for(design: Design, replicates: int = 5) -> RoundPlanner:
    return RoundPlanner(design=design, digest_of=lambda _: DATA_DIGEST, replicates=replicates)


def play(
    planner: RoundPlanner, row_of: RowOf, rounds: Rounds | None = None, limit: int = 20
) -> tuple[Rounds, dict[str, Row]]:
    """Settle round after round until the plan ends or ``limit`` rounds are recorded."""
    rounds = list(rounds or [])
    settled = {e.replicate.key: row_of(e) for round_ in rounds for e in round_}
    while len(rounds) < limit and (entries := planner.next_round(rounds, settled)):
        rounds.append(entries)
        settled |= {e.replicate.key: row_of(e) for e in entries}
    return rounds, settled


def from_row(recorded: Row) -> Entry:
    return Entry.from_row(recorded, ReplicateConfig, lambda _: DATA_DIGEST)


def keys(rounds: Sequence[Sequence[Entry]]) -> list[list[str]]:
    return [[entry.replicate.key for entry in round_] for round_ in rounds]


class TestTuning:
    def test_round_0_is_the_nuisance_grid_of_every_cell_on_the_tuning_seeds(self) -> None:
        (first,), _ = play(planner_for(known_design()), best_at(3e-3), limit=1)
        planned = [(batch(e), rate(e), e.replicate.seed) for e in first]
        assert sorted(planned) == sorted(itertools.product(BATCHES.values, RATES.values, (1, 2)))
        assert {e.role for e in first} == {"tuning"}

    def test_tuning_replicates_are_judged_on_the_validation_split_and_reported_ones_on_the_test_split(self) -> None:
        rounds, _ = play(planner_for(known_design()), best_at(3e-3))
        for entry in itertools.chain.from_iterable(rounds):
            evaluation = entry.replicate.config.evaluation
            assert evaluation.split == {"tuning": "validation", "reported": "test"}[entry.role]
            assert evaluation.knn_bank == {"tuning": 0, "reported": 200}[entry.role]

    def test_a_best_value_inside_the_grid_is_reported_without_an_extension(self) -> None:
        rounds, _ = play(planner_for(known_design()), best_at(3e-3))
        assert [round_[0].role for round_ in rounds] == ["tuning", "reported"]
        assert {rate(e) for e in rounds[1]} == {3e-3}

    def test_the_grid_is_extended_by_its_own_ratio_only_in_the_cells_whose_best_is_at_an_edge(self) -> None:
        best = {4: 1e-3, 16: 3e-3, 64: 1e-2}
        rounds, _ = play(planner_for(known_design()), best_at(best), limit=2)
        extension = rounds[1]
        assert {e.role for e in extension} == {"tuning"}
        tried = sorted((batch(e), rate(e), e.replicate.seed) for e in extension)
        assert tried == [(4, 3.33e-4, 1), (4, 3.33e-4, 2), (64, 3.33e-2, 1), (64, 3.33e-2, 2)]

    def test_the_grid_is_extended_once_even_when_the_new_value_is_the_best(self) -> None:
        def rising(entry: Entry) -> Row:
            return row(rate(entry))

        rounds, settled = play(planner_for(known_design()), rising)
        assert [round_[0].role for round_ in rounds] == ["tuning", "tuning", "reported"]
        assert {rate(e) for e in rounds[2]} == {3.33e-2}
        cells = planner_for(known_design()).tuned_cells([e for r in rounds for e in r], settled)
        assert [cell.at_edge for cell in cells] == [(RATES.path,)] * 3

    def test_every_cell_is_reported_at_its_own_best_value(self) -> None:
        best = {4: 1e-3, 16: 3e-3, 64: 1e-2}
        rounds, _ = play(planner_for(known_design()), best_at(best))
        assert {(batch(e), rate(e)) for e in rounds[-1]} == set(best.items())

    def test_a_setting_is_judged_by_its_mean_over_the_tuning_seeds_not_by_its_best_seed(self) -> None:
        values = {(1e-3, 1): 0.9, (1e-3, 2): 0.1, (3e-3, 1): 0.6, (3e-3, 2): 0.6, (1e-2, 1): 0.2, (1e-2, 2): 0.2}
        rounds, _ = play(planner_for(known_design()), lambda e: row(values.get((rate(e), e.replicate.seed), 0.0)))
        assert {rate(e) for e in rounds[-1]} == {3e-3}

    @pytest.mark.parametrize(("steady", "best"), [(0.5, 3e-3), (0.4, 1e-2)])
    def test_a_diverged_replicate_counts_as_the_floor(self, steady: float, best: float) -> None:
        def row_of(entry: Entry) -> Row:
            if rate(entry) == 1e-2:
                # The mean of 0.9 and the floor of 0.04 is 0.47.
                return row(0.9) if entry.replicate.seed == 1 else row(None, Outcome.DIVERGED)
            return row(steady if rate(entry) == 3e-3 else 0.0)

        rounds, _ = play(planner_for(known_design()), row_of)
        assert {rate(e) for e in rounds[-1]} == {best}

    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.OUT_OF_MEMORY, Outcome.HUNG])
    def test_a_setting_with_a_failed_replicate_is_left_out(self, outcome: Outcome) -> None:
        def row_of(entry: Entry) -> Row:
            if rate(entry) == 3e-3 and entry.replicate.seed == 1:
                return row(None, outcome)
            return row({1e-3: 0.2, 3e-3: 0.99}.get(rate(entry), 0.1))

        rounds, settled = play(planner_for(known_design()), row_of)
        assert {rate(e) for e in rounds[-1]} == {1e-3}
        cell = planner_for(known_design()).tuned_cells([e for r in rounds for e in r], settled)[0]
        assert 3e-3 not in [setting[RATES.path] for setting, _ in cell.tried]

    def test_a_collapsed_replicate_counts_as_measured(self) -> None:
        def row_of(entry: Entry) -> Row:
            return row(0.8, Outcome.COLLAPSED) if rate(entry) == 3e-3 else row(0.2)

        rounds, _ = play(planner_for(known_design()), row_of)
        assert {rate(e) for e in rounds[-1]} == {3e-3}

    def test_a_cell_without_any_measured_setting_is_not_reported_and_the_others_are(self) -> None:
        def row_of(entry: Entry) -> Row:
            failed = batch(entry) == 4 and entry.role == "tuning"
            return row(None, Outcome.OUT_OF_MEMORY) if failed else best_at(3e-3)(entry)

        rounds, _ = play(planner_for(known_design()), row_of)
        assert {batch(e) for e in rounds[-1]} == {16, 64}

    def test_two_nuisances_are_tuned_on_their_full_grid_and_each_is_extended_at_its_own_edge(self) -> None:
        decay = Axis(path="optimizer.weight_decay", values=(1e-4, 1e-3, 1e-2))
        design = known_design(nuisance=(RATES, decay))

        def row_of(entry: Entry) -> Row:
            return row(0.9 if entry.nuisance == {RATES.path: 1e-2, decay.path: 1e-4} else 0.1)

        rounds, _ = play(planner_for(design), row_of)
        assert len(rounds[0]) == 3 * 9 * 2
        extension = {(e.nuisance[RATES.path], e.nuisance[decay.path]) for e in rounds[1]}
        assert extension == {(3.33e-2, 1e-4), (1e-2, 1e-5)}
        assert all(e.nuisance == {RATES.path: 1e-2, decay.path: 1e-4} for e in rounds[2])


class TestReporting:
    def test_reported_seeds_are_fresh_and_shared_by_all_points(self) -> None:
        rounds, _ = play(planner_for(known_design()), best_at(3e-3))
        tuning = {e.replicate.seed for e in rounds[0]}
        by_point = {size: [e.replicate.seed for e in rounds[-1] if batch(e) == size] for size in BATCHES.values}
        assert set(map(tuple, by_point.values())) == {(101, 102, 103, 104, 105)}
        assert tuning.isdisjoint(by_point[4])

    def test_the_plan_ends_when_every_point_is_reported(self) -> None:
        rounds, settled = play(planner_for(known_design()), best_at(3e-3))
        assert planner_for(known_design()).next_round(rounds, settled) == []

    def test_more_replicates_add_only_the_new_seeds_at_the_same_setting(self) -> None:
        design = known_design()
        before, _ = play(planner_for(design, 5), best_at(3e-3))
        # Were the choice made again, the new rows would move it.
        after, _ = play(planner_for(design, 7), best_at(1e-2), rounds=before)
        assert keys(after[: len(before)]) == keys(before)
        assert len(after) == len(before) + 1
        added = [(batch(e), rate(e), e.replicate.seed) for e in after[-1]]
        assert sorted(added) == sorted(itertools.product(BATCHES.values, (3e-3,), (106, 107)))

    def test_fewer_replicates_than_there_are_ask_for_nothing(self) -> None:
        design = known_design()
        rounds, settled = play(planner_for(design, 5), best_at(3e-3))
        assert planner_for(design, 3).next_round(rounds, settled) == []

    def test_a_failed_reported_replicate_is_not_replaced_by_another_seed(self) -> None:
        def row_of(entry: Entry) -> Row:
            is_bad = entry.role == "reported" and entry.replicate.seed == 103
            return row(None, Outcome.FAILED) if is_bad else best_at(3e-3)(entry)

        rounds, settled = play(planner_for(known_design()), row_of)
        assert len(rounds[-1]) == 15
        assert planner_for(known_design()).next_round(rounds, settled) == []


class TestDesigns:
    def test_two_scientific_axes_give_a_cell_per_pair_tuned_on_its_own(self) -> None:
        design = known_design(scientific=(BATCHES, STRENGTHS))
        best = {(4, 0.1): 3e-3, (4, 0.2): 1e-3}

        def row_of(entry: Entry) -> Row:
            target = best.get((batch(entry), float(entry.point[STRENGTHS.path])), 3e-3)
            return row(0.9 if rate(entry) == target else 0.1)

        rounds, _ = play(planner_for(design), row_of)
        assert len(rounds[0]) == 6 * 3 * 2
        reported = {(batch(e), e.point[STRENGTHS.path], rate(e)) for e in rounds[-1]}
        assert reported == {(b, s, best.get((b, s), 3e-3)) for b in BATCHES.values for s in STRENGTHS.values}
        for entry in rounds[-1]:
            assert entry.replicate.config.batch.train == batch(entry)
            assert entry.replicate.config.data.strength == entry.point[STRENGTHS.path]

    def test_a_study_without_nuisances_reports_at_once(self) -> None:
        rounds, _ = play(planner_for(known_design(nuisance=())), lambda entry: row(0.5))
        assert len(rounds) == 1
        assert {(e.role, batch(e), e.replicate.seed) for e in rounds[0]} == {
            ("reported", size, seed) for size in BATCHES.values for seed in range(101, 106)
        }

    def test_the_criterion_metric_is_what_is_tuned(self) -> None:
        design = known_design(criterion=Criterion(metric="s_j", level=0.5))

        def row_of(entry: Entry) -> Row:
            return row(0.9 if rate(entry) == 3e-3 else 0.1, metric="s_j") | {metric_column("p"): rate(entry)}

        rounds, _ = play(planner_for(design), row_of)
        assert {rate(e) for e in rounds[-1]} == {3e-3}


class TestDeterminism:
    def test_a_planner_rebuilt_from_the_ledger_proposes_what_one_never_stopped_proposes(self, tmp_path: Any) -> None:
        design, row_of = known_design(), best_at({4: 1e-3, 16: 3e-3, 64: 1e-2})
        rounds, settled = play(planner_for(design), row_of)
        ledger = Ledger(Store(str(tmp_path)))
        for index, round_ in enumerate(rounds):
            recorded = [[from_row(r) for r in rows] for rows in ledger.proposals(design.hash).values()]
            assert keys([planner_for(design).next_round(recorded, settled)]) == keys([round_])
            id_ = f"{index:04d}"
            ledger.record_proposal(design.hash, id_, [e.row(design.hash, id_) for e in round_])

    def test_an_entry_survives_the_ledger(self) -> None:
        for entry in play(planner_for(known_design()), best_at(3e-3))[0][0]:
            assert from_row(entry.row("hash", 0)) == entry

    def test_the_order_of_results_does_not_matter(self) -> None:
        def row_of(entry: Entry) -> Row:
            return row(random.Random(entry.replicate.key).random())

        expected, settled = play(planner_for(known_design()), row_of)
        for seed in range(5):
            items = list(settled.items())
            random.Random(seed).shuffle(items)
            for index, round_ in enumerate(expected):
                assert keys([planner_for(known_design()).next_round(expected[:index], dict(items))]) == keys([round_])

    def test_the_order_of_the_results_of_two_equally_good_settings_does_not_matter(self) -> None:
        def tie(entry: Entry) -> Row:
            return row(0.5)

        expected, settled = play(planner_for(known_design()), tie)
        reversed_ = dict(reversed(list(settled.items())))
        again = [planner_for(known_design()).next_round(expected[:i], reversed_) for i in range(len(expected))]
        assert keys(again) == keys(expected)

    def test_an_open_round_is_a_mistake_of_the_caller(self) -> None:
        (first,), settled = play(planner_for(known_design()), best_at(3e-3), limit=1)
        del settled[first[0].replicate.key]
        with pytest.raises(AssertionError, match="a round is open"):
            planner_for(known_design()).next_round([first], settled)
