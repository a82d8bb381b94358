"""One file of the ledger: rows to Parquet and back, with its schema's version, and whether it can be believed."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.config import ConfigError, first_line
from study.results.schema import SCHEMA_VERSION, TABLES, arrow_schema

_NAME = "schema_version"


class DamagedFile(ValueError):
    """A file that holds no rows of its table: cut, foreign, or with columns that this code has never written."""


def encode(table: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet file of rows; raises where a value does not fit its column, instead of cutting it."""
    schema = arrow_schema(table)
    rows = list(rows)
    unknown = {column for row in rows for column in row} - set(schema.names)
    assert not unknown, f"columns missing from the schema: {sorted(unknown)}"
    required = [column.name for column in TABLES[table] if column.is_required]
    assert all(row.get(name) is not None for row in rows for name in required), f"null in one of {required}"
    columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
    # Built untyped and then cast: only a cast checks values.
    data = pa.table({name: pa.array(values) for name, values in columns.items()}).cast(schema)
    buffer = pa.BufferOutputStream()
    stamped = data.replace_schema_metadata({_NAME: str(SCHEMA_VERSION)})
    pq.write_table(stamped, buffer, write_page_checksum=True)
    return buffer.getvalue().to_pybytes()


def decode(table: str, data: bytes, place: str) -> pa.Table:
    """The rows of a file of ``table``; columns that its older schema lacks are null.

    Raises:
        DamagedFile: with the reason in a few words, where the bytes are no such file.
        ConfigError: where a newer version of this code has written it; ``place`` names it.
    """
    if not data:
        raise DamagedFile("0 bytes")
    try:
        # On one thread: a reader thread that releases Python's buffer while the interpreter ends aborts it.
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
        found = file.read(use_threads=False)
        version = _version(file, found)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"no readable Parquet file: {first_line(error).rstrip('.')}") from error
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"{place} was written by a newer version of this code (schema {version}, this one knows up to "
            f"{SCHEMA_VERSION}) and is left as it is: update this code, or pass another --storage"
        )
    return _checked(table, found)


def _version(file: pq.ParquetFile, found: pa.Table) -> int:
    """The newest version that a file's metadata and rows name, 0 where it was written before there was one."""
    stamp = (file.metadata.metadata or {}).get(_NAME.encode(), b"0")
    of_rows = pc.max(found[_NAME]).as_py() if _NAME in found.column_names else None
    return max(int(stamp) if stamp.isdigit() else 0, of_rows if isinstance(of_rows, int) else 0)


def _checked(table: str, found: pa.Table) -> pa.Table:
    """A table in today's columns; :class:`DamagedFile` where it has others, other types, or rows of nothing."""
    columns = {column.name: column for column in TABLES[table]}
    if unknown := sorted(set(found.column_names) - columns.keys()):
        raise DamagedFile(f"no file of this table: unknown column {unknown[0]!r}")
    if len(set(found.column_names)) < found.num_columns:
        raise DamagedFile("no file of this table: a column stands there twice")
    for field in found.schema:
        if not _fits(field.type, columns[field.name].type):
            raise DamagedFile(f"column {field.name!r} holds {field.type}, not {columns[field.name].type}")
    for name, column in columns.items():
        if column.is_required and (name not in found.column_names or found[name].null_count):
            raise DamagedFile(f"rows without {name!r}")
    pieces = [
        found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(found.num_rows, field.type)
        for field in arrow_schema(table)
    ]
    return pa.table(pieces, schema=arrow_schema(table))


def _fits(type_: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column is of the type that was wanted; times may name their zone."""
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(type_) and (type_.unit, type_.tz in ("UTC", wanted.tz)) == (wanted.unit, True)
    return type_ == wanted
