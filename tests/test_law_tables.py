"""Checks of the laws: settings are fixed before the run, measurements recover what is known, tables show failures."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from study.designs.values import digest
from study.recipes.contrastive.affinity import affinity
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.evaluation import affinity_success
from study.recipes.contrastive.laws.collapse import ALIGNMENT_RATE, FREE_ESCAPE
from study.recipes.contrastive.laws.coverage import COVERAGE
from study.recipes.contrastive.laws.depth import DEPTH
from study.recipes.contrastive.laws.extreme_value import EXTREME_VALUE
from study.recipes.contrastive.laws.frozen_collapse import FROZEN_ESCAPE, OAR_ESCAPE
from study.recipes.contrastive.laws.labels import CLASS_MEAN_LABELS, LABEL_COVERAGE
from study.recipes.contrastive.laws.labels_trained import LABELS_TRAINED
from study.recipes.contrastive.laws.law import Law, Setting
from study.recipes.contrastive.laws.learning_steps import N2T_STEPS
from study.recipes.contrastive.laws.one_block import ONE_BLOCK, ONE_BLOCK_JSD
from study.recipes.contrastive.laws.source_mass import SOURCE_BATCH
from study.recipes.contrastive.laws.spectral import SPECTRAL
from study.recipes.contrastive.laws.state_evolution import STATE_EVOLUTION, STATE_EVOLUTION_BATCH
from study.recipes.contrastive.laws.trained_plus import TRAINED_PLUS, TRAINED_PLUS_JSD
from study.recipes.contrastive.laws.unbalanced import ONE_BLOCK_UNBALANCED
from study.recipes.contrastive.models.fusion import TransFusion
from verification.laws import settings
from verification.laws.check import Row, Table, Target
from verification.laws.jobs import FAMILIES, measure, plan
from verification.laws.report import document, summarise
from verification.laws.simulate import draw_batches, identity_stack, success, success_by_depth
from verification.laws.thresholds import (
    Measured,
    grid_crossing,
    largest_crossing,
    mean_of,
    median_of,
    nothing,
    size_crossing,
)

DEVELOPMENT_SEED = 1

# Whose validity the draws of a family must respect.
LAWS: dict[str, tuple[Law, ...]] = {
    "extreme_value": (EXTREME_VALUE,),
    "spectral": (SPECTRAL,),
    "one_block": (ONE_BLOCK, ONE_BLOCK_JSD),
    "state_evolution": (STATE_EVOLUTION,),
    "centred": (STATE_EVOLUTION, ONE_BLOCK),
    "batch_limit_plain": (STATE_EVOLUTION_BATCH,),
    "batch_limit_residual": (STATE_EVOLUTION_BATCH,),
    "depth": (DEPTH,),
    "trained": (TRAINED_PLUS, TRAINED_PLUS_JSD),
    "coverage": (COVERAGE,),
    "steps": (N2T_STEPS,),
    "source_batch": (SOURCE_BATCH,),
    "free_escape": (FREE_ESCAPE,),
    "alignment_rate": (ALIGNMENT_RATE,),
    "frozen_escape": (FROZEN_ESCAPE,),
    "oar_escape": (OAR_ESCAPE,),
    "unequal_classes": (ONE_BLOCK_UNBALANCED,),
    "labels": (CLASS_MEAN_LABELS,),
    "labels_trained": (LABELS_TRAINED,),
    "label_coverage": (LABEL_COVERAGE,),
}
# What a large first step leaves, where a setting is to tell it and only a run can.
FIRST_STEP = {"first_step_norm": 300.0, "first_step_variance": 0.01}
# Largest relative error of a quick run's first prediction: few replicates of the hardest settings.
QUICK_BOUND = 0.5


def with_first_step(setting: Setting) -> Setting:
    return setting if setting.mean_norm == 0 else dataclasses.replace(setting, **FIRST_STEP)


def given(setting: Setting) -> dict[str, Any]:
    """The fields that differ from their defaults: one that is added later changes no digest."""
    defaults = dataclasses.asdict(Setting())
    return {name: value for name, value in dataclasses.asdict(setting).items() if value != defaults[name]}


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_depend_on_the_seed_alone(name: str) -> None:
    draws = FAMILIES[name].draws
    assert draws(settings.SEED) == draws(settings.SEED)
    assert draws(settings.SEED) != draws(DEVELOPMENT_SEED)


def test_the_draws_of_the_tables_are_those_that_were_committed_before_the_run() -> None:
    drawn = {name: [given(setting) for setting in family.draws(settings.SEED)] for name, family in FAMILIES.items()}
    assert digest(drawn) == "338486a82ff98591"


@pytest.mark.parametrize("seed", [settings.SEED, DEVELOPMENT_SEED, 2, 3])
@pytest.mark.parametrize("name", LAWS)
def test_draws_lie_where_the_laws_hold(name: str, seed: int) -> None:
    for setting in FAMILIES[name].draws(seed):
        reasons = [law.why_not(with_first_step(setting)) for law in LAWS[name]]
        is_either = name == "centred"
        assert None in reasons if is_either else reasons == [None] * len(reasons), (setting, reasons)


def test_centres_on_axes_are_shown_as_outside_of_the_law() -> None:
    for setting in FAMILIES["steps_on_axes"].draws(settings.SEED):
        assert "basis" in (N2T_STEPS.why_not(setting) or "")


def test_draws_span_blocks_residual_and_centres() -> None:
    stacks = [*settings.one_block(settings.SEED), *settings.state_evolution(settings.SEED)]
    assert {setting.num_blocks for setting in stacks} == {1, 2, 3, 4, 5}
    assert {setting.residual for setting in stacks} == {True, False}
    assert len(settings.one_block(settings.SEED)) == len(settings.state_evolution(settings.SEED)) == 12
    for setting in stacks:
        num_classes, rows = setting.given("num_classes", "batch")
        assert 3 <= num_classes <= 10
        assert rows % num_classes == 0
        assert 3 * num_classes <= rows <= settings.MOST_ROWS
    assert {setting.cosine == 0 for setting in stacks} == {True, False}


@pytest.mark.parametrize("job", plan(seed=DEVELOPMENT_SEED, quick=True), ids=lambda job: f"{job.family}-{job.index}")
def test_a_quick_run_measures_about_what_the_law_says(job: Any) -> None:
    rows = measure(job)
    assert rows.keys() == FAMILIES[job.family].tables.keys()
    for name, row in rows.items():
        column = FAMILIES[job.family].tables[name].predicted[0]
        assert abs(row.error(column)) < QUICK_BOUND, (name, row)
        assert row.measured.standard_error < 0.2 * abs(row.measured.value)


def test_a_measurement_is_reproducible() -> None:
    first, *_ = (job for job in plan(seed=DEVELOPMENT_SEED, quick=True) if job.family == "one_block")
    assert measure(first) == measure(first)
    assert measure(first) != measure(dataclasses.replace(first, seed=DEVELOPMENT_SEED + 1))


STACK = Setting(dim=24, num_classes=3, cosine=-0.5, batch=12, num_blocks=3, residual=True)


@pytest.mark.parametrize("residual", [True, False])
def test_an_identity_stack_gives_the_numbers_of_identity_weights(residual: bool) -> None:
    setting = dataclasses.replace(STACK, residual=residual)
    batches = draw_batches(setting, 5, stream(0, "noise"))
    weights = TransFusion(24, [stream(0, "x")], num_blocks=3, residual=residual, identity_init=True)
    with torch.no_grad():
        expected = affinity_success(affinity(*weights(batches.views(1.5)[None])), batches.labels_N)
    for metric in ("p", "s_j"):
        found = success(identity_stack(setting, 3), batches, 1.5, metric)
        torch.testing.assert_close(found, expected[metric][0].double(), atol=1e-5, rtol=1e-5)


def test_success_by_depth_is_that_of_stacks_of_every_depth() -> None:
    batches = draw_batches(STACK, 4, stream(0, "noise"))
    by_depth = success_by_depth(identity_stack(STACK, 3), batches, 1.0)
    for num_blocks in (1, 2, 3):
        torch.testing.assert_close(by_depth[num_blocks - 1], success(identity_stack(STACK, num_blocks), batches, 1.0))


def test_a_centred_stack_does_not_see_a_common_shift_of_its_input() -> None:
    fusion = identity_stack(dataclasses.replace(STACK, centred=True), 2)
    x = torch.randn(1, 2, 6, 24, generator=stream(0, "x"))
    shifted = fusion(x + 3.0)
    for found, expected in zip(shifted, fusion(x), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_smaller_batches_are_parts_of_larger_ones() -> None:
    batches = draw_batches(STACK, 3, stream(0, "noise"))
    part = batches.first(num_rows=6)
    torch.testing.assert_close(part.views(0.7), batches.views(0.7)[:, :6])
    assert part.labels_N.tolist() == [0, 1, 2, 0, 1, 2]


NOISE_R = torch.randn(400, generator=stream(0, "values"), dtype=torch.float64) / 50


def test_the_largest_crossing_is_found_with_its_error() -> None:
    """1 / (1 + x^2) + noise is 1/2 at 1, with a slope of -1/2 in log x; a crossing further below is not the largest."""

    def curve(x: float) -> torch.Tensor:
        return (1 / (1 + x**2) if x > 0.2 else 0.0) + NOISE_R

    found = largest_crossing(curve, lambda x: curve(x)[:20])
    error = float(NOISE_R.std()) / 20 / 0.5
    assert found.value == pytest.approx(1 + 2 * float(NOISE_R.mean()), abs=1e-3)
    assert found.standard_error == pytest.approx(error, rel=0.02)


def test_a_size_is_found_between_whole_numbers() -> None:
    target = 7.4
    rising = size_crossing(lambda n: 0.5 + 0.3 * math.log(n / target) + NOISE_R, (2, 4, 8, 16))
    falling = size_crossing(lambda n: 0.5 - 0.3 * math.log(n / target) + NOISE_R, (2, 4, 8, 16), rising=False)
    shift = float(NOISE_R.mean()) / 0.3
    assert rising.value == pytest.approx(target * math.exp(-shift), rel=1e-6)
    assert falling.value == pytest.approx(target * math.exp(shift), rel=1e-6)
    assert rising.standard_error == pytest.approx(target * float(NOISE_R.std()) / 20 / 0.3, rel=0.02)


def test_a_crossing_of_a_grid_is_interpolated() -> None:
    values = torch.tensor([[0.9, 0.9], [0.6, 0.6], [0.4, 0.4], [0.1, 0.1]])
    assert grid_crossing([1, 2, 3, 4], values, log=False).value == pytest.approx(2.5)
    assert grid_crossing([1, 2, 8, 16], values).value == pytest.approx(4.0)
    assert grid_crossing([1, 2, 8, 16], 1 - values, rising=True).value == pytest.approx(4.0)


@pytest.mark.parametrize(
    "found",
    [
        grid_crossing([1, 2], torch.tensor([[0.4, 0.4], [0.2, 0.2]])),
        largest_crossing(lambda x: torch.zeros(4), lambda x: torch.zeros(2)),
        size_crossing(lambda n: torch.zeros(4), (2, 3)),
        size_crossing(lambda n: torch.ones(4), (2, 3)),
    ],
)
def test_what_is_not_crossed_is_no_number(found: Measured) -> None:
    assert math.isnan(found.value)
    assert found.note


def test_means_and_medians_have_honest_errors() -> None:
    samples = torch.randn(2_000, 100, generator=stream(0, "samples"))
    for estimate in (mean_of, median_of):
        found = [estimate(values) for values in samples]
        spread = float(torch.tensor([measured.value for measured in found]).std())
        claimed = float(torch.tensor([measured.standard_error for measured in found]).mean())
        assert claimed == pytest.approx(spread, rel=0.1)


TABLE = Table(
    title="A law",
    text="What it says.",
    fields=("dim", "residual"),
    measured="sigma_max",
    predicted=("law", "other"),
    target=Target(median=0.1, maximum=0.2),
)


def row(prediction: float, measured: float = 1.0, note: str = "") -> Row:
    found = nothing(note) if math.isnan(measured) else Measured(value=measured, standard_error=0.01, note=note)
    return Row(setting=Setting(dim=8), measured=found, predictions={"law": prediction, "other": 2.0})


def test_a_target_is_met_only_by_all_draws() -> None:
    fine = [row(1.05), row(0.95), row(1.15)]
    assert summarise(TABLE, fine, "law").verdict == "met"
    assert summarise(TABLE, [*fine, row(0.75)], "law").verdict == "**not met**"
    assert summarise(TABLE, [row(1.15), row(1.15)], "law").verdict == "**not met**"
    assert summarise(TABLE, [*fine, row(math.nan)], "law").verdict == "**not met**"
    assert summarise(TABLE, [*fine, row(1.0, math.nan)], "law").verdict == "**not met**"
    assert summarise(TABLE, fine, "other").verdict == "no target"


def test_the_document_shows_every_draw() -> None:
    text = document(["Head."], [(TABLE, [row(1.05), row(1.5), row(1.0, math.nan, "below 0.5")])])
    assert "| A law | law | 2 of 3 | 28 % | 50 % | median 10 %, largest 20 % | **not met** |" in text
    assert "| 8 | on | 1 | 1 % | 1.05 | +5 % | 2 | +100 % | yes |  |" in text
    assert "| 8 | on | 1 | 1 % | 1.5 | +50 % | 2 | +100 % | no |  |" in text
    assert "| 8 | on | – | – | 1 | – | 2 | – | no | below 0.5 |" in text
