"""Which replicates come next: rounds, proposed from complete rounds only.

Round 0 tries the nuisance grid in every cell, the next extends it once where the best value lies at its edge, and
the next reports every point at its best setting with fresh seeds. Where a limit is sought, that was stage one: each
later round reports the replicates that are expected to narrow the limits most, after a round that tunes those of its
cells that are new and that their neighbours do not agree on. The rule is a pure function of the recorded rounds and
the settled rows: a rebuilt searcher proposes what one that was never stopped would propose.

No replicate is stopped by a value on its way. One that is cut short answers for another horizon, and successive
halving would pass its value for a result just where the outcome is about to rise, which is next to the threshold.
What is left out is left out before it runs: tuning where neighbours agree, and replicates of settled limits. A diverged
replicate may end at once: whatever it went on to, it stands at its floor.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.designs.design import Design, DesignSlice, cell_name
from study.designs.values import Scalar, Values
from study.interface.run import Replicate
from study.planning.limit_state import Measurement, SliceState, next_seed, opposite, slice_state
from study.planning.proposals import DigestOf, Entry, Proposal, Purpose, Role
from study.planning.tuning import NuisanceTuner, TunedCell
from study.rows import Row, floor_of, value_of

FIRST_TUNING_SEED = 1
FIRST_REPORTED_SEED = 101
# Replicates that gave nothing, after which a point with no more results than these is not asked for again.
HOPELESS_AFTER = 2


@dataclass(frozen=True, kw_only=True)
class PlannedRound:
    """The entries of the next round and what they are for; no entries where the plan is finished.

    ``slices`` is what is known of every limit that is sought, once stage one is reported.
    """

    purpose: Purpose
    entries: list[Entry]
    slices: tuple[SliceState, ...] = ()


@dataclass
class _Cell:
    """What was planned in a cell: rounds that tuned it, their outcomes by setting (sorted JSON), reported entries."""

    point: dict[str, Scalar]
    tuning_rounds: set[int] = field(default_factory=set)
    outcomes: dict[str, list[float | None]] = field(default_factory=dict)
    reported: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RoundPlanner:
    """Ask for the next round, tell by settled rows."""

    design: Design
    digest_of: DigestOf
    replicates: int
    # The inference takes a tenth of a second per slice and is asked by who plans, who ends and who shows.
    _states: dict[Hashable, SliceState] = field(default_factory=dict, init=False, repr=False, compare=False)

    def next_round(self, rounds: Sequence[Sequence[Entry]], settled: Mapping[str, Row]) -> list[Entry]:
        """The entries of the next round, empty when the plan is finished.

        All keys of the recorded rounds must be settled.
        """
        return self.plan(rounds, settled).entries

    def plan(self, rounds: Sequence[Sequence[Entry]], settled: Mapping[str, Row]) -> PlannedRound:
        """The next round with its purpose."""
        assert all(e.replicate.key in settled for round_ in rounds for e in round_), "a round is open"
        if self.design.nuisance and not rounds:
            entries = [e for point in self.design.points() for e in self._tune(point, self._tuner.grid(point))]
            return PlannedRound(purpose="tuning", entries=entries)
        cells = self._cells(rounds, settled)
        if extension := self._extension(cells):
            return PlannedRound(purpose="tuning", entries=extension)
        if reported := self._reported(cells):
            return PlannedRound(purpose="reporting", entries=reported)
        if not self.design.is_sought:
            return PlannedRound(purpose="reporting", entries=[])
        return self._sought(cells, settled, len(rounds))

    def propose(
        self,
        recorded: Sequence[Proposal],
        settled: Mapping[str, Row],
        *,
        pending: Collection[str] = (),
        room: float = math.inf,
        based_on: int = 0,
    ) -> Proposal | None:
        """The next round, once everything that was planned has settled: what ``room`` there is plays no part."""
        if pending:
            return None
        planned = self.plan([proposal.entries for proposal in recorded], settled)
        if not planned.entries:
            return None
        index = len(recorded)
        return Proposal(
            id=f"{index:04d}",
            purpose=planned.purpose,
            entries=tuple(planned.entries),
            title=f"round {index}",
            based_on=based_on,
            slices=planned.slices,
        )

    def limits(self, recorded: Sequence[Proposal], settled: Mapping[str, Row]) -> tuple[SliceState, ...]:
        """What is known of every limit that is sought; empty where none is."""
        if not self.design.is_sought:
            return ()
        return self.slice_states([proposal.entries for proposal in recorded], settled)

    def foreseen(self) -> list[list[Replicate[Any]]]:
        """The first round, and what stage one reports.

        Settings that are not tuned yet keep the design's own values.
        """
        budget = self.design.budget
        num_at_once = budget.round_replicates if self.design.is_sought else 1
        seeds = range(FIRST_REPORTED_SEED, FIRST_REPORTED_SEED + max(self.replicates, num_at_once))
        configs = [self.design.resolve(point, {}, "reported") for point in self.design.points()]
        reported = [self.design.recipe.replicate(c, seed, self.digest_of(c)) for c in configs for seed in seeds]
        return [[entry.replicate for entry in self.next_round([], {})], reported]

    def read(self, id_: str, rows: Sequence[Row]) -> Proposal:
        """A recorded round."""
        config_class = self.design.recipe.config_class
        entries = tuple(Entry.from_row(row, config_class, self.digest_of) for row in rows)
        purpose: Purpose = "tuning" if entries[0].role == "tuning" else "reporting"
        return Proposal(id=id_, purpose=purpose, entries=entries, title=f"round {int(id_)}")

    def slice_states(self, rounds: Sequence[Sequence[Entry]], settled: Mapping[str, Row]) -> tuple[SliceState, ...]:
        """What the settled rows say of every limit that is sought, with the next points of each."""
        return self._slice_states(self._cells(rounds, settled), settled)

    def tuned_cells(self, entries: Sequence[Entry], settled: Mapping[str, Row]) -> list[TunedCell]:
        """The state of the nuisance tuning of every cell of stage one."""
        cells = self._cells([entries], settled)
        return [self._tuned(cells.get(cell_name(point), _Cell(point))) for point in self.design.points()]

    @property
    def _tuner(self) -> NuisanceTuner:
        return NuisanceTuner(design=self.design)

    def _cells(self, rounds: Sequence[Sequence[Entry]], settled: Mapping[str, Row]) -> dict[str, _Cell]:
        """Every cell of the recorded rounds by its name, in the order of its first entry."""
        cells: dict[str, _Cell] = {}
        for index, round_ in enumerate(rounds):
            for entry in round_:
                cell = cells.setdefault(entry.cell, _Cell(entry.point))
                if entry.role == "reported":
                    cell.reported.append(entry)
                else:
                    cell.tuning_rounds.add(index)
                    setting = json.dumps(entry.nuisance, sort_keys=True)
                    cell.outcomes.setdefault(setting, []).append(
                        self.outcome(settled[entry.replicate.key], entry.replicate.config)
                    )
        return cells

    def _tune(self, point: dict[str, Scalar], settings: Sequence[Values]) -> list[Entry]:
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.design.tuning_seeds)
        return [self._entry("tuning", point, setting, seed) for setting in settings for seed in seeds]

    def _entry(self, role: Role, point: Values, nuisance: Values, seed: int) -> Entry:
        config = self.design.resolve(point, nuisance, role)
        return Entry(
            role=role,
            point=dict(point),
            nuisance=dict(nuisance),
            replicate=self.design.recipe.replicate(config, seed, self.digest_of(config)),
        )

    def _tuned(self, cell: _Cell, neighbours: Sequence[TunedCell] = ()) -> TunedCell:
        return self._tuner.tuned(cell.point, cell.outcomes, neighbours)

    def _setting(self, cell: _Cell) -> Values | None:
        """The setting that a cell is reported at, None where it has none yet."""
        return cell.reported[0].nuisance if cell.reported else self._tuned(cell).best

    def _extension(self, cells: Mapping[str, _Cell]) -> list[Entry]:
        """One more value beyond the edge in every cell that was tuned once and is not reported."""
        stage_one = {cell_name(point) for point in self.design.points()}
        new = []
        for name, cell in cells.items():
            if len(cell.tuning_rounds) == 1 and not cell.reported:
                neighbours = () if name in stage_one else self._neighbours(cell.point, cells)
                settings = self._tuner.extension(self._tuned(cell), neighbours)
                new += self._tune(cell.point, settings)
        return new

    def _reported(self, cells: Mapping[str, _Cell]) -> list[Entry]:
        """Stage one with its seeds; where it has fewer than are asked for now, new seeds at every reported point."""
        stage_one = {cell_name(p): cells.get(cell_name(p), _Cell(p)) for p in self.design.points()}
        tuned = [cell for cell in stage_one.values() if self._tuned(cell).best is not None]
        if all(len(cell.reported) >= self.replicates for cell in tuned):
            return []
        later = [cell for name, cell in cells.items() if cell.reported and name not in stage_one]
        new: list[Entry] = []
        have = [entry for cell in cells.values() for entry in cell.reported]
        for cell in (*tuned, *later):
            setting = self._setting(cell)
            assert setting is not None
            (slice_,) = (found for found in self.design.slices() if found.holds(cell.point))
            for _ in range(len(cell.reported), self.replicates):
                seed = self._next_seed(cell.point, [entry for entry in (*have, *new) if slice_.holds(entry.point)])
                new.append(self._entry("reported", cell.point, setting, seed))
        return new

    def _sought(self, cells: Mapping[str, _Cell], settled: Mapping[str, Row], index: int) -> PlannedRound:
        """The next replicates of every limit, or first the tuning of those of their cells that need it."""
        states = self._slice_states(cells, settled)
        tuning: list[Entry] = []
        settings: dict[str, Values] = {}
        for point in (point for state in states for point in state.points):
            name = cell_name(point)
            if name in settings:
                continue
            cell = cells.get(name, _Cell(point))
            setting = self._setting(cell)
            if setting is None:
                setting, *others = self._tuner.borrowed(point, self._neighbours(point, cells), index)
                # What failed in every setting is not tuned again.
                if others and not cell.tuning_rounds:
                    tuning += self._tune(point, [setting, *others])
            settings[name] = setting
        if tuning:
            return PlannedRound(purpose="tuning new points", entries=tuning, slices=states)
        entries = []
        for state in states:
            reported = [e for cell in cells.values() if state.slice.holds(cell.point) for e in cell.reported]
            for point in state.points:
                entry = self._entry("reported", point, settings[cell_name(point)], self._next_seed(point, reported))
                reported.append(entry)
                entries.append(entry)
        return PlannedRound(purpose="seeking", entries=entries, slices=states)

    def _next_seed(self, point: Values, reported: Sequence[Entry]) -> int:
        """The next seed of a point of a slice in which ``reported`` are planned; on a fixed grid each its first.

        Where a limit of successes is sought every replicate has a seed of its own: they are then independent.
        """
        is_own = self.design.is_sought and self.design.criterion.share is not None
        used = {entry.replicate.seed for entry in reported if is_own or entry.point == point}
        counts = Counter(entry.replicate.seed for entry in reported) if self.design.is_sought else {}
        return next_seed(used, counts, FIRST_REPORTED_SEED)

    def _slice_states(self, cells: Mapping[str, _Cell], settled: Mapping[str, Row]) -> tuple[SliceState, ...]:
        states = []
        for index, slice_ in enumerate(self.design.slices()):
            entries = [e for cell in cells.values() if slice_.holds(cell.point) for e in cell.reported]
            found = [self._measurement(slice_, entry, settled[entry.replicate.key]) for entry in entries]
            measurements = tuple(sorted(m for m in found if m is not None))
            failed = Counter(slice_.position(e.point) for e, m in zip(entries, found, strict=True) if m is None)
            measured = Counter(m.position for m in measurements)
            hopeless = frozenset(p for p, count in failed.items() if count >= max(HOPELESS_AFTER, measured[p]))
            key = (index, len(entries), measurements, hopeless)
            if key not in self._states:
                self._states[key] = slice_state(self.design, slice_, measurements, len(entries), hopeless)
            states.append(self._states[key])
        return tuple(states)

    def _measurement(self, slice_: DesignSlice, entry: Entry, row: Row) -> Measurement | None:
        """What a reported row says of the limit, None where nothing was measured."""
        criterion = self.design.criterion
        config = entry.replicate.config
        floor = floor_of(row, config, criterion, self.design.recipe)
        outcome = self.outcome(row, config)
        if outcome is None or floor is None:
            return None
        position = slice_.position(entry.point)
        return Measurement(
            position=position, seed=entry.replicate.seed, outcome=criterion.outcome(outcome), floor=floor
        )

    def _neighbours(self, point: Values, cells: Mapping[str, _Cell]) -> list[TunedCell]:
        """The nearest tuned and reported cell of the same slice, and the nearest on the other side of ``point``."""
        (slice_,) = (found for found in self.design.slices() if found.holds(point))
        others = [cell for cell in cells.values() if cell.reported and slice_.holds(cell.point)]
        tuned = [cell for cell in map(self._tuned, others) if cell.best is not None and cell.point != point]
        axes = self.design.scientific[: len(slice_.paths)]
        positions = [tuple(axis.position(cell.point[axis.path]) for axis in axes) for cell in tuned]
        here = [axis.position(point[axis.path]) for axis in axes]
        return [tuned[index] for index in opposite(here, positions)]

    def outcome(self, row: Row, config: Any) -> float | None:
        """The criterion's metric of a settled row; a diverged one stands at its floor, a failed one is missing."""
        return value_of(row, config, self.design.criterion, self.design.recipe)
