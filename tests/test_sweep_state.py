"""Where a sweep stands: what is handed out, what is tried again, and that resuming is nothing special."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from study.designs.design import Design
from study.execution.packs import PackLimits
from study.execution.queue import MAX_TROUBLES, SweepState
from study.execution.tasks import PackTask, record_failure
from study.interface.run import Replicate
from study.ledger.attempts import MAX_ATTEMPTS
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from tests.synthetic import STARTED, Result, ResultOf, commit, drive, known_design, open_state, rise_and_fall


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "storage")))


@pytest.fixture
def design() -> Design:
    return known_design()


def failing(outcome: Outcome, seed: int) -> ResultOf:
    """Results in which one seed of the smallest batch ends badly."""

    def result_of(replicate: Replicate) -> Result:
        is_bad = replicate.seed == seed and replicate.config.batch.train == 4
        return Result(outcome=outcome) if is_bad else rise_and_fall(replicate)

    return result_of


def planned(ledger: Ledger, design: Design) -> list[list[tuple[str, str]]]:
    return [[(row["role"], row["key"]) for row in rows] for rows in ledger.proposals(design.hash).values()]


def num_attempts(ledger: Ledger) -> Counter[str]:
    return Counter({key: len(rows) for key, rows in ledger.attempts().items()})


def test_a_sweep_runs_every_planned_replicate_once(ledger: Ledger, design: Design) -> None:
    state = open_state(ledger, design)
    drive(state, rise_and_fall)
    assert state.is_finished
    assert not state.is_out_of_budget
    keys = [key for round_ in planned(ledger, design) for _, key in round_]
    assert len(keys) == len(set(keys)) >= 33
    assert num_attempts(ledger) == Counter(keys)


def test_a_round_is_recorded_before_it_runs(ledger: Ledger, design: Design) -> None:
    state = open_state(ledger, design)
    task = state.next_task(is_idle=True)
    assert task is not None
    recorded = {key for _, key in planned(ledger, design)[0]}
    assert {replicate.key for replicate in task.replicates} < recorded
    assert ledger.names("replicates") == []


def test_a_design_is_registered_with_its_first_round_and_not_before(ledger: Ledger, design: Design) -> None:
    state = open_state(ledger, design)
    assert ledger.names("designs") == []
    state.next_task(is_idle=True)
    assert ledger.names("designs") == [f"{design.hash}.parquet"]


def test_a_round_whose_design_was_not_written_any_more_gets_it_from_the_next_command(
    ledger: Ledger, design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(Ledger, "record_design", lambda self, row: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            open_state(ledger, design).next_task(is_idle=True)
    assert planned(ledger, design)
    open_state(ledger, design).next_task(is_idle=True)
    assert ledger.names("designs") == [f"{design.hash}.parquet"]


def test_the_next_round_waits_until_the_open_one_is_complete(ledger: Ledger, design: Design) -> None:
    state = open_state(ledger, design)
    tasks = []
    while (task := state.next_task(is_idle=not tasks)) is not None:
        tasks.append(task)
    assert sum(len(task.replicates) for task in tasks) == 18
    for task in tasks[:-1]:
        commit(task, rise_and_fall)
        state.note_complete(task)
        assert state.next_task(is_idle=False) is None
    assert len(ledger.proposals(design.hash)) == 1
    commit(tasks[-1], rise_and_fall)
    state.note_complete(tasks[-1])
    assert state.next_task(is_idle=True) is not None
    assert len(ledger.proposals(design.hash)) == 2


@pytest.mark.parametrize("num_packs", [0, 1, 2, 3, 5])
def test_resuming_runs_only_what_is_missing_and_ends_like_a_sweep_never_stopped(
    tmp_path: Path, design: Design, num_packs: int
) -> None:
    whole, stopped = (Ledger(Store(str(tmp_path / name))) for name in ("whole", "stopped"))
    drive(open_state(whole, design), rise_and_fall)
    drive(open_state(stopped, design), rise_and_fall, max_packs=num_packs)
    before = set(num_attempts(stopped))
    again = drive(open_state(stopped, design), rise_and_fall)
    assert before.isdisjoint(replicate.key for task in again for replicate in task.replicates)
    assert planned(stopped, design) == planned(whole, design)
    assert num_attempts(stopped) == num_attempts(whole)


def test_a_finished_study_has_nothing_to_run_and_records_nothing(ledger: Ledger, design: Design) -> None:
    drive(open_state(ledger, design), rise_and_fall)
    before = {table: ledger.names(table) for table in ("rounds", "replicates", "curves")}
    state = open_state(ledger, design)
    assert state.is_plan_finished()
    assert drive(state, rise_and_fall) == []
    assert {table: ledger.names(table) for table in before} == before


def test_more_replicates_run_only_the_new_seeds(ledger: Ledger, design: Design) -> None:
    drive(open_state(ledger, design, 5), rise_and_fall)
    state = open_state(ledger, design, 7)
    assert not state.is_plan_finished()
    tasks = drive(state, rise_and_fall)
    seeds = Counter(replicate.seed for task in tasks for replicate in task.replicates)
    assert seeds == {106: 3, 107: 3}


def test_a_recorded_round_is_read_and_never_recomputed(ledger: Ledger, design: Design) -> None:
    first = open_state(ledger, design)
    first.next_task(is_idle=True)
    entries = first.proposals[0].entries
    other = Ledger(Store(f"{ledger.store.uri}-other"))
    other.record_proposal(design.hash, "0000", [entry.row(design.hash, "0000") for entry in entries[:6]])
    state = open_state(other, design)
    tasks = drive(state, rise_and_fall)
    ran = {replicate.key for task in tasks for replicate in task.replicates if replicate.seed < 100}
    assert {entry.replicate.key for entry in entries[:6]} <= ran
    assert ran.isdisjoint(entry.replicate.key for entry in entries[6:])


def test_a_replicate_that_another_design_has_finished_is_not_run_again(ledger: Ledger, design: Design) -> None:
    drive(open_state(ledger, design), rise_and_fall)
    other = known_design(margin_octaves=0.25)
    assert other.hash != design.hash
    state = open_state(ledger, other)
    assert not state.is_plan_finished()
    assert drive(state, rise_and_fall) == []
    assert state.is_finished
    assert planned(ledger, other) == planned(ledger, design)


class TestFailures:
    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.HUNG, Outcome.OUT_OF_MEMORY])
    def test_after_a_failed_pack_its_members_are_tried_alone_and_one_that_fails_alone_by_the_next_sweep(
        self, ledger: Ledger, design: Design, outcome: Outcome
    ) -> None:
        state = open_state(ledger, design)
        tasks = drive(state, failing(outcome, 103))
        (row,) = state.failed_rows()
        assert (row["outcome"], row["attempt"], row["seed"], row["pack_size"]) == (outcome, 2, 103, 1)
        assert [t for t in tasks if 2 in t.attempts] == [t for t in tasks if len(t.replicates) == 1]
        again = open_state(ledger, design)
        assert not again.is_plan_finished()
        (task,) = drive(again, rise_and_fall)
        assert [replicate.seed for replicate in task.replicates] == [103]
        assert task.attempts == (3,)
        assert again.failed_rows() == []
        assert open_state(ledger, design).is_plan_finished()

    def test_the_members_of_a_pack_that_one_of_them_breaks_all_get_their_results_but_that_one(
        self, ledger: Ledger, design: Design
    ) -> None:
        def commit_real(task: PackTask) -> None:
            is_broken = any(r.seed == 103 and r.config.batch.train == 4 for r in task.replicates)
            commit(task, (lambda _: Result(outcome=Outcome.FAILED)) if is_broken else rise_and_fall)

        for _ in range(MAX_ATTEMPTS + 1):
            state = open_state(ledger, design)
            while (task := state.next_task(is_idle=True)) is not None:
                commit_real(task)
                state.note_complete(task)
        assert state.is_plan_finished()
        assert [row["seed"] for row in state.failed_rows()] == [103]

    def test_a_failure_in_a_tuning_round_keeps_the_next_round_waiting_for_the_next_sweep(
        self, ledger: Ledger, design: Design
    ) -> None:
        drive(open_state(ledger, design), failing(Outcome.FAILED, 1))
        assert len(ledger.proposals(design.hash)) == 1
        drive(open_state(ledger, design), rise_and_fall)
        assert ledger.proposals(design.hash)["0001"][0]["role"] == "reported"

    def test_after_three_failures_of_its_own_the_study_goes_on_without_the_replicate(
        self, ledger: Ledger, design: Design
    ) -> None:
        for number in range(1, MAX_ATTEMPTS + 1):
            assert not open_state(ledger, design).is_plan_finished()
            state = open_state(ledger, design)
            drive(state, failing(Outcome.FAILED, 103))
            assert [row["attempt"] for row in state.failed_rows()] == [number + 1], "the first one was in a pack"
        last = open_state(ledger, design)
        assert last.is_plan_finished()
        assert [row["attempt"] for row in last.failed_rows()] == [MAX_ATTEMPTS + 1]

    def test_a_retry_tries_what_failed_for_good_once_more(self, ledger: Ledger, design: Design) -> None:
        for _ in range(MAX_ATTEMPTS):
            drive(open_state(ledger, design), failing(Outcome.FAILED, 103))
        in_vain = open_state(ledger, design, is_retry=True)
        assert not in_vain.is_plan_finished()
        assert len(drive(in_vain, failing(Outcome.FAILED, 103))) == 1
        assert in_vain.is_plan_finished()
        assert len(in_vain.failed_rows()) == 1
        again = open_state(ledger, design, is_retry=True)
        (task,) = drive(again, rise_and_fall)
        assert [replicate.seed for replicate in task.replicates] == [103]
        assert again.failed_rows() == []
        assert open_state(ledger, design).is_plan_finished()

    def test_what_the_environment_does_costs_no_attempt_and_stops_a_sweep_that_gets_nothing_done(
        self, ledger: Ledger, design: Design
    ) -> None:
        for _ in range(4):
            state = open_state(ledger, design)
            tasks = drive(state, lambda _: Result(outcome=Outcome.ENVIRONMENT))
            assert len(tasks) == MAX_TROUBLES
            assert state.trouble.endswith("RuntimeError: invented")
            assert not state.is_finished
        drive(open_state(ledger, design), rise_and_fall)
        assert open_state(ledger, design).is_plan_finished()
        assert open_state(ledger, design).failed_rows() == []

    def test_trouble_between_results_stops_no_sweep(self, ledger: Ledger, design: Design) -> None:
        ended: Counter[str] = Counter()

        def once_in_vain(replicate: Replicate) -> Result:
            ended[replicate.key] += 1
            is_lucky = replicate.seed % 2 == 0 or ended[replicate.key] > 1
            return rise_and_fall(replicate) if is_lucky else Result(outcome=Outcome.ENVIRONMENT)

        state = open_state(ledger, design)
        drive(state, once_in_vain)
        assert sum(number > 1 for number in ended.values()) > MAX_TROUBLES
        assert state.trouble == ""
        assert state.is_finished
        assert state.failed_rows() == []

    def test_a_replicate_that_the_environment_ends_every_time_is_left_to_the_next_command(
        self, ledger: Ledger, design: Design
    ) -> None:
        state = open_state(ledger, design)
        drive(state, failing(Outcome.ENVIRONMENT, 103))
        assert [row["outcome"] for row in state.failed_rows()] == ["environment"]
        assert max(num_attempts(ledger).values()) == MAX_ATTEMPTS
        drive(open_state(ledger, design), rise_and_fall)
        assert open_state(ledger, design).is_plan_finished()

    def test_nodes_that_leave_stop_no_sweep_however_many_packs_they_held(self, ledger: Ledger, design: Design) -> None:
        lost: Counter[str] = Counter()

        def lost_eight_times(replicate: Replicate) -> Result:
            lost[replicate.key] += 1
            return rise_and_fall(replicate) if lost[replicate.key] > 8 else Result(outcome=Outcome.INTERRUPTED)

        state = open_state(ledger, design)
        drive(state, lost_eight_times)
        assert state.is_finished
        assert state.trouble == ""

    @pytest.mark.parametrize("last", [Outcome.INTERRUPTED, Outcome.FAILED, Outcome.ENVIRONMENT])
    def test_packs_that_still_run_when_a_sweep_stops_for_trouble_end_as_they_like(
        self, ledger: Ledger, design: Design, digits: Dataset, last: Outcome
    ) -> None:
        state = open_state(ledger, design)
        state.limits = PackLimits(recipe=CONTRASTIVE, data_of=lambda config: digits, memory_bytes=0.0)
        tasks = [state.next_task(is_idle=False) or state.next_task(is_idle=True) for _ in range(MAX_TROUBLES + 1)]
        for number, task in enumerate(tasks):
            assert task is not None
            outcome = Outcome.ENVIRONMENT if number < MAX_TROUBLES else last
            commit(task, lambda _, outcome=outcome: Result(outcome=outcome))
            state.note_complete(task)
        assert state.trouble
        assert state.next_task(is_idle=True) is None

    def test_a_suspect_stays_alone_when_its_lone_attempt_is_cut_short(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        assert len(task.replicates) > 1
        commit(task, lambda _: Result(outcome=Outcome.FAILED))
        state.note_complete(task)
        suspects = {replicate.key for replicate in task.replicates}
        while (task := state.next_task(is_idle=True)) is not None:
            is_suspect = task.replicates[0].key in suspects
            if is_suspect and len(state.attempts[task.replicates[0].key]) == 1:
                commit(task, lambda _: Result(outcome=Outcome.INTERRUPTED))
                state.note_complete(task)
                break
            commit(task, rise_and_fall)
            state.note_complete(task)
        again = open_state(ledger, design)
        sizes = [len(t.replicates) for t in drive(again, rise_and_fall) if suspects & {r.key for r in t.replicates}]
        assert set(sizes) == {1}

    def test_what_was_only_cut_short_has_not_failed(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        assert state.next_task(is_idle=True) is not None
        state.interrupt()
        again = open_state(ledger, design)
        assert again.attempts
        assert again.failed_rows() == []

    def test_what_another_driver_wrote_meanwhile_is_known_after_reading_anew(
        self, ledger: Ledger, design: Design
    ) -> None:
        waiting = open_state(ledger, design)
        drive(open_state(ledger, design), rise_and_fall)
        assert not waiting.is_plan_finished()
        waiting.reload()
        assert waiting.is_plan_finished()
        assert drive(waiting, rise_and_fall) == []

    def test_rounds_that_disappear_are_noticed(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        commit(task, rise_and_fall)
        ledger.store.delete(f"rounds/{ledger.names('rounds')[0]}")
        with pytest.raises(FileNotFoundError, match="rounds that were recorded are gone"):
            state.note_complete(task)

    def test_a_pack_that_leaves_no_row_stops_the_sweep(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        state.note_complete(task)
        assert "left no row" in state.trouble
        assert state.next_task(is_idle=True) is None

    def test_an_interrupted_pack_is_tried_again_in_the_same_sweep(self, ledger: Ledger, design: Design) -> None:
        interrupted: set[str] = set()

        def once(replicate: Replicate) -> Result:
            if replicate.key in interrupted:
                return rise_and_fall(replicate)
            interrupted.add(replicate.key)
            return Result(outcome=Outcome.INTERRUPTED)

        state = open_state(ledger, design)
        drive(state, once)
        assert state.is_finished
        assert state.failed_rows() == []
        assert set(num_attempts(ledger).values()) == {2}

    def test_an_attempt_is_known_by_its_number(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        assert state.lacking(task) == task
        commit(task, lambda replicate: Result(outcome=Outcome.INTERRUPTED))
        assert state.lacking(task) is None
        state.note_complete(task)
        retried = next(t for t in iter(lambda: state.next_task(is_idle=True), None) if t.attempts[0] == 2)
        assert {r.key for r in retried.replicates} <= {r.key for r in task.replicates}
        assert state.lacking(retried) == retried

    def test_of_a_pack_that_died_after_its_first_half_only_the_second_lacks_rows(
        self, ledger: Ledger, design: Design
    ) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        first, second = task.halves()
        commit(first, rise_and_fall)
        lacking = state.lacking(task)
        assert lacking is not None
        assert lacking == second
        record_failure(lacking, Outcome.FAILED, "the worker died", STARTED)
        assert state.lacking(task) is None
        assert set(num_attempts(ledger).values()) == {1}


class TestHalves:
    def test_a_pack_that_was_halved_is_announced_with_its_parts(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        heard: list[tuple[int, list[int]]] = []
        state.on_halved = lambda planned, sizes: heard.append((planned, sizes))
        task = state.next_task(is_idle=True)
        assert task is not None
        assert len(task.replicates) == 6
        first, second = task.halves()
        for part in (first, *second.halves()):
            commit(part, rise_and_fall)
        state.note_complete(task)
        assert heard == [(6, [3, 2, 1])]
        drive(state, rise_and_fall)
        assert len(heard) == 1

    def test_rows_say_what_trained_and_what_was_planned(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        first, second = task.halves()
        commit(first, rise_and_fall)
        for part in second.halves():
            commit(part, rise_and_fall)
        rows = ledger.read("replicates").to_pylist()
        assert Counter((row["pack_size"], row["pack_planned"]) for row in rows) == {(3, 6): 3, (2, 6): 2, (1, 6): 1}

    def test_a_whole_pack_was_planned_as_it_trained(self, ledger: Ledger, design: Design) -> None:
        drive(open_state(ledger, design), rise_and_fall)
        rows = ledger.read("replicates").to_pylist()
        assert all(row["pack_planned"] == row["pack_size"] for row in rows)


class TestPacks:
    def test_models_of_reported_replicates_are_kept_and_those_of_tuning_are_not(
        self, ledger: Ledger, design: Design
    ) -> None:
        state = open_state(ledger, design)
        tasks = drive(state, rise_and_fall)
        roles = {entry.replicate.key: entry.role for entry in state.entries}
        assert {roles[r.key] for task in tasks for r in task.replicates} == {"tuning", "reported"}
        for task in tasks:
            assert task.keep_models == tuple(roles[r.key] == "reported" for r in task.replicates)

    def test_equal_learning_rates_are_neighbours(self, ledger: Ledger, design: Design) -> None:
        task = open_state(ledger, design).next_task(is_idle=True)
        assert task is not None
        rates = [replicate.config.optimizer.learning_rate for replicate in task.replicates]
        assert rates == sorted(rates)
        assert len(set(rates)) == 3

    def test_limits_bound_the_packs_and_move_no_key(
        self, ledger: Ledger, design: Design, digits: Dataset, tmp_path: Path
    ) -> None:
        narrow = open_state(ledger, design)
        narrow.limits = PackLimits(recipe=CONTRASTIVE, data_of=lambda config: digits, memory_bytes=1)
        tasks = drive(narrow, rise_and_fall)
        assert {len(task.replicates) for task in tasks} == {1}
        other = Ledger(Store(str(tmp_path / "other")))
        drive(open_state(other, design), rise_and_fall)
        assert planned(other, design) == planned(ledger, design)

    def test_the_plan_knows_the_packs_of_the_first_and_of_the_reported_round(
        self, ledger: Ledger, design: Design
    ) -> None:
        state = open_state(ledger, design, 7)
        packs = state.planned_packs(PackLimits(recipe=CONTRASTIVE))
        sizes = {(pack[0].config.evaluation.split, pack[0].config.batch.train): len(pack) for pack in packs}
        assert sizes["validation", 4] == 6
        assert sizes["test", 4] == 7
        assert {batch for _, batch in sizes} == {4, 16, 64}
        assert ledger.names("rounds") == []
        ran = [task.replicates for task in drive(state, rise_and_fall)]
        assert max(map(len, ran)) == max(map(len, packs))


class TestBudget:
    def test_a_sweep_without_time_left_starts_and_records_nothing(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design, deadline=-math.inf)
        assert state.next_task(is_idle=True) is None
        assert state.is_out_of_budget
        assert not state.is_finished
        assert ledger.names("rounds") == []

    def test_packs_that_run_when_the_time_ends_are_waited_for(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        state.deadline = -math.inf
        assert state.next_task(is_idle=False) is None
        assert not state.is_out_of_budget
        commit(task, rise_and_fall)
        state.note_complete(task)
        assert state.next_task(is_idle=True) is None
        assert state.is_out_of_budget
        drive(open_state(ledger, design), rise_and_fall)
        assert set(num_attempts(ledger).values()) == {1}

    def test_a_sweep_that_is_complete_when_the_time_ends_is_not_out_of_budget(
        self, ledger: Ledger, design: Design
    ) -> None:
        drive(open_state(ledger, design), rise_and_fall)
        state = open_state(ledger, design, deadline=-math.inf)
        assert state.next_task(is_idle=True) is None
        assert not state.is_out_of_budget


class TestProgress:
    def test_counts_go_from_none_to_all(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        assert state.counts() == (0, 33)
        seen = []
        while (task := state.next_task(is_idle=True)) is not None:
            commit(task, rise_and_fall)
            state.note_complete(task)
            seen.append(state.counts())
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1][0] == seen[-1][1] == len(state.entries)

    def test_each_round_is_announced_once(self, ledger: Ledger, design: Design) -> None:
        state = open_state(ledger, design)
        heard: list[tuple[int, int]] = []
        state.on_proposal = lambda proposal: heard.append((proposal.title, len(proposal.entries)))
        drive(state, rise_and_fall)
        assert heard == [(f"round {index}", len(round_)) for index, round_ in enumerate(planned(ledger, design))]

    def test_a_pack_counts_as_hung_after_ten_times_what_its_shape_has_taken(
        self, ledger: Ledger, design: Design, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = open_state(ledger, design)
        first = state.next_task(is_idle=True)
        assert first is not None
        assert first.hang_seconds == 300
        drive(state, failing(Outcome.FAILED, 103))
        monkeypatch.setattr("study.execution.queue._MIN_HANG_SECONDS", 1.0)
        task = open_state(ledger, design).next_task(is_idle=True)
        assert task is not None
        # Every invented replicate takes 2 s of its pack, which in the reported round has five of them.
        assert task.hang_seconds == 10 * 2.0 * 5

    def test_the_time_left_shrinks_with_the_progress_of_a_running_pack(
        self, ledger: Ledger, design: Design, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = open_state(ledger, design)
        task = state.next_task(is_idle=True)
        assert task is not None
        monkeypatch.setattr("study.execution.queue.time.monotonic", lambda: state._started + 60)
        assert state.seconds_left() is None
        state.note_progress(task, 0.25)
        quarter = state.seconds_left()
        state.note_progress(task, 0.75)
        three_quarters = state.seconds_left()
        assert quarter is not None
        assert three_quarters is not None
        assert 0 < three_quarters < quarter


def test_tasks_survive_the_way_to_a_worker(ledger: Ledger, design: Design) -> None:
    state: SweepState = open_state(ledger, design)
    task = state.next_task(is_idle=True)
    assert task is not None
    for sent in (task, *task.halves()):
        assert type(sent).from_dict(json.loads(json.dumps(sent.to_dict()))) == sent
