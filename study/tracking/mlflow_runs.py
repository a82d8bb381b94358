"""MLflow as a live view of the ledger: an experiment per study, a parent run per design, a child run per setting.

A child run is one cell at one nuisance setting in one role: mean and spread over its replicates, and their mean
learning curves. Seeds live in the ledger. Names are deterministic; a run is replaced when its replicates change, so
that syncing twice changes nothing and everything can be rebuilt from the ledger.
"""

import contextlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from study.designs.values import digest
from study.errors import ConfigError, error_sentence
from study.interface.recipe import Recipe
from study.ledger.addresses import SQLITE, absolute, is_url, without_secret, without_secret_of
from study.ledger.ledger import Ledger
from study.ledger.lock import waiting_lock
from study.ledger.names_on_disk import recipe_of
from study.ledger.store import user_folder
from study.outcome import MEASURED_OUTCOMES, Outcome
from study.rows import METRIC, Row

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

_PARENT_TAG = "mlflow.parentRunId"
_STATE_TAG = "study.state"


def default_tracking_uri(storage: str) -> str:
    """``$MLFLOW_TRACKING_URI``, else a SQLite file in a local storage or in the per-user data folder."""
    if from_environment := os.environ.get("MLFLOW_TRACKING_URI"):
        return from_environment
    if is_url(storage):
        return f"{SQLITE}{Path(user_folder()).absolute() / 'mlflow.db'}"
    folder = Path(absolute(storage))
    # MLflow takes what follows a question mark in the path of its database for options, and %20 for a space.
    if {*"?%"} & {*str(folder)}:
        return f"{SQLITE}{Path(user_folder()).absolute() / f'mlflow-{digest(str(folder), length=8)}.db'}"
    return f"{SQLITE}{folder / 'mlflow.db'}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database, None for any other place."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def _client(uri: str) -> Any:
    """A client whose server or database answers now: one quick try, where MLflow would go on for minutes."""
    from mlflow.store.db import utils
    from mlflow.tracking import MlflowClient

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    utils.MAX_RETRY_COUNT = 1
    # What it would log of a failure, with a traceback, is raised too.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    file = sqlite_file(uri)
    # Two processes that create the tables of one new database at once would both fail.
    with contextlib.nullcontext() if file is None else waiting_lock(file.with_name(f"{file.name}.lock")):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def in_one_sentence(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises in the block into a :class:`ConfigError` that says what to do."""
    try:
        yield
    except ConfigError:
        raise
    # Databases, drivers, servers, plugins: there is no list of what they raise.
    except Exception as error:
        cause = without_secret_of(uri, error_sentence(error))
        raise ConfigError(
            f"MLflow at {without_secret(uri)} does not answer ({cause}): check --tracking-uri, or leave it out for a "
            "local file, which can be moved away and is made anew from the ledger"
        ) from error


class Tracker:
    """Writes one ledger's state to MLflow."""

    def __init__(self, uri: str) -> None:
        with in_one_sentence(uri):
            self._client = _client(uri)
        self.uri = uri
        self._seen: dict[str, str] = {}

    def sync(self, ledger: Ledger, study_hash: str) -> int:
        """Bring the runs of a design up to date; returns how many child runs were written."""
        state = digest(ledger.names("replicates"))
        if self._seen.get(study_hash) == state:
            return 0
        designs = [row for row in ledger.read("designs").to_pylist() if row["study_hash"] == study_hash]
        if not designs:
            return 0
        experiment = self._experiment(designs[0]["study"])
        runs = self._runs(experiment)
        parent = self._parent(experiment, designs[0], runs)
        settled = ledger.settled()
        groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for entry in ledger.planned(study_hash):
            if entry["key"] in settled:
                groups[entry["role"], entry["cell"], entry["nuisance"]].append(settled[entry["key"]])
        recipe = recipe_of(designs[0]["entry_point"])
        curves = _curves_by_key(ledger) if groups else {}
        written = 0
        for (role, cell, nuisance), rows in groups.items():
            name = _child_name(role, json.loads(cell), json.loads(nuisance))
            contents = digest([[row["key"], row["attempt"]] for row in rows])
            old = runs.get((name, parent), [])
            current = [run for run in old if run.data.tags.get(_STATE_TAG) == contents][:1]
            # More than one where a deleted experiment was restored: it comes back with the runs that were replaced.
            for run in old:
                if run not in current:
                    self._client.delete_run(run.info.run_id)
            if current:
                continue
            self._child(experiment, parent, name, contents, role, rows, curves, recipe)
            written += 1
        if groups:
            last = max(row["finished_at"] for rows in groups.values() for row in rows)
            self._client.set_terminated(parent, end_time=int(last.timestamp() * 1000))
        self._seen[study_hash] = state
        return written

    def comparison(self, study: str, study_hash: str) -> str | None:
        """The address, below a server's, of MLflow's page that compares a design's reported points."""
        found = self._client.get_experiment_by_name(study)
        if found is None:
            return None
        runs = self._runs(found.experiment_id)
        everything = [(*place, run) for place, found_ in runs.items() for run in found_]
        parents = {run.info.run_id for *_, run in everything if run.data.tags.get("study.design") == study_hash}
        reported = [
            run.info.run_id
            for name, parent, run in sorted(everything, key=lambda item: item[-1].info.start_time)
            if parent in parents and name.startswith("reported")
        ]
        ids, experiments = (quote(json.dumps(value)) for value in (reported, [found.experiment_id]))
        return f"#/compare-runs?runs={ids}&experiments={experiments}" if reported else None

    def _experiment(self, study: str) -> str:
        found = self._client.get_experiment_by_name(study)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                # MLflow keeps the name of a deleted experiment, so that no other can take it.
                self._client.restore_experiment(found.experiment_id)
            return found.experiment_id
        # MLflow would record a folder of the current directory; nothing is stored there either way.
        file = sqlite_file(self.uri)
        place = None if file is None else (file.parent / "mlflow-artifacts").as_uri()
        return self._client.create_experiment(study, artifact_location=place)

    def _runs(self, experiment: str) -> dict[tuple[str, str | None], list[Any]]:
        """The runs of an experiment by name and parent."""
        found: dict[tuple[str, str | None], list[Any]] = defaultdict(list)
        token = None
        while True:
            page = self._client.search_runs([experiment], max_results=1000, page_token=token)
            for run in page:
                found[run.info.run_name, run.data.tags.get(_PARENT_TAG)].append(run)
            token = page.token
            if not token:
                return found

    def _parent(self, experiment: str, design: Row, runs: dict[tuple[str, str | None], list[Any]]) -> str:
        name = f"{design['variant']} {design['study_hash']}"
        if (name, None) in runs:
            return runs[name, None][0].info.run_id
        if deleted := self._deleted_parent(experiment, design["study_hash"]):
            # With it its children are found again: a new one would leave them orphaned beside their copies.
            self._client.restore_run(deleted)
            return deleted
        created = int(design["created_at"].timestamp() * 1000)
        tags = {"study.design": design["study_hash"]}
        run = self._client.create_run(experiment, start_time=created, run_name=name, tags=tags)
        self._client.set_tag(run.info.run_id, "study.exploratory", str(design["exploratory"]).lower())
        self._client.set_tag(run.info.run_id, "study.canonical", design["design"])
        return run.info.run_id

    def _deleted_parent(self, experiment: str, study_hash: str) -> str | None:
        from mlflow.entities import ViewType

        found = self._client.search_runs(
            [experiment], f"tags.`study.design` = '{study_hash}'", ViewType.DELETED_ONLY, max_results=1
        )
        return found[0].info.run_id if found else None

    def _child(
        self,
        experiment: str,
        parent: str,
        name: str,
        contents: str,
        role: str,
        rows: Sequence[Row],
        curves: dict[tuple[str, int], list[Row]],
        recipe: Recipe[Any],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        started = min(int(row["started_at"].timestamp() * 1000) for row in rows)
        finished = max(int(row["finished_at"].timestamp() * 1000) for row in rows)
        tags = {_PARENT_TAG: parent, _STATE_TAG: contents, "study.role": role}
        run = self._client.create_run(experiment, start_time=started, tags=tags, run_name=name)
        params: dict[str, Any] = json.loads(rows[0]["config"])
        params = recipe.shown(params)
        num_measured = sum(Outcome(row["outcome"]) in MEASURED_OUTCOMES for row in rows)
        seeds = ",".join(str(row["seed"]) for row in rows)
        params |= {"replicates": len(rows), "num_measured": num_measured, "seeds": seeds}
        last = max((row["examples"] or 0 for row in rows), default=0)
        metrics = [Metric(name, value, finished, last) for name, value in _aggregates(rows).items()]
        metrics += [Metric(f"curve/{m}", v, finished, step) for m, step, v in _mean_curves(rows, curves)]
        self._client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(run.info.run_id, metrics=metrics[start : start + 1000])
        for outcome in Outcome:
            count = sum(row["outcome"] == outcome for row in rows)
            if count:
                self._client.log_batch(run.info.run_id, tags=[RunTag(f"study.{outcome}", str(count))])
        self._client.set_terminated(run.info.run_id, end_time=finished)


def _child_name(role: str, point: dict[str, Any], nuisance: dict[str, Any]) -> str:
    parts = [
        f"{path.rpartition('.')[0] or path}={value:g}"
        if path.startswith("batch")
        else f"{path.rpartition('.')[2]}={value}"
        for path, value in {**point, **nuisance}.items()
    ]
    return f"{role} {' '.join(parts)}"


def _aggregates(rows: Sequence[Row]) -> dict[str, float]:
    """Mean and standard deviation of every metric over the measured replicates."""
    measured = [row for row in rows if Outcome(row["outcome"]) in MEASURED_OUTCOMES]
    found: dict[str, float] = {}
    for column in sorted({column for row in measured for column in row if column.startswith(METRIC)}):
        name = _accepted(column.removeprefix(METRIC))
        values = [row[column] for row in measured if row.get(column) is not None]
        if not values:
            continue
        mean = sum(values) / len(values)
        found[name] = mean
        if len(values) > 1:
            found[f"{name}_sd"] = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return found


def _curves_by_key(ledger: Ledger) -> dict[tuple[str, int], list[Row]]:
    by_key: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in ledger.read("curves").to_pylist():
        by_key[row["key"], row["attempt"]].append(row)
    return by_key


def _mean_curves(rows: Sequence[Row], curves: dict[tuple[str, int], list[Row]]) -> list[tuple[str, int, float]]:
    """(metric, examples, mean over the replicates that have it)."""
    values: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        for point in curves.get((row["key"], row["attempt"]), []):
            values[point["metric"], point["examples"]].append(point["value"])
    return [(_accepted(metric), step, sum(v) / len(v)) for (metric, step), v in sorted(values.items())]


def _accepted(metric: str) -> str:
    """The name of a metric as MLflow takes it."""
    return re.sub(r"[^\w.:/ -]", "_", metric, flags=re.ASCII)
