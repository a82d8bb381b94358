"""Metrics stand at 0 at chance and 1 at the target, and agree with other libraries and closed forms."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from study.recipes.contrastive.affinity import off_diagonal, partners
from study.recipes.contrastive.config import ClustersConfig
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.evaluation import (
    affinity_success,
    alignment,
    chance_mass,
    cosine_moments,
    effective_rank,
    is_collapsed,
    jsd_of_mass,
    knn_accuracy,
    linear_probe_accuracy,
    mean_cosine,
    pair_auc,
    uniformity,
)
from study.recipes.contrastive.losses.affinity_jsd import target_affinity

NUM_ROWS, NUM_CLASSES = 20, 4
LABELS = torch.arange(NUM_ROWS) % NUM_CLASSES
SAME = partners(LABELS, LABELS)
TARGET = target_affinity(SAME, torch.float64)
UNIFORM = off_diagonal(NUM_ROWS, NUM_ROWS, 0, torch.device("cpu")).double() / (NUM_ROWS - 1)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_success_is_zero_at_chance() -> None:
    success = affinity_success(UNIFORM, LABELS)
    assert float(success["p"]) == pytest.approx(0, abs=1e-12)
    assert float(success["s_j"]) == pytest.approx(0, abs=1e-12)


def test_success_is_one_at_the_target() -> None:
    success = affinity_success(TARGET, LABELS)
    assert float(success["p"]) == pytest.approx(1, abs=1e-12)
    assert float(success["s_j"]) == pytest.approx(1, abs=1e-12)


def test_success_is_negative_where_all_mass_is_on_other_classes() -> None:
    wrong = target_affinity(LABELS[:, None] != LABELS[None], torch.float64)
    success = affinity_success(wrong, LABELS)
    chance = chance_mass(NUM_ROWS, NUM_ROWS // NUM_CLASSES - 1)
    assert float(success["p"]) == pytest.approx(-chance / (1 - chance))
    assert float(success["s_j"]) == pytest.approx(1 - math.log(2) / jsd_of_mass(chance))


def test_success_grows_linearly_in_mass_between_chance_and_target() -> None:
    for weight in (0.25, 0.5, 0.75):
        mixed = affinity_success(weight * TARGET + (1 - weight) * UNIFORM, LABELS)
        assert float(mixed["p"]) == pytest.approx(weight)
        chance = chance_mass(NUM_ROWS, 4)
        expected = 1 - jsd_of_mass(weight + (1 - weight) * chance) / jsd_of_mass(chance)
        assert float(mixed["s_j"]) == pytest.approx(expected)


def test_dead_rows_count_as_uniform() -> None:
    half_dead = TARGET.clone()
    half_dead[: NUM_ROWS // 2] = 0
    success = affinity_success(half_dead, LABELS)
    assert float(success["p"]) == pytest.approx(0.5)
    assert float(success["s_j"]) == pytest.approx(0.5)
    assert float(success["dead_row_share"]) == 0.5
    assert float(affinity_success(torch.zeros_like(TARGET), LABELS)["p"]) == pytest.approx(0, abs=1e-7)


def test_success_has_one_value_per_leading_index() -> None:
    stack = torch.stack([torch.stack([TARGET, UNIFORM])] * 3)
    success = affinity_success(stack, LABELS)
    torch.testing.assert_close(success["p"], torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64))
    assert {value.shape for value in success.values()} == {(3, 2)}


def test_unbalanced_batches_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="balanced"):
        affinity_success(UNIFORM[:3, :3], torch.tensor([0, 0, 1]))


@pytest.mark.parametrize("decimals", [8, 1, 0], ids=["no ties", "some ties", "many ties"])
def test_pair_auc_equals_sklearn(decimals: int) -> None:
    a_RNN = torch.relu(random(3, NUM_ROWS, NUM_ROWS) + 0.5 * SAME).round(decimals=decimals)
    other = LABELS[:, None] != LABELS[None]
    is_pair = SAME | other
    expected = [roc_auc_score(SAME[is_pair].numpy(), a[is_pair].numpy()) for a in a_RNN]
    np.testing.assert_allclose(pair_auc(a_RNN, LABELS).numpy(), expected, rtol=1e-10)
    assert 0.5 < expected[0] < 0.9


def test_pair_auc_is_one_at_the_target_and_half_at_chance() -> None:
    assert float(pair_auc(TARGET, LABELS)) == 1
    assert float(pair_auc(UNIFORM, LABELS)) == 0.5


def test_row_order_does_not_matter() -> None:
    a = torch.relu(random(NUM_ROWS, NUM_ROWS)) * ~torch.eye(NUM_ROWS, dtype=torch.bool)
    a = a / a.sum(-1, keepdim=True)
    order = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(1))
    straight = affinity_success(a, LABELS) | {"auc": pair_auc(a, LABELS)}
    shuffled_a, shuffled = a[order][:, order], LABELS[order]
    for name, value in (affinity_success(shuffled_a, shuffled) | {"auc": pair_auc(shuffled_a, shuffled)}).items():
        torch.testing.assert_close(value, straight[name])


@pytest.mark.parametrize(("num_classes", "num_neighbours"), [(2, 1), (5, 1), (2, 5), (2, 11)])
def test_knn_equals_sklearn_where_votes_cannot_tie(num_classes: int, num_neighbours: int) -> None:
    bank, queries = random(120, 6), random(300, 6, seed=1)
    direction = random(num_classes, 6, seed=2)
    bank_labels, labels = (bank @ direction.T).argmax(-1), (queries @ direction.T).argmax(-1)
    sk = KNeighborsClassifier(num_neighbours, metric="cosine").fit(bank.numpy(), bank_labels.numpy())
    measured = knn_accuracy(bank, bank_labels, queries, labels, num_neighbours)
    assert measured == pytest.approx(sk.score(queries.numpy(), labels.numpy()))
    assert 0.5 < measured < 1


def test_tied_votes_go_to_the_more_similar_class() -> None:
    angles = torch.tensor([0.1, 0.5, 0.2, 0.3, 2.0])
    bank = torch.stack([angles.cos(), angles.sin()], dim=-1)
    query = torch.tensor([[1.0, 0.0]])
    # Among four neighbours classes 0 and 1 have two each; cosines 0.995 + 0.878 < 0.980 + 0.955.
    bank_labels = torch.tensor([0, 0, 1, 1, 2])
    assert knn_accuracy(bank, bank_labels, query, torch.tensor([1]), 4) == 1
    assert knn_accuracy(bank, bank_labels, query, torch.tensor([0]), 1) == 1


def test_a_majority_is_never_outvoted_by_similarity() -> None:
    bank = torch.tensor([[1.0, 0.0], [-1.0, 0.01], [-1.0, -0.01]])
    assert knn_accuracy(bank, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.0]]), torch.tensor([1]), 3) == 1


def test_knn_scale_of_embeddings_and_size_of_query_chunks_do_not_matter() -> None:
    bank, queries = random(50, 6), random(5000, 6, seed=1)
    bank_labels, labels = (bank[:, 0] > 0).long(), (queries[:, 0] > 0).long()
    whole = knn_accuracy(bank, bank_labels, queries, labels, 7)
    halves = [knn_accuracy(bank, bank_labels, queries[s], labels[s], 7) for s in (slice(2500), slice(2500, None))]
    assert whole == pytest.approx(sum(halves) / 2)
    assert knn_accuracy(3 * bank, bank_labels, 0.2 * queries, labels, 7) == whole


def test_effective_rank_of_identity_is_the_dimension_and_of_a_line_is_one() -> None:
    assert float(effective_rank(torch.eye(7))) == pytest.approx(7)
    assert float(effective_rank(torch.outer(random(9), random(5)))) == pytest.approx(1, abs=1e-6)
    assert float(effective_rank(torch.zeros(4, 3))) == pytest.approx(1)


def test_effective_rank_is_the_exponential_of_an_entropy() -> None:
    share = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    expected = math.exp(-sum(p * math.log(p) for p in share.tolist()))
    assert float(effective_rank(3 * torch.diag(share))) == pytest.approx(expected)
    both = effective_rank(torch.stack([torch.eye(3, dtype=torch.float64), torch.diag(share)]))
    assert both.tolist() == pytest.approx([3, expected])


def test_mean_cosine_equals_a_literal_loop() -> None:
    z = random(2, 8, 3) + 0.5
    for r in range(2):
        pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
        cosines = [float(torch.nn.functional.cosine_similarity(z[r, i], z[r, j], dim=0)) for i, j in pairs]
        assert float(mean_cosine(z)[r]) == pytest.approx(sum(cosines) / len(cosines))


def test_one_point_and_one_line_are_collapsed_and_a_cloud_is_not() -> None:
    cloud, point = random(50, 6), torch.ones(50, 6) + 1e-3 * random(50, 6)
    line = torch.outer(random(50), random(6))
    verdicts = [is_collapsed(float(mean_cosine(z)), float(effective_rank(z))) for z in (cloud, point, line)]
    assert verdicts == [False, True, True]
    assert abs(float(mean_cosine(line))) < 0.5


def test_alignment_and_uniformity_equal_literal_loops() -> None:
    z, sources = random(2, 3, 8, 4), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    u = torch.nn.functional.normalize(z, dim=-1)
    for r in range(2):
        for e in range(3):
            pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
            distances = {(i, j): float((u[r, e, i] - u[r, e, j]).square().sum()) for i, j in pairs}
            mates = [d for (i, j), d in distances.items() if sources[i] == sources[j]]
            assert float(alignment(z, sources)[r, e]) == pytest.approx(sum(mates) / len(mates))
            kernel = [math.exp(-2 * d) for d in distances.values()]
            assert float(uniformity(z)[r, e]) == pytest.approx(math.log(sum(kernel) / len(kernel)))


def test_one_point_is_aligned_and_not_uniform() -> None:
    point, sources = torch.ones(1, 1, 6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    assert float(alignment(point, sources)) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(point)) == pytest.approx(0, abs=1e-6)
    # Cosines of random rows are nearly normal with variance 1 / 64: E exp(4 cos - 4) = exp(8 / 64 - 4).
    assert float(uniformity(random(1, 1, 200, 64))) == pytest.approx(8 / 64 - 4, abs=0.02)


@pytest.mark.parametrize(("sigma", "cosine"), [(0.5, 0.0), (1.0, 0.3), (2.0, -0.25)])
def test_moments_of_views_give_back_the_strength_and_cosine_of_the_model(sigma: float, cosine: float) -> None:
    config = ClustersConfig(dim=512, cosine=cosine)
    labels = torch.arange(1000) % 5
    noise = torch.randn(1000, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = cluster_centres(config)[labels] + sigma * noise / 512**0.5
    moments = cosine_moments(views, labels)
    assert moments["effective_sigma"] == pytest.approx(sigma, rel=0.02)
    assert moments["effective_cosine"] == pytest.approx(cosine, abs=0.02)
    assert moments["cosine_within_mean"] == pytest.approx(1 / (1 + sigma**2), rel=0.03)
    rho = 1 / (1 + sigma**2)
    if cosine == 0:
        assert moments["cosine_across_sd"] == pytest.approx(((1 - rho**2) / 512) ** 0.5, rel=0.05)


def test_moments_of_cosines_equal_a_literal_loop() -> None:
    z, labels = random(12, 5), torch.tensor([0, 1, 2] * 3 + [0, 0, 1])
    u = torch.nn.functional.normalize(z, dim=-1)
    pairs = {(i, j): float(u[i] @ u[j]) for i in range(12) for j in range(12) if i != j}
    moments = cosine_moments(z, labels)
    for name, same in (("within", True), ("across", False)):
        chosen = np.array([cosine for (i, j), cosine in pairs.items() if bool(labels[i] == labels[j]) == same])
        assert moments[f"cosine_{name}_mean"] == pytest.approx(chosen.mean())
        assert moments[f"cosine_{name}_sd"] == pytest.approx(chosen.std())


def test_classes_that_do_not_cohere_have_no_effective_strength() -> None:
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    moments = cosine_moments(z, torch.tensor([0, 0, 1, 1]))
    assert moments["cosine_within_mean"] == pytest.approx(-1)
    assert "effective_sigma" not in moments


def test_a_linear_probe_separates_what_a_line_separates_and_guesses_the_rest() -> None:
    x = random(900, 5)
    labels = (x[:, 0] + 0.2 * x[:, 1] > 0).long()
    splits = [(x[s], labels[s]) for s in (slice(300), slice(300, 600), slice(600, 900))]
    assert linear_probe_accuracy(*splits) > 0.95
    scaled = [(1000 * features + 7, y) for features, y in splits]
    assert linear_probe_accuracy(*scaled) == pytest.approx(linear_probe_accuracy(*splits), abs=0.01)
    ring = (x.norm(dim=-1) > 2).long()
    guess = [(x[s], ring[s]) for s in (slice(300), slice(300, 600), slice(600, 900))]
    assert linear_probe_accuracy(*guess) < 0.75


def test_a_batch_of_one_class_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="a batch of one class cannot be judged"):
        affinity_success(torch.full((1, 4, 4), 1 / 3), torch.zeros(4, dtype=torch.long))
