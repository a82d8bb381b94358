"""The ledger: immutable Parquet files that are the only truth of a study.

Replicates are identified by key, so that a finished one serves every design that asks for it. A pack writes its
curves first; its replicates file is the commit. Nothing sound is ever rewritten. A damaged file is named, left out and
never touched by a reader; what it held is made again, and takes its place where it has the same name.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from study.config import ConfigError, digest
from study.outcome import FINAL_OUTCOMES, Outcome, is_final
from study.results.parquet import DamagedFile, decode, encode
from study.results.schema import TABLES, arrow_schema
from study.results.soundness import asked_metrics, fault
from study.results.store import Store

Row = dict[str, Any]

# What becomes of what a damaged file held.
_CONSEQUENCES = {
    "designs": "the next run registers its design again",
    "rounds": "its round is planned again",
    "replicates": "its replicates run again where they are missing",
    "curves": "its learning curves are missing",
    "measurements": "what it held is measured again",
}


class Ledger:
    """One study's tables under STORAGE/NAME/{designs,rounds,replicates,curves,measurements}."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cache: dict[str, pa.Table] = {}
        self._damaged: dict[str, str] = {}
        self._adopt: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, storage: str, study: str) -> "Ledger":
        """The ledger of a study, honouring the ``current`` file that ``--fresh`` leaves."""
        root = Store(storage)
        current = root.read(f"{study}/current")
        if current is None:
            return cls(root.child(study))
        name = current.decode(errors="replace").strip()
        if not re.fullmatch(rf"{re.escape(study)}\.\d+", name):
            raise ConfigError(
                f"{root.locate(f'{study}/current')} should name the ledger that --fresh began, such as {study}.1, and "
                "does not: write that name into it, or delete it to go back to the first one"
            )
        return cls(root.child(name))

    @classmethod
    def open_fresh(cls, storage: str, study: str) -> "Ledger":
        """A new, empty ledger STORAGE/NAME.N; what was there stays where it is.

        Later commands find it from its first round on: one that could not begin has changed nothing.
        """
        root = Store(storage)
        number = 1
        while Ledger(root.child(f"{study}.{number}")).names("designs"):
            number += 1
        fresh = cls(root.child(f"{study}.{number}"))
        fresh._adopt = lambda: root.write(f"{study}/current", f"{study}.{number}\n".encode())
        return fresh

    def names(self, table: str) -> list[str]:
        """Names of a table's files, damaged ones too."""
        return self.store.names(table, ".parquet")

    def read(self, table: str) -> pa.Table:
        """All rows of a table's sound files; of curves those of committed packs."""
        assert table in TABLES
        sound = self._sound(table)
        if table == "curves":
            committed = self._sound("replicates")
            sound = {name: piece for name, piece in sound.items() if name in committed}
        return pa.concat_tables([arrow_schema(table).empty_table(), *sound.values()])

    def damage(self) -> list[str]:
        """A sentence about every file that was read by now and is damaged."""
        return [
            f"damaged and left out: {self.store.locate(path)} ({reason}); {_CONSEQUENCES[path.split('/')[0]]}"
            for path, reason in sorted(self._damaged.items())
        ]

    def _sound(self, table: str) -> dict[str, pa.Table]:
        """The rows of every sound file of a table, by its name."""
        self._damaged = {path: why for path, why in self._damaged.items() if not path.startswith(f"{table}/")}
        found = {name: self._load(table, name) for name in self.names(table)}
        return {name: piece for name, piece in found.items() if piece is not None}

    def _load(self, table: str, name: str) -> pa.Table | None:
        """The rows of one file; None where it is damaged, which is noted, and where there is none."""
        path = f"{table}/{name}"
        if path not in self._cache:
            self._damaged.pop(path, None)
            data = self.store.read(path)
            if data is None:
                return None
            try:
                self._cache[path] = decode(table, data, self.store.locate(path))
            except DamagedFile as error:
                # Read again next time: a worker may have put a sound one in its place.
                self._damaged[path] = str(error)
                return None
        return self._cache[path]

    def _write(self, table: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        path = f"{table}/{name}.parquet"
        self.store.write(path, encode(table, rows))
        self._cache.pop(path, None)
        self._damaged.pop(path, None)

    def has_design(self, study_hash: str) -> bool:
        """Whether a design is registered."""
        return self._load("designs", f"{study_hash}.parquet") is not None

    def record_design(self, row: Row) -> None:
        """Note a design at its first run; later runs change nothing."""
        if not self.has_design(row["study_hash"]):
            self._write("designs", row["study_hash"], [row])

    def record_round(self, study_hash: str, index: int, rows: list[Row]) -> None:
        """Record a round before it runs; recorded rounds are read, never recomputed, unless their file is damaged."""
        name = f"{study_hash}-{index:04d}"
        assert self._load("rounds", f"{name}.parquet") is None
        self._write("rounds", name, rows)
        self._adopt()

    def rounds(self, study_hash: str) -> list[list[Row]]:
        """The recorded rounds of a design, in order.

        Damaged ones at the end are planned again, as a function of those before. Raises :class:`ConfigError` for one
        that later rounds rest on: another one in its place could contradict them.
        """
        pattern = re.compile(rf"{re.escape(study_hash)}-(\d{{4,}})\.parquet")
        numbers = [int(found[1]) for name in self.names("rounds") if (found := pattern.fullmatch(name))]
        files = [f"{study_hash}-{index:04d}.parquet" for index in range(max(numbers, default=-1) + 1)]
        pieces = [self._load("rounds", name) for name in files]
        while pieces and pieces[-1] is None:
            pieces.pop()
        rounds = []
        for name, piece in zip(files, pieces, strict=False):
            if piece is None:
                path = f"rounds/{name}"
                raise ConfigError(
                    f"{self.store.locate(path)} is {self._damaged.get(path, 'missing')}, and later rounds of the "
                    "search rest on it: put a copy of it back, or begin anew with --fresh"
                )
            rounds.append(piece.to_pylist())
        return rounds

    def has_rounds(self, study_hash: str, number: int) -> bool:
        """Whether the files of so many rounds of a design are there."""
        return {f"{study_hash}-{index:04d}.parquet" for index in range(number)} <= {*self.names("rounds")}

    def append_pack(self, replicates: list[Row], curves: list[Row]) -> None:
        """Write what a pack produced; the replicates file is written last and is the commit."""
        name = digest([[row["key"], row["attempt"], row["outcome"]] for row in replicates])
        if curves:
            self._write("curves", name, curves)
        self._write("replicates", name, replicates)

    def attempts(self) -> dict[str, list[Row]]:
        """Every key's attempts, oldest first.

        A finding without the numbers that it is judged by is none. It keeps its place as an attempt that the
        environment spoiled, so that it is tried again.
        """
        sound = self._sound("replicates")
        asked = asked_metrics(
            self.read("designs").to_pylist(), self.read("rounds").select(["key", "study_hash"]).to_pylist()
        )
        by_key: dict[str, list[Row]] = defaultdict(list)
        for name, piece in sound.items():
            for row in piece.to_pylist():
                if why := fault(row, asked.get(row["key"], set())):
                    self._damaged.setdefault(f"replicates/{name}", f"row {row['key']}: {why}")
                    row |= {"outcome": str(Outcome.ENVIRONMENT), "error": f"the row of this attempt is damaged: {why}"}
                by_key[row["key"]].append(row)
        return {key: sorted(rows, key=lambda row: row["attempt"]) for key, rows in by_key.items()}

    def settled(self) -> dict[str, Row]:
        """The row that counts of every settled key: its finding, else its last failed attempt."""
        return settle(self.attempts())

    def measurements(
        self, prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any]
    ) -> dict[str, float]:
        """Quantities that need no training, by their name without ``prefix``; empty where they were not measured.

        One file by its name, however many there are.
        """
        found = self._load("measurements", f"{measurement_hash(prefix, data_digest, seed, settings)}.parquet")
        rows = [] if found is None else found.to_pylist()
        return {row["quantity"].removeprefix(prefix): row["value"] for row in rows}

    def record_measurements(
        self, prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any], values: Mapping[str, float]
    ) -> None:
        """Store measurements of one thing, together, under its identity; measuring it twice gives the same file."""
        hash_ = measurement_hash(prefix, data_digest, seed, settings)
        shared = {
            "hash": hash_,
            "data_digest": data_digest,
            "seed": seed,
            "settings": json.dumps(settings, sort_keys=True),
        }
        rows = [shared | {"quantity": prefix + name, "value": value} for name, value in values.items()]
        self._write("measurements", hash_, rows)


def settle(attempts: Mapping[str, list[Row]]) -> dict[str, Row]:
    """The row that counts of every settled key of ``attempts``."""
    rows = {}
    for key, tried in attempts.items():
        if is_final((Outcome(row["outcome"]), row["pack_planned"] or row["pack_size"]) for row in tried):
            findings = [row for row in tried if Outcome(row["outcome"]) in FINAL_OUTCOMES]
            rows[key] = findings[0] if findings else tried[-1]
    return rows


def failed_attempt(tried: Sequence[Row]) -> Row | None:
    """The last failed attempt of a replicate without a finding; None where it has one, or was only cut short."""
    if any(Outcome(row["outcome"]) in FINAL_OUTCOMES for row in tried):
        return None
    return next((row for row in reversed(tried) if Outcome(row["outcome"]) is not Outcome.INTERRUPTED), None)


def measurement_hash(prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any]) -> str:
    """The identity of measurements of one thing."""
    return digest([prefix, data_digest, seed, dict(settings)])
