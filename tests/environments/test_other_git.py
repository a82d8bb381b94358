"""A row names the commit of this code, whatever git is told by the environment, and the CPU that trained it."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from study.execution.task_run import run_task
from study.execution.tasks import PackTask, TaskSettings, record_failure
from study.ledger import provenance
from study.ledger.ledger import Ledger
from study.ledger.provenance import collect, cpu_model
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from tests.synthetic import PROVENANCE, STARTED


def repository(folder: Path, text: str) -> str:
    (folder / "study").mkdir(parents=True)
    (folder / "search_spaces").mkdir()
    (folder / "study" / "code.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True, env=environment)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, env=environment, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("STUDY_COMMIT", "STUDY_DIRTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "project")
    return tmp_path / "project"


class TestGit:
    @pytest.mark.parametrize("names", [["GIT_DIR"], ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"], ["GIT_COMMON_DIR"]])
    def test_a_hook_of_another_repository_changes_nothing(
        self, names: list[str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit, other = repository(project, "x = 1\n"), tmp_path / "other"
        assert repository(other, "x = 2\n") != commit
        places = {
            "GIT_DIR": other / ".git",
            "GIT_COMMON_DIR": other / ".git",
            "GIT_WORK_TREE": other,
            "GIT_INDEX_FILE": other / ".git" / "index",
        }
        for name in names:
            monkeypatch.setenv(name, str(places[name]))
        assert (collect().commit, collect().dirty) == (commit, False)
        (project / "study" / "new.py").write_text("")
        assert (collect().commit, collect().dirty) == (commit, True)

    def test_settings_of_the_environment_change_nothing(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = repository(project, "x = 1\n")
        (project / "study" / "new.py").write_text("")
        for name, value in {"COUNT": "1", "KEY_0": "status.showUntrackedFiles", "VALUE_0": "no"}.items():
            monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
        assert (collect().commit, collect().dirty) == (commit, True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_a_repository_of_another_user_gives_its_commit(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        commit = repository(project, "x = 1\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("SUDO_UID", raising=False)
        for path in (project, *project.rglob("*")):
            os.chown(path, 12345, 12345)
        # Git alone refuses.
        assert subprocess.run(["git", "-C", str(project), "log"], capture_output=True, check=False).returncode != 0
        assert (collect().commit, collect().dirty) == (commit, False)

    def test_asking_writes_nothing(self, project: Path) -> None:
        repository(project, "x = 1\n")
        os.utime(project / "study" / "code.py", (1, 1))
        before = (project / ".git" / "index").stat().st_mtime_ns
        assert collect().dirty is False
        assert (project / ".git" / "index").stat().st_mtime_ns == before


class TestCpu:
    def test_the_row_of_a_trained_replicate_names_it(
        self, tmp_path: Path, digits_config: ReplicateConfig, digits: Dataset
    ) -> None:
        settings = TaskSettings(ledger_uri=str(tmp_path), recipe=CONTRASTIVE.address, provenance=PROVENANCE)
        replicate = CONTRASTIVE.replicate(digits_config, 1, digits.digest)
        task = PackTask(settings=settings, replicates=(replicate,), attempts=(1,))
        run_task(task)
        record_failure(dataclasses.replace(task, attempts=(2,)), Outcome.FAILED, "invented", STARTED)
        trained, failed = Ledger(Store(str(tmp_path))).attempts()[replicate.key]
        assert trained["cpu"] == cpu_model()
        assert failed["cpu"] is None

    def test_it_is_the_first_model_that_the_machine_names(self, tmp_path: Path) -> None:
        info = tmp_path / "cpuinfo"
        info.write_text("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.0GHz\nmodel name\t: Another\n")
        assert cpu_model(info) == "Some CPU @ 2.0GHz"

    @pytest.mark.parametrize("text", [None, "", "Hardware : x\n"])
    def test_elsewhere_it_is_what_python_knows(
        self, text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "cpuinfo"
        if text is not None:
            info.write_text(text)
        monkeypatch.setattr("platform.processor", lambda: "arm")
        assert cpu_model(info) == "arm"
        cpu_model.cache_clear()
        monkeypatch.setattr("platform.processor", lambda: "")
        assert cpu_model(info) is None
