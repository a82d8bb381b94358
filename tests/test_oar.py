"""Orthonormal anchor regression against a literal loop, closed forms and what must not matter."""

import pytest
import torch

from study.recipes.contrastive.losses.oar import oar, orthonormal_anchors

NUM_ROWS, NUM_CLASSES, DIM = 12, 4, 6
LABELS = torch.arange(NUM_ROWS) % NUM_CLASSES
LABELLED = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0], dtype=torch.bool)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def embeddings(seed: int = 0) -> torch.Tensor:
    return torch.randn(NUM_ROWS, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def anchors(seed: int = 0) -> torch.Tensor:
    return orthonormal_anchors(NUM_CLASSES, DIM, generators(seed))[0].double()


def test_loss_equals_a_literal_loop() -> None:
    z, mu = embeddings(), anchors()
    cosines = [float(z[i] @ mu[LABELS[i]] / z[i].norm()) for i in range(NUM_ROWS) if LABELLED[i]]
    assert float(oar(z, LABELS, LABELLED, LABELLED, mu)) == pytest.approx(-sum(cosines) / len(cosines), rel=1e-12)


@pytest.mark.parametrize(("sign", "expected"), [(1, -1), (-1, 1)])
def test_rows_on_their_anchors_have_loss_minus_one(sign: int, expected: float) -> None:
    z, mu = embeddings(), anchors()
    z[LABELLED] = sign * mu[LABELS[LABELLED]]
    assert float(oar(z, LABELS, LABELLED, LABELLED, mu)) == pytest.approx(expected, abs=1e-6)


def test_rows_on_the_anchor_of_another_class_have_loss_zero() -> None:
    mu = anchors()
    assert float(oar(mu[(LABELS + 1) % NUM_CLASSES], LABELS, LABELLED, LABELLED, mu)) == pytest.approx(0, abs=1e-6)


def test_gradient_equals_finite_differences() -> None:
    z, mu = embeddings().requires_grad_(), anchors()
    assert torch.autograd.gradcheck(lambda z: oar(z, LABELS, LABELLED, LABELLED, mu), (z,))


def test_rows_without_a_label_get_no_gradient_and_their_label_is_not_read() -> None:
    z, mu = embeddings().requires_grad_(), anchors()
    loss = oar(z, LABELS.masked_fill(~LABELLED, -1), LABELLED, LABELLED, mu)
    loss.backward()
    assert z.grad is not None
    assert (z.grad != 0).any(-1).tolist() == LABELLED.tolist()
    torch.testing.assert_close(loss, oar(z, LABELS, LABELLED, LABELLED, mu))


def test_a_batch_without_labels_has_loss_and_gradient_zero() -> None:
    z, nothing = embeddings().requires_grad_(), torch.zeros(NUM_ROWS, dtype=torch.bool)
    loss = oar(z, LABELS, nothing, nothing, anchors())
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_a_batch_of_one_row_is_its_cosine() -> None:
    z, mu, labelled = embeddings()[:1], anchors(), torch.tensor([True])
    expected = -torch.nn.functional.cosine_similarity(z[0], mu[0], dim=0)
    torch.testing.assert_close(oar(z, LABELS[:1], labelled, labelled, mu), expected)


def test_scale_of_rows_does_not_matter() -> None:
    z, mu = embeddings(), anchors()
    scale = torch.logspace(-3, 3, NUM_ROWS, dtype=z.dtype)[:, None]
    torch.testing.assert_close(oar(scale * z, LABELS, LABELLED, LABELLED, mu), oar(z, LABELS, LABELLED, LABELLED, mu))


def test_row_order_does_not_matter() -> None:
    z, mu = embeddings(), anchors()
    order = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(1))
    shuffled = oar(z[order], LABELS[order], LABELLED[order], LABELLED[order], mu)
    torch.testing.assert_close(shuffled, oar(z, LABELS, LABELLED, LABELLED, mu))


@pytest.mark.parametrize("num_workers", [2, 3, 12])
def test_shares_of_workers_add_up(num_workers: int) -> None:
    z, mu, local = embeddings(), anchors(), NUM_ROWS // num_workers
    shares = [
        oar(z[o : o + local], LABELS[o : o + local], LABELLED[o : o + local], LABELLED, mu)
        for o in range(0, NUM_ROWS, local)
    ]
    torch.testing.assert_close(torch.stack(shares).sum(), oar(z, LABELS, LABELLED, LABELLED, mu))


def test_replicates_do_not_see_each_other_nor_each_others_anchors() -> None:
    z, mu = torch.stack([embeddings(0), embeddings(1)]), torch.stack([anchors(0), anchors(1)])
    labels, labelled = torch.stack([LABELS, LABELS.flip(0)]), torch.stack([LABELLED, ~LABELLED])
    together = oar(z, labels, labelled, labelled, mu)
    for r in range(2):
        torch.testing.assert_close(together[r], oar(z[r], labels[r], labelled[r], labelled[r], mu[r]))
    z[0, 0] = torch.nan
    assert oar(z, labels, labelled, labelled, mu).isnan().tolist() == [True, False]


@pytest.mark.parametrize(("num_classes", "dim"), [(1, 1), (3, 3), (10, 128), (100, 128)])
def test_anchors_are_orthonormal(num_classes: int, dim: int) -> None:
    mu_RKD = orthonormal_anchors(num_classes, dim, generators(0, 1))
    assert mu_RKD.shape == (2, num_classes, dim)
    assert mu_RKD.dtype == torch.float32
    torch.testing.assert_close(mu_RKD @ mu_RKD.mT, torch.eye(num_classes).expand(2, -1, -1), atol=1e-6, rtol=0)


def test_anchors_are_those_of_the_seed_whatever_the_pack() -> None:
    pack = orthonormal_anchors(NUM_CLASSES, DIM, generators(3, 4))
    assert torch.equal(pack[1], orthonormal_anchors(NUM_CLASSES, DIM, generators(4))[0])
    assert not torch.allclose(pack[0], pack[1], atol=0.1)


def test_anchors_prefer_no_direction_and_no_sign() -> None:
    """Entries of uniform unit rows have mean 0 and variance 1 / D; a factor without fixed signs is lopsided."""
    mu_RKD = orthonormal_anchors(3, 3, generators(*range(2000)))
    assert mu_RKD.mean(0).abs().max() < 4 / (3 * 2000) ** 0.5
    torch.testing.assert_close(mu_RKD.square().mean(0), torch.full((3, 3), 1 / 3), atol=0.03, rtol=0)
    assert abs(torch.linalg.det(mu_RKD).mean()) < 0.1


def test_more_classes_than_dimensions_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="give the embedding at least 7 dimensions"):
        orthonormal_anchors(7, 6, generators(0))
