"""Local paths are paths whatever is in their names, and no address shows what is secret in it."""

import argparse
import os
import subprocess
from pathlib import Path

import pytest

from study import sweep
from study.__main__ import main
from study.answers.answer import answer
from study.answers.report_files import write_report
from study.commands.paths import tracking_place
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.errors import ConfigError
from study.execution.task_run import run_task
from study.execution.tasks import PackTask, TaskSettings, record_failure
from study.ledger.addresses import absolute, is_url, without_secret
from study.ledger.ledger import Ledger
from study.ledger.retention import clean, plan_cleaning
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.config import DataConfig, ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.tracking.mlflow_runs import Tracker, default_tracking_uri
from tests.synthetic import PROVENANCE, STARTED, drive, fill, known_design, object_store_uri, open_state, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]
NASTY = [
    "quest?ion", "ha#sh", "per%20cent", "sp ace", " blanks around ", "uni \u00e9 \u4e2d", "a&b=c", "it's", 'quo"te',
    "-dash", "~tilde", "we://ird", "s3:", "a@b", "co:lon", "$HOME", "back\\slash", "star*", "{brace}", "semi;colon",
    "x.parquet", "new\nline",
]  # fmt: skip
SECRETS = {
    "s3://user:hush@bucket/path": "s3://***@bucket/path",
    "s3://user:hu/sh@bucket/path": "s3://***@bucket/path",
    "s3://user:h@u@sh@bucket/path": "s3://***@bucket/path",
    "s3://user:hu?sh@bucket/path?region=eu": "s3://***@bucket/path?region=eu",
    "s3://user:hu sh@bucket/path": "s3://***@bucket/path",
    "https://hush@host/path": "https://***@host/path",
    "https://hu/sh==@host/path": "https://***@host/path",
    "https://user:@host:5000/": "https://***@host:5000/",
    "s3://bucket/path?secret_key=hush&region=eu": "s3://bucket/path?secret_key=***&region=eu",
    "s3://bucket/path?secret_key=hu@sh": "s3://bucket/path?secret_key=***",
    "http://host:5000/?token=hu@sh": "http://host:5000/?token=***",
    "http://host/?hush": "http://host/?***",
    "postgresql://user:hush@host:5432/db?sslpassword=hush": "postgresql://***@host:5432/db?sslpassword=***",
    "mysql+pymysql://user:hush@host/db": "mysql+pymysql://***@host/db",
    "s3://bucket/path?region=eu&scheme=http": "s3://bucket/path?region=eu&scheme=http",
    "http://127.0.0.1:5000": "http://127.0.0.1:5000",
    "sqlite:////tmp/mlflow.db": "sqlite:////tmp/mlflow.db",
}


class TestPaths:
    def test_only_a_scheme_at_the_start_makes_a_url(self) -> None:
        assert all(is_url(text) for text in ("s3://b/x", "gs://b", "file:///x", "mysql+pymysql://h"))
        assert not any(is_url(text) for text in ("/tmp/we://ird", "./s3://x", "s3:/x", "1a://x", "", " s3://b"))

    @pytest.mark.parametrize("name", NASTY, ids=ascii)
    def test_a_store_writes_where_it_says(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / name
        store = Store(str(folder)).child("study")
        store.write("t/a", b"x")
        assert (folder / "study" / "t" / "a").read_bytes() == b"x"
        assert store.locate("t/a") == str(folder / "study" / "t" / "a")
        assert store.shown == store.uri == str(folder / "study")
        assert Store(store.uri).read("t/a") == b"x"
        assert store.names("t", "") == ["a"]
        assert list(store.sizes("t")) == ["t/a"]
        store.delete("t/a")
        Store(str(folder)).check_writable()
        assert list(tmp_path.iterdir()) == [tmp_path / Path(name).parts[0]]

    def test_a_study_goes_to_its_answer_and_its_files_are_there(self, tmp_path: Path) -> None:
        folder = tmp_path.joinpath(*NASTY)
        ledger, design = Ledger.open(str(folder), "known"), known_design()
        fill(ledger, design, rise_and_fall)
        again = Ledger.open(str(folder), "known")
        assert drive(open_state(again, design), rise_and_fall) == []
        again.store.write("artifacts/0123456789abcdef/checkpoint.pt", b"x")
        clean(again, plan_cleaning(again, {design.hash: ()}))
        assert Ledger.open_fresh(str(folder), "known").store.uri == f"{folder}/known.1"
        files = write_report(again, answer(again))
        assert files.warnings == ()
        assert files.data is not None
        assert Path(files.data).exists()
        assert Path(files.data).is_relative_to(folder)

    def test_a_relative_path_and_one_with_a_tilde_are_made_absolute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", "/home/me")
        assert absolute("quest?ion") == str(tmp_path / "quest?ion")
        assert absolute("~/x") == "/home/me/x"
        assert absolute("~nobody-of-this-name/x") == str(tmp_path / "~nobody-of-this-name/x")
        assert absolute("s3://b/x") == "s3://b/x"

    def test_a_name_that_is_no_text_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is not UTF-8"):
            Store(os.fsdecode(bytes(tmp_path) + b"/\xff"))

    def test_a_file_url_is_decoded_once(self, tmp_path: Path) -> None:
        store = Store((tmp_path / "per%20cent ?").as_uri()).child("study")
        store.write("a", b"x")
        assert (tmp_path / "per%20cent ?" / "study" / "a").exists()

    def test_a_worker_trains_into_such_a_folder(
        self, tmp_path: Path, digits_config: ReplicateConfig, digits: Dataset
    ) -> None:
        folder = tmp_path / "quest?ion #1 per%20cent \u00e9"
        settings = TaskSettings(ledger_uri=str(folder / "study"), recipe=CONTRASTIVE.address, provenance=PROVENANCE)
        replicate = CONTRASTIVE.replicate(digits_config, 1, digits.digest)
        run_task(PackTask(settings=settings, replicates=(replicate,), attempts=(1,), keep_models=(True,)))
        assert list(Ledger(Store(str(folder / "study"))).settled()) == [replicate.key]
        assert (folder / "study" / "artifacts" / replicate.key / "model.pt").exists()
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]


class TestMlflow:
    @pytest.mark.parametrize("name", NASTY, ids=ascii)
    def test_its_database_lies_beside_the_ledger_or_where_mlflow_can_take_it(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        folder = tmp_path / name
        uri = default_tracking_uri(str(folder))
        beside = f"sqlite:///{folder}/mlflow.db"
        if {"?", "%"} & {*name}:
            assert uri != beside
            assert uri.startswith(f"sqlite:///{tmp_path}/data/limit-study/mlflow-")
        else:
            assert uri == beside
        assert tracking_place(uri) == uri

    def test_two_folders_that_it_cannot_take_have_two_databases(self) -> None:
        assert default_tracking_uri("/a?") != default_tracking_uri("/a%")

    @pytest.mark.slow
    def test_it_takes_every_other_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One folder with all of them in its name: a new database takes seconds."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        name = "".join(part for part in NASTY if not {"?", "%", "/", "\n"} & {*part})
        design = known_design(nuisance=())
        ledger = Ledger.open(str(tmp_path / name), "known")
        fill(ledger, design, rise_and_fall)
        assert Tracker(default_tracking_uri(str(tmp_path / name))).sync(ledger, design.hash) == 3
        assert (tmp_path / name / "mlflow.db").stat().st_size > 0
        assert [path.name for path in tmp_path.iterdir()] == [name]


class TestMake:
    @pytest.mark.parametrize("name", [name for name in NASTY if "\n" not in name], ids=ascii)
    def test_the_printed_command_gives_make_the_same_path(self, name: str, tmp_path: Path) -> None:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir()
        python.write_text('#!/bin/sh\nfor last; do :; done; printf %s "$last" >"$SEEN"\n')
        python.chmod(0o755)
        (tmp_path / ".installed").touch()
        command = f"make -C {ROOT} mlflow VENV={tmp_path} STORAGE={sweep._for_make(f'/data/{name}')}"
        environment = os.environ | {"SEEN": str(tmp_path / "seen")}
        subprocess.run(["sh", "-c", command], env=environment, check=True, capture_output=True)
        assert (tmp_path / "seen").read_text() == f"--storage=/data/{name}"


class TestSecrets:
    @pytest.mark.parametrize(("uri", "shown"), SECRETS.items())
    def test_an_address_is_shown_without_them(self, uri: str, shown: str) -> None:
        assert without_secret(uri) == shown

    @pytest.mark.parametrize(("uri", "shown"), [pair for pair in SECRETS.items() if " " not in pair[0]])
    def test_a_sentence_is_shown_without_them(self, uri: str, shown: str) -> None:
        assert without_secret(f"cannot reach {uri} now") == f"cannot reach {shown} now"

    def test_what_is_no_url_stays(self) -> None:
        for text in ("/tmp/a?key=b@c", "user:hush@host", "a sentence: with @ and ?key=1", ""):
            assert without_secret(text) == text

    def test_no_line_of_a_study_in_an_object_store_shows_them(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        storage, design = object_store_uri(), make_design(load_space("smoke"))
        ledger = Ledger.open(storage, "smoke")
        fill(ledger, design, rise_and_fall, data_digest=load_dataset(DataConfig(name="digits")).digest)
        ledger.store.write("replicates/damaged.parquet", b"")
        assert sweep.main(["smoke", "--storage", storage]) == 0
        assert sweep.main(["smoke", "--json", "--storage", storage]) == 0
        for command in ("status", "gc"):
            assert main([command, "--storage", storage]) == 0
        assert main(["status", "--storage", storage.replace("@bucket/", "@bucket/other")]) == 2
        out, err = capsys.readouterr()
        assert "s3://***@bucket/" in out
        assert "damaged.parquet" in err
        assert "secret" not in out + err

    @pytest.mark.parametrize(
        "uri", ["s3://user:hu sh@bucket/x", "s3://user:hu/sh@bucket/x", "s3://b/x?secret_key=hush"]
    )
    def test_no_mistake_in_one_shows_them(self, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["status", "--storage", uri]) == 2
        err = capsys.readouterr().err
        assert "check the URL" in err
        assert "hu" not in err

    def test_the_command_to_go_on_with_shows_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[argparse.Namespace] = []

        def note(options: argparse.Namespace, *_: object) -> int:
            seen.append(options)
            return 0

        monkeypatch.setattr(sweep, "_sweep", note)
        sweep.main(["smoke", "--storage", "s3://user:hush@bucket/x", "--tracking-uri=postgresql://user:hush@host/db"])
        (options,) = seen
        assert options.storage == "s3://user:hush@bucket/x"
        assert "hush" not in options.command
        assert "***@bucket/x" in options.command
        assert "***@host/db" in options.command

    def test_no_row_and_no_error_file_holds_one(
        self, tmp_path: Path, digits_config: ReplicateConfig, digits: Dataset
    ) -> None:
        settings = TaskSettings(ledger_uri=str(tmp_path), recipe=CONTRASTIVE.address, provenance=PROVENANCE)
        replicate = CONTRASTIVE.replicate(digits_config, 1, digits.digest)
        task = PackTask(settings=settings, replicates=(replicate,), attempts=(1,))
        text = "OSError: cannot write s3://user:hush@bucket/x?secret_key=hush"
        record_failure(task, Outcome.ENVIRONMENT, text, STARTED, f"Traceback\n{text}\n")
        held = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert len(held) == 2
        assert all(b"hush" not in data for data in held)
        assert (
            Ledger(Store(str(tmp_path)))
            .attempts()[replicate.key][0]["error"]
            .endswith("s3://***@bucket/x?secret_key=***")
        )

    def test_settings_are_printed_without_the_address_of_the_ledger(self) -> None:
        settings = TaskSettings(ledger_uri="s3://user:hush@bucket/x", recipe=CONTRASTIVE.address, provenance=PROVENANCE)
        assert "hush" not in repr(settings)
