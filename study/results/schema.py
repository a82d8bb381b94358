"""The columns of the ledger: names, types, units and meanings; the README's table is generated from here."""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 3

_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
# By its offset: the name of a zone can be read only where the machine has a database of zones.
_TIME = pa.timestamp("us", tz="+00:00")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: ``is_metric`` marks measurements of a replicate, ``is_required`` what is never null."""

    name: str
    type: pa.DataType
    meaning: str
    is_metric: bool = False
    is_required: bool = False


def _c(name: str, type_: pa.DataType, meaning: str) -> Column:
    return Column(name=name, type=type_, meaning=meaning)


def _needed(name: str, type_: pa.DataType, meaning: str) -> Column:
    return Column(name=name, type=type_, meaning=meaning, is_required=True)


# What a replicate measures at its end, on balanced evaluation batches unless said otherwise.
METRICS = {
    "p": "share of affinity mass on same-class rows, 0 at chance and 1 at the target, views of training strength",
    "s_j": "1 - JSD / JSD of chance, views of training strength",
    "p_clean": "p on unaugmented images",
    "s_j_clean": "s_j on unaugmented images",
    "pair_auc": "probability that a same-class affinity exceeds a cross-class one",
    "source_mass": "share of affinity mass on views of the same source (more than one view)",
    "dead_row_share": "share of evaluation rows without any positive affinity; they count as uniform",
    "partnerless_row_share": "share of training rows without a partner in their batch, mean since the last evaluation",
    "train_loss": "training loss in nats, mean since the last evaluation",
    "accuracy": "accuracy of the method's own decision (largest logit, nearest anchor), views of training strength",
    "accuracy_clean": "the same on unaugmented images",
    "knn_accuracy": "k-nearest-neighbour accuracy of embeddings (cosine, whole split, bank of evaluation.knn_bank)",
    "knn_labelled_accuracy": "the same with the labelled images of the replicate as bank (label fraction below 1)",
    "probe_accuracy": "logistic regression on frozen embeddings, with the labels of the replicate (whole split)",
    "probe_full_accuracy": "the same with all labels of the training split",
    "effective_rank": "RankMe of the evaluation embeddings (of the projections with trainer oar), in dimensions",
    "mean_cosine": "mean cosine over all pairs of the same",
    "embedding_norm": "mean norm of the projections (oar)",
    "alignment": "mean squared distance of unit projections of one source, 0 to 4 (oar)",
    "uniformity": "log mean exp(-2 squared distance) of unit projections, 0 for one point (oar)",
    "contrast_loss": "InfoNCE or SupCon part of the training loss in nats, mean since the last evaluation (oar)",
    "oar_loss": "anchor regression part of the training loss, -1 to 1, before lambda (oar)",
    "first_step_norm": "R_1: mean norm of projections of unaugmented rows after the first step (oar)",
    "first_step_variance": "v_0: 1 - mean cosine of the same after the first step (oar)",
    "escape_step": "first step at which their mean cosine is below 1/2; null where it never was (evaluation.escape)",
}

# What has no value before training.
_OF_TRAINING = {
    *("train_loss", "contrast_loss", "oar_loss", "partnerless_row_share"),
    *("first_step_norm", "first_step_variance", "escape_step"),
}

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
    *(Column(name=name, type=_FLOAT, meaning=meaning, is_metric=True) for name, meaning in METRICS.items()),
    *(
        Column(name=f"{name}_before", type=_FLOAT, meaning=f"{name} before training", is_metric=True)
        for name in METRICS
        if name not in _OF_TRAINING
    ),
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
