"""Which code produced a row: from git where there is one, else from the environment."""

import json
import subprocess
from pathlib import Path

import pytest

from study.ledger import provenance
from study.ledger.provenance import collect, source_digest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project's shape without git; variables of a submitted job are unset."""
    for folder in ("study", "search_spaces"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    for name in ("STUDY_COMMIT", "STUDY_DIRTY", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def make_repository(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


class TestCommit:
    def test_a_clean_repository_gives_its_commit(self, project: Path) -> None:
        commit = make_repository(project)
        assert (collect().commit, collect().dirty) == (commit, False)

    @pytest.mark.parametrize("name", ["study/code.py", "study/untracked.py"])
    def test_a_changed_or_new_file_makes_it_dirty(self, project: Path, name: str) -> None:
        commit = make_repository(project)
        (project / name).write_text("x = 2\n")
        assert (collect().commit, collect().dirty) == (commit, True)

    def test_git_is_believed_before_the_environment(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = make_repository(project)
        monkeypatch.setenv("STUDY_COMMIT", "other")
        monkeypatch.setenv("STUDY_DIRTY", "1")
        assert (collect().commit, collect().dirty) == (commit, False)

    @pytest.mark.parametrize(("flag", "dirty"), [("0", False), ("1", True), ("", None), ("maybe", None)])
    def test_without_git_a_submitted_job_takes_both_from_the_environment(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, flag: str, dirty: bool | None
    ) -> None:
        monkeypatch.setenv("STUDY_COMMIT", "abc")
        monkeypatch.setenv("STUDY_DIRTY", flag)
        assert (collect().commit, collect().dirty) == ("abc", dirty)

    def test_without_either_they_are_unknown(self, project: Path) -> None:
        assert (collect().commit, collect().dirty) == ("", None)

    def test_a_repository_around_the_project_is_not_taken_for_its_own(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_repository(project)
        inner = project / "installed"
        inner.mkdir()
        monkeypatch.setattr(provenance, "_ROOT", inner)
        assert collect().commit == ""

    def test_a_repository_without_a_commit_is_unknown(self, project: Path) -> None:
        git(project, "init", "--quiet")
        assert (collect().commit, collect().dirty) == ("", None)

    def test_a_machine_without_git_is_unknown(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_repository(project)
        monkeypatch.setenv("PATH", "")
        assert (collect().commit, collect().dirty) == ("", None)


class TestSourceDigest:
    @pytest.mark.parametrize("name", ["study/code.py", "search_spaces/code.py", "study/new/deep.py"])
    def test_it_depends_on_every_source(self, project: Path, name: str) -> None:
        before = source_digest()
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x = 2\n")
        assert source_digest() != before

    def test_it_depends_on_the_names_of_files(self, project: Path) -> None:
        before = source_digest()
        (project / "study" / "code.py").rename(project / "study" / "renamed.py")
        assert source_digest() != before

    def test_it_ignores_everything_else(self, project: Path) -> None:
        before = source_digest()
        (project / "README.md").write_text("text")
        (project / "study" / "notes.txt").write_text("text")
        (project / "study" / "__pycache__").mkdir()
        (project / "study" / "__pycache__" / "code.pyc").write_bytes(b"x")
        assert source_digest() == before

    def test_bytes_do_not_move_between_files_unnoticed(self, project: Path) -> None:
        (project / "study" / "a.py").write_text("12")
        (project / "study" / "b.py").write_text("3")
        before = source_digest()
        (project / "study" / "a.py").write_text("1")
        (project / "study" / "b.py").write_text("23")
        assert source_digest() != before


def test_versions_name_python_and_the_main_libraries() -> None:
    versions = json.loads(collect().versions)
    assert {"python", "ray", "torch", "optuna", "numpy", "pyarrow"} <= set(versions)
    assert all(isinstance(version, str) and version[0].isdigit() for version in versions.values())
