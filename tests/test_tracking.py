"""MLflow is a view of the ledger: no duplicates, replaced when replicates change, rebuilt from nothing."""

import http.server
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.design import Design
from study.errors import ConfigError
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.tracking.live_view import LiveView
from study.tracking.mlflow_runs import Tracker, default_tracking_uri
from tests.synthetic import Result, design_row, drive, fill, known_design, open_state, rise_and_fall, search_space

TWO_BATCHES = Axis(path="batch.train", values=(4, 16))

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    Tracker(f"sqlite:///{path}")
    return path


@pytest.fixture
def new_database(empty_database: Path, tmp_path: Path) -> Callable[[str], str]:
    """The URI of a new, empty database; creating its tables each time would take seconds."""

    def new(name: str) -> str:
        shutil.copy(empty_database, tmp_path / f"{name}.db")
        return f"sqlite:///{tmp_path / name}.db"

    return new


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "storage" / "known")))


def small_design() -> Design:
    """Two points and three learning rates: six tuned settings and two reported ones."""
    return known_design(scientific=(TWO_BATCHES,))


def runs_of(uri: str, study: str = "known") -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def histories(uri: str, run: Any) -> dict[str, list[tuple[int, float]]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


def view(uri: str) -> dict[tuple[str, str | None], Any]:
    """Everything that a reader of MLflow sees, by run name and the name of its parent."""
    runs = runs_of(uri)
    names = {run.info.run_id: run.info.run_name for run in runs}
    seen = {}
    for run in runs:
        tags = dict(run.data.tags)
        parent = names.get(tags.pop("mlflow.parentRunId", ""))
        assert (run.info.run_name, parent) not in seen
        contents = (run.data.params, tags, histories(uri, run), run.info.status, run.info.end_time if parent else None)
        seen[run.info.run_name, parent] = contents
    return seen


def children(uri: str, role: str | None = None) -> list[Any]:
    found = [run for run in runs_of(uri) if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if role is None or run.data.tags["study.role"] == role]


class TestContents:
    def test_there_is_an_experiment_per_study_a_run_per_design_and_a_child_per_setting(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), small_design()
        state = fill(ledger, design, rise_and_fall)
        settings = {(e.role, e.cell, str(e.nuisance)) for e in state.entries}
        assert Tracker(uri).sync(ledger, design.hash) == len(settings)
        (parent,) = [run for run in runs_of(uri) if "mlflow.parentRunId" not in run.data.tags]
        assert parent.info.run_name == f"learning {design.hash}"
        assert len(children(uri)) == len(settings)
        assert {run.data.tags["mlflow.parentRunId"] for run in children(uri)} == {parent.info.run_id}
        assert {run.info.status for run in runs_of(uri)} == {"FINISHED"}

    def test_a_child_has_mean_and_spread_over_its_seeds_its_configuration_and_its_mean_curve(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), small_design()
        values = {101: 0.1, 102: 0.2, 103: 0.3, 104: 0.4, 105: 0.5}
        fill(ledger, design, lambda replicate: Result(value=values.get(replicate.seed, 0.2)))
        Tracker(uri).sync(ledger, design.hash)
        run = next(run for run in children(uri, "reported") if run.data.params["batch.train"] == "16")
        assert run.data.metrics["p"] == pytest.approx(0.3)
        assert run.data.metrics["p_sd"] == pytest.approx(0.025**0.5)
        assert run.data.params["num_measured"] == "5"
        assert run.data.params["seeds"] == "101,102,103,104,105"
        assert run.data.params["horizon.length"] == "600"
        curve = histories(uri, run)["curve/p"]
        assert [step for step, _ in curve] == [0, 300, 600]
        assert curve[-1][1] == pytest.approx(0.3)

    def test_names_tell_role_point_and_setting_and_no_two_are_equal(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), small_design()
        fill(ledger, design, rise_and_fall)
        Tracker(uri).sync(ledger, design.hash)
        names = [run.info.run_name for run in children(uri)]
        assert len(set(names)) == len(names)
        assert "reported batch=16 learning_rate=0.003" in names
        assert "tuning batch=4 learning_rate=0.01" in names

    def test_replicates_without_a_finding_are_counted_and_not_averaged(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), small_design()

        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 101:
                return Result(outcome=Outcome.DIVERGED)
            return Result(value=0.5, outcome=Outcome.COLLAPSED if replicate.seed == 102 else Outcome.OK)

        fill(ledger, design, result_of)
        Tracker(uri).sync(ledger, design.hash)
        for run in children(uri, "reported"):
            assert run.data.metrics["p"] == 0.5
            assert run.data.params["num_measured"] == "4"
            outcomes = {outcome: run.data.tags.get(f"study.{outcome}") for outcome in Outcome}
            assert outcomes == dict.fromkeys(Outcome) | {"ok": "3", "collapsed": "1", "diverged": "1"}

    def test_a_setting_that_never_gave_a_finding_is_shown_without_metrics(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), known_design(nuisance=(), scientific=(TWO_BATCHES,))
        for _ in range(3):
            fill(ledger, design, lambda replicate: Result(outcome=Outcome.OUT_OF_MEMORY))
        Tracker(uri).sync(ledger, design.hash)
        assert len(children(uri)) == 2
        assert all(run.data.metrics == {} for run in children(uri))
        assert all(run.data.params["num_measured"] == "0" for run in children(uri))

    def test_two_designs_of_a_study_are_two_parents_of_one_experiment(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, space = new_database("a"), search_space(nuisance=(), scientific=(TWO_BATCHES,))
        designs = [make_design(space, variant=variant) for variant in space.variants]
        tracker = Tracker(uri)
        for design in designs:
            fill(ledger, design, rise_and_fall)
            tracker.sync(ledger, design.hash)
        parents = [run for run in runs_of(uri) if "mlflow.parentRunId" not in run.data.tags]
        assert {run.info.run_name for run in parents} == {f"{d.variant} {d.hash}" for d in designs}


class TestSync:
    def test_syncing_twice_changes_nothing(self, ledger: Ledger, new_database: Callable[[str], str]) -> None:
        uri, design = new_database("a"), small_design()
        fill(ledger, design, rise_and_fall)
        tracker = Tracker(uri)
        tracker.sync(ledger, design.hash)
        before, ids = view(uri), {run.info.run_id for run in runs_of(uri)}
        assert tracker.sync(ledger, design.hash) == 0
        assert Tracker(uri).sync(ledger, design.hash) == 0
        assert view(uri) == before
        assert {run.info.run_id for run in runs_of(uri)} == ids

    def test_syncing_while_the_sweep_runs_ends_in_the_same_runs_as_syncing_once(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        live, once, design = new_database("live"), new_database("once"), small_design()
        tracker = Tracker(live)
        ledger.record_design(design_row(design))
        state = open_state(ledger, design)
        while drive(state, rise_and_fall, max_packs=1):
            tracker.sync(ledger, design.hash)
        Tracker(once).sync(ledger, design.hash)
        assert view(live) == view(once)

    def test_more_replicates_replace_the_child_runs_they_belong_to_and_no_others(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        uri, design = new_database("a"), small_design()
        fill(ledger, design, rise_and_fall, replicates=5)
        Tracker(uri).sync(ledger, design.hash)
        tuning = {run.info.run_id for run in children(uri, "tuning")}
        fill(ledger, design, rise_and_fall, replicates=7)
        assert Tracker(uri).sync(ledger, design.hash) == 2
        assert {run.info.run_id for run in children(uri, "tuning")} == tuning
        assert [run.data.params["replicates"] for run in children(uri, "reported")] == ["7"] * 2

    def test_an_empty_database_is_rebuilt_from_the_ledger(
        self, ledger: Ledger, new_database: Callable[[str], str]
    ) -> None:
        old, new, design = new_database("old"), new_database("new"), small_design()
        for replicates in (5, 6):
            fill(ledger, design, rise_and_fall, replicates=replicates)
            Tracker(old).sync(ledger, design.hash)
        Tracker(new).sync(ledger, design.hash)
        assert view(new) == view(old)

    def test_a_ledger_without_the_design_gives_no_run(self, ledger: Ledger, new_database: Callable[[str], str]) -> None:
        assert Tracker(new_database("a")).sync(ledger, "00000000") == 0

    def test_a_sync_that_failed_is_made_up_for_by_the_next(
        self, ledger: Ledger, new_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri, design = new_database("a"), small_design()
        fill(ledger, design, rise_and_fall)
        tracker = Tracker(uri)

        def fail(*arguments: object, **named: object) -> None:
            raise ConnectionError("the server went away")

        with monkeypatch.context() as broken:
            broken.setattr(tracker._client, "search_runs", fail)
            with pytest.raises(ConnectionError):
                tracker.sync(ledger, design.hash)
        assert tracker.sync(ledger, design.hash) == 8


class TestLiveView:
    @pytest.mark.parametrize(
        "error",
        [MlflowException("the server went away\nsee its log"), sqlite3.OperationalError("locked"), KeyError("x")],
    )
    def test_whatever_mlflow_raises_is_one_sentence_and_the_next_sync_mends_it(
        self,
        error: Exception,
        ledger: Ledger,
        new_database: Callable[[str], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        uri, design = new_database("a"), small_design()
        fill(ledger, design, rise_and_fall)
        view = LiveView(uri)

        def fail(*arguments: object, **named: object) -> None:
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(Tracker, "sync", fail)
            (said,) = view.sync(ledger, design.hash)
            assert view.sync(ledger, design.hash) == []
        assert type(error).__name__ in said
        assert "\n" not in said
        assert view.num_failures == 2
        assert view.sync(ledger, design.hash) == []
        assert len(children(uri)) == 8

    def test_a_database_that_is_none_is_one_sentence(self, ledger: Ledger, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
        view = LiveView(f"sqlite:///{tmp_path / 'mlflow.db'}")
        (said,) = view.open()
        assert "the sweep goes on" in said
        assert view.num_failures == 1


class TestServer:
    def test_a_server_that_is_not_there_gives_one_sentence_within_half_a_minute(self) -> None:
        started = time.monotonic()
        with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9 does not answer .* --tracking-uri") as caught:
            Tracker("http://127.0.0.1:9")
        assert time.monotonic() - started < 30
        assert "\n" not in str(caught.value)

    def test_a_server_that_refuses_gives_one_sentence(self) -> None:
        class Refuse(http.server.BaseHTTPRequestHandler):
            def _refuse(self) -> None:
                self.send_error(403)

            do_GET = do_POST = _refuse

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ConfigError, match="does not answer") as caught:
                Tracker(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            server.server_close()
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("uri", ["nonsense://x", "file:///nowhere"])
    def test_an_address_that_is_none_gives_one_sentence(self, uri: str) -> None:
        with pytest.raises(ConfigError):
            Tracker(uri)

    def test_a_database_that_cannot_be_written_gives_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigError):
            Tracker(f"sqlite:///{tmp_path}/file/mlflow.db")


class TestDefault:
    def test_runs_are_kept_beside_a_local_ledger(self, tmp_path: Path) -> None:
        assert default_tracking_uri(str(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"

    def test_runs_of_an_object_store_are_kept_in_the_folder_of_the_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STUDY_STORAGE", raising=False)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert default_tracking_uri("s3://bucket/x") == f"sqlite:///{tmp_path}/limit-study/mlflow.db"

    def test_runs_of_an_object_store_from_the_environment_are_kept_on_a_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STUDY_STORAGE", "s3://bucket/x")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert default_tracking_uri("s3://bucket/x") == f"sqlite:///{tmp_path}/limit-study/mlflow.db"
