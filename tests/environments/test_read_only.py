"""A finished study is answered from a storage that nobody may write."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.ledger.ledger import Ledger
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]
SMOKE = make_design(load_space("smoke"))
# Root may write everywhere: the command gives that right up first.
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
pytestmark = pytest.mark.skipif(bool(AS_ANYBODY) and shutil.which("setpriv") is None, reason="root has no setpriv here")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A finished study that can be read by everybody and written by nobody."""
    storage = tmp_path / "storage"
    digest = load_dataset(DataConfig(name="digits")).digest
    fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall, data_digest=digest)
    folders = [storage, *(path for path in storage.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield storage
    for folder in folders:
        folder.chmod(0o755)


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_", "MLFLOW_"))}
    environment = kept | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*AS_ANYBODY, sys.executable, "-m", module, *arguments],
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
    done = command("study.commands.status", "--storage", str(storage))
    assert (done.returncode, done.stderr) == (0, "")
    assert "33 ok" in done.stdout


@pytest.mark.parametrize("arguments", [["--replicates", "9"], ["--fresh"]], ids=" ".join)
def test_what_has_to_be_written_is_one_sentence(arguments: list[str], storage: Path) -> None:
    done = command("study.sweep", "smoke", *arguments, "--storage", str(storage))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: storage {storage} cannot be written (")
    assert done.stderr.count("\n") == 1


def test_what_cannot_be_removed_or_synced_is_one_sentence(storage: Path) -> None:
    done = command("study.commands.sync_mlflow", "--storage", str(storage))
    assert done.returncode == 2
    assert done.stderr.startswith("error: MLflow at sqlite:///")
    assert done.stderr.count("\n") == 1
