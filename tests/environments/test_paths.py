"""Relative paths mean the folder of the command, wherever a worker stands."""

import argparse
import os
from pathlib import Path

import pytest

from study import sweep
from study.commands.paths import absolute_paths, tracking_place
from study.errors import ConfigError
from study.ledger.addresses import absolute as place


def options(**changes: str | None) -> argparse.Namespace:
    return argparse.Namespace(**({"storage": None, "data_root": None, "tracking_uri": None} | changes))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("STUDY_STORAGE", "STUDY_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("text", ["data", "./data", "sub/../data", "a b", "ques?tion", "per%20cent", "ha#sh", "-dash"])
def test_a_path_becomes_absolute_whatever_is_in_its_name(text: str, tmp_path: Path) -> None:
    assert place(text) == str(tmp_path / text)
    assert tracking_place(f"sqlite:///{text}") == f"sqlite:///{tmp_path / text}"


@pytest.mark.parametrize(
    "text", ["s3://bucket/a", "gs://bucket", "http://127.0.0.1:5000", "databricks", "sqlite:////absolute/mlflow.db"]
)
def test_what_is_absolute_or_no_path_stays(text: str) -> None:
    assert tracking_place(text) == text


def test_a_home_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    assert place("~/results") == "/home/of/mine/results"


def test_every_path_of_a_command_is_absolute_before_it_is_used(tmp_path: Path) -> None:
    given = options(storage="s", data_root="d", tracking_uri="sqlite:///m.db")
    absolute_paths(given)
    assert vars(given) == {
        "storage": str(tmp_path / "s"),
        "data_root": str(tmp_path / "d"),
        "tracking_uri": f"sqlite:///{tmp_path / 'm.db'}",
    }


def test_so_is_every_path_of_the_environment_and_workers_are_told_where_the_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDY_STORAGE", "s")
    monkeypatch.setenv("STUDY_DATA", "d")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///m.db")
    given = options()
    absolute_paths(given)
    assert given.data_root == os.environ["STUDY_DATA"] == str(tmp_path / "d")
    assert os.environ["STUDY_STORAGE"] == str(tmp_path / "s")
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path / 'm.db'}"


@pytest.mark.parametrize("option", ["--data-root", "--storage", "--tracking-uri"])
def test_a_sweep_passes_only_absolute_paths_on(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []

    def stop(given: argparse.Namespace, *_: object) -> None:
        seen.append(given)
        raise ConfigError("far enough")

    monkeypatch.setattr(sweep, "prepare", stop)
    sweep.main(["smoke", option, "sqlite:///here" if option == "--tracking-uri" else "here"])
    value = getattr(seen[0], option.removeprefix("--").replace("-", "_"))
    assert value.removeprefix("sqlite:///") == str(tmp_path / "here")


def test_a_user_without_a_home_is_asked_where_results_go_and_needs_none_beside_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("HOME", "/will/be/put/back")
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="no home folder: pass --storage"):
        absolute_paths(options())
    absolute_paths(options(storage="s"))
    assert Path(os.environ["HOME"]).parent == tmp_path
