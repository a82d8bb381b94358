"""The answer of a study from its ledger: numbers, words and figure, on studies whose truth is known."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.answers.answer import StudyAnswer, answer, to_json
from study.answers.figures import draw_answer, figure_bytes
from study.answers.frames import curves_frame, designs_frame, measured, outcome_values, replicates_frame
from study.answers.registered import load_design
from study.answers.report import make_report, word_answer
from study.answers.report_files import write_report
from study.answers.slices import mean_curve
from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.values import Scalar, with_values
from study.designs.values import to_json as to_json_config
from study.inference.statements import CrossingStatus
from study.interface.readings import SliceView
from study.interface.run import Replicate
from study.ledger.attempts import MAX_ATTEMPTS
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.readings.neighbours import NeighbourReading, read_neighbours
from study.recipes.contrastive.recipe import CONTRASTIVE
from tests.synthetic import (
    DATA_DIGEST,
    FLOOR,
    RATES,
    STRENGTHS,
    Result,
    ResultOf,
    commit,
    design_row,
    drive,
    fill,
    known_design,
    object_store_uri,
    open_state,
    rise_and_fall,
    search_space,
)

WIDE = Axis(path="batch.train", values=(4, 8, 16, 32, 64, 128, 256, 512))
RISE, FALL = 2**5.3, 2**7.6


def open_ledger(folder: Path) -> Ledger:
    return Ledger(Store(str(folder / "known")))


def answered(folder: Path, result_of: ResultOf, design: Design | None = None, replicates: int = 5) -> StudyAnswer:
    ledger = open_ledger(folder)
    design = design or known_design(scientific=(WIDE,))
    fill(ledger, design, result_of, replicates)
    return answer(ledger, design.hash)


@pytest.fixture(scope="module")
def peak(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A study whose outcome rises through its half at 2^5.3 and falls through it again at 2^7.6."""
    ledger = open_ledger(tmp_path_factory.mktemp("peak"))
    fill(ledger, known_design(scientific=(WIDE,)), rise_and_fall)
    settings = {"evaluation.split": "test", "evaluation.knn_bank": 200, "evaluation.knn_neighbours": 20}
    ledger.record_measurements("raw_", DATA_DIGEST, None, settings, {"knn_accuracy": 0.7})
    on_validation = settings | {"evaluation.split": "validation"}
    ledger.record_measurements("raw_", DATA_DIGEST, None, on_validation, {"knn_accuracy": 0.1})
    return ledger


@pytest.fixture(scope="module")
def peak_answer(peak: Ledger) -> StudyAnswer:
    return answer(peak)


@pytest.fixture(scope="module")
def flat_answer(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    """A study that learns nothing at any batch."""

    def flat(replicate: Replicate) -> Result:
        return Result(value=FLOOR + 0.004 * float(np.sin(7.1 * replicate.seed + replicate.config.batch.train)))

    return answered(tmp_path_factory.mktemp("flat"), flat)


@pytest.fixture(scope="module")
def two_axes(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    """The rise moves by an octave from the first strength to the second."""

    def result_of(replicate: Replicate) -> Result:
        return rise_and_fall(replicate, rise=4.0 + 10 * (replicate.config.data.strength - 0.1), fall=20)

    return answered(tmp_path_factory.mktemp("two"), result_of, known_design(scientific=(WIDE, STRENGTHS)))


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    def result_of(replicate: Replicate) -> Result:
        if replicate.seed in (101, 102) and replicate.config.batch.train == 32:
            return Result(outcome=Outcome.DIVERGED)
        return rise_and_fall(replicate, rise=4.3)

    return answered(tmp_path_factory.mktemp("diverged"), result_of)


class TestAnswer:
    def test_a_known_rise_and_fall_lie_within_their_intervals(self, peak_answer: StudyAnswer) -> None:
        (part,) = peak_answer.slices
        assert part.fit is not None
        for crossing, truth in ((part.fit.rising, RISE), (part.fit.falling, FALL)):
            assert crossing.status is CrossingStatus.FOUND
            assert crossing.low is not None
            assert crossing.high is not None
            assert crossing.estimate is not None
            assert crossing.low < truth < crossing.high
            assert abs(np.log2(crossing.estimate / truth)) < 0.3
            assert np.log2(crossing.high / crossing.low) < 1
        assert part.fit.floor == pytest.approx(FLOOR)

    def test_it_counts_what_was_planned_and_what_came_of_it(self, peak_answer: StudyAnswer) -> None:
        assert peak_answer.num_planned == 8 * 3 * 2 + 8 * 5
        assert peak_answer.counts == {"ok": peak_answer.num_planned}
        assert peak_answer.num_older == 0

    def test_it_fits_the_reported_replicates_and_not_those_of_the_tuning(self, peak_answer: StudyAnswer) -> None:
        (part,) = peak_answer.slices
        assert set(part.frame["role"]) == {"reported"}
        assert set(part.frame["seed"]) == {101, 102, 103, 104, 105}

    def test_it_says_what_was_tuned_and_where_the_best_value_was_at_the_edge(self, tmp_path: Path) -> None:
        def result_of(replicate: Replicate) -> Result:
            size, rate = replicate.config.batch.train, replicate.config.optimizer.learning_rate
            best = 1e-1 if size == 8 else 3e-3
            return Result(value=0.1 + 0.1 * np.log2(size) - 0.01 * abs(np.log(rate / best)))

        (part,) = answered(tmp_path, result_of).slices
        assert part.tuned[4.0] == {RATES.path: 3e-3}
        assert part.tuned[8.0] == {RATES.path: 3.33e-2}
        assert part.at_edge == (8.0,)

    def test_the_untuned_curve_is_that_of_the_middle_setting(self, peak_answer: StudyAnswer) -> None:
        (part,) = peak_answer.slices
        assert part.untuned_setting == {RATES.path: 3e-3}
        assert set(part.untuned["role"]) == {"tuning"}
        assert set(part.untuned[RATES.path]) == {3e-3}

    def test_knn_is_compared_on_the_split_of_the_report(self, peak_answer: StudyAnswer) -> None:
        (part,) = peak_answer.slices
        (knn,) = part.readings
        assert isinstance(knn, NeighbourReading)
        assert (knn.point, knn.trained, knn.untrained, knn.raw) == (64, 0.8, 0.6, 0.7)

    def test_an_absolute_level_is_crossed_where_the_curve_has_that_value(self, tmp_path: Path) -> None:
        design = known_design(scientific=(WIDE,), criterion=Criterion(metric="p", level=FLOOR + 0.25))
        (part,) = answered(tmp_path, lambda r: rise_and_fall(r, fall=20), design).slices
        assert part.fit is not None
        assert part.fit.rising.low is not None
        assert part.fit.rising.high is not None
        assert part.fit.rising.low < RISE < part.fit.rising.high
        assert part.fit.level.value == pytest.approx(FLOOR + 0.25)

    def test_another_metric_can_be_the_outcome(self, tmp_path: Path) -> None:
        design = known_design(scientific=(WIDE,), criterion=Criterion(metric="s_j", fraction=0.5))
        result = answered(tmp_path, rise_and_fall, design)
        assert result.slices[0].fit is not None
        assert result.slices[0].fit.rising.status is CrossingStatus.FOUND
        assert "half rise of s_j" in "\n".join(word_answer(result))

    def test_a_study_without_nuisances_has_an_answer(self, tmp_path: Path) -> None:
        result = answered(tmp_path, rise_and_fall, known_design(scientific=(WIDE,), nuisance=()))
        assert result.slices[0].fit is not None
        text = "\n".join(word_answer(result))
        assert "tuned" not in text
        assert figure_bytes(draw_answer(result), "png")

    def test_the_newest_design_is_the_one_that_is_answered(self, tmp_path: Path) -> None:
        ledger, space = open_ledger(tmp_path), search_space()
        old, new = (make_design(space, variant=variant) for variant in ("supervised", "learning"))
        ledger.record_design(design_row(new, created_at=pd.Timestamp("2029-06-02", tz="UTC")))
        ledger.record_design(design_row(old, created_at=pd.Timestamp("2029-06-01", tz="UTC")))
        assert load_design(ledger).hash == new.hash
        assert load_design(ledger, old.hash).variant == "supervised"

    def test_a_ledger_without_designs_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="run the study first"):
            answer(open_ledger(tmp_path))

    def test_rows_that_are_older_than_the_design_are_counted(self, tmp_path: Path) -> None:
        ledger, design = open_ledger(tmp_path), known_design()
        later = design_row(design, created_at=pd.Timestamp("2031-01-01", tz="UTC"))
        drive(open_state(ledger, design, design_row=later), rise_and_fall)
        result = answer(ledger)
        assert result.num_older == result.num_planned
        assert f"{result.num_older} rows are older than this design" in "\n".join(word_answer(result))


class TestUnfinished:
    @pytest.mark.parametrize("num_packs", [0, 1, 4])
    @pytest.mark.parametrize("axes", [(WIDE,), (WIDE, STRENGTHS)], ids=["one axis", "two axes"])
    def test_a_study_that_has_begun_has_words_and_a_figure(
        self, tmp_path: Path, num_packs: int, axes: tuple[Axis, ...]
    ) -> None:
        ledger, design = open_ledger(tmp_path), known_design(scientific=axes)
        ledger.record_design(design_row(design))
        drive(open_state(ledger, design), rise_and_fall, max_packs=num_packs)
        report = make_report(ledger, design.hash)
        assert f"design {design.hash}" in report.text
        assert "no answer" in report.text

    def test_a_slice_without_results_does_not_hide_the_others(self, tmp_path: Path) -> None:
        def result_of(replicate: Replicate) -> Result:
            is_bad = replicate.config.data.strength == 0.1 and replicate.seed > 100
            return Result(outcome=Outcome.FAILED) if is_bad else rise_and_fall(replicate)

        result = answered(tmp_path, result_of, known_design(scientific=(WIDE, STRENGTHS)))
        text = "\n".join(word_answer(result))
        assert "at data.strength = 0.1\nminimum batch: no answer: no replicate has a result yet" in text
        assert "at data.strength = 0.2\nminimum batch  " in text
        assert figure_bytes(draw_answer(result), "png")


class TestDiverged:
    def test_a_diverged_replicate_stands_at_its_floor(self, diverged: StudyAnswer) -> None:
        frame = diverged.slices[0].frame
        values = outcome_values(frame, Criterion(metric="p", fraction=0.5), CONTRASTIVE)[frame["outcome"] == "diverged"]
        assert list(values) == [FLOOR, FLOOR]
        assert diverged.counts["diverged"] == 2

    def test_the_answer_is_given_with_and_without_the_diverged_replicates(self, diverged: StudyAnswer) -> None:
        part = diverged.slices[0]
        assert part.fit is not None
        assert part.fit_without_diverged is not None
        assert part.fit_without_diverged.rising.estimate != part.fit.rising.estimate
        text = "\n".join(word_answer(diverged))
        assert "minimum batch without the diverged replicates: " in text
        assert "2 diverged" in text.splitlines()[0]

    def test_without_diverged_replicates_there_is_no_second_answer(self, peak_answer: StudyAnswer) -> None:
        assert peak_answer.slices[0].fit_without_diverged is None
        assert "diverged" not in "\n".join(word_answer(peak_answer))


class TestTwoAxes:
    def test_each_value_of_the_second_axis_has_a_slice_and_an_answer(self, two_axes: StudyAnswer) -> None:
        assert [part.others for part in two_axes.slices] == [{STRENGTHS.path: 0.1}, {STRENGTHS.path: 0.2}]
        for part, octave in zip(two_axes.slices, (4.0, 5.0), strict=True):
            assert part.fit is not None
            rising = part.fit.rising
            assert rising.low is not None
            assert rising.high is not None
            assert rising.low < 2**octave < rising.high
            assert set(part.frame[STRENGTHS.path]) == {part.others[STRENGTHS.path]}
            assert set(part.untuned[STRENGTHS.path]) == {part.others[STRENGTHS.path]}

    def test_the_words_say_which_value_they_are_about(self, two_axes: StudyAnswer) -> None:
        lines = word_answer(two_axes)
        assert [line for line in lines if line.startswith("at ")] == [
            "at data.strength = 0.1",
            "at data.strength = 0.2",
        ]

    def test_the_figure_has_a_column_per_value(self, two_axes: StudyAnswer) -> None:
        titles = [ax.get_title(loc="left") for ax in draw_answer(two_axes).axes if ax.get_title(loc="left")]
        assert ["0.1" in titles[0], "0.2" in titles[1]] == [True, True]
        assert len(titles) == 2


class TestWords:
    def test_the_first_line_is_study_data_design_commit_and_counts(self, peak_answer: StudyAnswer) -> None:
        design = peak_answer.design
        assert word_answer(peak_answer)[0] == (
            f"known · digits · design {design.hash} · commit 01234567 · 88 of 88 replicates with a result"
        )

    def test_the_threshold_is_worded_with_its_interval_and_criterion(self, peak_answer: StudyAnswer) -> None:
        fit = peak_answer.slices[0].fit
        assert fit is not None
        line = next(line for line in word_answer(peak_answer) if line.startswith("minimum batch"))
        assert fit.rising.describe("batch") in line
        assert line.endswith("half rise of p, learning rate tuned per batch, 5 seeds per point")

    def test_the_maximum_is_worded_with_the_horizon(self, peak_answer: StudyAnswer) -> None:
        line = next(line for line in word_answer(peak_answer) if line.startswith("maximum useful batch"))
        assert line.endswith("at 600 training images")

    def test_no_crossing_is_said_in_words_and_never_a_number(self, flat_answer: StudyAnswer) -> None:
        text = word_answer(flat_answer)
        line = next(line for line in text if line.startswith("minimum batch"))
        assert "no crossing: no rise above the floor distinguishable from noise" in line
        part = to_json(flat_answer)["slices"][0]
        assert (part["minimum"]["status"], part["minimum"]["estimate"]) == ("no_crossing", None)

    def test_the_bootstrap_stands_beside_the_fit_that_sees_a_crossing(
        self, peak_answer: StudyAnswer, flat_answer: StudyAnswer
    ) -> None:
        (part,) = peak_answer.slices
        (found,) = part.cross_check
        assert found.estimate is not None
        assert f"bootstrap of seeds, a cross-check: {found.describe('batch')}" in word_answer(peak_answer)
        assert to_json(peak_answer)["slices"][0]["bootstrap"][0]["estimate"] == found.estimate
        assert part.fit is not None
        assert part.fit.rising.estimate is not None
        assert abs(np.log2(part.fit.rising.estimate / found.estimate)) < 0.5
        assert flat_answer.slices[0].cross_check == ()

    def test_thresholds_of_two_horizons_stand_beside_each_other(self, tmp_path: Path) -> None:
        """Twice the training moves the rise down by an octave."""

        def result_of(replicate: Replicate) -> Result:
            return rise_and_fall(replicate, rise=5.3 - replicate.config.horizon.length / 300, fall=20)

        horizons = Axis(path="horizon.length", values=(300, 600))
        design = known_design(scientific=(WIDE, horizons), nuisance=())
        result = answered(tmp_path, result_of, design, replicates=3)
        short, long = result.horizons
        assert (short.octaves, long.octaves) == (0, pytest.approx(-1, abs=0.1))
        words = word_answer(result)
        start = words.index("sensitivity to the budget:")
        assert [line.split()[:3] for line in words[start + 1 : start + 3]] == [
            ["horizon.length", "=", "300"],
            ["horizon.length", "=", "600"],
        ]
        assert to_json(result)["horizons"][1]["octaves"] == long.octaves

    def test_the_sensitivity_says_what_nuisances_were_tuned_for(self, peak_answer: StudyAnswer) -> None:
        words = word_answer(peak_answer)
        start = words.index("sensitivity to the criterion (learning rate tuned for half rise of p alone):")
        assert words[start + 1].split()[:4] == ["40%", "rise", "of", "p"]
        names = [line["name"] for line in to_json(peak_answer)["slices"][0]["sensitivity"]]
        assert names == ["40% rise of p", "60% rise of p", "half rise of knn_accuracy"]

    def test_an_axis_without_a_name_of_its_own_is_called_by_its_path(self, tmp_path: Path) -> None:
        dims = Axis(path="model.embedding_dim", values=(16, 32, 64, 128))

        def result_of(replicate: Replicate) -> Result:
            return Result(value=FLOOR + 0.001 * replicate.seed % 3)

        words = word_answer(answered(tmp_path, result_of, known_design(scientific=(dims,), nuisance=()), 3))
        names = ("minimum model.embedding_dim  ", "maximum model.embedding_dim  ")
        assert [sum(line.startswith(name) for line in words) for name in names] == [1, 1]

    def test_no_number_is_a_negative_zero(self, tmp_path: Path) -> None:
        def result_of(replicate: Replicate) -> Result:
            return Result(value=-0.0001 * (replicate.seed % 5))

        text = "\n".join(word_answer(answered(tmp_path, result_of)))
        assert "4: 0.000  8: 0.000" in text
        assert "-0.000" not in text

    def test_the_seeds_are_those_of_a_point_and_not_of_the_study(self, tmp_path: Path) -> None:
        """Two of five seeds have no result at batch 8."""

        def result_of(replicate: Replicate) -> Result:
            is_missing = replicate.config.batch.train == 8 and replicate.seed in (104, 105)
            return Result(outcome=Outcome.OUT_OF_MEMORY) if is_missing else rise_and_fall(replicate)

        ledger, design = open_ledger(tmp_path), known_design(scientific=(WIDE,))
        for _ in range(MAX_ATTEMPTS):
            fill(ledger, design, result_of)
        result = answer(ledger)
        line = next(line for line in word_answer(result) if line.startswith("minimum batch"))
        assert line.endswith("3 to 5 seeds per point")
        labels = [text.get_text() for text in draw_answer(result).legends[0].get_texts()]
        assert "mean and s.d. (area: 3 to 5 replicates)" in labels

    def test_the_figure_counts_the_seeds_of_a_point(self, peak_answer: StudyAnswer) -> None:
        labels = [text.get_text() for text in draw_answer(peak_answer).legends[0].get_texts()]
        assert "mean and s.d. of 5 seeds" in labels
        part = peak_answer.slices[0]
        # Two other seeds at every point: four in all, two of them at each.
        other = part.frame["batch.train"].rank(method="dense") % 2
        few = part.frame[part.frame["seed"].isin([101, 102])].assign(seed=lambda frame: frame["seed"] + 10 * other)
        two = dataclasses.replace(peak_answer, slices=(dataclasses.replace(part, frame=few),))
        assert few["seed"].nunique() == 4
        labels = [text.get_text() for text in draw_answer(two).legends[0].get_texts()]
        assert "mean and s.d. of 2 seeds" in labels
        assert any(line.endswith("2 seeds per point") for line in word_answer(two))

    def test_failed_replicates_are_counted_and_shown(self, tmp_path: Path) -> None:
        def result_of(replicate: Replicate) -> Result:
            bad = replicate.seed == 103 and replicate.config.batch.train == 4
            return Result(outcome=Outcome.OUT_OF_MEMORY) if bad else rise_and_fall(replicate)

        ledger, design = open_ledger(tmp_path), known_design()
        for _ in range(3):
            fill(ledger, design, result_of)
        header = word_answer(answer(ledger))[0]
        assert "32 of 33 replicates with a result (1 out_of_memory)" in header

    @pytest.mark.parametrize(
        ("commit", "dirty", "words"),
        [
            ("0123456789", False, "commit 01234567 ·"),
            ("0123456789", True, "commit 01234567 with uncommitted changes ·"),
            ("0123456789", None, "commit 01234567 (state unknown) ·"),
            ("", None, "commit unknown"),
        ],
    )
    def test_the_state_of_the_code_is_said(
        self, peak_answer: StudyAnswer, commit: str, dirty: bool | None, words: str
    ) -> None:
        design = dataclasses.replace(peak_answer.design, commit=commit, dirty=dirty)
        assert words in word_answer(dataclasses.replace(peak_answer, design=design))[0]

    def test_a_nuisance_at_its_edge_is_called_by_its_name(self, tmp_path: Path) -> None:
        decay = Axis(path="optimizer.weight_decay", values=(1e-4, 1e-3, 1e-2))

        def result_of(replicate: Replicate) -> Result:
            return Result(value=replicate.config.optimizer.weight_decay + 0.01 * replicate.config.batch.train)

        text = "\n".join(word_answer(answered(tmp_path, result_of, known_design(nuisance=(decay,)))))
        assert "weight decay at edge" in text
        assert "learning rate" not in text


class TestJson:
    def test_it_is_plain_and_has_no_number_that_json_lacks(
        self, peak_answer: StudyAnswer, flat_answer: StudyAnswer, two_axes: StudyAnswer
    ) -> None:
        for result in (peak_answer, flat_answer, two_axes):
            text = json.dumps(to_json(result), allow_nan=False)
            assert json.loads(text) == to_json(result)

    def test_its_points_are_the_means_over_the_reported_seeds(self, peak_answer: StudyAnswer) -> None:
        points = to_json(peak_answer)["slices"][0]["points"]
        frame = peak_answer.slices[0].frame
        assert [point["batch.train"] for point in points] == list(WIDE.values)
        for point in points:
            values = frame.loc[frame["batch.train"] == point["batch.train"], "metric.p"]
            assert (point["mean"], point["std"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))
            assert point["count"] == 5

    def test_a_single_replicate_has_no_spread(self, tmp_path: Path) -> None:
        result = answered(tmp_path, rise_and_fall, replicates=1)
        part = to_json(result)["slices"][0]
        assert {point["std"] for point in part["points"]} == {None}
        assert "at least 2 seeds" in part["no_fit"]


class TestFigure:
    @pytest.mark.parametrize(("kind", "head"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml")])
    def test_its_bytes_are_of_its_kind_and_the_same_each_time(
        self, peak_answer: StudyAnswer, kind: str, head: bytes
    ) -> None:
        first = figure_bytes(draw_answer(peak_answer), kind)
        assert first.startswith(head)
        assert figure_bytes(draw_answer(peak_answer), kind) == first

    def test_it_changes_when_the_numbers_do(self, peak_answer: StudyAnswer, flat_answer: StudyAnswer) -> None:
        assert figure_bytes(draw_answer(peak_answer), "svg") != figure_bytes(draw_answer(flat_answer), "svg")

    def test_it_shows_every_reported_replicate_and_both_thresholds(self, peak_answer: StudyAnswer) -> None:
        figure = draw_answer(peak_answer)
        panel = figure.axes[0]
        assert any(len(line.get_xdata()) == 40 for line in panel.lines)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any(label.startswith("minimum ") for label in labels)
        assert any(label.startswith("maximum useful ") for label in labels)

    def test_no_crossing_draws_no_threshold(self, flat_answer: StudyAnswer) -> None:
        figure = draw_answer(flat_answer)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert not any(label.startswith(("minimum", "maximum")) for label in labels)

    def test_drawing_changes_no_setting_of_matplotlib(self, peak_answer: StudyAnswer) -> None:
        import matplotlib

        before = dict(matplotlib.rcParams)
        figure_bytes(draw_answer(peak_answer), "svg")
        assert dict(matplotlib.rcParams) == before


class TestReport:
    @pytest.mark.parametrize("place", ["disk", "object store"])
    def test_its_files_lie_in_the_ledger_and_are_found_where_it_says(self, place: str, tmp_path: Path) -> None:
        uri = str(tmp_path / "known") if place == "disk" else object_store_uri()
        ledger, design = Ledger(Store(uri)), known_design()
        fill(ledger, design, rise_and_fall)
        report = make_report(ledger)
        folder = f"reports/{design.hash}"
        assert ledger.store.names(folder, "") == []
        written = write_report(ledger, report.answer)
        assert written.warnings == ()
        assert ledger.store.names(folder, "") == ["known.json", "known.png", "known.svg"]
        data = ledger.store.read(f"{folder}/known.json")
        assert data is not None
        assert json.loads(data) == to_json(report.answer)
        places = [str(place).partition("?")[0] for place in (written.figure, written.data)]
        assert [place.rpartition(f"/{folder}/")[2] for place in places] == ["known.svg", "known.json"]


class TestFrames:
    def test_there_is_a_row_per_planned_replicate_with_its_point_and_setting_as_columns(self, peak: Ledger) -> None:
        design = load_design(peak)
        frame = replicates_frame(peak, design.hash)
        assert len(frame) == frame["key"].nunique() == 88
        assert set(frame["role"]) == {"tuning", "reported"}
        assert sorted(frame["batch.train"].unique()) == list(WIDE.values)
        assert sorted(frame[RATES.path].unique()) == list(RATES.values)
        one = frame[(frame["role"] == "reported") & (frame["batch.train"] == 64) & (frame["seed"] == 103)]
        expected = json.loads(one["config"].iloc[0])
        assert (expected["batch.train"], expected[RATES.path]) == (64, one[RATES.path].iloc[0])

    def test_a_replicate_that_is_open_has_no_outcome(self, tmp_path: Path) -> None:
        ledger, design = open_ledger(tmp_path), known_design()
        drive(open_state(ledger, design), rise_and_fall, max_packs=1)
        frame = replicates_frame(ledger, design.hash)
        assert len(frame) == 18
        assert 0 < frame["outcome"].isna().sum() < 18

    def test_a_design_without_rounds_gives_an_empty_frame_with_the_columns_of_a_full_one(self, tmp_path: Path) -> None:
        frame = replicates_frame(open_ledger(tmp_path), "00000000")
        assert len(frame) == 0
        assert {"role", "cell", "nuisance", "key", "seed", "outcome"} <= set(frame.columns)

    def test_curves_carry_cell_role_and_seed(self, peak: Ledger) -> None:
        curves = curves_frame(peak, load_design(peak).hash)
        assert len(curves) == 88 * 3
        assert set(curves.columns) == {
            "key",
            "attempt",
            "cell",
            "nuisance",
            "role",
            "seed",
            "examples",
            "metric",
            "value",
        }
        assert sorted(curves["examples"].unique()) == [0, 300, 600]

    def test_designs_are_ordered_by_time(self, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path)
        for day, margin in ((3, 0.1), (1, 0.2), (2, 0.3)):
            created = pd.Timestamp(f"2029-06-0{day}", tz="UTC")
            ledger.record_design(design_row(known_design(margin_octaves=margin), created_at=created))
        assert list(designs_frame(ledger)["created_at"].dt.day) == [1, 2, 3]

    def test_only_ok_and_collapsed_rows_count_as_measured(self) -> None:
        frame = pd.DataFrame({"outcome": [str(outcome) for outcome in Outcome] + [None]})
        assert list(measured(frame)["outcome"]) == ["ok", "collapsed"]

    def test_the_mean_curve_is_sorted_and_counts_its_replicates(self, peak: Ledger) -> None:
        frame = pd.DataFrame({"x": [8, 4, 8], "outcome": "ok", "metric.p": [0.2, 0.1, 0.4], "before.p": 0.0})
        curve = mean_curve(frame, "x", load_design(peak))
        assert list(curve["x"]) == [4, 8]
        assert list(curve["mean"]) == pytest.approx([0.1, 0.3])
        assert list(curve["count"]) == [1, 2]

    def test_a_diverged_replicate_stands_at_the_floor_of_its_criterion(self) -> None:
        ten = with_values(ReplicateConfig(), {"data.name": "digits"})
        configs = [to_json_config(ten)] * 2
        for metric, chance in (("accuracy", 0.1), ("p", 0.0)):
            numbers = {f"metric.{metric}": [0.6, None], f"before.{metric}": [0.1, 0.8]}
            frame = pd.DataFrame({"outcome": ["ok", "diverged"], **numbers, "config": configs})
            expected = {"before": 0.8, "chance": chance, "zero": 0.0}
            for floor, value in expected.items():
                criterion = Criterion(metric=metric, level=0.5, floor=floor)
                assert list(outcome_values(frame, criterion, CONTRASTIVE)) == pytest.approx([0.6, value])

    def test_the_raw_measurement_is_that_of_the_data_and_the_split(self, peak: Ledger) -> None:
        def raw(data_digest: str, **changes: Scalar) -> float | None:
            config = with_values(known_design().config, {f"evaluation.{name}": v for name, v in changes.items()})
            row = {"batch.train": 8, "outcome": "ok", "data_digest": data_digest, "config": to_json_config(config)}
            numbers = {"metric.p": 0.5, "metric.knn_accuracy": 0.8, "before.knn_accuracy": 0.6}
            found = read_neighbours(
                SliceView(
                    axis="batch.train",
                    unit="batch",
                    criterion=Criterion(metric="p", fraction=0.5),
                    is_first=True,
                    laws=(),
                    replicates=pd.DataFrame([row | numbers]),
                    means=pd.Series({8: 0.5}),
                    fit=None,
                    measurements=peak,
                    measurement_rows=lambda: peak.read("measurements").to_pylist(),
                )
            )
            assert found is not None
            return found.raw

        assert raw(DATA_DIGEST) == 0.7
        assert raw(DATA_DIGEST, split="validation") == 0.1
        assert raw(DATA_DIGEST, knn_bank=5) is None
        assert raw("other") is None


@pytest.mark.parametrize("draw", [lambda a: to_json(a), lambda a: word_answer(a)], ids=["json", "words"])
def test_the_order_of_results_does_not_matter(tmp_path: Path, draw: Callable[[StudyAnswer], object]) -> None:
    design, answers = known_design(scientific=(WIDE,)), []
    for name, step in (("forwards", 1), ("backwards", -1)):
        ledger = open_ledger(tmp_path / name)
        ledger.record_design(design_row(design))
        state = open_state(ledger, design)
        tasks = []
        while not state.is_finished:
            task = state.next_task(is_idle=not tasks)
            if task is not None:
                tasks.append(task)
                continue
            for done in tasks[::step]:
                commit(done, rise_and_fall)
                state.note_complete(done)
            tasks = []
        answers.append(draw(answer(ledger)))
    assert answers[0] == answers[1]
