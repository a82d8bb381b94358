"""The ledger: immutable Parquet files that are the only truth of a study.

Replicates are identified by key, so that a finished one serves every design that asks for it. A pack writes its
curves first; its replicates file is the commit. Nothing is ever rewritten.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from study.config import digest
from study.outcome import FINAL_OUTCOMES, Outcome, is_final
from study.results.schema import TABLES, arrow_schema
from study.results.store import Store

Row = dict[str, Any]


class Ledger:
    """One study's tables under STORAGE/NAME/{designs,rounds,replicates,curves,measurements}."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._cache: dict[str, pa.Table] = {}

    @classmethod
    def open(cls, storage: str, study: str) -> "Ledger":
        """The ledger of a study, honouring the ``current`` file that ``--fresh`` leaves."""
        root = Store(storage)
        current = root.read(f"{study}/current")
        return cls(root.child(current.decode().strip() if current else study))

    @classmethod
    def open_fresh(cls, storage: str, study: str) -> "Ledger":
        """A new, empty ledger STORAGE/NAME.N that later commands find; what was there stays where it is."""
        root = Store(storage)
        number = 1
        while Ledger(root.child(f"{study}.{number}")).names("designs"):
            number += 1
        root.write(f"{study}/current", f"{study}.{number}\n".encode())
        return cls(root.child(f"{study}.{number}"))

    def names(self, table: str) -> list[str]:
        """Names of a table's files."""
        return self.store.names(table, ".parquet")

    def read(self, table: str) -> pa.Table:
        """All rows of a table; columns that a file's older schema lacks are null."""
        assert table in TABLES
        pieces = [arrow_schema(table).empty_table()]
        for name in self.names(table):
            path = f"{table}/{name}"
            if path not in self._cache:
                data = self.store.read(path)
                assert data is not None, path
                self._cache[path] = _parse(data)
            pieces.append(self._cache[path])
        return pa.concat_tables(pieces, promote_options="default")

    def _write(self, table: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        schema = arrow_schema(table)
        rows = list(rows)
        unknown = {column for row in rows for column in row} - set(schema.names)
        assert not unknown, f"columns missing from the schema: {sorted(unknown)}"
        columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
        # Built untyped and then cast: a value that does not fit its column raises instead of being cut.
        data = pa.table({name: pa.array(values) for name, values in columns.items()}).cast(schema)
        buffer = pa.BufferOutputStream()
        pq.write_table(data, buffer)
        self.store.write(f"{table}/{name}.parquet", buffer.getvalue().to_pybytes())

    def record_design(self, row: Row) -> None:
        """Note a design at its first run; later runs change nothing."""
        if f"{row['study_hash']}.parquet" not in self.names("designs"):
            self._write("designs", row["study_hash"], [row])

    def record_round(self, study_hash: str, index: int, rows: list[Row]) -> None:
        """Record a round before it runs; recorded rounds are read, never recomputed."""
        name = f"{study_hash}-{index:04d}"
        assert f"{name}.parquet" not in self.names("rounds")
        self._write("rounds", name, rows)

    def rounds(self, study_hash: str) -> list[list[Row]]:
        """The recorded rounds of a design, in order."""
        by_index: dict[int, list[Row]] = defaultdict(list)
        for row in self.read("rounds").to_pylist():
            if row["study_hash"] == study_hash:
                by_index[row["round"]].append(row)
        return [by_index[index] for index in sorted(by_index)]

    def append_pack(self, replicates: list[Row], curves: list[Row]) -> None:
        """Write what a pack produced; the replicates file is written last and is the commit."""
        name = digest([[row["key"], row["attempt"], row["outcome"]] for row in replicates])
        if curves:
            self._write("curves", name, curves)
        self._write("replicates", name, replicates)

    def attempts(self) -> dict[str, list[Row]]:
        """Every key's attempts, oldest first."""
        by_key: dict[str, list[Row]] = defaultdict(list)
        for row in self.read("replicates").to_pylist():
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
        data = self.store.read(f"measurements/{measurement_hash(prefix, data_digest, seed, settings)}.parquet")
        rows = [] if data is None else _parse(data).to_pylist()
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


def _parse(data: bytes) -> pa.Table:
    """The table of a Parquet file.

    On one thread: a reader thread that releases Python's buffer while the interpreter ends aborts it.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def settle(attempts: Mapping[str, list[Row]]) -> dict[str, Row]:
    """The row that counts of every settled key of ``attempts``."""
    rows = {}
    for key, tried in attempts.items():
        if is_final((Outcome(row["outcome"]), row["pack_planned"] or row["pack_size"]) for row in tried):
            findings = [row for row in tried if Outcome(row["outcome"]) in FINAL_OUTCOMES]
            rows[key] = findings[0] if findings else tried[-1]
    return rows


def measurement_hash(prefix: str, data_digest: str, seed: int | None, settings: Mapping[str, Any]) -> str:
    """The identity of measurements of one thing."""
    return digest([prefix, data_digest, seed, dict(settings)])
