"""Laws beside measured thresholds: on invented runs that follow a law, and on some that do not."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.answers.answer import StudyAnswer, answer, to_json
from study.answers.figures import draw_answer
from study.answers.law_lines import word_laws, word_verdicts
from study.answers.laws import LawLine, laws_of
from study.answers.registered import RegisteredDesign, load_design
from study.answers.report import word_answer
from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.catalogue import load_space
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import Budget, SearchSpace, Series, Variant
from study.designs.values import to_json as to_json_config
from study.designs.values import with_values
from study.inference.verdict import Verdict
from study.interface.readings import SliceView
from study.interface.run import Replicate
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.readings.escape import EscapeComparison, read_escapes
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.theory import setting_of
from study.rows import metric_column
from tests.synthetic import Result, ResultOf, design_row, fill

CONFIG = with_values(
    ReplicateConfig(),
    {
        "data.name": "clusters",
        "data.clusters.num_sources": 1_000,
        "batch.eval": 60,
        "model.encoder": "none",
        "model.init": "identity",
        "model.num_blocks": 1,
        "horizon.length": 0,
        "evaluation.knn_bank": 0,
    },
)
SIGMAS = Axis(path="data.strength", values=(0.9, 1.1, 1.3, 1.5, 1.8, 2.2))
HALF = Criterion(metric="p", level=0.5, floor="zero")
FUSED = Criterion(metric="mean_cosine", level=0.5, floor="zero")


def law_design(**changes: Any) -> Design:
    fields: dict[str, Any] = {
        "name": "known",
        "question": "Do the laws hold?",
        "recipe": CONTRASTIVE,
        "config": CONFIG,
        "scientific": (SIGMAS,),
        "nuisance": (),
        "criterion": HALF,
        "budget": Budget(replicates=3),
        "laws": {"clusters": ("one_block", "one_block_jsd", "state_evolution", "control_bbp_as_mass")},
        "variants": {"learning": Variant()},
        "profiles": {"laptop": {}},
        "datasets": {"clusters": {}},
    }
    return make_design(SearchSpace(**(fields | changes)))


def follows(name: str, factor: float = 1.0) -> ResultOf:
    """Runs whose P is what a law says of ``sigma / factor``, with seeds that shift it a little."""

    def result_of(replicate: Replicate) -> Result:
        setting = setting_of(replicate.config, is_tuned=False)
        outcome = LAWS[name].outcome
        assert outcome is not None
        assert setting.sigma is not None
        value = outcome(dataclasses.replace(setting, sigma=setting.sigma / factor))
        return Result(value=value + 0.002 * math.sin(1.7 * replicate.seed))

    return result_of


def answered(folder: Path, design: Design, result_of: ResultOf) -> StudyAnswer:
    ledger = Ledger(Store(str(folder / "known")))
    fill(ledger, design, result_of, replicates=3)
    return answer(ledger, design.hash)


def registered(folder: Path, design: Design) -> RegisteredDesign:
    """A design as a ledger without replicates holds it."""
    ledger = Ledger(Store(str(folder / "registered")))
    ledger.record_design(design_row(design))
    return load_design(ledger)


def line_of(result: StudyAnswer, law: str, index: int = 0) -> LawLine:
    (line,) = (line for line in result.slices[index].laws if line.law.name == law)
    return line


@pytest.fixture(scope="module")
def lawful(tmp_path_factory: pytest.TempPathFactory) -> StudyAnswer:
    return answered(tmp_path_factory.mktemp("lawful"), law_design(), follows("one_block"))


class TestLaws:
    def test_runs_that_follow_a_law_agree_with_it(self, lawful: StudyAnswer) -> None:
        line = line_of(lawful, "one_block")
        assert line.ratio == pytest.approx(1, abs=0.02)
        assert line.ratio_low is not None
        assert line.ratio_high is not None
        assert line.ratio_low < 1 < line.ratio_high
        assert line.place == "inside"

    def test_a_control_is_named_and_fails(self, lawful: StudyAnswer) -> None:
        line = line_of(lawful, "control_bbp_as_mass")
        assert line.ratio is not None
        assert line.ratio < 0.6
        assert line.verdict is Verdict.DIFFERENT
        assert any(text.endswith("control fails as declared") for text in word_answer(lawful))
        assert any("1 of 1 control fails as declared" in text for text in word_answer(lawful))

    @pytest.mark.parametrize(
        ("verdict", "words"),
        [(Verdict.EQUIVALENT, "declared to fail does not"), (Verdict.UNDECIDED, "declared to fail is not shown to")],
    )
    def test_a_control_that_does_not_fail_is_said_to(self, lawful: StudyAnswer, verdict: Verdict, words: str) -> None:
        control = line_of(lawful, "control_bbp_as_mass")
        assert control.judgement is not None
        held = dataclasses.replace(control, judgement=dataclasses.replace(control.judgement, verdict=verdict))
        (text,) = word_laws([held])
        assert text.endswith(words)
        assert "0 of 1 control fails as declared" in word_verdicts([held])[0]

    def test_a_law_that_made_the_data_is_equivalent_with_its_interval_and_margin(self, lawful: StudyAnswer) -> None:
        line = line_of(lawful, "one_block")
        assert line.verdict is Verdict.EQUIVALENT
        (text,) = (text for text in word_answer(lawful) if text.startswith("law one_block "))
        start = f"{'law one_block':<30}{line.predicted:<8.3g}equivalent   measured/law {line.ratio:.2f}, 95 % interval "
        assert text.startswith(f"{start}{line.ratio_low:.2f} to {line.ratio_high:.2f}, margin 0.71 to 1.41; inside its")

    def test_verdicts_are_counted_and_corrected_over_all_slices_and_criteria(self, tmp_path: Path) -> None:
        recipes = (Series(name="64", values={"data.clusters.dim": 64}), Series(name="65", values={"batch.eval": 65}))
        result = answered(tmp_path, law_design(series=recipes), follows("one_block"))
        judgements = [line.judgement for line in result.laws if line.judgement is not None]
        assert len(judgements) == 4
        assert {item.num_together for item in judgements} == {4}
        assert any(
            text.startswith("verdicts of 4 laws, corrected together: 2 equivalent, 2 different, 2 of 2 controls")
            for text in word_answer(result)
        )
        assert to_json(result)["verdicts"] == {"equivalent": 2, "different": 2, "undecided": 0, "not comparable": 4}

    def test_a_law_beside_too_few_points_is_undecided_and_counts(self, tmp_path: Path) -> None:
        two = Axis(path="data.strength", values=(1.0, 1.5))
        result = answered(tmp_path, law_design(scientific=(two,)), follows("one_block"))
        line = line_of(result, "one_block")
        assert line.verdict is Verdict.UNDECIDED
        assert line.judgement is not None
        assert (line.judgement.reason, line.judgement.num_together) == ("nothing measured to compare", 2)

    def test_runs_that_break_half_an_octave_early_lie_outside_the_band(self, tmp_path: Path) -> None:
        result = answered(tmp_path, law_design(), follows("one_block", factor=2**-0.5))
        line = line_of(result, "one_block")
        assert line.ratio == pytest.approx(2**-0.5, rel=0.03)
        assert line.place == "outside"
        assert any("outside its verified band" in text for text in word_answer(result))

    @pytest.mark.parametrize(
        ("ratio", "low", "high", "place"),
        [
            (1.05, 1.0, 1.2, "inside"),
            (1.15, 1.05, 1.2, "reaching"),
            (1.15, 1.12, 1.2, "outside"),
            (0.8, 0.7, None, "reaching"),
            (None, 1.0, 1.1, None),
        ],
    )
    def test_an_interval_that_only_reaches_into_the_band_is_said_to(
        self, ratio: float | None, low: float, high: float | None, place: str | None
    ) -> None:
        line = LawLine(law=LAWS["one_block"], predicted=2.0, low=1.8, high=2.2)
        assert dataclasses.replace(line, ratio=ratio, ratio_low=low, ratio_high=high).place == place

    def test_a_law_of_another_setting_or_criterion_says_why_it_is_not_comparable(self, lawful: StudyAnswer) -> None:
        (text,) = (text for text in word_answer(lawful) if text.startswith("not comparable"))
        assert "one_block_jsd: its criterion is s_j = 0.5" in text
        assert "state_evolution: covers 2 to 5 blocks" in text

    def test_a_further_criterion_gets_its_own_fit_and_laws(self, tmp_path: Path) -> None:
        ledger = Ledger(Store(str(tmp_path / "known")))
        low = Criterion(metric="p", level=0.4, floor="zero")
        design = law_design(further_criteria=(low,))
        fill(ledger, design, follows("one_block"), replicates=3)
        first, second = answer(ledger, design.hash).slices
        assert first.fit is not None
        assert second.fit is not None
        assert first.fit.falling.estimate is not None
        assert second.fit.falling.estimate is not None
        assert second.fit.falling.estimate > first.fit.falling.estimate
        assert [line.law.name for line in second.laws if not line.reason] == []

    def test_every_recipe_has_its_own_prediction(self, tmp_path: Path) -> None:
        recipes = (
            Series(name="64", values={"data.clusters.dim": 64}),
            Series(name="128", values={"data.clusters.dim": 128}, grids={"data.strength": (1.2, 1.5, 1.8, 2.1, 2.5)}),
        )
        result = answered(tmp_path, law_design(series=recipes), follows("one_block"))
        assert [part.others for part in result.slices] == [{"recipe": "64"}, {"recipe": "128"}]
        assert [part.grid for part in result.slices] == [SIGMAS.values, (1.2, 1.5, 1.8, 2.1, 2.5)]
        values = [line_of(result, "one_block", index).predicted for index in (0, 1)]
        assert values == [
            LAWS["one_block"].threshold(Setting(dim=d, num_classes=5, batch=60, num_blocks=1)) for d in (64, 128)
        ]
        assert all(line_of(result, "one_block", index).place == "inside" for index in (0, 1))

    def test_training_towards_sources_is_compared_with_no_law(self, tmp_path: Path) -> None:
        trained = with_values(CONFIG, {"horizon.length": 60, "loss.target": "source", "data.num_views": 2})
        design = registered(tmp_path, law_design(config=trained, laws={"clusters": ("trained",)}, margin_octaves=0.15))
        (line,) = laws_of(design, HALF, pd.DataFrame({"config": [to_json_config(trained)]}), None)
        assert line.reason.startswith("training was towards sources")

    def test_a_tuned_rate_is_told_to_the_laws(self) -> None:
        assert setting_of(CONFIG, is_tuned=True).is_tuned
        assert setting_of(CONFIG, is_tuned=False).weights == "identity"
        assert setting_of(with_values(CONFIG, {"horizon.length": 10}), is_tuned=False).weights == "trained"

    def test_the_json_holds_every_law(self, lawful: StudyAnswer) -> None:
        (part,) = to_json(lawful)["slices"]
        assert [law["law"] for law in part["laws"]] == list(lawful.design.laws)
        by_name = {law["law"]: law for law in part["laws"]}
        assert by_name["one_block"]["place"] == "inside"
        assert by_name["one_block"]["verdict"] == "equivalent"
        assert by_name["one_block"]["margin_octaves"] == 0.5
        assert 0 < by_name["one_block"]["p_equivalent"] <= by_name["one_block"]["p_corrected"] <= 0.05
        assert by_name["control_bbp_as_mass"]["is_control"]
        assert by_name["state_evolution"]["verdict"] == "not comparable"
        json.dumps(part["laws"])

    def test_the_figure_shows_the_law_beside_the_data(self, lawful: StudyAnswer) -> None:
        labels = draw_answer(lawful).legends[0].get_texts()
        assert "law one_block" in [text.get_text() for text in labels]


def test_two_finely_divided_axes_make_a_plane_with_measured_and_predicted_boundary(tmp_path: Path) -> None:
    batches = Axis(path="batch.eval", values=(20, 40, 80, 160))
    result = answered(tmp_path, law_design(scientific=(SIGMAS, batches)), follows("one_block"))
    figure = draw_answer(result)
    (axes,) = (ax for ax in figure.axes if ax.get_xlabel() == "augmentation strength")
    drawn = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    law = drawn["law one_block"]
    expected = [
        (LAWS["one_block"].threshold(Setting(dim=64, num_classes=5, batch=n, num_blocks=1)), n) for n in batches.values
    ]
    np.testing.assert_allclose(law, expected)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "measured: p = 0.5, 95 % interval" in texts


class TestEscapes:
    """Every run beside what the law makes of its own first step."""

    CONFIG = with_values(make_design(load_space("over_fusion")).config, {"horizon.length": 800})

    def runs(self, *rows: dict[str, float | None], **changes: Any) -> pd.DataFrame:
        text = to_json_config(with_values(self.CONFIG, changes))
        return pd.DataFrame(
            [{"config": text, **{metric_column(name): value for name, value in row.items()}} for row in rows]
        )

    def read(self, runs: pd.DataFrame, *laws: str) -> EscapeComparison | None:
        return read_escapes(
            SliceView(
                axis="optimizer.learning_rate",
                unit="learning rate",
                criterion=FUSED,
                is_first=True,
                laws=laws,
                replicates=runs,
                means=pd.Series(dtype=float),
                fit=None,
                measurements=Ledger(Store("nowhere")),
                measurement_rows=list,
            )
        )

    def predicted(self, norm: float, variance: float) -> float:
        setting = setting_of(self.CONFIG, is_tuned=False)
        measured = {"first_step_norm": norm, "first_step_variance": variance}
        return LAWS["frozen_escape"].predict(dataclasses.replace(setting, **measured)).value

    def test_measured_steps_are_divided_by_those_predicted_of_the_same_run(self) -> None:
        runs = [(200.0, 0.005), (120.0, 0.008)]
        rows = [
            {"first_step_norm": r, "first_step_variance": v, "escape_step": 1.1 * self.predicted(r, v)} for r, v in runs
        ]
        found = self.read(self.runs(*rows), "frozen_escape")
        assert found is not None
        assert found.ratios == pytest.approx((1.1, 1.1))
        assert "2 escapes, measured/law median 1.10 (1.10 to 1.10)" in found.lines()[0]

    def test_a_run_that_never_escaped_counts_as_predicted_where_the_law_says_so(self) -> None:
        assert self.predicted(900.0, 0.005) > 800 > self.predicted(100.0, 0.005)
        rows = [{"first_step_norm": r, "first_step_variance": 0.005, "escape_step": None} for r in (900.0, 100.0)]
        found = self.read(self.runs(*rows), "frozen_escape")
        assert found is not None
        assert (found.ratios, found.num_censored, found.num_censored_as_predicted) == ((), 2, 1)

    def test_a_run_that_never_collapsed_is_outside_the_law(self) -> None:
        rows = [{"first_step_norm": 3.0, "first_step_variance": 0.9, "escape_step": 1.0}]
        found = self.read(self.runs(*rows), "frozen_escape")
        assert found is not None
        assert (found.num_refused, found.ratios) == (1, ())
        assert "outside the law" in found.lines()[0]

    def test_the_critical_rate_takes_the_rate_at_which_the_norm_was_measured(self, tmp_path: Path) -> None:
        space = dataclasses.replace(load_space("over_fusion"), criterion=FUSED, laws={"clusters": ("frozen_rate",)})
        design = registered(tmp_path, make_design(space))
        predicted = []
        for norm, rate in ((200.0, 100.0), (400.0, 200.0)):
            row = {"first_step_norm": norm, "first_step_variance": 0.005}
            runs = self.runs(row, **{"optimizer.learning_rate": rate})
            (line,) = laws_of(design, FUSED, runs, None)
            predicted.append(line.predicted)
        assert predicted[0] is not None
        assert predicted[1] == pytest.approx(predicted[0])

    def test_runs_that_were_not_watched_are_not_said_to_have_never_escaped(self) -> None:
        row = {"first_step_norm": 200.0, "first_step_variance": 0.005, "escape_step": None}
        assert self.read(self.runs(row), "frozen_escape") is not None
        assert self.read(self.runs(row, **{"evaluation.escape": False}), "frozen_escape") is None

    def test_without_the_law_or_the_measurement_nothing_is_compared(self) -> None:
        rows = [{"first_step_norm": 200.0, "first_step_variance": 0.005, "escape_step": 300.0}]
        assert self.read(self.runs(*rows)) is None
        assert self.read(pd.DataFrame({"metric.p": [0.1]}), "frozen_escape") is None
