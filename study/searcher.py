"""Which replicates come next: rounds, proposed from complete rounds only.

Round 0 tries the nuisance grid in every cell, the next extends it once where the best value lies at its edge, and
the last reports every point at its best setting with fresh seeds. The rule is a pure function of the recorded
rounds and the settled rows: a rebuilt searcher proposes what one that was never stopped would propose.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from study.config import Replicate, ReplicateConfig, Scalar, digest, from_json, to_json
from study.design import Design, cell_name
from study.outcome import MEASURED_OUTCOMES, Outcome
from study.space import Axis, Values

optuna.logging.set_verbosity(optuna.logging.WARNING)

Row = Mapping[str, Any]
Role = Literal["tuning", "reported"]
# The digest of the data set that a configuration trains on.
DigestOf = Callable[[ReplicateConfig], str]

FIRST_TUNING_SEED = 1
FIRST_REPORTED_SEED = 101


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One planned replicate: its cell, its nuisance setting, its role and the run itself."""

    role: Role
    point: dict[str, Scalar]
    nuisance: dict[str, Scalar]
    replicate: Replicate

    @property
    def cell(self) -> str:
        return cell_name(self.point)

    def row(self, study_hash: str, index: int) -> dict[str, Any]:
        """The entry as a row of the ``rounds`` table."""
        return {
            "study_hash": study_hash,
            "round": index,
            "role": self.role,
            "cell": self.cell,
            "nuisance": json.dumps(self.nuisance, sort_keys=True),
            "seed": self.replicate.seed,
            "key": self.replicate.key,
            "config": to_json(self.replicate.config),
        }

    @classmethod
    def from_row(cls, row: Row, digest_of: DigestOf) -> "Entry":
        config = from_json(row["config"])
        replicate = Replicate(key=row["key"], config=config, seed=row["seed"], data_digest=digest_of(config))
        return cls(
            role=row["role"],
            point=json.loads(row["cell"]),
            nuisance=json.loads(row["nuisance"]),
            replicate=replicate,
        )


@dataclass(frozen=True, kw_only=True)
class TunedCell:
    """The nuisance setting chosen for a cell, with the mean outcome of every setting tried."""

    point: dict[str, Scalar]
    best: dict[str, Scalar] | None
    at_edge: tuple[str, ...]
    tried: tuple[tuple[dict[str, Scalar], float], ...]


@dataclass(frozen=True, kw_only=True)
class RoundPlanner:
    """Ask for the next round, tell by settled rows."""

    design: Design
    digest_of: DigestOf
    replicates: int

    def next_round(self, rounds: Sequence[Sequence[Entry]], settled: Mapping[str, Row]) -> list[Entry]:
        """The entries of the next round, empty when the plan is finished.

        All keys of the recorded rounds must be settled.
        """
        entries = [entry for round_ in rounds for entry in round_]
        assert all(entry.replicate.key in settled for entry in entries), "a round is open"
        if self.design.nuisance:
            if not rounds:
                return [e for point in self.design.points() for e in self._tune(point, self._ask_grid(point))]
            if len(rounds) == 1 and (extension := self._extension(entries, settled)):
                return extension
        return self._reported(entries, settled)

    def tuned_cells(self, entries: Sequence[Entry], settled: Mapping[str, Row]) -> list[TunedCell]:
        """The state of the nuisance tuning of every cell."""
        return [self._tuned(point, entries, settled) for point in self.design.points()]

    def _tune(self, point: dict[str, Scalar], settings: Sequence[Values]) -> list[Entry]:
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.design.tuning_seeds)
        return [self._entry("tuning", point, setting, seed) for setting in settings for seed in seeds]

    def _entry(self, role: Role, point: Values, nuisance: Values, seed: int) -> Entry:
        config = self.design.resolve(point, nuisance, role)
        return Entry(
            role=role,
            point=dict(point),
            nuisance=dict(nuisance),
            replicate=Replicate.of(config, seed, self.digest_of(config)),
        )

    def _reported(self, entries: Sequence[Entry], settled: Mapping[str, Row]) -> list[Entry]:
        have: dict[str, int] = defaultdict(int)
        setting: dict[str, dict[str, Scalar]] = {}
        for entry in entries:
            if entry.role == "reported":
                have[entry.cell] += 1
                setting[entry.cell] = entry.nuisance
        new = []
        for point in self.design.points():
            cell = cell_name(point)
            best = setting.get(cell) or self._tuned(point, entries, settled).best
            if best is None:
                continue
            first = FIRST_REPORTED_SEED + have[cell]
            for seed in range(first, FIRST_REPORTED_SEED + self.replicates):
                new.append(self._entry("reported", point, best, seed))
        return new

    def _tuned(self, point: dict[str, Scalar], entries: Sequence[Entry], settled: Mapping[str, Row]) -> TunedCell:
        if not self.design.nuisance:
            return TunedCell(point=point, best={}, at_edge=(), tried=())
        told = self._tell(point, entries, settled)
        trials = told.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        tried = tuple((dict(trial.params), float(trial.values[0])) for trial in trials)
        if not trials:
            return TunedCell(point=point, best=None, at_edge=(), tried=())
        best = dict(told.best_trial.params)
        at_edge = tuple(axis.path for axis in self.design.nuisance if self._edge(axis, best, tried))
        return TunedCell(point=point, best=best, at_edge=at_edge, tried=tried)

    @staticmethod
    def _edge(axis: Axis, best: Values, tried: Sequence[tuple[Values, float]]) -> Literal["low", "high"] | None:
        values = [float(setting[axis.path]) for setting, _ in tried]
        value = float(best[axis.path])
        if value == min(values):
            return "low"
        return "high" if value == max(values) else None

    def _extension(self, entries: Sequence[Entry], settled: Mapping[str, Row]) -> list[Entry]:
        new = []
        for point in self.design.points():
            cell = self._tuned(point, entries, settled)
            if cell.best is None:
                continue
            for axis in self.design.nuisance:
                side = self._edge(axis, cell.best, cell.tried)
                if side is not None:
                    new += self._tune(point, [{**cell.best, axis.path: axis.beyond(side)}])
        return new

    def _distributions(self) -> dict[str, BaseDistribution]:
        found: dict[str, BaseDistribution] = {}
        for axis in self.design.nuisance:
            found[axis.path] = FloatDistribution(axis.beyond("low"), axis.beyond("high"), log=True)
        return found

    def _ask_grid(self, point: dict[str, Scalar]) -> list[dict[str, Scalar]]:
        """Every combination of the nuisance grid, asked of Optuna for this cell."""
        grid = {axis.path: list(axis.values) for axis in self.design.nuisance}
        size = math.prod(len(axis.values) for axis in self.design.nuisance)
        seed = int(digest([self.design.hash, cell_name(point), 0], length=7), 16)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid, seed=seed))
        distributions = self._distributions()
        settings = [dict(study.ask(distributions).params) for _ in range(size)]
        return sorted(settings, key=lambda setting: [setting[path] for path in grid])

    def _tell(
        self, point: dict[str, Scalar], entries: Sequence[Entry], settled: Mapping[str, Row]
    ) -> optuna.study.Study:
        """An Optuna study of this cell, rebuilt from its settled tuning rows: mean outcome per setting."""
        study = optuna.create_study(direction="maximize")
        outcomes: dict[str, list[float | None]] = defaultdict(list)
        for entry in entries:
            if entry.role == "tuning" and entry.point == point:
                outcomes[json.dumps(entry.nuisance, sort_keys=True)].append(self.outcome(settled[entry.replicate.key]))
        for setting, values in outcomes.items():
            if None in values:
                continue
            study.add_trial(
                optuna.trial.create_trial(
                    params=json.loads(setting),
                    distributions=self._distributions(),
                    value=math.fsum(v for v in values if v is not None) / len(values),
                )
            )
        return study

    def outcome(self, row: Row) -> float | None:
        """The criterion's metric of a settled row; a diverged one counts as the floor, a failed one as missing."""
        metric = self.design.criterion.metric
        if Outcome(row["outcome"]) in MEASURED_OUTCOMES:
            return row[metric]
        if Outcome(row["outcome"]) is Outcome.DIVERGED:
            return row[f"{metric}_before"]
        return None
