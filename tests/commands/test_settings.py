"""Settings: a flag wins over the environment, that over a project's file, that over a user's, that over a default."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from study.__main__ import main
from study.commands.settings import KINDS, Setting, fill, read_files, resolve
from study.errors import ConfigError
from tests.commands.sweeps import fill_smoke


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, an empty folder for the user's settings, and no variable set."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for kind in KINDS.values():
        if kind.variable:
            monkeypatch.delenv(kind.variable, raising=False)
    return folder


def write_project(folder: Path, text: str) -> Path:
    file = folder / "pyproject.toml"
    file.write_text(f'[project]\nname = "mine"\n\n[tool.limit-study]\n{text}\n')
    return file


def write_user(project: Path, text: str) -> Path:
    file = project.parent / "config" / "limit-study" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def setting(name: str, flag: Any = None) -> Setting:
    return resolve(name, flag, read_files())


def test_each_source_wins_over_those_below_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("address") == Setting(name="address", value="local", source="default")
    user = write_user(project, 'address = "user:1"\n')
    assert setting("address") == Setting(name="address", value="user:1", source=str(user))
    write_project(project, 'address = "project:1"')
    assert setting("address") == Setting(name="address", value="project:1", source=f"pyproject.toml in {project}")
    monkeypatch.setenv("RAY_ADDRESS", "environment:1")
    assert setting("address") == Setting(name="address", value="environment:1", source="$RAY_ADDRESS")
    assert setting("address", "flag:1") == Setting(name="address", value="flag:1", source="--address")


def test_a_file_may_set_every_setting_also_with_dashes(project: Path) -> None:
    write_project(
        project,
        'storage = "s3://bucket/x"\ntracking-uri = "sqlite:///m.db"\ndata_root = "~/data"\naddress = "auto"\n'
        'executor = "train"\nmax-concurrent = 2\nniceness = 19\nuse_gpu = true',
    )
    (file,) = read_files()
    assert set(file.values) == set(KINDS)
    assert (file.values["max_concurrent"], file.values["niceness"], file.values["use_gpu"]) == (2, 19, True)
    assert file.values["data_root"] == str(Path("~/data").expanduser())


def test_a_relative_path_is_one_of_the_folder_of_its_file(project: Path) -> None:
    user = write_user(project, 'data_root = "data"\n')
    write_project(project, 'storage = "results"\ntracking_uri = "sqlite:///m.db"')
    assert setting("storage").value == str(project / "results")
    assert setting("tracking_uri").value == f"sqlite:///{project / 'm.db'}"
    assert setting("data_root").value == str(user.parent / "data")


WRONG = {
    "an unknown key": ('storag = "x"', "unknown setting in {table} 'storag': did you mean 'storage'?"),
    "a wrong type": ("storage = 3", "storage in {table} takes a text, not 3"),
    "an empty text": ('storage = ""', "storage in {table} takes a text, not ''"),
    "a text that is no path": (r'storage = "a\u0000b"', r"storage in {table} takes a text, not 'a\x00b'"),
    "a text for a switch": ('use-gpu = "yes"', "use-gpu in {table} takes true or false, not 'yes'"),
    "a switch for a number": ("max_concurrent = true", "max_concurrent in {table} takes a whole number, not True"),
    "a number out of range": ("niceness = 20", "niceness in {table} takes a whole number from 0 to 19, not '20'"),
    "an unknown word": ('executor = "x"', "executor in {table} takes one of auto, inline, train, not 'x'"),
    "no TOML": ("storage = ", "{file} cannot be read (Invalid value (at line 5, column 11)): mend it"),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_file_is_one_sentence_of_every_command_that_reads_it(
    text: str, words: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_project(project, text)
    table = f"[tool.limit-study] of {file}"
    assert main(["status"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {words.format(file=file, table=table)}")
    assert err.count("\n") == 1


def test_a_working_folder_that_was_removed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the working folder was removed: change into one that is there"):
        read_files()


def test_a_file_in_a_folder_that_cannot_be_entered_is_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ConfigError, match=r"pyproject.toml cannot be read \(.*Permission denied.*\): mend it"):
        read_files()


def test_a_table_that_is_none_is_one_sentence(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool]\nlimit-study = "x"\n')
    with pytest.raises(ConfigError, match="must be a table of settings"):
        read_files()


def test_other_projects_files_say_nothing(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\n\n[tool.ruff]\nline-length = 100\n')
    assert read_files() == []


class TestCommands:
    def test_a_storage_of_the_project_is_used_and_named_in_the_first_line(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_project(project, 'storage = "results"')
        fill_smoke(project / "results")
        assert main(["status"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"smoke  {project / 'results' / 'smoke'}\n")
        assert err == f"storage {project / 'results'} (from pyproject.toml in {project})\n"

    def test_a_storage_of_the_user_is_used_without_a_word(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_user(project, f'storage = "{project / "results"}"\n')
        fill_smoke(project / "results")
        assert main(["show", "smoke", "--json"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["study"] == "smoke"
        assert err == ""

    def test_a_flag_and_the_environment_win_over_the_file_and_nothing_is_said(
        self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_project(project, 'storage = "elsewhere"')
        fill_smoke(tmp_path / "mine")
        assert main(["status", "--storage", str(tmp_path / "mine")]) == 0
        monkeypatch.setenv("STUDY_STORAGE", str(tmp_path / "mine"))
        assert main(["status"]) == 0
        assert capsys.readouterr().err == ""

    def test_a_secret_of_a_storage_is_not_said(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_project(project, 'tracking_uri = "postgresql://user:hush@host/db"')
        assert main(["run", "smoke", "--dry-run"]) == 0
        err = capsys.readouterr().err
        assert err == f"tracking_uri postgresql://***@host/db (from pyproject.toml in {project})\n"

    def test_options_that_a_command_has_are_filled_and_no_others(self, project: Path) -> None:
        write_project(project, 'executor = "inline"\nuse_gpu = true\nniceness = 5')
        options = argparse.Namespace(executor=None, use_gpu=False, max_concurrent=None)
        fill(options)
        assert vars(options) == {"executor": "inline", "use_gpu": False, "max_concurrent": None}
