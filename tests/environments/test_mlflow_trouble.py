"""MLflow is a view: what is wrong with it is one sentence, a sweep goes on, and ``sync-mlflow`` mends what it can."""

import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from study.__main__ import main
from study.commands import mlflow
from study.commands.mlflow import free_port
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.errors import ConfigError
from study.ledger.ledger import Ledger
from study.tracking import mlflow_runs
from study.tracking.live_view import LiveView
from study.tracking.mlflow_runs import Tracker
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]
SMOKE = make_design(load_space("smoke"))
NUM_RUNS = 1 + 9 + 3

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a finished study with its database: creating the tables of one takes seconds."""
    storage = tmp_path_factory.mktemp("storage")
    fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall)
    Tracker(f"sqlite:///{storage}/mlflow.db")
    return storage


@pytest.fixture
def storage(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "storage")
    return tmp_path / "storage"


@pytest.fixture
def uri(storage: Path) -> str:
    return f"sqlite:///{storage}/mlflow.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow waits 20 s for a lock; here a moment."""
    import sqlalchemy

    text, connect = sqlalchemy.sql.text, sqlite3.connect
    monkeypatch.setattr(
        sqlalchemy.sql, "text", lambda sql: text(sql.replace("busy_timeout = 20000", "busy_timeout = 50"))
    )
    monkeypatch.setattr(
        sqlite3.dbapi2, "connect", lambda *places, **options: connect(*places, **options | {"timeout": 0.05})
    )


@pytest.fixture
def ledger(storage: Path) -> Ledger:
    return Ledger.open(str(storage), "smoke")


def runs(uri: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("smoke")
    assert found is not None
    return list(client.search_runs([found.experiment_id], max_results=1000))


def names(uri: str) -> list[str]:
    return sorted(run.info.run_name for run in runs(uri))


@contextmanager
def locked(storage: Path, kind: str) -> Iterator[None]:
    connection = sqlite3.connect(storage / "mlflow.db")
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@contextmanager
def full_disk(storage: Path) -> Iterator[None]:
    """No file may grow beyond the size of the database."""
    size = (storage / "mlflow.db").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """What a command said on standard error: one line."""
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


class TestSyncMlflow:
    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
    def test_a_locked_database_is_one_sentence_and_the_next_call_mends_it(
        self, kind: str, storage: Path, uri: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["sync-mlflow", "--storage", str(storage), "--tracking-uri", uri]
        with locked(storage, kind):
            assert main(command) == 2
        assert "database is locked" in sentence(capsys)
        assert main(command) == 0
        assert len(runs(uri)) == NUM_RUNS

    def test_a_full_disk_is_one_sentence_and_the_next_call_mends_it(
        self, storage: Path, uri: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["sync-mlflow", "--storage", str(storage), "--tracking-uri", uri]
        with full_disk(storage):
            assert main(command) == 2
        assert "does not answer (" in sentence(capsys)
        assert main(command) == 0
        assert len(runs(uri)) == NUM_RUNS

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: b"this is no database" * 100,
            lambda data: data[: len(data) // 2],
            lambda data: data[:100] + bytes(len(data) - 100),
        ],
        ids=["foreign", "cut", "zeros"],
    )
    def test_a_corrupt_file_is_one_sentence_that_says_what_to_do(
        self, spoil: Callable[[bytes], bytes], storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = storage / "mlflow.db"
        file.write_bytes(spoil(file.read_bytes()))
        before = file.read_bytes()
        assert main(["sync-mlflow", "--storage", str(storage)]) == 2
        assert "which can be moved away and is made anew from the ledger" in sentence(capsys)
        assert file.read_bytes() == before

    @pytest.mark.parametrize("uri", ["postgresql://user:hush@host/db", "mysql+pymysql://user:hush@host/db"])
    def test_a_database_without_its_driver_is_one_sentence_without_a_password(
        self, uri: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["sync-mlflow", "--storage", str(storage), "--tracking-uri", uri]) == 2
        said = sentence(capsys)
        assert "No module named" in said
        assert "hush" not in said
        assert "***@host/db" in said

    def test_what_was_deleted_comes_back_once(self, storage: Path, uri: str, ledger: Ledger) -> None:
        from mlflow.tracking import MlflowClient

        client, tracker = MlflowClient(tracking_uri=uri), Tracker(uri)
        tracker.sync(ledger, SMOKE.hash)
        before = names(uri)

        def parent() -> str:
            (found,) = [run.info.run_id for run in runs(uri) if "mlflow.parentRunId" not in run.data.tags]
            return found

        def experiment() -> str:
            return runs(uri)[0].info.experiment_id

        def child() -> str:
            return next(run.info.run_id for run in runs(uri) if "mlflow.parentRunId" in run.data.tags)

        deletions = (
            lambda: client.delete_run(child()),
            lambda: client.delete_run(parent()),
            lambda: client.delete_experiment(experiment()),
            lambda: [client.delete_run(run.info.run_id) for run in runs(uri)],
        )
        for delete in deletions:
            delete()
            assert main(["sync-mlflow", "--storage", str(storage), "--tracking-uri", uri]) == 0
            assert names(uri) == before
            parents = {run.data.tags.get("mlflow.parentRunId") for run in runs(uri)}
            assert parents == {None, parent()}


class TestSweep:
    @pytest.mark.usefixtures("impatient")
    def test_a_lock_in_the_middle_is_one_warning_and_later_syncs_make_up_for_it(
        self, storage: Path, uri: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        view = LiveView(uri)
        assert view.open() == []
        with locked(storage, "IMMEDIATE"):
            (said,) = view.sync(ledger, SMOKE.hash)
            assert "database is locked" in said
            assert said.endswith("; the sweep goes on")
            # Nor is it asked again at once: every look at a locked database takes seconds.
            started = time.monotonic()
            assert view.sync(ledger, SMOKE.hash) == []
            assert time.monotonic() - started < 0.02
        assert view.num_failures == 1
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60)
        assert view.sync(ledger, SMOKE.hash) == []
        assert len(runs(uri)) == NUM_RUNS

    def test_a_full_disk_is_one_warning(self, storage: Path, uri: str, ledger: Ledger) -> None:
        view = LiveView(uri)
        view.open()
        with full_disk(storage):
            (said,) = view.sync(ledger, SMOKE.hash)
        assert "\n" not in said


class TestStart:
    @pytest.mark.slow
    def test_two_processes_that_create_one_database_at_once_both_have_it(self, tmp_path: Path) -> None:
        code = "import sys; from study.tracking.mlflow_runs import Tracker; Tracker(sys.argv[1])"
        command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/deep/mlflow.db"]
        both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate(timeout=120)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], said

    @pytest.mark.slow
    def test_a_locked_database_is_given_up_within_half_a_minute(self, storage: Path) -> None:
        started = time.monotonic()
        with locked(storage, "EXCLUSIVE"), pytest.raises(ConfigError, match="database is locked"):
            Tracker(f"sqlite:///{storage}/mlflow.db")
        assert time.monotonic() - started < 30

    def test_a_server_that_takes_calls_and_says_nothing_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            started = time.monotonic()
            with pytest.raises(ConfigError, match="does not answer"):
                Tracker(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - started < 20


class Served(Exception):
    """Raised in place of becoming the server."""


class TestServe:
    @pytest.fixture(autouse=True)
    def served(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "environ", os.environ.copy())

        def become(_: str, command: list[str]) -> None:
            raise Served(command, dict(os.environ))

        monkeypatch.setattr(os, "execv", become)

    def test_the_server_and_the_links_have_a_port_that_is_free(
        self, storage: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as foreign:
            foreign.bind(("127.0.0.1", 0))
            foreign.listen()
            taken = foreign.getsockname()[1]
            monkeypatch.setattr(mlflow, "PORTS", range(taken, taken + 100))
            with pytest.raises(Served) as caught:
                main(["mlflow", "--storage", str(storage), "--tracking-uri", uri])
        command, environment = caught.value.args
        port = int(command[command.index("--port") + 1])
        assert port > taken
        out, err = capsys.readouterr()
        assert err == f"port {taken} is taken: MLflow is served at port {port}\n"
        assert f"http://127.0.0.1:{port}/#/compare-runs?" in out
        # Where a password would be read by everybody on the machine.
        assert uri not in command
        assert environment["MLFLOW_BACKEND_STORE_URI"] == uri

    def test_where_every_port_is_taken_one_sentence_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as foreign:
            foreign.bind(("127.0.0.1", 0))
            foreign.listen()
            taken = foreign.getsockname()[1]
            monkeypatch.setattr(mlflow, "PORTS", range(taken, taken + 1))
            with pytest.raises(ConfigError, match=f"ports {taken} to {taken} are all taken"):
                free_port()

    def test_the_usual_port_is_taken_where_it_is_free_and_nothing_is_said(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        monkeypatch.setattr(mlflow, "PORTS", range(port, port + 1))
        assert free_port() == port
        assert capsys.readouterr().err == ""

    def test_the_links_to_a_named_server_are_its_own_and_no_other_is_started(
        self, storage: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        here = Tracker(uri)
        monkeypatch.setattr(mlflow_runs, "Tracker", lambda _: here)
        assert main(["mlflow", "--storage", str(storage), "--tracking-uri", "http://user:hush@host:8080/"]) == 0
        assert f"smoke {SMOKE.hash}: http://***@host:8080/#/compare-runs?" in capsys.readouterr().out
