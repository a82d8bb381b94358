"""One file of the ledger: rows to Parquet and back, with its schema's version, and whether it can be believed."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.errors import ConfigError, first_line
from study.ledger.schema import SCHEMA_VERSION, TABLES, Column, arrow_schema
from study.rows import before_column, is_metric_column, metric_column

_NAME = "schema_version"
_FIRST_WITH_PREFIXES = 4


class DamagedFile(ValueError):
    """A file that holds no rows of its table: cut, foreign, or with columns that this code has never written."""


def encode(table: str, rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A Parquet file of rows; raises where a value does not fit its column, instead of cutting it."""
    rows = list(rows)
    named = {column for row in rows for column in row}
    metrics = sorted(filter(is_metric_column, named)) if table == "replicates" else []
    schema = pa.schema([*arrow_schema(table), *(pa.field(name, pa.float64()) for name in metrics)])
    unknown = named - set(schema.names)
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
    return _checked(table, _renamed(table, found, version))


def _version(file: pq.ParquetFile, found: pa.Table) -> int:
    """The newest version that a file's metadata and rows name, 0 where it was written before there was one."""
    stamp = (file.metadata.metadata or {}).get(_NAME.encode(), b"0")
    of_rows = pc.max(found[_NAME]).as_py() if _NAME in found.column_names else None
    return max(int(stamp) if stamp.isdigit() else 0, of_rows if isinstance(of_rows, int) else 0)


def _renamed(table: str, found: pa.Table, version: int) -> pa.Table:
    """A table of replicates with its metrics in today's columns: before schema 4 they bore their names alone."""
    if table != "replicates" or version >= _FIRST_WITH_PREFIXES:
        return found
    own = {column.name for column in TABLES[table]}
    is_metric = {field.name: field.name not in own and pa.types.is_float64(field.type) for field in found.schema}
    return found.rename_columns([_prefixed(name) if is_metric[name] else name for name in found.column_names])


def _prefixed(name: str) -> str:
    ending = "_before"
    return before_column(name.removesuffix(ending)) if name.endswith(ending) else metric_column(name)


def _checked(table: str, found: pa.Table) -> pa.Table:
    """A table in today's columns; :class:`DamagedFile` where it has others, other types, or rows of nothing."""
    columns = {column.name: column for column in TABLES[table]}
    if table == "replicates":
        metrics = sorted(filter(is_metric_column, found.column_names))
        columns |= {name: Column(name=name, type=pa.float64(), meaning="") for name in metrics}
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
    schema = pa.schema([pa.field(column.name, column.type) for column in columns.values()])
    pieces = [
        found[field.name].cast(field.type) if field.name in found.column_names else pa.nulls(found.num_rows, field.type)
        for field in schema
    ]
    return pa.table(pieces, schema=schema)


def _fits(type_: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column is of the type that was wanted; times may name their zone."""
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(type_) and (type_.unit, type_.tz in ("UTC", wanted.tz)) == (wanted.unit, True)
    return type_ == wanted
