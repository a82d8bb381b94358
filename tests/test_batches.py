"""What a replicate sees is addressed by its seed and step, whoever asks, in whatever order."""

import dataclasses
from typing import Any

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.errors import ConfigError
from study.interface.run import Replicate
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.batches import BatchStream, Draws
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.labels import labelled_subset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import PackBatches, TrainBatch, evaluation_set


def same(a: Any, b: Any) -> bool:
    """Equality of every tensor of two draws or batches."""
    return all(
        torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if f.name != "row_offset"
    )


def pack_of(config: ReplicateConfig, *seeds: int) -> list[Replicate]:
    return [CONTRASTIVE.replicate(config, seed, "data") for seed in seeds]


@pytest.fixture
def config(digits_config: ReplicateConfig) -> ReplicateConfig:
    """Twelve rows, six images in two views."""
    return with_values(digits_config, {"batch.train": 12, "data.num_views": 2, "data.strength": 0.7})


def test_a_stream_is_addressed_by_seed_name_and_counters() -> None:
    def first(*address: Any) -> float:
        return float(torch.rand(1, generator=stream(*address)))

    addresses = [(0, "order"), (1, "order"), (0, "views"), (0, "order", 0), (0, "order", 1), (0, "order", 0, 1)]
    values = [first(*address) for address in addresses]
    assert len(set(values)) == len(addresses)
    assert values == [first(*address) for address in reversed(addresses)][::-1]


def test_draws_do_not_depend_on_the_order_of_asking(digits: Dataset, config: ReplicateConfig) -> None:
    asked = BatchStream(digits, config, 3)
    for step in (70, 0, 3, 200, 63, 64, 3, 70):
        assert same(asked.draws(step), BatchStream(digits, config, 3).draws(step))


def test_steps_and_seeds_draw_differently(digits: Dataset, config: ReplicateConfig) -> None:
    draws: list[Draws] = [
        BatchStream(digits, config, seed).draws(step) for seed in (0, 1) for step in (0, 1, 63, 64, 128)
    ]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert not torch.equal(first.indices, second.indices)
            assert not torch.equal(first.parameters, second.parameters)


def test_images_are_drawn_with_replacement(digits: Dataset, config: ReplicateConfig) -> None:
    many = with_values(config, {"batch.train": 800})
    indices = BatchStream(digits, many, 0).draws(0).indices
    # 400 draws from 1247 hit 342.4 distinct images on average, with a standard deviation of 6.4.
    assert abs(len(indices.unique()) - 342) < 32
    assert int(indices.min()) >= 0
    assert int(indices.max()) < len(digits.train)


def test_views_keep_to_their_image(digits: Dataset, config: ReplicateConfig) -> None:
    batch = PackBatches(digits, pack_of(config, 0), 0, 1).batch(0)
    sources = batch.sources_RB.view(6, 2)
    assert (sources[:, 0] == sources[:, 1]).all()
    images = batch.inputs.view(6, 2, 1, 8, 8)
    assert ((images[:, 0] - images[:, 1]).abs().amax(dim=(-1, -2, -3)) > 0.01).all()


def test_labels_are_those_of_the_images(digits: Dataset, config: ReplicateConfig) -> None:
    still = with_values(config, {"data.strength": 0.0})
    batch = PackBatches(digits, pack_of(still, 4), 0, 1).batch(5)
    assert torch.equal(batch.labels_RB, digits.train.labels[batch.sources_RB])
    torch.testing.assert_close(batch.inputs, digits.train.inputs[batch.sources_RB] / 255, atol=1e-5, rtol=0)
    assert batch.ids("class")[0] is batch.labels_RB
    assert batch.ids("source")[1] is batch.all_sources_RN


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_slices_of_workers_concatenate_to_the_whole(digits: Dataset, config: ReplicateConfig, world_size: int) -> None:
    pack = pack_of(config, 0, 1)
    whole = PackBatches(digits, pack, 0, 1).batch(9)
    parts: list[TrainBatch] = [PackBatches(digits, pack, rank, world_size).batch(9) for rank in range(world_size)]
    assert [part.row_offset for part in parts] == [rank * 12 // world_size for rank in range(world_size)]
    for name in ("inputs", "labels_RB", "sources_RB"):
        joined = torch.cat([getattr(part, name) for part in parts], dim=1)
        torch.testing.assert_close(joined, getattr(whole, name), atol=1e-6, rtol=0)
    for part in parts:
        assert torch.equal(part.all_labels_RN, whole.labels_RB)
        assert torch.equal(part.all_sources_RN, whole.sources_RB)


def test_a_member_sees_what_it_sees_alone(digits: Dataset, config: ReplicateConfig) -> None:
    configs = [with_values(config, {"data.strength": strength}) for strength in (0.0, 0.4, 1.5)]
    pack = [CONTRASTIVE.replicate(member, seed, "data") for seed, member in enumerate(configs)]
    together = PackBatches(digits, pack, 0, 1).batch(2)
    for index, member in enumerate(pack):
        alone = PackBatches(digits, [member], 0, 1).batch(2)
        assert torch.equal(together.labels_RB[index], alone.labels_RB[0])
        assert torch.equal(together.sources_RB[index], alone.sources_RB[0])
        torch.testing.assert_close(together.inputs[index], alone.inputs[0], atol=1e-6, rtol=0)


def test_strength_and_learning_rate_leave_the_draws_alone(digits: Dataset, config: ReplicateConfig) -> None:
    other = with_values(config, {"data.strength": 1.5, "optimizer.learning_rate": 0.5, "model.num_blocks": 1})
    assert same(BatchStream(digits, config, 0).draws(1), BatchStream(digits, other, 0).draws(1))


def test_clusters_are_viewed_as_unit_vectors(clusters: Dataset, clusters_config: ReplicateConfig) -> None:
    batch = PackBatches(clusters, pack_of(clusters_config, 0), 0, 1).batch(0)
    assert batch.inputs.shape == (1, 16, 16)
    torch.testing.assert_close(batch.inputs.norm(dim=-1), torch.ones(1, 16))


@pytest.mark.parametrize("step", [0, 64])
def test_supervised_training_sees_labelled_images_only(digits: Dataset, config: ReplicateConfig, step: int) -> None:
    few = with_values(config, {"trainer": "supervised", "data.label_fraction": 0.05, "batch.train": 200})
    labelled = set(labelled_subset(digits.train.labels, 10, 0.05, 7).tolist())
    seen = set(BatchStream(digits, few, 7).draws(step).indices.tolist())
    assert seen <= labelled
    assert len(seen) > 0.7 * len(labelled)


def test_evaluation_batches_are_balanced_and_without_repeats(digits: Dataset, digits_config: ReplicateConfig) -> None:
    evaluation = evaluation_set(digits, pack_of(digits_config, 0, 1))
    assert evaluation.clean.shape == evaluation.viewed.shape == (2, 2, 20, 1, 8, 8)
    assert torch.bincount(evaluation.labels_N).tolist() == [2] * 10
    known = {
        image.tobytes(): label
        for image, label in zip(digits.test.inputs.numpy(), digits.test.labels.tolist(), strict=True)
    }
    pixels = (evaluation.clean * 255).round().byte().flatten(0, 1).numpy()
    for batch in pixels:
        assert [known[image.tobytes()] for image in batch] == evaluation.labels_N.tolist()
        assert len({image.tobytes() for image in batch}) == 20
    assert len({batch.tobytes() for batch in pixels}) == 4


def test_the_validation_split_is_judged_where_asked(digits: Dataset, digits_config: ReplicateConfig) -> None:
    validation = with_values(digits_config, {"evaluation.split": "validation"})
    evaluation = evaluation_set(digits, pack_of(validation, 0))
    known = {image.tobytes() for image in digits.validation.inputs.numpy()}
    pixels = (evaluation.clean * 255).round().byte().flatten(0, 2).numpy()
    assert {image.tobytes() for image in pixels} <= known


def test_evaluation_is_shared_by_all_batch_sizes_and_rates(digits: Dataset, digits_config: ReplicateConfig) -> None:
    other = with_values(digits_config, {"batch.train": 64, "optimizer.learning_rate": 0.1, "model.num_blocks": 1})
    first, second = (evaluation_set(digits, pack_of(c, 3)) for c in (digits_config, other))
    assert same(first, second)
    stronger = evaluation_set(digits, pack_of(with_values(digits_config, {"data.strength": 1.0}), 3))
    assert torch.equal(stronger.clean, first.clean)
    assert not torch.equal(stronger.viewed, first.viewed)


def test_evaluation_of_a_member_is_that_of_it_alone(digits: Dataset, digits_config: ReplicateConfig) -> None:
    together = evaluation_set(digits, pack_of(digits_config, 3, 4))
    for index, seed in enumerate((3, 4)):
        alone = evaluation_set(digits, pack_of(digits_config, seed))
        assert torch.equal(together.viewed[index], alone.viewed[0])
    assert not torch.equal(together.clean[0], together.clean[1])


def test_evaluation_keeps_the_views_of_an_image_together(digits: Dataset, config: ReplicateConfig) -> None:
    evaluation = evaluation_set(digits, pack_of(config, 0))
    assert evaluation.sources_N.tolist() == [i // 2 for i in range(20)]
    assert torch.equal(evaluation.clean[0, 0, ::2], evaluation.clean[0, 0, 1::2])
    assert not torch.equal(evaluation.viewed[0, 0, ::2], evaluation.viewed[0, 0, 1::2])
    assert torch.equal(evaluation.labels_N[::2], evaluation.labels_N[1::2])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch.eval": 24}, r"batch\.eval=24 cannot be balanced over 10 classes x 1 view.*for example 20"),
        ({"batch.eval": 10}, r"batch\.eval=10 cannot be balanced.*for example 20"),
        ({"batch.eval": 36, "data.num_views": 2}, r"x 2 view.*for example 40"),
        ({"batch.eval": 200}, r"needs 20 images of every class, but the test split of digits has a class with 19"),
        ({"batch.train": 1248}, r"batch\.train=1248 is larger than the data: digits has 1247"),
    ],
)
def test_batches_that_cannot_be_drawn_are_refused_with_a_sentence(
    digits: Dataset, digits_config: ReplicateConfig, values: dict[str, Scalar], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        evaluation_set(digits, pack_of(with_values(digits_config, values), 0))


def test_the_size_that_a_refusal_names_is_accepted(digits: Dataset, digits_config: ReplicateConfig) -> None:
    config = with_values(digits_config, {"batch.eval": 200})
    with pytest.raises(ConfigError, match="use at most 190"):
        evaluation_set(digits, pack_of(config, 0))
    assert evaluation_set(digits, pack_of(with_values(config, {"batch.eval": 190}), 0)).labels_N.shape == (190,)
