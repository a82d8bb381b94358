"""Frozen embeddings are judged on the whole split, by the labels that the method had and by all of them."""

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.errors import ConfigError
from study.interface.run import Replicate
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.labels import labelled_subset
from study.recipes.contrastive.evaluation import knn_accuracy
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import check_evaluation
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.downstream import measure_raw
from study.recipes.contrastive.trainers.loop import PackRun, measure_untrained, measure_view_moments, train_pack
from study.recipes.contrastive.trainers.view_cosines import encoder_moments, raw_moments
from tests.conftest import for_trainer

PROBED: dict[str, Scalar] = {"evaluation.linear_probe": True, "evaluation.knn_bank": 400}


@pytest.fixture
def config(clusters_config: ReplicateConfig) -> ReplicateConfig:
    return with_values(for_trainer(clusters_config, "oar"), PROBED | {"data.label_fraction": 0.1})


def pack_of(config: ReplicateConfig, *seeds: int) -> list[Replicate]:
    return [CONTRASTIVE.replicate(config, seed, "data") for seed in seeds]


def test_probes_and_neighbours_are_measured_with_few_and_with_all_labels(
    clusters: Dataset, config: ReplicateConfig
) -> None:
    names = {"knn_accuracy", "knn_labelled_accuracy", "probe_accuracy", "probe_full_accuracy"}
    for result in train_pack(pack_of(config, 0, 1), clusters):
        for values in (result.metrics, result.before):
            assert names <= set(values)
            assert values["probe_full_accuracy"] > 0.4
        assert result.metrics["probe_accuracy"] != result.metrics["probe_full_accuracy"]


def test_with_all_labels_there_is_one_probe_and_no_second_bank(clusters: Dataset, config: ReplicateConfig) -> None:
    (found,) = measure_untrained(pack_of(with_values(config, {"data.label_fraction": 1.0}), 0), clusters)
    assert "knn_labelled_accuracy" not in found
    assert found["probe_accuracy"] == found["probe_full_accuracy"]


def test_a_member_is_measured_as_it_is_alone(clusters: Dataset, config: ReplicateConfig) -> None:
    together = measure_untrained(pack_of(config, 0, 1), clusters)
    for seed, found in enumerate(together):
        assert found == pytest.approx(measure_untrained(pack_of(config, seed), clusters)[0], abs=0.002)


def test_the_labelled_bank_is_the_subset_of_the_replicates_seed(clusters: Dataset, config: ReplicateConfig) -> None:
    run = PackRun(pack_of(config, 3), clusters)
    with torch.no_grad():
        embed = [
            run.model.embed(torch.nn.functional.normalize(s.inputs)[None])[0] for s in (clusters.train, clusters.test)
        ]
    rows = labelled_subset(clusters.train.labels, 4, 0.1, 3)
    expected = knn_accuracy(
        embed[0][rows], clusters.train.labels[rows], embed[1], clusters.test.labels, config.evaluation.knn_neighbours
    )
    assert run.downstream()[0]["knn_labelled_accuracy"] == pytest.approx(expected, abs=0.002)


def test_raw_inputs_can_be_probed(digits: Dataset, digits_config: ReplicateConfig) -> None:
    raw = measure_raw(digits, with_values(digits_config, PROBED).evaluation)
    assert raw["probe_accuracy"] > 0.9
    assert raw["knn_accuracy"] > 0.9


def test_effective_strength_of_raw_views_of_clusters_is_the_strength(
    clusters: Dataset, clusters_config: ReplicateConfig
) -> None:
    config = with_values(clusters_config, {"data.strength": 0.8})
    expected = (0.8**2 + 0.5**2) ** 0.5
    assert raw_moments(clusters, config)["effective_sigma"] == pytest.approx(expected, rel=0.05)
    stronger = raw_moments(clusters, with_values(config, {"data.strength": 1.6}))
    assert stronger["effective_sigma"] > 1.5


def test_moments_of_an_encoder_are_each_members_own(digits: Dataset, digits_config: ReplicateConfig) -> None:
    together = measure_view_moments(pack_of(digits_config, 0, 1), digits)
    (alone,) = measure_view_moments(pack_of(digits_config, 1), digits)
    assert together[1] == pytest.approx(alone, rel=1e-3)
    assert together[0] != together[1]
    model = PackRun(pack_of(digits_config, 1), digits).model
    assert encoder_moments(model, 1, digits, digits_config)[0] == pytest.approx(alone)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data.label_fraction": 0.001}, r"data\.label_fraction=0\.001 leaves class 0 \(.*\) without a label: use at"),
        ({"model.embedding_dim": 3}, "4 classes need as many orthonormal anchors, which 3 dimensions do not hold"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_training(
    clusters: Dataset, config: ReplicateConfig, values: dict[str, Scalar], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_evaluation(with_values(config, values), clusters)


class TestBatchNorm:
    @pytest.fixture
    def normed(self, digits_config: ReplicateConfig) -> ReplicateConfig:
        return with_values(digits_config, {"model.norm": "batch", "evaluation.num_points": 1})

    @pytest.mark.parametrize("encoder", ["small", "resnet18"])
    def test_it_is_judged_by_running_statistics(self, digits: Dataset, normed: ReplicateConfig, encoder: str) -> None:
        config = with_values(normed, {"model.encoder": encoder, "horizon.length": 2})
        run = PackRun(pack_of(config, 0), digits)
        before = run.replicate_buffers(0)
        run.advance()
        assert any(not torch.equal(a, b) for a, b in zip(before, run.replicate_buffers(0), strict=True))
        inputs = digits.test.inputs[:8][None] / 255
        run.model.eval()
        with torch.no_grad():
            together, alone = run.model.embed(inputs), run.model.embed(inputs[:, :1])
        torch.testing.assert_close(together[:, :1], alone, atol=1e-5, rtol=1e-4)

    def test_members_of_a_pack_have_their_own_statistics(self, digits: Dataset, normed: ReplicateConfig) -> None:
        together = train_pack(pack_of(normed, 0, 1), digits)
        for result in together:
            (alone,) = train_pack([result.replicate], digits)
            assert result.metrics == pytest.approx(alone.metrics, abs=1e-3)

    def test_several_workers_are_refused_with_a_sentence(self, digits: Dataset, normed: ReplicateConfig) -> None:
        with pytest.raises(ConfigError, match=r"model\.norm=batch needs one worker"):
            PackRun(pack_of(normed, 0), digits, RunContext(world_size=2))


def test_bfloat16_is_close_to_float32_and_not_equal(digits: Dataset, digits_config: ReplicateConfig) -> None:
    half = with_values(digits_config, {"precision": "bfloat16"})
    losses = [PackRun(pack_of(config, 0), digits).loss_and_gradient(0) for config in (digits_config, half)]
    assert losses[1].dtype == torch.float32
    assert float(losses[0]) != float(losses[1])
    torch.testing.assert_close(losses[1], losses[0], atol=0.02, rtol=0)


def test_a_labelled_batch_draws_from_the_labels_alone(clusters: Dataset, config: ReplicateConfig) -> None:
    run = PackRun(pack_of(with_values(config, {"batch.labelled": 6}), 3), clusters)
    batch = run._batches.batch(0)
    assert batch.inputs.shape[:2] == (1, 16 + 6)
    assert batch.extra_labels_RL is not None
    assert batch.extra_labels_RL.shape == (1, 6)
    plain = PackRun(pack_of(config, 3), clusters)._batches.batch(0)
    assert torch.equal(batch.inputs[:, :16], plain.inputs)
    # Labels are those of four classes, and with a tenth of them the same few images come again and again.
    known = labelled_subset(clusters.train.labels, 4, 0.1, 3)
    drawn = run._batches._labelled_streams[0].draws(0).indices
    assert set(drawn.tolist()) <= set(known.tolist())
