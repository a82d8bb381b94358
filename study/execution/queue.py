"""Where a sweep stands: recorded proposals against the ledger, and the packs still to run. Knows no executor."""

import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from study.designs.cost import plan_size
from study.designs.design import Design
from study.errors import first_line
from study.execution.packs import PackLimits, make_packs
from study.execution.tasks import PackTask, TaskSettings, record_failure
from study.interface.recipe import Recipe
from study.interface.run import Replicate
from study.ledger.attempts import MAX_ATTEMPTS, failed_attempt, is_own_failure, settle
from study.ledger.journal import Kind
from study.ledger.ledger import Ledger
from study.outcome import FINAL_OUTCOMES, Outcome
from study.planning.limit_state import SliceState
from study.planning.proposals import Entry, Planner, Proposal
from study.rows import Row

_MIN_HANG_SECONDS = 300.0
# Interruptions of one replicate in one command: nodes come and go, but what makes its node go comes back each time.
MAX_INTERRUPTIONS = 20
# Packs that the environment ended, without a finished replicate between them, after which a sweep stops.
MAX_TROUBLES = 5


@dataclass
class SweepState:
    """Hands out packs of what was proposed, then asks the planner for the next proposal and records it.

    Resuming is nothing special: what recorded proposals lack is handed out first. A pack that was interrupted is tried
    again in the same sweep; after any other failure its members are tried alone. One that fails alone is left to the
    next command; the environment may end it ``MAX_ATTEMPTS`` times in every command, and a sweep stops where it does
    nothing else any more (``trouble`` says why). With ``is_retry`` what failed for good is tried once more. The
    design is registered by ``design_row`` with its first proposal, so that a sweep that ends before it leaves nothing
    behind.
    """

    design: Design
    ledger: Ledger
    planner: Planner
    replicates: int
    settings: TaskSettings
    design_row: Row
    deadline: float = math.inf
    is_retry: bool = False
    limits: PackLimits = field(init=False)
    on_proposal: Callable[[Proposal], None] = lambda proposal: None
    on_halved: Callable[[int, list[int]], None] = lambda planned, sizes: None
    proposals: list[Proposal] = field(init=False)
    is_finished: bool = field(default=False, init=False)
    is_out_of_budget: bool = field(default=False, init=False)
    trouble: str = field(default="", init=False)
    running: list[PackTask] = field(default_factory=list, init=False)
    is_storage_lost: bool = field(default=False, init=False)
    _queue: deque[PackTask] = field(default_factory=deque, init=False)
    _fractions: dict[str, float] = field(default_factory=dict, init=False)
    _num_troubles: int = field(default=0, init=False)
    _before: dict[str, int] = field(default_factory=dict, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)
    _work_at_start: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.limits = PackLimits(recipe=self.recipe)
        self.reload()

    @property
    def recipe(self) -> Recipe[Any]:
        return self.design.recipe

    def reload(self) -> None:
        """Read the ledger anew: another driver may have written since."""
        recorded = self.ledger.proposals(self.design.hash)
        self.proposals = [self.planner.read(id_, rows) for id_, rows in recorded.items()]
        self._before = {key: len(rows) for key, rows in self.ledger.attempts().items()}
        self._refresh()
        self._work_at_start = self._work_done()

    def _refresh(self) -> None:
        if not self.ledger.has_proposals(self.design.hash, [proposal.id for proposal in self.proposals]):
            raise FileNotFoundError("rounds that were recorded are gone")
        self.attempts = self.ledger.attempts()
        self.settled = settle(self.attempts)
        if self.is_retry:
            self.settled = {
                key: row
                for key, row in self.settled.items()
                if Outcome(row["outcome"]) in FINAL_OUTCOMES or self._has_failed_now(key)
            }

    @property
    def entries(self) -> list[Entry]:
        """All recorded entries."""
        return [entry for proposal in self.proposals for entry in proposal.entries]

    def open_replicates(self) -> list[Replicate[Any]]:
        """Recorded replicates that are not settled, each once."""
        unsettled = {e.replicate.key: e.replicate for e in self.entries if e.replicate.key not in self.settled}
        return list(unsettled.values())

    def next_task(self, *, is_idle: bool) -> PackTask | None:
        """The next pack, or None: then the sweep is over if nothing is running, else replicates are still open."""
        if self.trouble:
            return None
        if self._queue and time.monotonic() < self.deadline:
            return self._handed_out()
        if not is_idle:
            return None
        if time.monotonic() >= self.deadline:
            self.is_out_of_budget = bool(self._queue) or not self.is_plan_finished()
            return None
        if self._fill_queue():
            return self._handed_out()
        self.is_finished = not self.open_replicates()
        return None

    def _handed_out(self) -> PackTask:
        task = self._queue.popleft()
        self.running.append(task)
        return task

    def interrupt(self) -> None:
        """Record what runs as interrupted; where a worker still ends its pack, the pack's findings count."""
        known = self._known_attempts()
        for task in self.running:
            if (lacking := _without(task, known)) is not None:
                record_failure(lacking, Outcome.INTERRUPTED, "the sweep was stopped", datetime.now(UTC))

    def is_plan_finished(self) -> bool:
        """Whether nothing is left to run; records nothing."""
        return not self.open_replicates() and self.planner.propose(self.proposals, self.settled) is None

    def slice_states(self) -> tuple[SliceState, ...]:
        """How far the search in every slice came; empty where none is sought or replicates are open."""
        return () if self.open_replicates() else self.planner.limits(self.proposals, self.settled)

    def unsettled_slices(self) -> tuple[SliceState, ...]:
        """The slices whose limit is less certain than was asked for and that no further replicate is planned for."""
        return tuple(state for state in self.slice_states() if not state.is_settled and not state.points)

    def num_by_role(self) -> tuple[int, int]:
        """Replicates with a finding: those that tuned nuisances, and those that are reported."""
        settled = {
            entry.replicate.key: entry.role
            for entry in self.entries
            if (row := self.settled.get(entry.replicate.key)) and Outcome(row["outcome"]) in FINAL_OUTCOMES
        }
        return sum(role == "tuning" for role in settled.values()), sum(role == "reported" for role in settled.values())

    def _fill_queue(self) -> bool:
        open_ = self.open_replicates()
        if open_:
            # A command that died between a design's first proposal and the design left the proposal alone.
            self.ledger.record_design(self.design_row)
        else:
            based_on = self.ledger.adopt(self.attempts)
            proposal = self.planner.propose(self.proposals, self.settled, based_on=based_on)
            if proposal is None:
                return False
            rows = [entry.row(self.design.hash, proposal.id) for entry in proposal.entries]
            why = {"purpose": proposal.purpose, "based_on": proposal.based_on, "pending": list(proposal.pending)}
            self.ledger.record_proposal(self.design.hash, proposal.id, rows, **why)
            self.ledger.record_design(self.design_row)
            self.proposals.append(proposal)
            self.on_proposal(proposal)
            open_ = self.open_replicates()
            if not open_:
                return self._fill_queue()
        ready = [replicate for replicate in open_ if self._may_try(replicate.key)]
        settled = settle(self.attempts) if self.is_retry else {}
        if again := [r.key for r in ready if r.key in settled and not self._tried_now(r.key)]:
            self.ledger.journal.append(Kind.RETRY, keys=again)
        # Who is to blame for a failed pack shows when each of its members is alone.
        suspects = {replicate.key for replicate in ready if failed_attempt(self.attempts.get(replicate.key, []))}
        alone = [(replicate,) for replicate in ready if replicate.key in suspects]
        together = [replicate for replicate in ready if replicate.key not in suspects]
        packs = [*alone, *make_packs(together, self.limits)]
        self._queue.extend(self._task(pack) for pack in packs)
        return bool(self._queue)

    def _tried_now(self, key: str) -> list[Row]:
        """The attempts of this command."""
        return self.attempts.get(key, [])[self._before.get(key, 0) :]

    def _has_failed_now(self, key: str) -> bool:
        """Whether a replicate failed in this command by itself."""
        return any(is_own_failure(Outcome(row["outcome"]), row["pack_planned"]) for row in self._tried_now(key))

    def _may_try(self, key: str) -> bool:
        """Not after a failure of its own in this command, nor after it was ended again and again."""
        ended = Counter(Outcome(row["outcome"]) for row in self._tried_now(key))
        is_endless = ended[Outcome.ENVIRONMENT] >= MAX_ATTEMPTS or ended[Outcome.INTERRUPTED] >= MAX_INTERRUPTIONS
        return not is_endless and not self._has_failed_now(key)

    def _task(self, pack: Sequence[Replicate[Any]]) -> PackTask:
        kind = self.recipe.together(pack[0].config)
        seconds = [
            row["seconds"] * row["pack_size"]
            for entry in self.entries
            if self.recipe.together(entry.replicate.config) == kind
            and (row := self.settled.get(entry.replicate.key)) is not None
            and row["seconds"] is not None
        ]
        hang = max(_MIN_HANG_SECONDS, 10 * statistics.median(seconds)) if seconds else _MIN_HANG_SECONDS
        reported = {entry.replicate.key for entry in self.entries if entry.role == "reported"}
        return PackTask(
            settings=self.settings,
            replicates=tuple(pack),
            attempts=tuple(len(self.attempts.get(r.key, [])) + 1 for r in pack),
            hang_seconds=hang,
            keep_models=tuple(r.key in reported for r in pack),
            gpu_share=self.limits.share_of(pack),
            memory_bytes=self.limits.memory_bytes,
        )

    def planned_packs(self, limits: PackLimits) -> list[tuple[Replicate[Any], ...]]:
        """The packs of open replicates and of those that are foreseen."""
        groups = (self.open_replicates(), *self.planner.foreseen())
        return [pack for group in groups for pack in make_packs(group, limits)]

    def lacking(self, task: PackTask) -> PackTask | None:
        """The part of a pack of which the ledger holds no row of this very attempt; None where it has all."""
        return _without(task, self._known_attempts())

    def _known_attempts(self) -> set[tuple[str, int]]:
        """Key and number of every attempt in the ledger as it is now."""
        return {(key, row["attempt"]) for key, rows in self.ledger.attempts().items() for row in rows}

    def note_progress(self, task: PackTask, fraction: float) -> None:
        """Remember how far a running pack is, for the time left."""
        for replicate in task.replicates:
            self._fractions[replicate.key] = fraction

    def note_complete(self, task: PackTask) -> None:
        """Read what a pack left in the ledger, and say where it was halved."""
        self.running.remove(task)
        self._refresh()
        self.ledger.adopt(self.attempts)
        pairs = zip((r.key for r in task.replicates), task.attempts, strict=True)
        rows = [row for key, number in pairs for row in self.attempts.get(key, []) if row["attempt"] == number]
        sizes = Counter(row["pack_size"] for row in rows if row["pack_size"] < (row["pack_planned"] or 0))
        if sizes:
            parts = [size for size, num_rows in sorted(sizes.items()) for _ in range(num_rows // size)]
            self.on_halved(len(task.replicates), parts[::-1])
        for replicate in task.replicates:
            self._fractions.pop(replicate.key, None)
        if not rows:
            self.stop_for("a pack ended and left no row in the ledger: look at its storage")
        self._count_trouble(rows)

    def _count_trouble(self, rows: Sequence[Row]) -> None:
        """Stop where the environment ends one pack after the other; a node that left, or a stop, is no trouble."""
        if any(Outcome(row["outcome"]) in FINAL_OUTCOMES for row in rows):
            self._num_troubles = 0
            return
        ended = [row for row in rows if row["outcome"] == Outcome.ENVIRONMENT]
        if not ended:
            return
        self._num_troubles += 1
        if self._num_troubles >= MAX_TROUBLES:
            self.stop_for(
                f"{MAX_TROUBLES} packs in a row ended without a result and not by their own fault; the last one: "
                f"{ended[-1]['error']}"
            )

    def lose_storage(self, error: OSError) -> None:
        """Stop where the ledger can no longer be written, or is no longer what it was."""
        self.is_storage_lost = True
        self.stop_for(f"the storage {self.ledger.store.shown} cannot be used any more ({first_line(error)})")

    def stop_for(self, trouble: str) -> None:
        """Hand out nothing more; the first reason is kept."""
        self.trouble = self.trouble or trouble

    def failed_rows(self) -> list[Row]:
        """The last failed attempt of every recorded replicate that has no finding."""
        keys = dict.fromkeys(entry.replicate.key for entry in self.entries)
        found = (failed_attempt(self.attempts.get(key, [])) for key in keys)
        return [row for row in found if row is not None]

    def counts(self) -> tuple[int, int]:
        """Replicates done, and replicates recorded or at least to come."""
        keys = {entry.replicate.key for entry in self.entries}
        size = plan_size(self.design, self.replicates)
        return sum(key in self.settled for key in keys), max(len(keys), size.least)

    def _work(self, entry: Entry) -> float:
        return self.limits.cost(entry.replicate.config).work

    def _work_done(self) -> float:
        done = sum(self._work(e) for e in self.entries if e.replicate.key in self.settled)
        running = sum(
            self._work(e) * self._fractions.get(e.replicate.key, 0.0)
            for e in self.entries
            if e.replicate.key not in self.settled
        )
        return done + running

    def seconds_left(self) -> float | None:
        """Time left at the pace of this sweep, counting what is still to come; None before there is a pace."""
        done = self._work_done()
        gained, elapsed = done - self._work_at_start, time.monotonic() - self._started
        if gained <= 0 or elapsed < 5:
            return None
        total = sum(self._work(e) for e in self.entries)
        if not any(entry.role == "reported" for entry in self.entries):
            to_come = self.replicates * sum(
                self.limits.cost(self.design.resolve(point, {}, "reported")).work for point in self.design.points()
            )
            total += to_come
        return elapsed * max(total - done, 0.0) / gained


def _without(task: PackTask, known: Collection[tuple[str, int]]) -> PackTask | None:
    """The part of a pack whose attempts are not ``known``; None where all are."""
    pairs = zip((r.key for r in task.replicates), task.attempts, strict=True)
    members = [index for index, pair in enumerate(pairs) if pair not in known]
    if len(members) == len(task.replicates):
        return task
    return task.part(members) if members else None
