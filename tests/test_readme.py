"""What the README says is what the code does."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from analysis.laws import setting_of
from study.design import load_space, make_design
from study.limits import LAWS
from study.limits.__main__ import main
from study.results.schema import markdown_table

README = Path(__file__).resolve().parent.parent / "README.md"


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, f"README.md lacks the markers <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def test_the_table_of_columns_is_the_schema() -> None:
    assert between(README.read_text(), "columns") == markdown_table("replicates")


def test_the_question_to_the_laws_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r"^python -m study\.limits (.*)$", README.read_text(), re.MULTILINE)
    assert main(shlex.split(command)) == 0
    assert "state_evolution:" in capsys.readouterr().out


def test_the_predictions_in_the_table_of_laws_are_those_of_the_code() -> None:
    rows = [line.split("|") for line in between(README.read_text(), "laws").splitlines()[2:]]
    design = make_design(load_space("augmentation_limit"), dataset="clusters")
    for recipe, row in zip(design.recipes, rows, strict=True):
        point = next(point for point in design.points() if point["recipe"] == recipe.name)
        name, predicted = re.findall(r"`(\w+)` ([\d.]+)", row[3])[0]
        setting = setting_of(design.resolve(point, {}, "reported"), is_tuned=False)
        value = LAWS[name].predict(dataclasses.replace(setting, sigma=None)).value
        # Rounding to two decimals, and what another CPU makes of weights that are searched in single precision.
        assert value == pytest.approx(float(predicted), abs=0.01), recipe.name
