"""InfoNCE against a literal loop, closed forms and what must not matter."""

import math

import pytest
import torch

from study.recipes.contrastive import tiling
from study.recipes.contrastive.losses.info_nce import info_nce

NUM_ROWS, DIM = 12, 6
VIEWS = torch.arange(NUM_ROWS) // 2
THREE_VIEWS = torch.arange(NUM_ROWS) % 4
CLASSES = torch.arange(NUM_ROWS) % 3
UNEVEN = torch.tensor([0, 0, 0, 7, -1, 1, 2, 3, 4, 4, 0, 9])
CASES = {"views": VIEWS, "three views": THREE_VIEWS, "classes": CLASSES, "uneven": UNEVEN}
FORMS = pytest.mark.parametrize("tiled", [False, True])
ALL_CASES = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "TILE", 5)
    monkeypatch.setattr(tiling, "BLOCK_ROWS", 5)


def embeddings(seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(NUM_ROWS, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def literal_loss(z_ND: torch.Tensor, ids: list[int], temperature: float) -> float:
    num_rows, losses = len(ids), []
    for i in range(num_rows):
        cosines = [float(torch.nn.functional.cosine_similarity(z_ND[i], z_ND[j], dim=0)) for j in range(num_rows)]
        others = [j for j in range(num_rows) if j != i]
        positives = [j for j in others if ids[j] == ids[i]]
        if positives:
            log_sum = math.log(sum(math.exp(cosines[j] / temperature) for j in others))
            losses.append(log_sum - sum(cosines[p] for p in positives) / len(positives) / temperature)
    return sum(losses) / len(losses)


def loss_of(z_ND: torch.Tensor, ids_N: torch.Tensor, **options: float | bool | torch.dtype) -> torch.Tensor:
    return info_nce(z_ND, z_ND, ids_N, ids_N, **options)


def value_and_gradient(z_ND: torch.Tensor, ids_N: torch.Tensor, **options: float | bool | torch.dtype) -> torch.Tensor:
    """The loss followed by its gradient in one vector."""
    z_ND = z_ND.detach().clone().requires_grad_()
    loss = loss_of(z_ND, ids_N, **options)
    (grad,) = torch.autograd.grad(loss.sum(), z_ND)
    return torch.cat([loss.detach().flatten(), grad.flatten()])


@FORMS
@ALL_CASES
@pytest.mark.parametrize("temperature", [0.02, 0.5, 3.0])
def test_loss_equals_a_literal_loop(case: str, temperature: float, tiled: bool) -> None:
    z, ids = embeddings(), CASES[case]
    expected = literal_loss(z, ids.tolist(), temperature)
    assert float(loss_of(z, ids, temperature=temperature, tiled=tiled)) == pytest.approx(expected, rel=1e-10)


def test_two_views_give_the_cross_entropy_of_nt_xent() -> None:
    z = torch.nn.functional.normalize(embeddings(), dim=-1)
    logits = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(NUM_ROWS) ^ 1)
    torch.testing.assert_close(loss_of(z, VIEWS), expected)


@FORMS
@ALL_CASES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_tiles_change_neither_value_nor_gradient(case: str, tiled: bool, dtype: torch.dtype, tolerance: float) -> None:
    z, ids = embeddings(), CASES[case]
    exact = value_and_gradient(z, ids, tiled=False)
    found = value_and_gradient(z.to(dtype), ids, tiled=tiled).double()
    assert float((found - exact).norm()) <= tolerance * float(exact.norm())


@FORMS
@ALL_CASES
def test_gradient_equals_finite_differences(case: str, tiled: bool) -> None:
    z, ids = embeddings().requires_grad_(), CASES[case]
    assert torch.autograd.gradcheck(lambda z: loss_of(z, ids, tiled=tiled), (z,))
    assert torch.autograd.gradcheck(
        lambda rows, z: info_nce(rows, z, ids[3:8], ids, 3, tiled=tiled), (embeddings(1)[3:8].requires_grad_(), z)
    )


@FORMS
def test_rows_may_differ_from_what_stands_for_them_among_all_rows(tiled: bool) -> None:
    """As with keys of a momentum encoder: the own key is neither a positive nor in the sum."""
    keys = embeddings()
    expected = 0.0
    for i, row in enumerate(embeddings(1)[3:8], start=3):
        scores = torch.nn.functional.cosine_similarity(row[None], keys) / 0.5
        others = torch.arange(NUM_ROWS) != i
        expected += float(scores[others].logsumexp(0) - scores[others & (CLASSES[i] == CLASSES)].mean()) / NUM_ROWS
    loss = info_nce(embeddings(1)[3:8], keys, CLASSES[3:8], CLASSES, 3, tiled=tiled)
    assert float(loss) == pytest.approx(expected, rel=1e-10)


@FORMS
@ALL_CASES
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_equal_embeddings_give_the_log_of_the_number_of_other_rows(case: str, tiled: bool, temperature: float) -> None:
    z = torch.ones(NUM_ROWS, DIM, dtype=torch.float64)
    loss = loss_of(z, CASES[case], temperature=temperature, tiled=tiled)
    assert float(loss) == pytest.approx(math.log(NUM_ROWS - 1), abs=1e-11)


@FORMS
def test_orthogonal_classes_have_the_closed_form(tiled: bool) -> None:
    z = torch.eye(3, dtype=torch.float64)[CLASSES]
    expected = math.log(3 + 8 * math.exp(-1 / 0.5))
    assert float(loss_of(z, CASES["classes"], tiled=tiled)) == pytest.approx(expected, abs=1e-12)


@FORMS
@ALL_CASES
def test_row_order_does_not_matter(case: str, tiled: bool) -> None:
    z, ids = embeddings(), CASES[case]
    order = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss_of(z[order], ids[order], tiled=tiled), loss_of(z, ids, tiled=tiled))


@FORMS
def test_the_two_views_may_be_swapped(tiled: bool) -> None:
    z = embeddings()
    torch.testing.assert_close(loss_of(z[torch.arange(NUM_ROWS) ^ 1], VIEWS, tiled=tiled), loss_of(z, VIEWS))


@FORMS
def test_scale_of_rows_does_not_matter(tiled: bool) -> None:
    z = embeddings()
    scale = torch.logspace(-3, 3, NUM_ROWS, dtype=z.dtype)[:, None]
    torch.testing.assert_close(loss_of(scale * z, CLASSES, tiled=tiled), loss_of(z, CLASSES))


def test_names_of_ids_do_not_matter() -> None:
    renamed = torch.tensor([70, -3, 10**12])[CLASSES]
    torch.testing.assert_close(loss_of(embeddings(), renamed), loss_of(embeddings(), CLASSES))


@FORMS
@ALL_CASES
@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_shares_of_workers_add_up_in_value_and_gradient(case: str, num_workers: int, tiled: bool) -> None:
    z, ids = embeddings().requires_grad_(), CASES[case]
    local = NUM_ROWS // num_workers
    total = sum(
        info_nce(z[o : o + local], z.clone(), ids[o : o + local], ids, o, tiled=tiled)
        for o in range(0, NUM_ROWS, local)
    )
    assert isinstance(total, torch.Tensor)
    (grad,) = torch.autograd.grad(total, z)
    found = torch.cat([total.detach().flatten(), grad.flatten()])
    torch.testing.assert_close(found, value_and_gradient(z, ids, tiled=False))


@FORMS
def test_replicates_do_not_see_each_other(tiled: bool) -> None:
    z, ids = torch.stack([embeddings(s) for s in range(4)]).unflatten(0, (2, 2)), torch.stack([VIEWS, UNEVEN])
    ids = ids[:, None].expand(2, 2, NUM_ROWS)
    together = loss_of(z, ids, tiled=tiled)
    assert together.shape == (2, 2)
    for r, batch in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        torch.testing.assert_close(together[r, batch], loss_of(z[r, batch], ids[r, batch]))


@FORMS
def test_a_row_that_is_not_a_number_spoils_its_own_replicate_only(tiled: bool) -> None:
    z, ids = torch.stack([embeddings(s) for s in range(3)]), torch.stack([VIEWS, UNEVEN, CLASSES])
    clean = loss_of(z, ids)
    z[1, 3] = torch.nan
    loss = loss_of(z, ids, tiled=tiled)
    assert loss.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(loss[[0, 2]], clean[[0, 2]])


@FORMS
@pytest.mark.parametrize("num_rows", [1, 5])
def test_a_batch_without_positives_has_loss_and_gradient_zero(num_rows: int, tiled: bool) -> None:
    found = value_and_gradient(embeddings()[:num_rows], torch.arange(num_rows), tiled=tiled)
    assert (found == 0).all()


@FORMS
def test_a_batch_of_one_class_only_has_positives(tiled: bool) -> None:
    z, ids = embeddings(), torch.zeros(NUM_ROWS, dtype=torch.long)
    assert float(loss_of(z, ids, tiled=tiled)) == pytest.approx(literal_loss(z, ids.tolist(), 0.5), rel=1e-10)


@FORMS
def test_rows_without_a_positive_are_left_out_but_repel(tiled: bool) -> None:
    z = embeddings()
    without = loss_of(z[:10], UNEVEN[:10], tiled=tiled)
    far, near = z.clone(), z.clone()
    far[11], near[11] = -z[:3].sum(0), z[:3].sum(0)
    with_far, with_near = (
        loss_of(torch.cat([x[:10], x[11:]]), UNEVEN[[*range(10), 11]], tiled=tiled) for x in (far, near)
    )
    assert without < with_far < with_near


@pytest.mark.parametrize("temperature", [0.0, -0.5, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        loss_of(embeddings(), VIEWS, temperature=temperature)


@FORMS
@ALL_CASES
def test_bfloat16_operands_come_close(case: str, tiled: bool) -> None:
    z, ids = embeddings(dtype=torch.float32), CASES[case]
    exact = value_and_gradient(z, ids)
    found = value_and_gradient(z, ids, product_dtype=torch.bfloat16, tiled=tiled)
    error = float((found - exact).norm() / exact.norm())
    assert found.dtype == torch.float32
    assert 1e-6 < error < 1e-2


def test_descent_on_the_loss_gathers_the_positives() -> None:
    z = embeddings()
    before = float(loss_of(z, CLASSES))
    for _ in range(30):
        z = z - value_and_gradient(z, CLASSES)[1:].view_as(z)
    assert float(loss_of(z, CLASSES)) < before - 0.3
