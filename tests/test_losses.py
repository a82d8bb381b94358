"""The affinity's Jensen-Shannon divergence against literal loops, closed forms and what must not matter."""

import math
from typing import Any

import pytest
import torch

from study.recipes.contrastive import tiling
from study.recipes.contrastive.affinity import affinity, partners, unit
from study.recipes.contrastive.evaluation import jsd_of_mass
from study.recipes.contrastive.losses.affinity_jsd import affinity_jsd, has_some_partner, jsd_rows, target_affinity

NUM_ROWS, DIM = 12, 6
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
SOURCES = torch.arange(12) // 2


def queries_and_keys(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, NUM_ROWS, DIM, generator=generator, dtype=torch.float64).to(dtype)
    return unit(q), unit(k)


def literal_jsd(p: list[float], q: list[float]) -> float:
    total = 0.0
    for a, b in zip(p, q, strict=True):
        m = (a + b) / 2
        total += 0.5 * (a * math.log(a / m) if a > 0 else 0)
        total += 0.5 * (b * math.log(b / m) if b > 0 else 0)
    return total


def literal_loss(q_ND: torch.Tensor, k_ND: torch.Tensor, ids: list[int]) -> float:
    """The mean over rows that have a partner; dead rows are uniform."""
    num_rows, losses = len(ids), []
    for i in range(num_rows):
        others = [j for j in range(num_rows) if j != i]
        friends = [j for j in others if ids[j] == ids[i]]
        if not friends:
            continue
        scores = [0.0 if j == i else max(float(q_ND[i] @ k_ND[j]), 0.0) for j in range(num_rows)]
        if sum(scores) == 0:
            scores = [0.0 if j == i else 1.0 for j in range(num_rows)]
        row = [score / sum(scores) for score in scores]
        losses.append(literal_jsd(row, [1 / len(friends) if j in friends else 0.0 for j in range(num_rows)]))
    return sum(losses) / len(losses)


def row_with_mass(p: float, num_partners: int = 4, num_others: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    row = torch.tensor([p / num_partners] * num_partners + [(1 - p) / num_others] * num_others, dtype=torch.float64)
    target = torch.tensor([1 / num_partners] * num_partners + [0.0] * num_others, dtype=torch.float64)
    return row, target


@pytest.mark.parametrize("ids", [CLASSES, SOURCES, torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 0])])
def test_loss_equals_a_literal_loop(ids: torch.Tensor) -> None:
    q, k = queries_and_keys()
    assert float(affinity_jsd(q, k, ids, ids)) == pytest.approx(literal_loss(q, k, ids.tolist()), rel=1e-7)


def test_divergence_of_rows_equals_a_literal_loop() -> None:
    p, q = torch.softmax(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1)
    p[0, :3] = 0
    expected = [literal_jsd(a.tolist(), b.tolist()) for a, b in zip(p, q, strict=True)]
    torch.testing.assert_close(jsd_rows(p, q), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(jsd_rows(p, q), jsd_rows(q, p))


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.5, 0.9, 1.0])
def test_mass_spread_evenly_has_the_closed_form(p: float) -> None:
    assert float(jsd_rows(*row_with_mass(p))) == pytest.approx(jsd_of_mass(p), abs=1e-12)


def test_closed_form_at_target_at_nothing_and_at_chance() -> None:
    assert jsd_of_mass(1) == pytest.approx(0, abs=1e-15)
    assert jsd_of_mass(0) == math.log(2)
    assert jsd_of_mass(19 / 99) == pytest.approx(0.430, abs=5e-4)


def test_closed_form_falls_as_mass_grows() -> None:
    values = [jsd_of_mass(p / 20) for p in range(21)]
    assert values == sorted(values, reverse=True)


def test_uneven_mass_on_partners_only_adds_divergence() -> None:
    row, target = row_with_mass(0.6)
    row[:4] = torch.tensor([0.3, 0.2, 0.1, 0.0], dtype=torch.float64)
    assert float(jsd_rows(row, target)) > jsd_of_mass(0.6) + 0.01


def test_gradient_is_finite_where_relu_gives_zeros() -> None:
    q, k = queries_and_keys(torch.float32)
    assert (affinity(q, k) == 0).sum() > 2 * NUM_ROWS
    q.requires_grad_()
    k.requires_grad_()
    affinity_jsd(q, k, CLASSES, CLASSES).backward()
    assert q.grad is not None
    assert k.grad is not None
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(k.grad).all()
    assert (q.grad != 0).any()


@pytest.mark.parametrize("ids", [CLASSES, SOURCES])
def test_gradient_equals_finite_differences(ids: torch.Tensor) -> None:
    q, k = (x.requires_grad_() for x in queries_and_keys())
    assert torch.autograd.gradcheck(lambda q, k: affinity_jsd(q, k, ids, ids), (q, k), eps=1e-7, atol=1e-5)


def test_descent_on_the_loss_raises_the_mass_on_partners() -> None:
    x = queries_and_keys()[0].requires_grad_()
    same = partners(CLASSES, CLASSES)
    masses = []
    for _ in range(20):
        z = unit(x)
        masses.append((affinity(z, z) * same).sum(-1).mean().item())
        (grad,) = torch.autograd.grad(affinity_jsd(z, z, CLASSES, CLASSES), x)
        x = (x - 3 * grad).detach().requires_grad_()
    assert masses[-1] > masses[0] + 0.2


def test_rows_without_a_partner_are_left_out() -> None:
    q, k = queries_and_keys()
    ids = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5])
    assert has_some_partner(ids).tolist() == [True] * 9 + [False] * 3
    q.requires_grad_()
    loss = affinity_jsd(q, k, ids, ids)
    loss.backward()
    assert loss.item() == pytest.approx(literal_loss(q.detach(), k, ids.tolist()), rel=1e-7)
    assert (q.grad[9:] == 0).all()
    assert (q.grad[:9] != 0).any(-1).all()


def test_a_batch_without_any_partner_has_loss_and_gradient_zero() -> None:
    q, k = queries_and_keys()
    q.requires_grad_()
    loss = affinity_jsd(q, k, torch.arange(NUM_ROWS), torch.arange(NUM_ROWS))
    loss.backward()
    assert loss.item() == 0
    assert (q.grad == 0).all()


def test_dead_rows_stand_at_chance_without_gradient() -> None:
    x = unit(torch.ones(NUM_ROWS, DIM, dtype=torch.float64))
    q = (-x).requires_grad_()
    loss = affinity_jsd(q, x, CLASSES, CLASSES)
    loss.backward()
    assert loss.item() == pytest.approx(jsd_of_mass(3 / 11), abs=1e-7)
    assert (q.grad == 0).all()


@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
@pytest.mark.parametrize("ids", [CLASSES, torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 0])])
def test_shares_of_row_slices_add_up_to_the_whole(ids: torch.Tensor, num_workers: int) -> None:
    q, k = queries_and_keys()
    q[2] = -k.sum(0)
    local = NUM_ROWS // num_workers
    offsets = range(0, NUM_ROWS, local)
    shares = [affinity_jsd(q[o : o + local], k, ids[o : o + local], ids, o) for o in offsets]
    torch.testing.assert_close(torch.stack(shares).sum(), affinity_jsd(q, k, ids, ids))


def test_row_order_does_not_matter() -> None:
    q, k = queries_and_keys()
    order = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(1))
    shuffled = affinity_jsd(q[order], k[order], CLASSES[order], CLASSES[order])
    torch.testing.assert_close(shuffled, affinity_jsd(q, k, CLASSES, CLASSES))


def test_names_of_classes_do_not_matter() -> None:
    q, k = queries_and_keys()
    renamed = torch.tensor([7, 100, -3])[CLASSES]
    torch.testing.assert_close(affinity_jsd(q, k, renamed, renamed), affinity_jsd(q, k, CLASSES, CLASSES))


def test_replicates_do_not_see_each_other() -> None:
    q, k = queries_and_keys()
    ids = torch.stack([CLASSES, SOURCES])
    together = affinity_jsd(torch.stack([q, k]), torch.stack([k, q]), ids, ids)
    torch.testing.assert_close(together[0], affinity_jsd(q, k, CLASSES, CLASSES))
    torch.testing.assert_close(together[1], affinity_jsd(k, q, SOURCES, SOURCES))


def test_target_puts_equal_mass_on_partners() -> None:
    target = target_affinity(partners(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 1])), torch.float64)
    expected = [[0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]
    assert target.tolist() == expected


def test_loss_does_not_drift_with_the_batch_size() -> None:
    """The divergence of chance is what uniform rows cost at every batch size with the same share of partners."""
    for num_rows in (40, 400):
        ids = torch.arange(num_rows) % 4
        x = torch.ones(num_rows, 3, dtype=torch.float64)
        chance = jsd_of_mass((num_rows // 4 - 1) / (num_rows - 1))
        assert float(affinity_jsd(unit(x), unit(x), ids, ids)) == pytest.approx(chance, abs=1e-9)


UNEVEN = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 4, 0])
FORMS = pytest.mark.parametrize("tiled", [False, True])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "BLOCK_ROWS", 5)


def value_and_gradients(
    q: torch.Tensor, k: torch.Tensor, ids: torch.Tensor, rows: slice = slice(0, NUM_ROWS), **options: Any
) -> torch.Tensor:
    """Loss and gradients in one vector; replicates weigh differently."""
    q, k = (x.detach().clone().requires_grad_() for x in (q, k))
    loss = affinity_jsd(q[..., rows, :], k, ids[..., rows], ids, rows.start, **options)
    weights = 1 + torch.arange(loss.numel(), dtype=loss.dtype).view(loss.shape)
    grads = torch.autograd.grad((weights * loss).sum(), (q, k))
    return torch.cat([x.detach().flatten() for x in (loss, *grads)])


@pytest.mark.parametrize("rows", [slice(0, 12), slice(0, 5), slice(7, 12)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_blocks_of_rows_change_neither_value_nor_gradient(
    small_blocks: None, rows: slice, dtype: torch.dtype, tolerance: float
) -> None:
    q, k = queries_and_keys()
    q[8] = -k.sum(0)
    k[:5] = k[:5].abs()
    q[2] = -q[2].abs()
    q, k = torch.stack([q, k, q, k]).unflatten(0, (2, 2)), torch.stack([k, q, k, k]).unflatten(0, (2, 2))
    ids = torch.stack([CLASSES, SOURCES, UNEVEN, CLASSES.flip(0) * 0]).unflatten(0, (2, 2))
    whole = value_and_gradients(q, k, ids, rows, tiled=False)
    blocks = value_and_gradients(q.to(dtype), k.to(dtype), ids, rows, tiled=True)
    assert float((blocks.double() - whole).norm()) <= tolerance * float(whole.norm())


@pytest.mark.parametrize("ids", [CLASSES, SOURCES, UNEVEN])
def test_gradient_of_blocks_equals_finite_differences(small_blocks: None, ids: torch.Tensor) -> None:
    q, k = (x.requires_grad_() for x in queries_and_keys())
    assert torch.autograd.gradcheck(
        lambda q, k: affinity_jsd(q[3:9], k, ids[3:9], ids, 3, tiled=True), (q, k), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("frozen", ["nothing", "queries", "keys", "both"])
def test_what_needs_no_gradient_changes_nothing(small_blocks: None, frozen: str) -> None:
    q, k = queries_and_keys()
    q.requires_grad_(frozen not in ("queries", "both"))
    k.requires_grad_(frozen not in ("keys", "both"))
    whole, blocks = (affinity_jsd(q, k, CLASSES, CLASSES, tiled=tiled) for tiled in (False, True))
    torch.testing.assert_close(blocks, whole)
    assert blocks.requires_grad == (frozen != "both")
    for x in (q, k):
        if x.requires_grad:
            grads = (torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in (whole, blocks))
            torch.testing.assert_close(*grads)


@FORMS
def test_dead_rows_stand_at_chance_without_gradient_in_either_form(small_blocks: None, tiled: bool) -> None:
    x = unit(torch.ones(NUM_ROWS, DIM))
    q, k = (-x).requires_grad_(), x.clone().requires_grad_()
    loss = affinity_jsd(q, k, CLASSES, CLASSES, tiled=tiled)
    loss.backward()
    assert loss.item() == pytest.approx(jsd_of_mass(3 / 11), abs=1e-6)
    assert q.grad is not None
    assert k.grad is not None
    assert (q.grad == 0).all()
    assert (k.grad == 0).all()


@FORMS
def test_rows_at_their_target_have_loss_zero_and_no_gradient_off_their_class(small_blocks: None, tiled: bool) -> None:
    x = torch.eye(3)[CLASSES]
    found = value_and_gradients(x, x, CLASSES, tiled=tiled)
    assert found.isfinite().all()
    assert found[0] == pytest.approx(0, abs=1e-6)


@FORMS
@pytest.mark.parametrize("num_rows", [1, 7])
def test_a_batch_without_partners_has_loss_and_gradient_zero(small_blocks: None, num_rows: int, tiled: bool) -> None:
    q, k = (x[:num_rows] for x in queries_and_keys())
    found = value_and_gradients(q, k, torch.arange(num_rows), slice(0, num_rows), tiled=tiled)
    assert (found == 0).all()


@FORMS
def test_a_batch_of_one_class_asks_for_even_rows(small_blocks: None, tiled: bool) -> None:
    q, k = queries_and_keys()
    one_class = torch.zeros(NUM_ROWS, dtype=torch.long)
    loss = affinity_jsd(q, k, one_class, one_class, tiled=tiled)
    assert float(loss) == pytest.approx(literal_loss(q, k, one_class.tolist()), rel=1e-7)
    x = unit(torch.ones(NUM_ROWS, DIM, dtype=torch.float64))
    assert float(affinity_jsd(x, x, one_class, one_class, tiled=tiled)) == pytest.approx(0, abs=1e-9)


@FORMS
@pytest.mark.parametrize("side", [0, 1])
def test_a_row_that_is_not_a_number_spoils_its_own_replicate_only(small_blocks: None, side: int, tiled: bool) -> None:
    q, k = (torch.stack([x, x, x]) for x in queries_and_keys())
    clean = affinity_jsd(q, k, CLASSES.expand(3, -1), CLASSES.expand(3, -1))
    (q, k)[side][1, 4] = torch.nan
    loss = affinity_jsd(q, k, CLASSES.expand(3, -1), CLASSES.expand(3, -1), tiled=tiled)
    assert loss.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(loss[[0, 2]], clean[[0, 2]])


@FORMS
def test_bfloat16_operands_come_close(small_blocks: None, tiled: bool) -> None:
    q, k = queries_and_keys(torch.float32)
    whole = value_and_gradients(q, k, CLASSES)
    found = value_and_gradients(q, k, CLASSES, product_dtype=torch.bfloat16, tiled=tiled)
    assert found.dtype == torch.float32
    assert 1e-6 < float((found - whole).norm() / whole.norm()) < 2e-2


def test_the_softmax_affinity_has_its_own_divergence() -> None:
    q, k = (x.requires_grad_() for x in queries_and_keys())
    a_NN = affinity(q, k, kind="softmax", temperature=0.3)
    expected = jsd_rows(a_NN, target_affinity(partners(CLASSES, CLASSES), a_NN.dtype)).mean()
    for tiled in (None, True):
        loss = affinity_jsd(q, k, CLASSES, CLASSES, kind="softmax", temperature=0.3, tiled=tiled)
        torch.testing.assert_close(loss, expected)
    assert torch.autograd.gradcheck(lambda q, k: affinity_jsd(q, k, CLASSES, CLASSES, kind="softmax"), (q, k))


def test_rows_with_some_partner_are_found_in_every_replicate() -> None:
    ids = torch.stack([CLASSES, SOURCES.flip(0), UNEVEN, torch.arange(NUM_ROWS) - 5]).unflatten(0, (2, 2))
    expected = [[[row.count(x) > 1 for x in row] for row in pair] for pair in ids.tolist()]
    assert has_some_partner(ids).tolist() == expected
