"""A recipe of thirty lines runs a whole study: the platform asks nothing of a recipe that a toy cannot answer."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from study.answers.answer import StudyAnswer, answer, to_json
from study.answers.figures import draw_answer, figure_bytes
from study.answers.report import make_report
from study.ledger.ledger import Ledger
from study.testing import toy
from study.tracking.mlflow_runs import Tracker
from tests.toy_study import open_toy, run_toy, toy_design

# Where the noiseless curve rises through half of its height, by its formula.
TRUTH = 12.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    found = Ledger.open(str(tmp_path_factory.mktemp("storage")), "toy")
    run_toy(open_toy(found))
    return Ledger(found.store)


@pytest.fixture(scope="module")
def result(ledger: Ledger) -> StudyAnswer:
    return answer(ledger)


def test_the_toy_is_no_longer_than_thirty_lines() -> None:
    assert len(inspect.getsource(toy.Toy).splitlines()) <= 30


def test_its_limit_is_found(result: StudyAnswer) -> None:
    (part,) = result.slices
    assert part.fit is not None
    crossing = part.fit.rising
    assert crossing.estimate == pytest.approx(TRUTH, rel=0.1)
    assert crossing.low is not None
    assert crossing.high is not None
    assert crossing.low < TRUTH < crossing.high


def test_the_rate_is_tuned_in_every_cell(result: StudyAnswer) -> None:
    (part,) = result.slices
    assert {setting["rate"] for setting in part.tuned.values()} == {0.01}


def test_the_search_adds_points_between_those_of_the_grid(result: StudyAnswer) -> None:
    (part,) = result.slices
    assert part.search is not None
    assert part.search.num_rounds > 1
    assert {*part.frame["size"]} > {*part.grid}


def test_replicates_of_every_point_share_packs(ledger: Ledger) -> None:
    assert max(ledger.read("replicates")["pack_size"].to_pylist()) == 24


def test_its_metric_has_columns_of_its_own(ledger: Ledger) -> None:
    rows = ledger.read("replicates").to_pylist()
    assert all(0 < row["metric.score"] < 1 and row["before.score"] == 0.1 for row in rows)


def test_a_sweep_that_was_cut_short_goes_on_to_the_same_keys_and_numbers(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger.open(str(tmp_path), "toy")
    assert len(run_toy(open_toy(other), max_packs=2)) == 2
    run_toy(open_toy(other))
    found, wanted = (
        {key: row["metric.score"] for key, row in Ledger(one.store).settled().items()} for one in (other, ledger)
    )
    assert found == wanted


def test_a_finished_study_runs_nothing(ledger: Ledger) -> None:
    assert not run_toy(open_toy(ledger))


def test_a_study_without_data_set_or_horizon_names_none(ledger: Ledger, result: StudyAnswer) -> None:
    text = make_report(ledger).text
    assert text.startswith(f"toy · design {toy_design().hash} · commit ")
    assert "minimum size" in text
    assert to_json(result)["dataset"] == ""


def test_its_figure_is_drawn(result: StudyAnswer) -> None:
    assert figure_bytes(draw_answer(result), "png").startswith(b"\x89PNG")


def test_mlflow_shows_it(ledger: Ledger, tmp_path: Path) -> None:
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    settings = {(row["cell"], row["nuisance"], row["role"]) for row in ledger.read("rounds").to_pylist()}
    assert tracker.sync(ledger, toy_design().hash) == len(settings)
    assert tracker.sync(ledger, toy_design().hash) == 0


def test_a_design_row_says_what_a_reader_needs_without_the_search_space(ledger: Ledger) -> None:
    (row,) = ledger.read("designs").to_pylist()
    assert row["entry_point"] == "study.testing.toy:TOY"
    assert json.loads(row["axes"])["size"] | {"label": ""} == {
        "label": "", "unit": "size", "scale": "log", "rising": "minimum size", "falling": "maximum size",
    }  # fmt: skip
    score = json.loads(row["metrics"])["score"]
    assert (score["chance"], score["broken"], score["has_before"]) == (0.0, "low", True)
    assert score["meaning"]


def test_another_recipe_of_the_same_configuration_has_keys_and_designs_of_its_own() -> None:
    class Other(toy.Toy):
        address = "somewhere.else:TOY"

    assert dataclasses.replace(toy_design(), recipe=Other()).hash != toy_design().hash
    assert Other().key(toy.ToyConfig(), 1, "") != toy.TOY.key(toy.ToyConfig(), 1, "")
