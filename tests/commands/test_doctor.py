"""`doctor`: every setting with its source, every check with a remedy where it fails, and planted faults are found."""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from study.__main__ import main
from study.commands import checks
from study.commands.settings import KINDS
from study.execution import packs
from study.recipes.contrastive.data import fetching
from study.recipes.contrastive.data.fetching import NotFetched
from study.recipes.contrastive.data.sets import fashion_mnist
from tests.data_files import write_fashion

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

WANTED = checks._wanted_packages


@pytest.fixture(autouse=True)
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which all is well, in an empty working folder, which is returned."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for kind in KINDS.values():
        if kind.variable:
            monkeypatch.delenv(kind.variable, raising=False)
    monkeypatch.setenv("STUDY_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("STUDY_DATA", str(write_fashion(tmp_path / "data")))
    monkeypatch.setattr(packs, "available_memory", lambda: 4 * 2**30)
    monkeypatch.setattr(checks, "_wanted_packages", lambda: (["click>=8"], "this project"))
    return folder


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of doctor."""
    code = main(["doctor", "--json", *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return code, json.loads(out)


def only_failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The one failed check of a machine with one fault, for which doctor exits with 2."""
    code, result = examined(capsys, *arguments)
    assert (code, result["ok"]) == (2, False)
    (failed,) = [check for check in result["checks"] if not check["ok"]]
    assert failed["remedy"]
    return failed


def test_where_all_is_well_it_exits_0_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = examined(capsys)
    assert (code, result["ok"]) == (0, True), result
    names = ["settings", "python", "packages", "cpu", "memory", "gpu", "data", "storage", "mlflow", "ray", "ports"]
    assert [check["name"] for check in result["checks"]] == names
    assert all(check["remedy"] is None for check in result["checks"])
    assert not (tmp_path / "storage").exists()


def test_every_setting_is_shown_with_its_source_and_without_secrets(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sound / "pyproject.toml").write_text("[tool.limit-study]\nniceness = 7\n")
    _, result = examined(capsys, "--tracking-uri", "postgresql://user:hush@host/db")
    assert set(result["settings"]) == set(KINDS)
    assert result["settings"]["niceness"] == {"value": 7, "source": f"pyproject.toml in {sound}"}
    assert result["settings"]["data_root"]["source"] == "$STUDY_DATA"
    assert result["settings"]["max_concurrent"] == {"value": None, "source": "default"}
    assert result["settings"]["tracking_uri"] == {"value": "postgresql://***@host/db", "source": "--tracking-uri"}
    assert "hush" not in json.dumps(result)


def test_the_text_has_a_line_per_setting_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    settings, _, found = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in settings.splitlines()] == list(KINDS)
    assert all(line.startswith("ok    ") for line in found.splitlines())


class TestPlantedFaults:
    def test_a_storage_that_cannot_be_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("")
        database = f"sqlite:///{tmp_path / 'mlflow.db'}"
        failed = only_failure(capsys, "--storage", str(tmp_path / "file" / "below"), "--tracking-uri", database)
        assert failed["name"] == "storage"
        assert "cannot be written (" in failed["found"]
        assert "--storage" in failed["remedy"]

    def test_a_tracking_server_that_does_not_answer(self, capsys: pytest.CaptureFixture[str]) -> None:
        failed = only_failure(capsys, "--tracking-uri", "http://127.0.0.1:9")
        assert failed["name"] == "mlflow"
        assert failed["found"].startswith("MLflow at http://127.0.0.1:9 does not answer (")
        assert failed["remedy"].startswith("check --tracking-uri")

    def test_a_data_set_that_is_missing_and_cannot_be_fetched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(target: Path) -> Path:
            raise NotFetched("mirror: off; apt-get: off")

        monkeypatch.setattr(fashion_mnist, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
        monkeypatch.setattr(fetching, "fetch_fashion_mnist", refuse)
        failed = only_failure(capsys, "--data-root", str(tmp_path / "empty"))
        assert failed["name"] == "data"
        assert "mirror: off; apt-get: off" in failed["found"]
        assert "dataset-fashion-mnist" in failed["remedy"]

    def test_a_wrong_version_of_a_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(checks, "_wanted_packages", WANTED)
        monkeypatch.setattr(checks, "version", lambda name: "0.1" if name == "optuna" else metadata.version(name))
        failed = only_failure(capsys)
        assert failed["name"] == "packages"
        assert "optuna 0.1 is not ==" in failed["found"]
        assert "pip install" in failed["remedy"]

    def test_too_little_memory(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(packs, "available_memory", lambda: 2**29)
        failed = only_failure(capsys)
        assert (failed["name"], failed["found"]) == ("memory", "0.5 GiB free for new work")

    def test_an_unknown_key_of_a_settings_file(self, sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (sound / "pyproject.toml").write_text('[tool.limit-study]\nstorag = "x"\n')
        failed = only_failure(capsys)
        assert failed["name"] == "settings"
        assert "'storag'" in failed["found"]
        assert failed["remedy"] == "did you mean 'storage'?"

    def test_no_gpu_where_one_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        failed = only_failure(capsys, "--use-gpu")
        assert failed["name"] == "gpu"
        assert "CUDA_VISIBLE_DEVICES" in failed["remedy"]

    def test_several_are_all_named_in_the_text(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(packs, "available_memory", lambda: 2**29)
        assert main(["doctor", "--tracking-uri", "http://127.0.0.1:9"]) == 2
        failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL  ")]
        assert [line.split()[1] for line in failed] == ["memory", "mlflow"]

    def test_whatever_a_check_raises_is_its_failure_and_the_others_follow(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(port: int) -> bool:
            raise RuntimeError("no such thing")

        monkeypatch.setattr(checks, "is_free", fail)
        failed = only_failure(capsys)
        assert (failed["name"], failed["found"]) == ("ports", "RuntimeError: no such thing")
        assert failed["remedy"].startswith("this is not foreseen")

    def test_a_wrong_value_in_a_settings_file(self, sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (sound / "pyproject.toml").write_text('[tool.limit-study]\nexecutor = "x"\n')
        failed = only_failure(capsys)
        assert failed["found"].endswith("takes one of auto, inline, train, not 'x'")
        assert failed["remedy"] == "mend it there"


def test_an_installed_package_is_held_against_its_own_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_wanted_packages", WANTED)
    monkeypatch.setattr(checks, "checkout", lambda: None)
    monkeypatch.setattr(
        checks, "requires", lambda name: ["click>=8", "pytest>=99; extra == 'dev'", "x>1; python_version<'3'"]
    )
    assert checks._wanted_packages() == (["click>=8"], "this project")
    assert checks.check_packages().is_ok
    monkeypatch.setattr(checks, "requires", lambda name: ["no-such-package>=1"])
    check = checks.check_packages()
    assert not check.is_ok
    assert check.found == "no-such-package is missing (this project)"


def test_this_python_is_what_the_project_asks_for() -> None:
    check = checks.check_python()
    assert (check.is_ok, check.found) == (True, sys.version.split()[0])
