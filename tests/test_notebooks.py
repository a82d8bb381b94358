"""Notebooks call the analysis, define nothing, keep no outputs, and run on a ledger."""

import ast
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.ledger.ledger import Ledger
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def sources(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


def test_it_defines_nothing(notebook: nbformat.NotebookNode) -> None:
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for source in sources(notebook):
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, defining)], source


def test_it_keeps_no_outputs(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_names_no_place_of_one_machine(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        assert str(ROOT) not in cell.source
        assert str(Path.home()) not in cell.source


def test_it_runs_on_a_ledger_and_shows_answer_figure_and_frames(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = make_design(load_space("batch_limit"))
    fill(Ledger.open(str(tmp_path / "storage"), "batch_limit"), design, rise_and_fall)
    monkeypatch.setenv("STUDY_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # No history or profile of the user.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert f"batch_limit · fashion_mnist · design {design.hash}" in printed
    assert "minimum batch" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(tables) == 4
    assert all("<table" in table for table in tables)
