"""The wheel: one import package with everything a study needs, which answers from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from study.designs.catalogue import find_studies
from study.layout import own_version
from study.ledger.provenance import source_digest
from tests.commands.sweeps import ROOT

pytestmark = pytest.mark.slow

SOURCES = ("study", "search_spaces", "cluster")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.lock")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy of the sources."""
    folder = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def answered(unpacked: Path, folder: Path, *words: str) -> str:
    """What a module prints that runs from the unpacked wheel, in ``folder`` and with no home but that."""
    environment = os.environ | {"PYTHONPATH": str(unpacked), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_installs_one_import_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert tops == {"study", f"limit_study-{own_version()}.dist-info"}


def test_it_holds_every_file_of_the_package_the_search_spaces_and_the_cluster_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "study").rglob("*.py")}
    expected |= {f"study/search_spaces/{name}.py" for name in find_studies()}
    assert expected | {"study/py.typed", "study/cluster/aws.yaml"} <= names


def test_it_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(f"limit_study-{own_version()}.dist-info/entry_points.txt").decode()
    assert "limit-study = study.__main__:console" in points


def test_it_finds_its_studies_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    out = answered(unpacked, tmp_path, "-m", "study.commands.list_")
    assert [line.split()[0] for line in out.splitlines()[::2]] == find_studies()
    assert answered(unpacked, tmp_path, "-m", "study", "--version") == f"limit-study {own_version()}\n"


def test_its_sources_have_the_digest_of_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    code = "from study.ledger.provenance import source_digest; print(source_digest())"
    assert answered(unpacked, tmp_path, "-c", code).strip() == source_digest()


def test_a_plan_is_the_same_as_in_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "study.sweep", "smoke", "--dry-run", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert answered(unpacked, tmp_path, "-m", "study", "run", "smoke", "--dry-run", "--json") == done.stdout
