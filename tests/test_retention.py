"""Which models outlive a study: those at its thresholds; and that cleaning removes nothing else."""

import math
from pathlib import Path

import pytest

from study.__main__ import main
from study.commands.gc import points_to_keep
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.design import Design
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.ledger.retention import clean, ends, plan_cleaning, sentence
from study.ledger.store import Store
from study.outcome import Outcome
from tests.synthetic import FLOOR, Result, ResultOf, fill, known_design, object_store_uri, rise_and_fall

TRIED = [64.0, 4.0, 16.0]
SMOKE = make_design(load_space("smoke"))
SUPERVISED = make_design(load_space("smoke"), variant="supervised")


@pytest.mark.parametrize(
    ("status", "estimate", "kept"),
    [
        ("found", 9.5, [4, 16]),
        ("found", 16.0, [16]),
        ("found", 4.0, [4]),
        ("found", 63.9, [16, 64]),
        ("found", 64.000001, [64]),
        ("below_range", None, [4]),
        ("above_range", None, [64]),
        ("no_crossing", None, []),
    ],
)
def test_the_tried_points_next_to_a_threshold_matter(status: str, estimate: float | None, kept: list[float]) -> None:
    assert ends(TRIED, status, estimate) == kept


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "storage")))


def fill_with_models(ledger: Ledger, design: Design, result_of: ResultOf = rise_and_fall) -> dict[str, tuple[str, int]]:
    """A study with the files that its workers leave, and one checkpoint of each; role and batch by key."""
    state = fill(ledger, design, result_of)
    found = {}
    for entry in state.entries:
        key = entry.replicate.key
        found[key] = (entry.role, entry.replicate.config.batch.train)
        ledger.store.write(f"artifacts/{key}/checkpoint.pt", b"123")
        ledger.store.write(f"artifacts/{key}/error.txt", b"a traceback")
        if entry.role == "reported":
            ledger.store.write(f"artifacts/{key}/model.pt", b"0123456789")
    return found


def names(ledger: Ledger, name: str) -> set[str]:
    """Keys that have a file of this name."""
    return {path.split("/")[1] for path in ledger.store.sizes("artifacts") if path.endswith(name)}


def tables(ledger: Ledger) -> dict[str, int]:
    return {
        path: size
        for table in ("designs", "rounds", "replicates", "curves")
        for path, size in ledger.store.sizes(table).items()
    }


def failing(replicate: Replicate) -> Result:
    return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)


class TestCleaning:
    @pytest.mark.parametrize("place", ["disk", "object store"])
    def test_models_at_the_points_stay_and_all_others_go_with_every_checkpoint(
        self, place: str, tmp_path: Path
    ) -> None:
        ledger = Ledger(Store(str(tmp_path / "storage") if place == "disk" else object_store_uri()))
        design = known_design()
        keys = fill_with_models(ledger, design)
        before = tables(ledger)
        cleaning = plan_cleaning(ledger, {design.hash: [{"batch.train": 16}]})
        clean(ledger, cleaning)
        assert names(ledger, "model.pt") == {key for key, place in keys.items() if place == ("reported", 16)}
        assert names(ledger, "checkpoint.pt") == set()
        assert names(ledger, "error.txt") == set(keys)
        assert tables(ledger) == before

    def test_deciding_removes_nothing_and_doing_it_twice_frees_nothing_more(self, ledger: Ledger) -> None:
        design = known_design()
        fill_with_models(ledger, design)
        before = ledger.store.sizes("artifacts")
        cleaning = plan_cleaning(ledger, {design.hash: []})
        assert ledger.store.sizes("artifacts") == before
        assert sum(cleaning.removed.values()) == 15 * 10 + 33 * 3
        clean(ledger, cleaning)
        assert plan_cleaning(ledger, {design.hash: []}).removed == {}

    def test_a_design_with_open_replicates_is_left_alone(self, ledger: Ledger) -> None:
        design = known_design()
        fill_with_models(ledger, design, failing)
        cleaning = plan_cleaning(ledger, {design.hash: [{"batch.train": 16}]})
        assert cleaning.removed == {}
        assert cleaning.untouched == (design.hash,)

    def test_a_design_without_an_answer_is_left_alone(self, ledger: Ledger) -> None:
        design = known_design()
        fill_with_models(ledger, design)
        assert plan_cleaning(ledger, {design.hash: None}).removed == {}

    def test_what_one_design_needs_or_leaves_open_is_safe_from_another(self, ledger: Ledger) -> None:
        """Two designs that ask for the same replicates."""
        design, other = known_design(), known_design(margin_octaves=0.25)
        keys = fill_with_models(ledger, design)
        fill(ledger, other, rise_and_fall)
        wishes = {design.hash: [{"batch.train": 4}], other.hash: [{"batch.train": 64}]}
        kept = {path.split("/")[1] for path in plan_cleaning(ledger, wishes).kept}
        assert kept == {key for key, (role, batch) in keys.items() if role == "reported" and batch in (4, 64)}
        assert plan_cleaning(ledger, {design.hash: [], other.hash: None}).removed == {}

    def test_files_that_no_design_has_asked_for_stay(self, ledger: Ledger) -> None:
        design = known_design()
        fill_with_models(ledger, design)
        for name in ("model.pt", "checkpoint.pt"):
            ledger.store.write(f"artifacts/foreign/{name}", b"x")
        clean(ledger, plan_cleaning(ledger, {design.hash: []}))
        assert set(ledger.store.sizes("artifacts/foreign")) == {
            "artifacts/foreign/checkpoint.pt",
            "artifacts/foreign/model.pt",
        }

    def test_one_line_says_what_is_kept_and_what_is_freed(self, ledger: Ledger) -> None:
        design = known_design()
        fill_with_models(ledger, design)
        cleaning = plan_cleaning(ledger, {design.hash: [{"batch.train": 16}, {"batch.train": 4}]})
        line = "known: keeps 10 models (100 B) (thresholds at batch.train=4; batch.train=16), frees 38 files (149 B)"
        assert sentence("known", cleaning, is_dry_run=False) == line
        assert "would free 38 files" in sentence("known", cleaning, is_dry_run=True)


class TestPoints:
    """What the answer of a study says about its models."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Path:
        return tmp_path / "storage"

    def batches(self, storage: Path, result_of: ResultOf) -> list[int] | None:
        ledger = Ledger.open(str(storage), "smoke")
        fill(ledger, SMOKE, result_of)
        points = points_to_keep(ledger, SMOKE.hash)
        return None if points is None else [point["batch.train"] for point in points]  # type: ignore[misc]

    def test_both_sides_of_a_threshold_that_was_found(self, storage: Path) -> None:
        """The curve rises half-way near 2 ** 3 = 8 and does not fall again up to 64, the largest batch."""

        def rising(replicate: Replicate) -> Result:
            return rise_and_fall(replicate, rise=3.0, fall=99.0)

        assert self.batches(storage, rising) == [4, 16, 64]

    def test_the_lowest_point_where_the_threshold_lies_below(self, storage: Path) -> None:
        kept = self.batches(storage, lambda r: rise_and_fall(r, rise=-20.0, fall=99.0))
        assert kept == [4, 64]

    def test_nothing_where_nothing_rises_above_the_floor(self, storage: Path) -> None:

        def noise(replicate: Replicate) -> Result:
            return Result(value=FLOOR + 0.004 * math.sin(1.7 * replicate.seed + replicate.config.batch.train))

        assert self.batches(storage, noise) == []

    def test_a_study_without_reported_rows_has_no_answer(self, storage: Path) -> None:
        """Nothing of it may be removed."""
        assert self.batches(storage, lambda r: Result(outcome=Outcome.FAILED)) is None


class TestCommand:
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Path:
        return tmp_path / "storage"

    def test_it_prints_one_line_per_study_and_a_dry_run_removes_nothing(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ledger = Ledger.open(str(storage), "smoke")
        keys = fill_with_models(ledger, SMOKE)
        before = ledger.store.sizes("artifacts")
        assert main(["gc", "--storage", str(storage), "--dry-run"]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("smoke: keeps ")
        assert "would free" in line
        assert ledger.store.sizes("artifacts") == before
        assert main(["gc", "--storage", str(storage)]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        kept = names(ledger, "model.pt")
        assert f"keeps {len(kept)} models ({10 * len(kept)} B)" in line
        assert 0 < len(kept) < 15
        assert {keys[key][0] for key in kept} == {"reported"}
        assert names(ledger, "checkpoint.pt") == set()

    def test_a_study_that_still_runs_keeps_everything(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        ledger = Ledger.open(str(storage), "smoke")
        fill_with_models(ledger, SUPERVISED, failing)
        before = ledger.store.sizes("artifacts")
        assert main(["gc", "--storage", str(storage), "--study", "smoke"]) == 0
        line = capsys.readouterr().out
        assert f"left alone (open, or without an answer): design {SUPERVISED.hash}" in line
        assert "frees 0 files" in line
        assert ledger.store.sizes("artifacts") == before
