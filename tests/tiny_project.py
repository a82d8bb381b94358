"""A copy of the project with one more study, ``tiny``, for tests that run whole sweeps in processes of their own.

Its plan has no tuning: the same keys run whatever the numbers are, so that executors can be compared row by row.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from study.ledger.ledger import Ledger
from study.rows import Row

ROOT = Path(__file__).resolve().parent.parent
NUM_KEYS = 4

_SPACE = """
from study.recipes.contrastive.config import (
    BatchConfig,
    DataConfig,
    EvaluationConfig,
    HorizonConfig,
    ModelConfig,
    ReplicateConfig,
)
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.designs.space import Axis, Budget, Criterion, SearchSpace, Variant

SPACE = SearchSpace(
    name="tiny",
    question="Do the executors agree?",
    recipe=CONTRASTIVE,
    config=ReplicateConfig(
        data=DataConfig(name="digits"),
        batch=BatchConfig(eval=20),
        model=ModelConfig(width=4, embedding_dim=16),
        horizon=HorizonConfig(unit="steps", length=4),
        evaluation=EvaluationConfig(num_batches=2, num_points=4, knn_bank=200),
    ),
    scientific=(Axis(path="batch.train", values=(8, 16)),),
    nuisance=(),
    criterion=Criterion(metric="p", fraction=0.5),
    budget=Budget(replicates=2),
    variants={"learning": Variant()},
    profiles={"laptop": {}},
    datasets={"digits": {}},
)
"""


def copy_project(folder: Path) -> Path:
    """What a submitted job needs, in ``folder``; no .git, so that nothing there knows a commit."""
    for name in ("study", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "search_spaces" / "tiny.py").write_text(_SPACE)
    return folder


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would point a sweep elsewhere; ``python`` is this interpreter."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "STUDY_", "MLFLOW_"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | extra


def start_sweep(project: Path, *arguments: str, **extra: str) -> "subprocess.Popen[str]":
    """``python -m study.sweep`` in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "study.sweep", *arguments],
        cwd=project,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_sweep(project: Path, *arguments: str, timeout: float, **extra: str) -> tuple[int, str]:
    """Exit code and output of a whole sweep, which must end within ``timeout`` seconds."""
    process = start_sweep(project, *arguments, **extra)
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, output


def rows(storage: Path, study: str) -> list[Row]:
    """All attempts in the ledger of a study."""
    return Ledger.open(str(storage), study).read("replicates").to_pylist()


def held(row: Row) -> Row:
    """What a row has: the columns of metrics that other rows alone have are null in it."""
    return {name: value for name, value in row.items() if value is not None}
