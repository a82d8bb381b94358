"""A replicate's numbers depend on its configuration and seed, not on its pack, its interruptions or its neighbours."""

import dataclasses
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.interface.run import Replicate, Result
from study.outcome import Outcome
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.models.resnet import ResNet18Encoder
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import TrainBatch
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.downstream import measure_raw
from study.recipes.contrastive.trainers.loop import PackRun, measure_untrained, train_pack
from tests.conftest import for_trainer

Case = tuple[ReplicateConfig, Dataset]


class MemoryStore:
    """Checkpoints as bytes, so that nothing is shared with the run that wrote them."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def load(self, key: str) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.blobs[key])) if key in self.blobs else None

    def save(self, key: str, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.blobs[key] = buffer.getvalue()

    def delete(self, key: str) -> None:
        del self.blobs[key]


@pytest.fixture(params=components.METHODS)
def trainer(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["digits", "clusters"])
def case(request: pytest.FixtureRequest, trainer: str) -> Case:
    config = request.getfixturevalue(f"{request.param}_config")
    return for_trainer(config, trainer), request.getfixturevalue(request.param)


def pack_of(config: ReplicateConfig, members: Sequence[dict[str, Scalar]]) -> list[Replicate]:
    """One member per entry, with its own seed."""
    return [CONTRASTIVE.replicate(with_values(config, values), seed, "data") for seed, values in enumerate(members)]


MEMBERS: list[dict[str, Scalar]] = [
    {"optimizer.learning_rate": 1e-3, "data.strength": 0.2},
    {"optimizer.learning_rate": 3e-3, "data.strength": 0.5},
    {"optimizer.learning_rate": 1e-2, "data.strength": 0.9},
]


def in_double(run: PackRun) -> PackRun:
    """A run whose weights and inputs are float64."""
    run.model.double()
    draw = run._batches.batch

    def batch(step: int) -> TrainBatch:
        drawn = draw(step)
        return dataclasses.replace(drawn, inputs=drawn.inputs.double())

    run._batches.batch = batch  # type: ignore[method-assign]
    return run


def without_seconds(result: Result) -> tuple[Any, ...]:
    return result.replicate, result.outcome, result.metrics, result.before, result.curves, result.examples, result.steps


def assert_close(result: Result, expected: Result, tolerance: float) -> None:
    assert result.outcome is expected.outcome
    for values, others in ((result.metrics, expected.metrics), (result.before, expected.before)):
        assert values == pytest.approx(others, abs=tolerance, rel=tolerance)
    assert [(p.examples, p.metric) for p in result.curves] == [(p.examples, p.metric) for p in expected.curves]
    values, others = ([p.value for p in r.curves] for r in (result, expected))
    assert values == pytest.approx(others, abs=tolerance, rel=tolerance)


def finish(run: PackRun) -> list[Result]:
    while not run.is_done:
        run.advance()
    return run.results([{}] * len(run.downstream()))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_pack_gives_each_member_the_numbers_it_gives_alone(case: Case, optimizer: str) -> None:
    config, dataset = case
    pack = pack_of(with_values(config, {"optimizer.name": optimizer}), MEMBERS)
    for member, together in zip(pack, train_pack(pack, dataset), strict=True):
        assert together.replicate is member
        assert_close(together, train_pack([member], dataset)[0], 1e-4)


def test_place_in_the_pack_does_not_matter(case: Case) -> None:
    pack = pack_of(case[0], MEMBERS)
    straight, reverse = train_pack(pack, case[1]), train_pack(pack[::-1], case[1])
    for result, other in zip(straight, reverse[::-1], strict=True):
        assert_close(result, other, 1e-4)


def test_the_same_pack_gives_the_same_numbers(case: Case) -> None:
    pack = pack_of(case[0], MEMBERS)
    for first, second in zip(train_pack(pack, case[1]), train_pack(pack, case[1]), strict=True):
        assert without_seconds(first) == without_seconds(second)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_moves_metrics_by_rounding_and_neither_keys_nor_outcomes(
    digits_config: ReplicateConfig, digits: Dataset, threads: Callable[[int], None]
) -> None:
    """At a short horizon; to the full one training amplifies rounding (docs/performance.md)."""
    pack = pack_of(with_values(digits_config, {"evaluation.knn_bank": 0}), MEMBERS[:2])
    threads(1)
    one = train_pack(pack, digits)
    threads(2)
    two, again = train_pack(pack, digits), train_pack(pack, digits)
    for result, other, same in zip(one, two, again, strict=True):
        assert result.replicate.key == other.replicate.key
        assert_close(other, result, 1e-4)
        assert without_seconds(other) == without_seconds(same)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("num_advances", [1, 4, 8])
def test_a_resumed_pack_equals_an_uninterrupted_one(case: Case, optimizer: str, num_advances: int) -> None:
    config = with_values(case[0], {"horizon.length": 12, "optimizer.name": optimizer})
    pack = pack_of(config, MEMBERS)
    context = RunContext(checkpoints=MemoryStore(), checkpoint_seconds=0)
    interrupted = PackRun(pack, case[1], context)
    for _ in range(num_advances):
        step = interrupted.advance().step
    assert step == num_advances
    resumed = PackRun(pack, case[1], context)
    assert resumed.advance().step == num_advances + 1
    expected = PackRun(pack, case[1])
    for result, other in zip(finish(resumed), finish(expected), strict=True):
        assert without_seconds(result) == without_seconds(other)


def test_members_that_stand_at_different_steps_start_again(case: Case) -> None:
    config, dataset = with_values(case[0], {"horizon.length": 12}), case[1]
    pack, store = pack_of(config, MEMBERS[:2]), MemoryStore()
    context = RunContext(checkpoints=store, checkpoint_seconds=0)
    for member, num_advances in zip(pack, (2, 5), strict=True):
        run = PackRun([member], dataset, context)
        for _ in range(num_advances):
            run.advance()
    assert set(store.blobs) == {member.key for member in pack}
    assert PackRun(pack, dataset, context).advance().step == 1


def test_a_pack_resumes_only_with_all_its_members(case: Case) -> None:
    config, dataset = with_values(case[0], {"horizon.length": 12}), case[1]
    pack = pack_of(config, MEMBERS)
    context = RunContext(checkpoints=MemoryStore(), checkpoint_seconds=0)
    run = PackRun(pack[:2], dataset, context)
    run.advance()
    run.advance()
    assert PackRun(pack, dataset, context).advance().step == 1


def test_a_checkpoint_of_another_format_is_as_good_as_none(case: Case) -> None:
    pack, store = pack_of(with_values(case[0], {"horizon.length": 12}), MEMBERS[:1]), MemoryStore()
    context = RunContext(checkpoints=store, checkpoint_seconds=0)
    run = PackRun(pack, case[1], context)
    run.advance()
    state = store.load(pack[0].key)
    assert state is not None
    del state["format"], state["bad_step"]
    store.save(pack[0].key, state)
    assert PackRun(pack, case[1], context).advance().step == 1


def test_checkpoints_wait_for_their_interval_and_go_when_asked(case: Case) -> None:
    pack, store = pack_of(case[0], MEMBERS), MemoryStore()
    patient = PackRun(pack, case[1], RunContext(checkpoints=store, checkpoint_seconds=3600))
    patient.advance()
    assert store.blobs == {}
    eager = PackRun(pack, case[1], RunContext(checkpoints=store, checkpoint_seconds=0))
    eager.advance()
    assert set(store.blobs) == {member.key for member in pack}
    eager.delete_checkpoints()
    assert store.blobs == {}


def test_a_diverged_member_leaves_the_others_as_they_are_alone(case: Case) -> None:
    config = with_values(case[0], {"optimizer.name": "sgd", "optimizer.schedule": "constant"})
    pack = pack_of(config, [MEMBERS[0], {"optimizer.learning_rate": 1e300}, MEMBERS[1]])
    results = train_pack(pack, case[1])
    assert results[1].outcome is Outcome.DIVERGED
    assert results[1].metrics == {}
    assert all(math.isfinite(p.value) for p in results[1].curves)
    assert "mean_cosine" in results[1].before
    for index in (0, 2):
        assert_close(results[index], train_pack([pack[index]], case[1])[0], 1e-4)


def test_a_diverged_member_stays_diverged_when_resumed(case: Case) -> None:
    pack, store = pack_of(with_values(case[0], {"horizon.length": 12}), MEMBERS[:2]), MemoryStore()
    context = RunContext(checkpoints=store, checkpoint_seconds=0)
    run = PackRun(pack, case[1], context)
    for _ in range(5):
        run.advance()
    # Weights that happen to be finite again do not undo a loss that was not.
    state = store.load(pack[1].key)
    assert state is not None
    store.save(pack[1].key, state | {"bad_step": 3})
    results = finish(PackRun(pack, case[1], context))
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.DIVERGED]
    assert "not finite from step 3 of 12 on" in results[1].note


def test_a_pack_of_diverged_members_alone_ends_with_the_next_report(case: Case) -> None:
    values: dict[str, Scalar] = {"optimizer.name": "sgd", "optimizer.schedule": "constant", "horizon.length": 60}
    config = with_values(case[0], values)
    pack = pack_of(config, [{"optimizer.learning_rate": 1e300}, {"optimizer.learning_rate": 1e300}])
    results = train_pack(pack, case[1])
    assert {result.outcome for result in results} == {Outcome.DIVERGED}
    assert {result.steps for result in results} < set(range(config.num_steps // 4))
    # What stays is what the same replicates leave beside one that lives.
    beside = train_pack([*pack, pack_of(config, [MEMBERS[0]])[0]], case[1])
    assert beside[2].steps == config.num_steps
    for alone, other in zip(results, beside, strict=False):
        assert (alone.outcome, alone.metrics, alone.before) == (other.outcome, other.metrics, other.before)
        assert alone.note == other.note


def test_embeddings_in_one_point_are_collapsed(
    trainer: str, clusters: Dataset, clusters_config: ReplicateConfig
) -> None:
    values: dict[str, Scalar] = {
        "trainer": trainer,
        "data.clusters.cosine": 0.999,
        "data.clusters.spread": 0.0,
        "data.strength": 0.01,
    }
    config = with_values(for_trainer(clusters_config, trainer), values)
    (result,) = train_pack(pack_of(config, [{}]), load_dataset(config.data))
    assert result.outcome is Outcome.COLLAPSED
    assert result.metrics["mean_cosine"] > 0.99


def test_curves_start_before_training_and_end_at_the_last_step(case: Case) -> None:
    config = with_values(
        case[0], {"horizon.length": 7, "evaluation.num_points": 3, "data.num_views": 2, "batch.eval": 40}
    )
    (result,) = train_pack(pack_of(config, [{}]), case[1])
    assert (result.steps, result.examples) == (7, 7 * 8)
    for metric in ("mean_cosine", "effective_rank"):
        points = [p for p in result.curves if p.metric == metric]
        assert [p.examples for p in points] == [0, 2 * 8, 5 * 8, 7 * 8]
        assert points[0].value == result.before[metric]
        assert points[-1].value == result.metrics[metric]
    assert "train_loss" in result.metrics
    assert "train_loss" not in result.before


def test_more_points_than_steps_are_no_harm(case: Case) -> None:
    config = with_values(case[0], {"horizon.length": 2, "evaluation.num_points": 7})
    (result,) = train_pack(pack_of(config, [{}]), case[1])
    points = [p.examples for p in result.curves if p.metric == "mean_cosine"]
    assert points == [0, config.num_images, 2 * config.num_images]


def test_training_loss_is_the_mean_since_the_last_evaluation(case: Case) -> None:
    values: dict[str, Scalar] = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-30, "evaluation.num_points": 3}
    pack = pack_of(with_values(case[0], values), [{}, {}])
    frozen = PackRun(pack, case[1])
    losses = torch.stack([frozen.loss_and_gradient(step) for step in range(6)])
    assert len(losses[:, 0].unique()) == 6
    for index, result in enumerate(train_pack(pack, case[1])):
        means = [p.value for p in result.curves if p.metric == "train_loss"]
        assert means == pytest.approx(losses[:, index].view(3, 2).mean(1).tolist(), rel=1e-5)


def test_the_gradient_is_that_of_the_loss_it_returns(case: Case) -> None:
    run = PackRun(pack_of(case[0], MEMBERS[:1]), case[1])
    run.optimizer.zero_grad()
    before = float(run.loss_and_gradient(0))
    squared = float(run.optimizer.gradient_norms().square())
    size = 1e-3 / squared**0.5
    with torch.no_grad():
        for p in run.model.parameters():
            assert p.grad is not None
            p -= size * p.grad
    after = float(run.loss_and_gradient(0))
    assert before - after == pytest.approx(size * squared, rel=0.1)


def test_gradients_add_up_until_they_are_cleared(case: Case) -> None:
    run = PackRun(pack_of(case[0], MEMBERS[:2]), case[1])
    run.loss_and_gradient(0)
    once = run.optimizer.gradient_norms()
    run.loss_and_gradient(0)
    torch.testing.assert_close(run.optimizer.gradient_norms(), 2 * once)


def test_progress_is_reported_at_fixed_steps(case: Case) -> None:
    config = with_values(case[0], {"horizon.length": 50, "evaluation.num_points": 1})
    run = PackRun(pack_of(config, [{}]), case[1])
    steps = []
    while not run.is_done:
        progress = run.advance()
        steps.append(progress.step)
        assert progress.num_steps == 50
    assert steps == list(range(2, 51, 2))


def test_nearest_neighbours_before_and_after_training_are_measured(case: Case) -> None:
    pack = pack_of(case[0], MEMBERS[:2])
    untrained = measure_untrained(pack, case[1])
    for result, before in zip(train_pack(pack, case[1]), untrained, strict=True):
        assert result.before["knn_accuracy"] == before["knn_accuracy"]
        assert 0.3 < result.metrics["knn_accuracy"] <= 1


def test_the_nearest_neighbour_metric_can_be_left_out(case: Case) -> None:
    pack = pack_of(with_values(case[0], {"evaluation.knn_bank": 0}), [{}])
    assert measure_untrained(pack, case[1]) == [{}]
    (result,) = train_pack(pack, case[1])
    assert "knn_accuracy" not in result.metrics | result.before


def test_raw_nearest_neighbours_need_no_model(digits: Dataset, digits_config: ReplicateConfig) -> None:
    few, many = (
        measure_raw(digits, with_values(digits_config, {"evaluation.knn_bank": bank}).evaluation)["knn_accuracy"]
        for bank in (50, 1247)
    )
    assert 0.5 < few < many
    assert many > 0.95


def test_dead_rows_are_logged_and_do_not_fake_success(clusters: Dataset, clusters_config: ReplicateConfig) -> None:
    run = PackRun(pack_of(clusters_config, [{}]), clusters)
    with torch.no_grad():
        head = run.model.fusion.blocks[-1]
        head.query.weight_RIO.copy_(torch.zeros_like(head.query.weight_RIO))
    (result,) = finish(run)
    assert result.before["dead_row_share"] == 1
    assert result.before["p"] == pytest.approx(0, abs=1e-6)
    assert result.before["s_j"] == pytest.approx(0, abs=1e-6)


def test_a_resnet_trains_alone_and_draws_from_its_own_stream(digits_config: ReplicateConfig) -> None:
    before = torch.get_rng_state()
    first, second = (ResNet18Encoder((1, 8, 8), 8, [stream(seed, "initialisation")]) for seed in (0, 0))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(a).all()
    assert first(torch.rand(1, 3, 1, 8, 8, generator=stream(0, "x"))).shape == (1, 3, 8)
    with pytest.raises(ValueError, match="one replicate per pack"):
        ResNet18Encoder((1, 8, 8), 8, [stream(0, "a"), stream(1, "a")])


def with_fusion(config: ReplicateConfig, **values: Scalar) -> ReplicateConfig:
    """InfoNCE of a linear encoder at a step so large that all embeddings fall together."""
    fused: dict[str, Scalar] = {
        "data.strength": 1.0,
        "data.clusters.cosine": -1 / 3,
        "data.clusters.mean_norm": 3.0,
        "loss.oar_weight": 0.0,
        "batch.train": 32,
        "horizon.length": 400,
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.schedule": "constant",
        "optimizer.learning_rate": 20.0,
        "evaluation.escape": True,
        "evaluation.num_points": 1,
        "evaluation.knn_bank": 0,
    }
    return with_values(for_trainer(config, "oar"), fused | values)


def fused(config: ReplicateConfig, **values: Scalar) -> list[Result]:
    chosen = with_fusion(config, **values)
    return train_pack(pack_of(chosen, [{}, {}]), load_dataset(chosen.data))


def test_the_escape_from_one_point_is_dated_by_step(clusters_config: ReplicateConfig) -> None:
    for result in fused(clusters_config):
        step = result.metrics["escape_step"]
        assert step > 1
        (point,) = [p for p in result.curves if p.metric == "escape_step"]
        assert (point.value, point.examples) == (step, step * 16)
        assert result.metrics["first_step_norm"] > 5
        assert 0 < result.metrics["first_step_variance"] < 0.2


def test_a_run_that_does_not_escape_has_no_date(clusters_config: ReplicateConfig) -> None:
    for result in fused(clusters_config, **{"horizon.length": 2}):
        assert "escape_step" not in result.metrics
        assert "first_step_norm" in result.metrics


def test_anchor_regression_shortens_the_escape_only_if_the_first_step_is_left_to_the_contrast(
    clusters_config: ReplicateConfig,
) -> None:
    # Large enough that the escape takes more steps than the rounding of another CPU moves it by.
    large: dict[str, Scalar] = {"optimizer.learning_rate": 60.0, "batch.train": 64}
    labels: dict[str, Scalar] = large | {"loss.oar_weight": 5.0, "data.label_fraction": 1.0}
    alone, after = fused(clusters_config, **large), fused(clusters_config, **labels, **{"loss.oar_from_step": 1})
    from_first = fused(clusters_config, **labels)
    for contrast, late, early in zip(alone, after, from_first, strict=True):
        assert late.metrics["first_step_norm"] == pytest.approx(contrast.metrics["first_step_norm"], rel=1e-4)
        assert late.metrics["escape_step"] < contrast.metrics["escape_step"]
        assert early.metrics["first_step_norm"] > contrast.metrics["first_step_norm"]


def test_an_interrupted_run_remembers_its_first_step(clusters_config: ReplicateConfig) -> None:
    config = with_fusion(clusters_config, **{"horizon.length": 40})
    pack, dataset = pack_of(config, [{}, {}]), load_dataset(config.data)
    context = RunContext(checkpoints=MemoryStore(), checkpoint_seconds=0)
    run = PackRun(pack, dataset, context)
    for _ in range(3):
        run.advance()
    resumed, whole = PackRun(pack, dataset, context), PackRun(pack, dataset)
    for result, expected in zip(finish(resumed), finish(whole), strict=True):
        assert without_seconds(result) == without_seconds(expected)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_an_encoder_pass_in_chunks_gives_the_gradients_of_one_pass(case: Case, rows: int) -> None:
    pack = pack_of(with_values(case[0], {"batch.train": 32}), MEMBERS[:2])
    whole, chunked = PackRun(pack, case[1]), PackRun(pack, case[1], RunContext(encoder_rows=rows))
    losses = [in_double(run).loss_and_gradient(0) for run in (whole, chunked)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-12, rtol=1e-12)
    for (name, p), (_, q) in zip(whole.model.named_parameters(), chunked.model.named_parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, atol=1e-12, rtol=1e-9)


def test_a_term_that_starts_late_is_averaged_over_the_steps_that_had_it(clusters_config: ReplicateConfig) -> None:
    values: dict[str, Scalar] = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-30, "evaluation.num_points": 1}
    dataset = load_dataset(clusters_config.data)
    late, always = (
        train_pack(
            pack_of(with_values(for_trainer(clusters_config, "oar"), values | {"loss.oar_from_step": first}), [{}]),
            dataset,
        )[0]
        for first in (5, 0)
    )
    frozen, batch_losses = PackRun([always.replicate], dataset), []
    for step in range(6):
        frozen._sums.clear()
        frozen.loss_and_gradient(step)
        batch_losses.append(float(frozen._sums["oar_loss"]))
    assert always.metrics["oar_loss"] == pytest.approx(sum(batch_losses) / 6, rel=1e-4)
    assert late.metrics["oar_loss"] == pytest.approx(batch_losses[5], rel=1e-4)


def test_a_member_whose_weights_are_not_finite_does_not_take_the_others_along(
    clusters_config: ReplicateConfig,
) -> None:
    config = with_values(for_trainer(clusters_config, "oar"), {"evaluation.linear_probe": True})
    dataset = load_dataset(config.data)
    run = PackRun(pack_of(config, MEMBERS[:2]), dataset)
    while not run.is_done:
        run.advance()
    with torch.no_grad():
        for p in run.model.parameters():
            p[0] = torch.inf
    broken, sound = run.downstream()
    assert broken == {}
    assert sound["probe_accuracy"] > 0.3


def test_a_pack_without_steps_is_judged_as_it_was_initialised(case: Case) -> None:
    config, dataset = case
    untrained = with_values(config, {"horizon.length": 0})
    (judged,) = train_pack(pack_of(untrained, [{}]), dataset)
    (trained,) = train_pack(pack_of(config, [{}]), dataset)
    assert (judged.outcome, judged.steps, judged.examples) == (Outcome.OK, 0, 0)
    assert {name: judged.metrics[name] for name in trained.before} == trained.before
