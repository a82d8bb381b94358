"""The ledger: immutable Parquet files that are the only truth of a study.

Replicates are identified by key, so that a finished one serves every design that asks for it. A pack writes its
curves first; its replicates file is the commit. Nothing sound is ever rewritten. A damaged file is named, left out and
never touched by a reader; what it held is made again, and takes its place where it has the same name.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from study.designs.values import digest
from study.errors import ConfigError
from study.ledger.attempts import settle
from study.ledger.journal import Journal, Kind, settled_order
from study.ledger.parquet import DamagedFile, decode, encode
from study.ledger.schema import TABLES, arrow_schema
from study.ledger.soundness import Asked, asked_metrics, fault
from study.ledger.store import Store
from study.outcome import Outcome
from study.rows import Row

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
        self.journal = Journal(store)
        self._cache: dict[str, pa.Table] = {}
        self._damaged: dict[str, str] = {}
        self._become_current: Callable[[], None] = lambda: None

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
        fresh._become_current = lambda: root.write(f"{study}/current", f"{study}.{number}\n".encode())
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
        return pa.concat_tables([arrow_schema(table).empty_table(), *sound.values()], promote_options="default")

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
            self.journal.append(Kind.DESIGN, f"designs/{row['study_hash']}.parquet")

    def record_proposal(self, study_hash: str, id_: str, rows: list[Row], **why: Any) -> None:
        """Record a proposal before it runs; recorded ones are read, never recomputed, unless their file is damaged.

        ``why`` goes into its entry of the journal: what it is for, what it was based on and what was pending.
        """
        name = f"{study_hash}-{id_}"
        assert self._load("rounds", f"{name}.parquet") is None
        self._write("rounds", name, rows)
        self.journal.append(Kind.PROPOSAL, f"rounds/{name}.parquet", study_hash=study_hash, id=id_, **why)
        self._become_current()

    def proposals(self, study_hash: str) -> dict[str, list[Row]]:
        """The recorded proposals of a design by their ids, in order.

        Damaged ones at the end are planned again, as a function of those before. Raises :class:`ConfigError` for one
        that later ones rest on: another one in its place could contradict them.
        """
        pattern = re.compile(rf"{re.escape(study_hash)}-(\d{{4,}})\.parquet")
        numbers = [int(found[1]) for name in self.names("rounds") if (found := pattern.fullmatch(name))]
        ids = [f"{index:04d}" for index in range(max(numbers, default=-1) + 1)]
        pieces = {id_: self._load("rounds", f"{study_hash}-{id_}.parquet") for id_ in ids}
        while ids and pieces[ids[-1]] is None:
            ids.pop()
        recorded: dict[str, list[Row]] = {}
        for id_ in ids:
            piece = pieces[id_]
            if piece is None:
                path = f"rounds/{study_hash}-{id_}.parquet"
                raise ConfigError(
                    f"{self.store.locate(path)} is {self._damaged.get(path, 'missing')}, and later rounds of the "
                    "search rest on it: put a copy of it back, or begin anew with --fresh"
                )
            recorded[id_] = piece.to_pylist()
        return recorded

    def planned(self, study_hash: str) -> list[Row]:
        """The rows of all proposals of a design, in order."""
        return [row for rows in self.proposals(study_hash).values() for row in rows]

    def has_proposals(self, study_hash: str, ids: Iterable[str]) -> bool:
        """Whether the files of proposals of a design are there."""
        return {f"{study_hash}-{id_}.parquet" for id_ in ids} <= {*self.names("rounds")}

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
                if why := fault(row, asked.get(row["key"], Asked())):
                    self._damaged.setdefault(f"replicates/{name}", f"row {row['key']}: {why}")
                    row |= {"outcome": str(Outcome.ENVIRONMENT), "error": f"the row of this attempt is damaged: {why}"}
                by_key[row["key"]].append(row)
        return {key: sorted(rows, key=lambda row: row["attempt"]) for key, rows in by_key.items()}

    def settled(self) -> dict[str, Row]:
        """The row that counts of every settled key: its finding, else its last failed attempt."""
        return settle(self.attempts())

    def adopt(self, attempts: Mapping[str, list[Row]]) -> int:
        """Enter into the journal what is not there yet, and return the number of its last entry.

        Args:
            attempts: as :meth:`attempts` gave them; files that came after it are left for the next time.
        """
        files = self.journal.not_adopted(
            f"{table}/{name}" for table in ("designs", "rounds", "replicates") for name in self.names(table)
        )
        if files:
            settled, known = settle(attempts), {*settled_order(self.journal.entries())}
            read = {(key, row["attempt"]) for key, rows in attempts.items() for row in rows}
            for file in sorted(files, key=self._time_of):
                table, _, name = file.partition("/")
                if table == "designs":
                    self.journal.append(Kind.DESIGN, file)
                elif table == "rounds":
                    self.journal.append(Kind.PROPOSAL, file)
                elif (piece := self._load(table, name)) is not None:
                    found = [(row["key"], row["attempt"]) for row in piece.to_pylist()]
                    if not read.issuperset(found):
                        # A worker wrote it since: whether it counts shows once it is read.
                        continue
                    keys = [key for key, attempt in found if key in settled and settled[key]["attempt"] == attempt]
                    new = [key for key in keys if key not in known]
                    known |= {*new}
                    self.journal.append(Kind.ACCEPTED if new else Kind.SET_ASIDE, file, keys=new, attempts=found)
        return self.journal.last

    def _time_of(self, file: str) -> tuple[datetime, str]:
        """When a file of a table came about, as far as its rows tell; a round tells nothing and comes first."""
        table, _, name = file.partition("/")
        column = {"designs": "created_at", "replicates": "finished_at"}.get(table)
        piece = None if column is None else self._load(table, name)
        times = [] if piece is None or column is None else [time for time in piece[column].to_pylist() if time]
        return max(times, default=datetime.min.replace(tzinfo=UTC)), file

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


def measurement_hash(prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any]) -> str:
    """The identity of measurements of one thing."""
    return digest([prefix, data_digest, seed, dict(settings)])
