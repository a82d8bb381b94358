"""What every trainer promises; a new training method inherits the whole suite."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch

from study.designs.values import with_values
from study.interface.run import Replicate
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.models.packed import identity_gather
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.base import EmbeddingModel
from study.recipes.contrastive.trainers.batch import PackBatches, TrainBatch, evaluation_set
from study.recipes.contrastive.trainers.loop import train_pack
from tests.conftest import for_trainer

SEEDS = (0, 1, 2)
Case = tuple[ReplicateConfig, Dataset]


def pack_of(config: ReplicateConfig, seeds: Sequence[int] = SEEDS) -> list[Replicate]:
    return [CONTRASTIVE.replicate(config, seed, "data") for seed in seeds]


def build(case: Case, seeds: Sequence[int] = SEEDS) -> EmbeddingModel:
    config, dataset = case
    return (
        components.method(config.trainer)
        .trainer()
        .build(config, dataset, [stream(seed, "initialisation") for seed in seeds])
    )


def loss_of(case: Case, model: EmbeddingModel, batch: TrainBatch, gather: Callable = identity_gather) -> torch.Tensor:
    config, _ = case
    return components.method(config.trainer).trainer().loss(model, batch, config, gather)[0]


@pytest.mark.parametrize("trainer", components.METHODS)
class TestTrainer:
    @pytest.fixture(params=["digits", "clusters"])
    def case(self, request: pytest.FixtureRequest, trainer: str) -> Case:
        config = request.getfixturevalue(f"{request.param}_config")
        return for_trainer(config, trainer), request.getfixturevalue(request.param)

    def test_it_is_known_to_the_configuration_and_has_a_numerics_version(
        self, trainer: str, digits_config: ReplicateConfig
    ) -> None:
        method = CONTRASTIVE.method(for_trainer(digits_config, trainer))
        assert method.name == trainer
        assert method.numerics >= 1

    def test_every_parameter_belongs_to_replicates_by_its_first_dimension(self, case: Case) -> None:
        assert {len(p) for p in build(case).parameters()} == {len(SEEDS)}

    def test_initial_weights_do_not_depend_on_the_pack(self, case: Case) -> None:
        together = build(case).state_dict()
        for index, seed in enumerate(SEEDS):
            for name, alone in build(case, [seed]).state_dict().items():
                assert torch.equal(together[name][index], alone[0])

    def test_initial_weights_differ_by_seed(self, case: Case) -> None:
        random_case = with_values(case[0], {"model.init": "default"}), case[1]
        assert any(not torch.equal(p[0], p[1]) for p in build(random_case).parameters())

    def test_the_global_random_stream_is_left_alone(self, case: Case) -> None:
        before = torch.get_rng_state()
        train_pack(pack_of(case[0]), case[1])
        assert torch.equal(torch.get_rng_state(), before)

    def test_embeddings_have_a_row_for_every_input(self, case: Case) -> None:
        batch = PackBatches(case[1], pack_of(case[0]), 0, 1).batch(0)
        z_RND = build(case).embed(batch.inputs)
        assert z_RND.shape[:2] == (len(SEEDS), 16)
        assert z_RND.dim() == 3

    def test_each_replicate_has_the_loss_it_has_alone(self, case: Case) -> None:
        batch = PackBatches(case[1], pack_of(case[0]), 0, 1).batch(0)
        together = loss_of(case, build(case), batch)
        assert together.shape == (len(SEEDS),)
        for index, seed in enumerate(SEEDS):
            alone_batch = PackBatches(case[1], pack_of(case[0], [seed]), 0, 1).batch(0)
            alone = loss_of(case, build(case, [seed]), alone_batch)
            torch.testing.assert_close(together[index], alone[0], atol=1e-6, rtol=1e-5)

    def test_the_gradient_of_a_replicate_stays_in_its_slices(self, case: Case) -> None:
        batch = PackBatches(case[1], pack_of(case[0]), 0, 1).batch(0)
        model = build(case)
        loss_of(case, model, batch)[1].backward()
        for p in model.parameters():
            assert p.grad is not None
            assert (p.grad[[0, 2]] == 0).all()
            assert (p.grad[1] != 0).any()

    @pytest.mark.parametrize("world_size", [2, 4])
    def test_shares_of_workers_add_up_to_the_whole(self, case: Case, world_size: int) -> None:
        config, dataset = case
        model, gathered = build(case), []
        whole_batch = PackBatches(dataset, pack_of(config), 0, 1).batch(0)
        whole = (
            components.method(config.trainer)
            .trainer()
            .loss(model, whole_batch, config, lambda rows: gathered.append(rows) or rows)
        )
        totals = [torch.zeros(len(SEEDS)), {name: torch.zeros(len(SEEDS)) for name in whole[1]}]
        for rank in range(world_size):
            replay = iter(gathered)
            batch = PackBatches(dataset, pack_of(config), rank, world_size).batch(0)
            share, named = (
                components.method(config.trainer).trainer().loss(model, batch, config, lambda rows, r=replay: next(r))
            )
            totals[0] = totals[0] + share
            totals[1] = {name: totals[1][name] + value for name, value in named.items()}
        torch.testing.assert_close(totals[0], whole[0], atol=1e-6, rtol=1e-5)
        for name, value in whole[1].items():
            torch.testing.assert_close(totals[1][name], value.to(totals[1][name].dtype))

    def test_row_order_does_not_matter_to_the_loss(self, case: Case) -> None:
        batch = PackBatches(case[1], pack_of(case[0]), 0, 1).batch(0)
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        names = ["inputs"]
        for what in ("labels", "sources", "labelled"):
            names += [f"{what}_RB", f"all_{what}_RN"]
        shuffled = dataclasses.replace(batch, **{name: getattr(batch, name)[:, order] for name in names})
        model = build(case)
        torch.testing.assert_close(loss_of(case, model, shuffled), loss_of(case, model, batch), atol=1e-6, rtol=1e-5)

    def test_every_replicate_is_judged_as_it_is_alone(self, case: Case) -> None:
        config, dataset = case
        judge = components.method(config.trainer).trainer().evaluate
        with torch.no_grad():
            together = judge(build(case), evaluation_set(dataset, pack_of(config)), config)
            alone = judge(build(case, [1]), evaluation_set(dataset, pack_of(config, [1])), config)
        assert set(together) == set(alone) >= {"mean_cosine", "effective_rank"}
        for name, value in together.items():
            assert value.shape == (len(SEEDS),)
            assert torch.isfinite(value).all()
            torch.testing.assert_close(value[1], alone[name][0], atol=1e-5, rtol=1e-5)

    def test_evaluation_leaves_the_weights_alone(self, case: Case) -> None:
        config, dataset = case
        model = build(case)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        components.method(config.trainer).trainer().evaluate(model, evaluation_set(dataset, pack_of(config)), config)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])

    def test_training_lowers_the_loss_of_every_replicate(self, case: Case) -> None:
        config = with_values(
            case[0],
            {
                "batch.train": 64,
                "horizon.length": 60,
                "optimizer.learning_rate": 0.02,
                "evaluation.num_points": 6,
                "evaluation.knn_bank": 0,
            },
        )
        for result in train_pack(pack_of(config), case[1]):
            losses = [p.value for p in result.curves if p.metric == "train_loss"]
            assert len(losses) == 6
            assert losses[-1] < 0.95 * losses[0]
