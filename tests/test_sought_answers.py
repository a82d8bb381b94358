"""The answer of a study whose points were sought, not laid out: along one axis and in a plane."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from study.answers.answer import StudyAnswer, answer, to_json
from study.answers.figures import draw_answer
from study.answers.fits import Search, SearchEnd, half_width, slice_key
from study.answers.registered import load_design
from study.answers.report import word_answer
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import Budget
from study.designs.values import Values
from study.execution.tasks import PackTask, TaskSettings
from study.inference.statements import Crossing, CrossingStatus
from study.inference.verdict import Verdict
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.planning.proposals import Entry
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.recipe import CONTRASTIVE
from tests.synthetic import DATA_DIGEST, PROVENANCE, Result, ResultOf, commit, design_row, known_design
from tests.test_law_lines import follows, law_design, line_of

SIGMA = Axis(path="data.strength", values=(0.5, 1.0, 2.0, 4.0), steps_per_octave=16)
ROWS = Axis(path="batch.eval", values=(20, 40, 80, 160), steps_per_octave=4, multiple=5)
# Stage one with two seeds a point, then rounds around the threshold at 1.52.
ROUNDS = ([0.5, 1.0, 2.0, 4.0] * 2, [1.41, 1.68], [1.54, 1.54, 1.48], [1.54])


def run(folder: Path, design: Design, rounds: Sequence[Sequence[Values]], result_of: ResultOf) -> Ledger:
    """A ledger with the given rounds of reported points; the seed of a point's next replicate is one larger."""
    ledger = Ledger(Store(str(folder / "known")))
    ledger.record_design(design_row(design))
    settings = TaskSettings(
        ledger_uri=ledger.store.uri, recipe=design.recipe.address, study_hash=design.hash, provenance=PROVENANCE
    )
    seeds: dict[str, int] = {}
    for index, points in enumerate(rounds):
        replicates = []
        rows = []
        for point in points:
            seed = seeds.setdefault(json.dumps(point), 101)
            seeds[json.dumps(point)] += 1
            replicate = CONTRASTIVE.replicate(design.resolve(point, {}, "reported"), seed, DATA_DIGEST)
            entry = Entry(role="reported", point=dict(point), nuisance={}, replicate=replicate)
            rows.append(entry.row(design.hash, index))
            replicates.append(replicate)
        ledger.record_proposal(design.hash, f"{index:04d}", rows)
        # A failure counts after the third attempt.
        attempts = {Outcome.FAILED: 3}
        for replicate in replicates:
            for attempt in range(attempts.get(result_of(replicate).outcome, 1)):
                commit(PackTask(settings=settings, replicates=(replicate,), attempts=(attempt + 1,)), result_of)
    return Ledger(Store(ledger.store.uri))


def sought_design() -> Design:
    return law_design(scientific=(SIGMA,), flank="falling", margin_octaves=0.15, budget=Budget(replicates=2))


POINTS = [[{"data.strength": x} for x in round_] for round_ in ROUNDS]


@pytest.fixture(scope="module")
def sought(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    design = sought_design()
    return answer(
        run(tmp_path_factory.mktemp("sought"), design, POINTS, follows("one_block")),
        ends={slice_key({}): SearchEnd(precision=0.25, is_settled=True, reason="")},
    )


class TestAlongAnAxis:
    def test_the_points_are_those_of_the_data(self, sought: StudyAnswer) -> None:
        (part,) = to_json(sought)["slices"]
        found = {point["data.strength"]: point["count"] for point in part["points"]}
        assert found == {0.5: 2, 1.0: 2, 1.41: 1, 1.48: 1, 1.54: 3, 1.68: 1, 2.0: 2, 4.0: 2}

    def test_the_limit_and_its_law_are_judged_as_on_a_grid(self, sought: StudyAnswer) -> None:
        assert line_of(sought, "one_block").ratio == pytest.approx(1, abs=0.05)
        assert line_of(sought, "control_bbp_as_mass").verdict is Verdict.DIFFERENT

    def test_it_says_how_the_search_ended(self, sought: StudyAnswer) -> None:
        (part,) = sought.slices
        assert part.search is not None
        assert (part.search.num_rounds, part.search.num_points, part.search.num_replicates) == (4, 8, 14)
        assert part.fit is not None
        assert part.search.half_width == half_width(part.fit.falling)
        sentence = f"interval ±{part.search.half_width:.2g} octave after 14 replicates at 8 points"
        assert any(sentence in line for line in word_answer(sought))
        assert to_json(sought)["slices"][0]["search"]["num_rounds"] == 4

    def test_the_figure_shows_all_points_and_how_often_each_was_measured(self, sought: StudyAnswer) -> None:
        figure = draw_answer(sought)
        (dots,) = (found for found in figure.axes[0].collections if "replicates" in str(found.get_label()))
        sizes = dict(zip(np.asarray(dots.get_offsets())[:, 0].tolist(), dots.get_sizes().tolist(), strict=True))
        assert len(sizes) == 8
        assert sizes[1.54] == pytest.approx(3 * sizes[1.48])

    def test_failed_replicates_are_left_out_counted_and_shown(self, tmp_path: Path) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.config.data.strength == 1.54 and replicate.seed == 102:
                return Result(outcome=Outcome.FAILED)
            collapsed = replicate.config.data.strength == 4.0
            value = follows("one_block")(replicate).value
            return Result(value=value, outcome=Outcome.COLLAPSED if collapsed else Outcome.OK)

        result = answer(run(tmp_path, sought_design(), POINTS, result_of))
        (part,) = result.slices
        assert part.outcomes == {"ok": 11, "collapsed": 2, "failed": 1}
        assert len(part.frame) == 13
        assert part.search is not None
        assert part.search.num_replicates == 14
        words = word_answer(result)
        assert "2 of 14 reported replicates collapsed and count as measured" in words
        assert "1 of 14 reported replicates failed and is left out" in words

    @pytest.mark.parametrize(
        ("half", "is_settled", "sentence"),
        [
            (0.2, True, "interval ±0.2 octave SPENT"),
            (0.4, True, "interval ±0.4 octave SPENT, and more would not change it: so it is"),
            (None, True, "no closed interval SPENT, and more would not change it: so it is"),
            (0.4, False, "interval ±0.4 octave SPENT, ±0.25 octave was asked for: so it is"),
            (None, False, "no closed interval SPENT, ±0.25 octave was asked for: so it is"),
            (0.4, None, "interval ±0.4 octave SPENT"),
            (None, None, "no closed interval SPENT"),
        ],
    )
    def test_the_end_of_a_search_is_said_against_what_was_wanted(
        self, half: float | None, is_settled: bool | None, sentence: str
    ) -> None:
        end = None if is_settled is None else SearchEnd(precision=0.25, is_settled=is_settled, reason="so it is")
        search = Search(num_rounds=4, num_points=9, num_replicates=31, half_width=half, end=end)
        assert search.sentence() == sentence.replace("SPENT", "after 31 replicates at 9 points")

    def test_an_open_interval_has_no_half_width(self) -> None:
        closed = Crossing(status=CrossingStatus.FOUND, estimate=2.0, low=1.0, high=4.0)
        assert half_width(closed) == 1
        for low, high in ((None, 4.0), (1.0, None), (0.0, 4.0)):
            assert half_width(Crossing(status=CrossingStatus.FOUND, estimate=2.0, low=low, high=high)) is None

    def test_a_grid_says_nothing_of_a_search(self, tmp_path: Path) -> None:
        design = law_design()
        points = [[{"data.strength": x} for x in design.scientific[0].values] * 2]
        result = answer(run(tmp_path, design, points, follows("one_block")))
        assert result.slices[0].search is None
        assert not result.design.is_sought


@pytest.fixture(scope="module")
def successes(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    criterion = Criterion(metric="p", level=0.5, floor="zero", share=0.5)
    design = law_design(scientific=(SIGMA,), criterion=criterion, flank="falling", budget=Budget(replicates=4))

    def result_of(replicate: Replicate) -> Result:
        own = 1.4 * 2 ** (0.4 * (replicate.seed - 102.5))
        return Result(value=0.98 if replicate.config.data.strength < own else 0.49)

    points = [[{"data.strength": x} for x in round_] for round_ in ([0.5, 1.0, 2.0, 4.0] * 4, [1.41] * 3)]
    return answer(run(tmp_path_factory.mktemp("success"), design, points, result_of))


class TestSuccesses:
    """A share of seeds is sought: the answer speaks of shares, not of the metric's mean."""

    def test_the_curve_is_that_of_successes(self, successes: StudyAnswer) -> None:
        (part,) = to_json(successes)["slices"]
        assert {point["data.strength"]: point["mean"] for point in part["points"]} == {
            0.5: 1.0, 1.0: 0.75, 1.41: pytest.approx(1 / 3), 2.0: 0.25, 4.0: 0.0,
        }  # fmt: skip
        assert part["level"] == 0.5
        assert 0.5 < part["maximum_useful"]["low"] < 1.4 < part["maximum_useful"]["high"] < 4.0

    def test_the_words_name_the_share(self, successes: StudyAnswer) -> None:
        words = "\n".join(word_answer(successes))
        assert "p ≥ 0.5 in 50% of seeds, interval ±" in words
        assert "share of seeds with p ≥ 0.5 (floor" in words
        assert "p ≥ 0.4 in 50% of seeds" in words

    def test_the_figure_shows_shares(self, successes: StudyAnswer) -> None:
        axes = draw_answer(successes).axes[0]
        assert axes.get_ylabel().endswith("≥ 0.5")
        assert not axes.containers, "a success has no standard deviation worth a bar"


class TestTheRecordOfADesign:
    @pytest.mark.parametrize(
        ("design", "expected"),
        [
            (sought_design(), ("falling", True, False, "log")),
            (law_design(), ("falling", False, False, "log")),
            (known_design(), ("rising", False, False, "log")),
            (known_design(flank="both"), ("both", False, False, "log")),
            (law_design(scientific=(SIGMA, ROWS), plane=True, flank="falling"), ("falling", True, True, "log")),
        ],
    )
    def test_flank_search_plane_and_scale_are_those_of_the_design(
        self, tmp_path: Path, design: Design, expected: tuple[str, bool, bool, str]
    ) -> None:
        ledger = Ledger(Store(str(tmp_path / "known")))
        ledger.record_design(design_row(design))
        record = load_design(ledger)
        assert (record.flank, record.is_sought, record.is_plane, record.axis.scale) == expected
        assert record.axes == design.scientific


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    design = law_design(scientific=(SIGMA, ROWS), plane=True, flank="falling", margin_octaves=0.15)
    stage_one = [{"data.strength": x, "batch.eval": y} for x, y in itertools.product(SIGMA.values, ROWS.values)]
    near: list[Values] = [{"data.strength": x, "batch.eval": y} for x in (1.41, 1.68) for y in (30, 60, 120)]
    rounds: list[list[Values]] = [[*stage_one], near, near]
    ledger = run(tmp_path_factory.mktemp("plane"), design, rounds, follows("one_block"))
    end = SearchEnd(precision=0.2, is_settled=False, reason="the interval is wider than wanted")
    return answer(ledger, ends={slice_key({}): end})


class TestInAPlane:
    def test_there_is_one_boundary_and_no_slice(self, plane: StudyAnswer) -> None:
        assert plane.slices == ()
        (found,) = plane.planes
        assert found.fit is not None
        assert [height.value for height in found.heights] == [20, 30, 60, 80, 160]

    def test_laws_at_every_height_are_judged_together(self, plane: StudyAnswer) -> None:
        (found,) = plane.planes
        for height in found.heights:
            law, control = (
                next(line for line in height.laws if line.law.name == name)
                for name in ("one_block", "control_bbp_as_mass")
            )
            setting = Setting(dim=64, num_classes=5, batch=height.value, num_blocks=1)
            assert law.predicted == pytest.approx(LAWS["one_block"].threshold(setting))
            assert law.ratio == pytest.approx(1, abs=0.07)
            assert control.verdict is Verdict.DIFFERENT
            assert law.judgement is not None
            assert law.judgement.num_together == 10

    def test_its_words_give_every_height_and_the_reasons_once(self, plane: StudyAnswer) -> None:
        words = word_answer(plane)
        assert words[1].startswith("maximum strength over batch, a boundary")
        assert "octave after 28 replicates at 22 points" in words[1]
        assert [line[:12].strip() for line in words if line.startswith("at batch")] == [
            *("at batch 20", "at batch 30", "at batch 60", "at batch 80", "at batch 160"),
        ]
        assert sum(line.startswith("not comparable") for line in words) == 1
        assert any(line.startswith("verdicts of 10 laws") for line in words)

    def test_its_json_is_plain_and_has_band_heights_and_points(self, plane: StudyAnswer) -> None:
        (found,) = json.loads(json.dumps(to_json(plane)))["planes"]
        assert found["boundary"][0]["batch.eval"] == pytest.approx(20)
        assert len(found["points"]) == 22
        assert {point["count"] for point in found["points"]} == {1, 2}
        assert [law["law"] for law in found["heights"][0]["laws"]] == list(plane.design.laws)

    def test_its_figure_has_band_points_and_laws(self, plane: StudyAnswer) -> None:
        figure = draw_answer(plane)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels[0] == "measured (area: 1 to 2 replicates)"
        assert {"95 % band", "boundary: p = 0.5", "law one_block"} <= {*labels}

    def test_without_results_it_says_why_there_is_no_answer(self, tmp_path: Path) -> None:
        design = law_design(scientific=(SIGMA, ROWS), plane=True, flank="falling")
        result = answer(run(tmp_path, design, [], follows("one_block")))
        assert word_answer(result)[1] == "maximum strength: no answer: no replicate has a result yet"
        draw_answer(result)
        json.dumps(to_json(result))
