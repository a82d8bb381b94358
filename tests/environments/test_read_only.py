"""A finished study is answered from a storage that nobody may write."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.config import DataConfig
from study.data.datasets import load_dataset
from study.design import load_space, make_design
from study.results.ledger import Ledger
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]
SMOKE = make_design(load_space("smoke"))
# Root may write everywhere: the command gives its rights up first.
AS_NOBODY = """
import os, runpy, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
module = sys.argv.pop(1)
sys.argv[0] = module
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished study that can be read by everybody and written by nobody."""
    top = tmp_path_factory.mktemp("readable")
    storage = top / "storage"
    digest = load_dataset(DataConfig(name="digits")).digest
    fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall, data_digest=digest)
    folders = [storage, *(path for path in storage.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    # The folders of pytest are for their owner alone.
    closed = [folder for folder in (top, *top.parents) if not folder.stat().st_mode & 0o001]
    modes = {folder: folder.stat().st_mode for folder in closed}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o555)
    yield storage
    for folder in folders:
        folder.chmod(0o755)
    for folder, mode in modes.items():
        folder.chmod(mode)


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_", "MLFLOW_"))}
    environment = kept | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, module, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_answer_is_printed_and_its_files_are_warnings(storage: Path) -> None:
    done = command("study.sweep", "smoke", "--storage", str(storage))
    assert done.returncode == 0, done.stderr
    assert "minimum batch" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [" ".join(line.split()[1:6]) for line in warnings] == [
        "the data of the answer",
        "the figure of the answer",
    ]
    assert all("Permission denied" in line or "Errno 13" in line for line in warnings)
    assert "Traceback" not in done.stderr


def test_its_json_is_complete(storage: Path) -> None:
    done = command("study.sweep", "smoke", "--json", "--storage", str(storage))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["figure"], result["exit_code"], result["num_planned"]) == (None, 0, 33)


def test_status_needs_no_more(storage: Path) -> None:
    done = command("study.results", "status", "--storage", str(storage))
    assert (done.returncode, done.stderr) == (0, "")
    assert "33 ok" in done.stdout


@pytest.mark.parametrize("arguments", [["--replicates", "9"], ["--fresh"]], ids=" ".join)
def test_what_has_to_be_written_is_one_sentence(arguments: list[str], storage: Path) -> None:
    done = command("study.sweep", "smoke", *arguments, "--storage", str(storage))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: storage {storage} cannot be written (")
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_removed_or_synced_is_one_sentence(storage: Path) -> None:
    done = command("study.results", "sync-mlflow", "--storage", str(storage))
    assert done.returncode == 2
    assert done.stderr.startswith("error: MLflow at sqlite:///")
    assert done.stderr.count("\n") == 1
