"""The columns of the ledger: names, types, units and meanings; the reference is generated from here.

Replicates have two more kinds of column, as many as their recipe declares metrics: ``metric.NAME`` at the end and
``before.NAME`` before training, both 64-bit floats.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 4

_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
# By its offset: the name of a zone can be read only where the machine has a database of zones.
_TIME = pa.timestamp("us", tz="+00:00")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: ``is_required`` marks what is never null."""

    name: str
    type: pa.DataType
    meaning: str
    is_required: bool = False


def _c(name: str, type_: pa.DataType, meaning: str) -> Column:
    return Column(name=name, type=type_, meaning=meaning)


def _needed(name: str, type_: pa.DataType, meaning: str) -> Column:
    return Column(name=name, type=type_, meaning=meaning, is_required=True)


REPLICATES = (
    _needed("key", _TEXT, "identity of the replicate: hash of configuration, seed, data and numerics version"),
    _needed("attempt", _INT, "1 for the first attempt at this key"),
    _needed(
        "outcome",
        _TEXT,
        "ok, collapsed, diverged (final); out_of_memory, failed, hung, interrupted, environment (tried again)",
    ),
    _c(
        "error",
        _TEXT,
        "what went wrong: for a diverged replicate since which step, for attempts that are not final why",
    ),
    _c("study_hash", _TEXT, "design that asked for the replicate first"),
    _c("trainer", _TEXT, "training method"),
    _c("seed", _INT, "seed of all random streams"),
    _c("config", _TEXT, "complete configuration as JSON, path to value"),
    _c("data_digest", _TEXT, "digest of the data set's bytes"),
    _c("numerics_version", _INT, "hand-bumped version of the trainer's numbers"),
    _c("examples", _INT, "training images seen"),
    _c("steps", _INT, "optimiser steps"),
    _c("seconds", _FLOAT, "wall-clock seconds, this replicate's share of its pack"),
    _c("device_seconds", _FLOAT, "seconds x workers"),
    _c("device", _TEXT, "cpu, or the name of the GPU"),
    _c("cpu", _TEXT, "model of the CPU of the worker that trained; null where nothing was trained"),
    _c("node_type", _TEXT, "machine architecture and operating system"),
    _c("threads", _INT, "CPU threads per worker"),
    _c("workers_asked", _INT, "workers asked for"),
    _c("workers", _INT, "workers used: the largest number that shares the batch evenly"),
    _c("pack_size", _INT, "replicates trained together"),
    _c(
        "pack_planned",
        _INT,
        "replicates the pack was planned with; more than pack_size where it ran out of memory and was halved",
    ),
    _c("executor", _TEXT, "inline or train"),
    _c("commit", _TEXT, "git commit of the code, empty where unknown"),
    _c("dirty", _BOOL, "whether the code differed from the commit, null where unknown"),
    _c("source_digest", _TEXT, "digest of the sources of study/ and search_spaces/"),
    _c("versions", _TEXT, "versions of Python and the main libraries as JSON"),
    _c("started_at", _TIME, "start of the attempt"),
    _c("finished_at", _TIME, "end of the attempt"),
    _c("schema_version", _INT, "version of this table"),
)

CURVES = (
    _needed("key", _TEXT, "replicate"),
    _needed("attempt", _INT, "attempt"),
    _needed("examples", _INT, "training images seen"),
    _needed("metric", _TEXT, "metric"),
    _c("value", _FLOAT, "value"),
)

ROUNDS = (
    _needed("study_hash", _TEXT, "design"),
    _needed("round", _INT, "number of the round, 0 first"),
    _needed("role", _TEXT, "tuning or reported"),
    _needed("cell", _TEXT, "point of the scientific axes as JSON"),
    _needed("nuisance", _TEXT, "nuisance values as JSON"),
    _needed("seed", _INT, "seed"),
    _needed("key", _TEXT, "replicate"),
    _needed("config", _TEXT, "complete configuration as JSON"),
)

DESIGNS = (
    _needed("study_hash", _TEXT, "hash of the canonical design"),
    _needed("study", _TEXT, "name of the study"),
    _needed("variant", _TEXT, "variant of the study"),
    _needed("design", _TEXT, "canonical design as JSON"),
    _needed("exploratory", _BOOL, "whether --set changed the pre-registered design"),
    _c("commit", _TEXT, "git commit when the design was first run"),
    _c("dirty", _BOOL, "whether the code differed from it"),
    _needed("created_at", _TIME, "first run"),
    _c("first_variant", _BOOL, "whether the variant is the study's first; null before schema 4"),
    _c("entry_point", _TEXT, "the recipe that runs its replicates, as package.module:NAME; null before schema 4"),
    _c("axes", _TEXT, "what every axis is called, its unit, scale and crossings, as JSON; null before schema 4"),
    _c("metrics", _TEXT, "meaning, unit, chance and direction of every metric, as JSON; null before schema 4"),
    _c(
        "dataset_fallback",
        _TEXT,
        "data set that the first run asked for and that could not be had; null where it had its own",
    ),
)

MEASUREMENTS = (
    _needed("hash", _TEXT, "identity of the measurement"),
    _needed(
        "quantity",
        _TEXT,
        "downstream accuracies (raw_, untrained_) and moments of views' cosines (raw_views_, untrained_views_)",
    ),
    _c("data_digest", _TEXT, "digest of the data set's bytes"),
    _c("seed", _INT, "seed of the initialisation; null where nothing is random"),
    _c("settings", _TEXT, "what the value depends on, as JSON"),
    _c("value", _FLOAT, "its value"),
)

TABLES = {
    "designs": DESIGNS,
    "rounds": ROUNDS,
    "replicates": REPLICATES,
    "curves": CURVES,
    "measurements": MEASUREMENTS,
}


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([pa.field(column.name, column.type) for column in TABLES[table]])


def markdown_table(table: str) -> str:
    """The columns of a table as Markdown."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for column in TABLES[table]:
        kind = "timestamp" if pa.types.is_timestamp(column.type) else str(column.type)
        lines.append(f"| `{column.name}` | {kind} | {column.meaning} |")
    return "\n".join(lines)
