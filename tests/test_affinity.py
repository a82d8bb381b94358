"""The affinity is ReLU of inner products, without self, normalised by row, whatever slice asks for it."""

import math

import pytest
import torch

from study.recipes.contrastive.affinity import (
    AffinityKind,
    affinity,
    id_ranges,
    is_dead,
    off_diagonal,
    partners,
    product,
    unit,
    with_dead_rows_uniform,
)


def literal_affinity(q_ND: torch.Tensor, k_ND: torch.Tensor) -> torch.Tensor:
    num_rows = len(q_ND)
    rows = []
    for i in range(num_rows):
        scores = [0.0 if j == i else max(float(q_ND[i] @ k_ND[j]), 0.0) for j in range(num_rows)]
        total = sum(scores)
        rows.append([score / total if total > 0 else 0.0 for score in scores])
    return torch.tensor(rows, dtype=q_ND.dtype)


@pytest.fixture
def queries() -> torch.Tensor:
    return unit(torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


@pytest.fixture
def keys() -> torch.Tensor:
    return unit(torch.randn(9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


def test_affinity_equals_a_literal_loop(queries: torch.Tensor, keys: torch.Tensor) -> None:
    torch.testing.assert_close(affinity(queries, keys), literal_affinity(queries, keys), atol=1e-9, rtol=1e-8)


def test_rows_sum_to_one_and_leave_themselves_out(queries: torch.Tensor, keys: torch.Tensor) -> None:
    a_NN = affinity(queries, keys)
    torch.testing.assert_close(a_NN.sum(-1), torch.ones(9, dtype=a_NN.dtype), atol=1e-8, rtol=0)
    assert (a_NN.diagonal() == 0).all()
    assert (a_NN >= 0).all()


def test_row_order_does_not_matter(queries: torch.Tensor, keys: torch.Tensor) -> None:
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(affinity(queries[order], keys[order]), affinity(queries, keys)[order][:, order])


def test_scale_of_a_key_set_does_not_matter(queries: torch.Tensor, keys: torch.Tensor) -> None:
    torch.testing.assert_close(affinity(queries, 7 * keys), affinity(queries, keys), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("row_offset", [0, 3, 6])
def test_slices_equal_rows_of_the_whole(queries: torch.Tensor, keys: torch.Tensor, row_offset: int) -> None:
    rows = slice(row_offset, row_offset + 3)
    torch.testing.assert_close(affinity(queries[rows], keys, row_offset), affinity(queries, keys)[rows])


def test_leading_dimensions_are_independent_batches(queries: torch.Tensor, keys: torch.Tensor) -> None:
    q = torch.stack([queries, keys]).expand(3, 2, 9, 5)
    k = torch.stack([keys, queries]).expand(3, 2, 9, 5)
    together = affinity(q, k)
    assert together.shape == (3, 2, 9, 9)
    torch.testing.assert_close(together[1, 0], affinity(queries, keys))
    torch.testing.assert_close(together[2, 1], affinity(keys, queries))


def test_dead_rows_are_zero_and_count_as_uniform() -> None:
    x_ND = unit(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.3], [-1.0, -1.0]]))
    a_NN = affinity(x_ND, x_ND)
    assert is_dead(a_NN).tolist() == [False, False, False, True]
    assert (a_NN[3] == 0).all()
    filled = with_dead_rows_uniform(a_NN)
    torch.testing.assert_close(filled[3], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))
    assert torch.equal(filled[:3], a_NN[:3])


def test_dead_rows_of_a_slice_leave_out_their_own_global_column() -> None:
    filled = with_dead_rows_uniform(torch.zeros(2, 5), row_offset=3)
    quarter = 1 / 4
    expected = [[quarter, quarter, quarter, 0, quarter], [quarter, quarter, quarter, quarter, 0]]
    torch.testing.assert_close(filled, torch.tensor(expected))


def test_unit_rows_have_norm_one_and_zero_stays_zero() -> None:
    x_ND = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(x_ND, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_off_diagonal_knows_the_global_index() -> None:
    mask = off_diagonal(2, 4, 1, torch.device("cpu"))
    assert mask.tolist() == [[True, False, True, True], [True, True, False, True]]


def test_partners_equal_a_literal_loop() -> None:
    ids = torch.tensor([[0, 1, 0, 2, 1, 0], [3, 3, 3, 1, 2, 1]])
    expected = [[[i != j and row[i] == row[j] for j in range(6)] for i in range(6)] for row in ids.tolist()]
    assert partners(ids, ids).tolist() == expected
    assert partners(ids[:, 2:4], ids, row_offset=2).tolist() == [rows[2:4] for rows in expected]


def test_softmax_equals_a_literal_loop(queries: torch.Tensor, keys: torch.Tensor) -> None:
    found = affinity(queries[3:6], keys, 3, kind="softmax", temperature=0.2)
    for i in range(3, 6):
        weights = [0.0 if j == i else math.exp(float(queries[i] @ keys[j]) / 0.2) for j in range(9)]
        assert found[i - 3].tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-12)


def test_softmax_of_a_low_temperature_is_the_nearest_row_and_of_a_high_one_uniform(queries: torch.Tensor) -> None:
    nearest = (queries @ queries.T).fill_diagonal_(-2).argmax(-1)
    cold, hot = (affinity(queries, queries, kind="softmax", temperature=t) for t in (1e-6, 1e6))
    torch.testing.assert_close(cold, torch.nn.functional.one_hot(nearest, 9).double())
    torch.testing.assert_close(hot, (1 - torch.eye(9, dtype=hot.dtype)) / 8, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["relu", "softmax"])
def test_the_only_row_of_a_batch_is_dead_and_stays_zero(queries: torch.Tensor, kind: AffinityKind) -> None:
    only = affinity(queries[:1], queries[:1], kind=kind)
    assert only.tolist() == [[0.0]]
    assert with_dead_rows_uniform(only).tolist() == [[0.0]]


def test_an_unknown_kind_and_a_temperature_of_zero_are_refused(queries: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="kind must be 'relu' or 'softmax', but is 'cosine'"):
        affinity(queries, queries, kind="cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature must be positive, but is 0"):
        affinity(queries, queries, kind="softmax", temperature=0)


def test_bfloat16_operands_are_rounded_and_their_products_are_not() -> None:
    """16 x 16 + 1 needs nine bits, one more than bfloat16 has; 1 + 2^-10 does not survive rounding."""
    a = torch.tensor([[16.0, 1.0, 0.0], [0.0, 0.0, 1 + 2**-10]])
    found = product(a, a.T, torch.bfloat16)
    assert found.dtype == torch.float32
    assert found.tolist() == [[257, 0], [0, 1]]
    assert product(a, a.T)[1, 1] == (1 + 2**-10) ** 2


def test_gradients_of_bfloat16_products_are_rounded_products() -> None:
    a, b, g = (torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(s)) for s in range(3))
    a.requires_grad_()
    b.requires_grad_()
    product(a, b, torch.bfloat16).backward(g)
    ra, rb, rg = (x.detach().bfloat16().float() for x in (a, b, g))
    torch.testing.assert_close(a.grad, rg @ rb.mT)
    torch.testing.assert_close(b.grad, ra.mT @ rg)


def test_other_product_types_are_refused(queries: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"None or torch\.bfloat16"):
        affinity(queries, queries, product_dtype=torch.float16)


def test_ids_are_ranges_of_the_sorted_ids() -> None:
    ids = torch.tensor([[0, 1, 0, 2, 1, 0], [3, 3, 3, 1, 2, 1]])
    first, end = id_ranges(ids[:, 2:5], ids)
    assert first.tolist() == [[0, 5, 3], [3, 0, 2]]
    assert end.tolist() == [[3, 6, 5], [6, 2, 3]]
