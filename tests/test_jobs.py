"""A study submitted as a job to a cluster that asks for a token, as docs/cluster.md tells a user to do it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny_project import copy_project, environment, rows

pytestmark = pytest.mark.slow

_BIN = Path(sys.executable).parent
_RAY = str(_BIN / "ray")
# The environment of the tests stands in for the one that make would install.
_MAKE_SUBMIT = ("make", "submit", f"BIN={_BIN}", "-o", ".venv/.installed")
_UNKNOWN = "commit and dirty flag are unknown here and stay empty"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A head node on this machine, reached through the loopback interface with the token in ``home``."""

    address: str
    dashboard: str
    home: Path

    def environment(self, **extra: str) -> dict[str, str]:
        """What a client that has the token sets."""
        return environment(HOME=str(self.home), RAY_AUTH_MODE="token", RAY_API_SERVER_ADDRESS=self.dashboard, **extra)


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    for one in with_ports:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports


def _stop(head: "subprocess.Popen[bytes]") -> None:
    process = psutil.Process(head.pid)
    started = [process, *process.children(recursive=True)]
    os.killpg(head.pid, signal.SIGTERM)
    psutil.wait_procs(started, timeout=5)
    for one in started:
        if one.is_running():
            one.kill()
    head.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("home")
    # Ray keeps sockets in its folder, and the name of a socket has at most 107 characters.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    gcs, dashboard, agent, agent_grpc, client, object_manager, node_manager = _free_ports(7)
    found = Cluster(address=f"127.0.0.1:{gcs}", dashboard=f"http://127.0.0.1:{dashboard}", home=home)
    variables = found.environment()
    del variables["RAY_API_SERVER_ADDRESS"]
    subprocess.run([_RAY, "get-auth-token", "--generate"], env=variables, check=True, capture_output=True)
    options = {
        "node-ip-address": "127.0.0.1",
        "port": gcs,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "ray-client-server-port": client,
        "object-manager-port": object_manager,
        "node-manager-port": node_manager,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
        "temp-dir": folder,
    }
    command = [_RAY, "start", "--head", "--block", "--disable-usage-stats"]
    with (home / "head.log").open("wb") as log:
        head = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_jobs_are_taken(found)
        yield found
    finally:
        _stop(head)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_jobs_are_taken(cluster: Cluster, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = subprocess.run([_RAY, "job", "list"], env=cluster.environment(), capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(f"the head takes no jobs: {(cluster.home / 'head.log').read_text()} {done.stderr}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


def _submit(cluster: Cluster, project: Path, *arguments: str, env_vars: dict[str, str] | None = None) -> str:
    """The output of ``ray job submit``, which waits for the job's end and exits as the job does."""
    command = [_RAY, "job", "submit", "--working-dir", ".", "--runtime-env-json"]
    command += [json.dumps({"env_vars": env_vars or {}}), "--", "python", "-m", "study.sweep", *arguments]
    done = subprocess.run(
        command, cwd=project, env=cluster.environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _edit_a_comment(project: Path) -> None:
    with (project / "search_spaces" / "smoke.py").open("a") as file:
        file.write("# A remark, which changes no number.\n")


@pytest.fixture(scope="module")
def first_log(cluster: Cluster, project: Path, storage: Path) -> str:
    """What the first submission of the study wrote; later tests build on its ledger."""
    return _submit(cluster, project, "smoke", "--storage", str(storage))


def test_a_job_runs_the_study_on_its_cluster(cluster: Cluster, first_log: str, storage: Path) -> None:
    assert "replicates with a result" in first_log
    assert rows(storage, "smoke")
    # A submission gets the id of a job of the cluster when its program attaches, and none when that starts Ray itself.
    (job,) = [job for job in _jobs(cluster) if job["type"] == "SUBMISSION"]
    assert job["job_id"]


def _jobs(cluster: Cluster) -> list[dict[str, Any]]:
    """Everything that ran on the cluster: submissions, and drivers that attached by themselves."""
    script = (
        "import json; from ray.job_submission import JobSubmissionClient;"
        "jobs = [job.dict() for job in JobSubmissionClient().list_jobs()];"
        "print(json.dumps(jobs, default=lambda value: value.value))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=cluster.environment(), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plain_job_knows_no_commit_and_says_so(first_log: str, storage: Path) -> None:
    assert _UNKNOWN in first_log
    assert {(row["commit"], row["dirty"]) for row in rows(storage, "smoke")} == {("", None)}


def test_a_second_submission_with_an_edited_comment_runs_nothing(
    cluster: Cluster, project: Path, storage: Path, first_log: str
) -> None:
    before = rows(storage, "smoke")
    _edit_a_comment(project)
    log = _submit(cluster, project, "smoke", "--storage", str(storage))
    assert "replicates with a result" in log
    assert rows(storage, "smoke") == before


def test_make_submit_passes_commit_and_dirty_flag(
    cluster: Cluster, project: Path, storage: Path, first_log: str
) -> None:
    before = rows(storage, "smoke")
    commit = _commit(project)
    _edit_a_comment(project)
    done = subprocess.run(
        [*_MAKE_SUBMIT, "STUDY=smoke", f"ARGS=--storage {storage} --replicates 6"],
        cwd=project,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _UNKNOWN not in done.stdout + done.stderr
    new = [row for row in rows(storage, "smoke") if row not in before]
    assert len(new) == 3, "one more seed at each of three points"
    assert {(row["commit"], row["dirty"]) for row in new} == {(commit, True)}


def _commit(project: Path) -> str:
    git = ["git", "-C", str(project), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--no-verify", "-m", "a copy"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_command_with_ray_address_attaches_to_that_cluster(
    cluster: Cluster, project: Path, storage: Path, first_log: str
) -> None:
    before = [job for job in _jobs(cluster) if job["type"] == "DRIVER"]
    command = [sys.executable, "-m", "study.sweep", "smoke", "--storage", str(storage), "--replicates", "7"]
    done = subprocess.run(
        command,
        cwd=project,
        env=cluster.environment(RAY_ADDRESS=cluster.address),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    after = [job for job in _jobs(cluster) if job["type"] == "DRIVER"]
    assert len(after) == len(before) + 1


def test_a_client_without_the_token_is_refused(cluster: Cluster, project: Path, tmp_path: Path) -> None:
    without = environment(HOME=str(tmp_path), RAY_API_SERVER_ADDRESS=cluster.dashboard)
    command = [_RAY, "job", "submit", "--working-dir", ".", "--", "python", "-m", "study.sweep", "--list"]
    done = subprocess.run(command, cwd=project, env=without, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "authentication" in (done.stdout + done.stderr).lower()
