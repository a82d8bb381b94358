"""Without its data set the default command answers on digits, says so everywhere, and does it only where it may."""

import argparse
import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study import sweep
from study.answers.answer import answer
from study.answers.figures import draw_answer
from study.commands import missing_data
from study.commands.command_line import parse
from study.designs.assembly import make_design
from study.designs.catalogue import find_studies, load_space
from study.designs.design import Design
from study.errors import DataUnavailable
from study.ledger.ledger import Ledger
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data import fetching
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.data.fetching import NotFetched
from study.recipes.contrastive.data.sets import fashion_mnist
from tests.data_files import write_fashion
from tests.synthetic import PROVENANCE, design_row, fill, rise_and_fall

BUDGET = 18
# The data sets of the two answers, as the header names them.
INSTEAD = "digits (instead of fashion_mnist, which could not be had here)"


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without data sets and without a source of them."""

    def refuse(target: Path) -> Path:
        raise NotFetched("mirror: off; apt-get: off")

    for name in ("RAY_ADDRESS", "STUDY_DATA", "STUDY_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(fetching, "fetch_fashion_mnist", refuse)


def known(dataset: str) -> Design:
    """The default design of ``batch_limit`` on a data set, with a budget that ends after stage one."""
    design = make_design(load_space("batch_limit"), dataset=dataset)
    return dataclasses.replace(design, budget=dataclasses.replace(design.budget, max_replicates=BUDGET))


def finish(storage: Path, dataset: str, data_root: Path | None = None, **row: Any) -> None:
    """Fill the ledger with a finished study of invented results."""
    ledger, design = Ledger.open(str(storage), "batch_limit"), known(dataset)
    ledger.record_design(design_row(design, **row))
    digest = load_dataset(DataConfig(name=dataset), str(data_root) if data_root else None).digest
    fill(ledger, design, rise_and_fall, design.replicates, data_digest=digest)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage with a digits answer that stood in for one on Fashion-MNIST; tests add reports to it and no row."""
    storage = tmp_path_factory.mktemp("storage")
    finish(storage, "digits", dataset_fallback="fashion_mnist")
    before = rows(storage)
    yield storage
    assert rows(storage) == before


def rows(storage: Path) -> set[Path]:
    return set(storage.rglob("*.parquet"))


def command(storage: Path, *more: str) -> list[str]:
    return ["batch_limit", "--storage", str(storage), "--max-replicates", str(BUDGET), "--precision", "1", *more]


class TestTheAnswer:
    def test_header_names_both_data_sets_and_one_line_says_why(
        self, filled: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(command(filled)) == 0
        out, err = capsys.readouterr()
        assert out.startswith(f"batch_limit · {INSTEAD} · design {known('digits').hash} · ")
        assert err.count("\n") == 1
        for words in (
            "mirror: off; apt-get: off",
            "answered on digits instead",
            "dataset-fashion-mnist",
            "--data-root",
        ):
            assert words in err
        assert "--dataset digits" not in err

    def test_the_figure_names_both_data_sets(self, filled: Path) -> None:
        ledger = Ledger.open(str(filled), "batch_limit")
        for asked_for, title in (("fashion_mnist", INSTEAD), ("digits", "")):
            figure = draw_answer(answer(ledger, known("digits").hash, asked_for=asked_for))
            assert figure.get_suptitle() == title

    def test_the_json_names_the_data_set_that_was_missing(
        self, filled: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(command(filled, "--json")) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["dataset"], result["dataset_fallback"]) == ("digits", "fashion_mnist")
        assert (
            json.loads(Path(result["figure"]).with_suffix(".json").read_text())["dataset_fallback"] == "fashion_mnist"
        )

    def test_asked_for_by_name_the_same_design_is_no_fallback(
        self, filled: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(command(filled, "--json", "--dataset", "digits")) == 0
        out, err = capsys.readouterr()
        result = json.loads(out)
        assert (result["dataset"], result["dataset_fallback"]) == ("digits", None)
        assert result["design"] == known("digits").hash
        assert err == ""

    def test_read_from_the_ledger_alone_it_is_what_its_first_run_asked_for(self, filled: Path, tmp_path: Path) -> None:
        assert answer(Ledger.open(str(filled), "batch_limit")).dataset_words == INSTEAD
        finish(tmp_path / "asked", "digits")
        assert answer(Ledger.open(str(tmp_path / "asked"), "batch_limit")).dataset_words == "digits"

    @pytest.mark.parametrize(
        ("asked_for", "recorded"), [("fashion_mnist", "fashion_mnist"), ("digits", None)], ids=["fallback", "own"]
    )
    def test_the_registered_design_names_the_data_set_that_was_missing(
        self, asked_for: str, recorded: str | None, tmp_path: Path
    ) -> None:
        ledger = Ledger.open(str(tmp_path), "batch_limit")
        ledger.record_design(dict(sweep.design_row(known("digits"), PROVENANCE, asked_for)))
        (row,) = ledger.read("designs").to_pylist()
        assert (row["study_hash"], row["dataset_fallback"]) == (known("digits").hash, recorded)


class TestOnceTheDataAreThere:
    def test_the_answer_names_the_command_of_the_digits_answer(
        self, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = tmp_path / "storage"
        monkeypatch.setenv("STUDY_DATA", str(write_fashion(tmp_path / "data")))
        finish(storage, "digits", dataset_fallback="fashion_mnist")
        finish(storage, "fashion_mnist", data_root=tmp_path / "data")
        monkeypatch.setattr("study.recipes.contrastive.trainers.batch.check_evaluation", lambda config, dataset: None)
        again = "python -m study.sweep batch_limit --dataset digits"
        assert sweep.main(command(storage)) == 0
        out, err = capsys.readouterr()
        assert out.startswith("batch_limit · fashion_mnist · ")
        assert f"an answer on digits stood in for this one before: {again}\n" in out
        assert err == ""
        assert sweep.main(command(storage, "--json")) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["dataset_fallback"], result["fallback_answer"]) == (None, again)

    def options(self, *arguments: str) -> argparse.Namespace:
        return parse(sweep.COMMAND, ["augmentation_limit", *arguments], "python -m study.sweep")

    def test_the_command_carries_variant_and_overrides(self, tmp_path: Path) -> None:
        options = self.options("--variant", "identity", "--set", "horizon.length=700")
        space, overrides = load_space("augmentation_limit"), {"horizon.length": 700}
        fashion, digits = (
            make_design(space, variant="identity", dataset=name, overrides=overrides)
            for name in ("fashion_mnist", "digits")
        )
        ledger = Ledger.open(str(tmp_path), "augmentation_limit")
        assert missing_data.earlier_answer(options, fashion, ledger) is None
        ledger.record_design(design_row(digits, dataset_fallback="fashion_mnist"))
        assert missing_data.earlier_answer(options, fashion, ledger) == (
            "python -m study.sweep augmentation_limit --dataset digits --variant identity --set horizon.length=700"
        )

    @pytest.mark.parametrize("stood_in_for", [None, "cifar10"])
    def test_an_answer_that_stood_in_for_no_fashion_mnist_is_not_named(
        self, stood_in_for: str | None, tmp_path: Path
    ) -> None:
        space = load_space("augmentation_limit")
        ledger = Ledger.open(str(tmp_path), "augmentation_limit")
        digits = make_design(space, dataset="digits")
        ledger.record_design(design_row(digits, dataset_fallback=stood_in_for))
        assert missing_data.earlier_answer(self.options(), make_design(space), ledger) is None

    def test_an_answer_to_another_question_is_not_named(self, tmp_path: Path) -> None:
        space = load_space("augmentation_limit")
        ledger = Ledger.open(str(tmp_path), "augmentation_limit")
        other = make_design(space, dataset="digits", overrides={"horizon.length": 700})
        ledger.record_design(design_row(other, dataset_fallback="fashion_mnist"))
        assert missing_data.earlier_answer(self.options(), make_design(space), ledger) is None


REFUSED = {
    "a data set by name": ["--dataset", "fashion_mnist"],
    "a data set by its path": ["--set", "data.name=fashion_mnist"],
    "another profile": ["--profile", "cluster"],
    "a cluster": ["--address", "auto"],
}


class TestWhereItMayNot:
    @pytest.mark.parametrize("name", REFUSED)
    def test_the_command_fails_with_the_sentence_of_the_data_set(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        storage = tmp_path / "storage"
        assert sweep.main(command(storage, *REFUSED[name])) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: Fashion-MNIST is not on this machine and could not be fetched (mirror: off")
        assert err.endswith("or try --dataset digits, which needs no download\n")
        assert err.count("\n") == 1
        assert not storage.exists()

    def test_a_cluster_of_the_environment_counts_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
        assert sweep.main(command(tmp_path / "storage")) == 2
        assert "answered on digits" not in capsys.readouterr().err

    def test_a_file_that_is_damaged_is_no_missing_data_set(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = write_fashion(tmp_path / "data")
        next(root.iterdir()).write_bytes(b"")
        assert sweep.main(command(tmp_path / "storage", "--data-root", str(root))) == 2
        assert "answered on digits" not in capsys.readouterr().err


def needs_download() -> list[tuple[str, str]]:
    """Every variant that runs on Fashion-MNIST where no data set is named, of every study."""
    return [
        (study, variant)
        for study in find_studies()
        for variant in load_space(study).variants
        if make_design(load_space(study), variant=variant).config.data.name == "fashion_mnist"
    ]


class TestEveryStudy:
    def test_there_are_studies_that_need_it(self) -> None:
        assert ("batch_limit", "learning") in needs_download()

    @pytest.mark.parametrize(("study", "variant"), needs_download())
    def test_it_asks_the_same_question_on_digits_where_it_can(self, study: str, variant: str) -> None:
        options = parse(sweep.COMMAND, [study, "--variant", variant], "python -m study.sweep")
        space = load_space(study)
        found = missing_data.stand_in(options, make_design(space, variant=variant))
        if "digits" in (space.variants[variant].datasets or space.datasets):
            assert found == make_design(space, variant=variant, dataset="digits")
        else:
            assert found is None


def test_a_missing_data_set_survives_the_way_from_a_worker() -> None:
    error = DataUnavailable("it is not here", "put it here")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.trouble, again.remedy) == (str(error), "it is not here", "put it here")
