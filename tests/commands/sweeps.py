"""Finished smoke studies with invented results, for tests of commands."""

from pathlib import Path
from typing import Any

from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.design import Design
from study.ledger.ledger import Ledger
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]


def smoke_design(**changes: Any) -> Design:
    return make_design(load_space("smoke"), **changes)


def fill_smoke(storage: Path, **changes: Any) -> Ledger:
    """A finished smoke study with invented results."""
    ledger = Ledger.open(str(storage), "smoke")
    digest = load_dataset(DataConfig(name="digits")).digest
    fill(ledger, smoke_design(**changes), rise_and_fall, data_digest=digest)
    return ledger


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
