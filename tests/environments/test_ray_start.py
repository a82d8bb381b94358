"""Ray's start on machines of all kinds: what is passed to it, and the true cause where it fails. Ray itself is fake."""

import getpass
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from study.errors import ConfigError
from study.execution import ray_start
from tests.tiny_project import ROOT

VARIABLES = (ray_start.NICENESS, ray_start.START_WAIT)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Ray was asked for."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(ray_start.ray, "init", lambda **options: seen.update(options))
    monkeypatch.setattr(ray_start.ray, "shutdown", lambda: None)
    for name in (*VARIABLES, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR", "USER"):
        # Set first, so that what the code sets is undone.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return seen


def start(niceness: int | None = None, address: str = "local") -> None:
    ray_start.start_ray(address, needs_dashboard=False, niceness=niceness)


def test_ray_is_loaded_after_its_settings_are_made() -> None:
    """It reads some of them when it is imported."""
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            print(os.environ.get("TUNE_DISABLE_SIGINT_HANDLER"))
sys.meta_path.insert(0, Watch())
import study.execution.on_ray
"""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize(("given", "variable", "expected"), [(None, None, "0"), (10, None, "10"), (None, "15", "15")])
def test_workers_share_the_processor_fairly_unless_someone_says_otherwise(
    given: int | None, variable: str | None, expected: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv(ray_start.NICENESS, variable)
    start(given)
    assert os.environ[ray_start.NICENESS] == expected


@pytest.mark.parametrize("text", ["abc", "50", "-1"])
def test_a_niceness_that_ray_would_die_of_is_refused(
    text: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ray_start.NICENESS, text)
    with pytest.raises(ConfigError, match="takes a whole number from 0 to 19"):
        start()


def test_losing_a_process_that_ray_cannot_do_without_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr("psutil.Process.name", lambda self: "raylet")
    is_noticed = threading.Event()
    with ray_start.watched(is_noticed.set):
        process.kill()
        assert is_noticed.wait(30)
    process.wait()


def test_a_machine_with_less_than_one_processor_has_one(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # joblib counts those of a container's limit, rounded up.
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    start()
    assert asked["num_cpus"] == 1


def test_a_long_temporary_folder_is_not_used_for_sockets(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    start()
    assert len(asked["_temp_dir"]) < 40
    assert not asked["_temp_dir"].startswith(str(long))


def test_a_short_one_is(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_start, "LONGEST_FOLDER", len(str(tmp_path)) + 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start()
    assert asked["_temp_dir"] == str(tmp_path / "ray")


@pytest.mark.parametrize("is_writable", [True, False])
def test_objects_lie_in_shared_memory_where_that_may_be_written(
    is_writable: bool, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_access = os.access
    shared = Path("/dev/shm")
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    monkeypatch.setattr(os, "access", lambda path, mode: is_writable if path == shared else may_access(path, mode))
    start()
    assert asked["_plasma_directory"] == (None if is_writable else asked["_temp_dir"])


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("No username set in the environment")])
def test_a_user_without_an_account_gets_a_name(
    error: Exception, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    start()
    assert os.environ["USER"] == f"user-{os.getuid()}"


@pytest.mark.parametrize("is_writable", [True, False])
def test_a_home_that_cannot_be_written_keeps_no_token(
    is_writable: bool, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path if is_writable else tmp_path / "missing"))
    start()
    assert ("RAY_AUTH_TOKEN" in os.environ) is not is_writable


@pytest.mark.parametrize("error", [Exception("The current node timed out"), OSError("AF_UNIX path too long")])
def test_a_local_ray_that_does_not_start_says_why_and_not_that_a_cluster_is_missing(
    error: Exception, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray_start.ray, "init", fail)
    with pytest.raises(ConfigError) as caught:
        start()
    sentence = str(caught.value)
    assert str(error) in sentence
    assert "logs are in" in sentence
    assert "--address" not in sentence
    assert "\n" not in sentence


def test_a_cluster_that_does_not_answer_is_named(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at '127\.0\.0\.1:9' .*--address local"):
        start(address="127.0.0.1:9")
