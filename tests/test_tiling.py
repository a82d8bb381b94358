"""Sums over pairs of rows by tiles equal the same sums over the whole matrix, which they never hold."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from study.recipes.contrastive import tiling
from study.recipes.contrastive.affinity import affinity, off_diagonal, product, unit
from study.recipes.contrastive.losses.affinity_jsd import affinity_jsd
from study.recipes.contrastive.losses.info_nce import info_nce
from study.recipes.contrastive.tiling import logsumexp_rows, mix_values, use_tiles

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
# Local rows, all rows, offset of the first local row.
SHAPES = {"one process": (37, 37, 0), "a worker": (11, 37, 20), "one tile": (4, 4, 0), "whole tiles": (32, 32, 0)}
Tensors = tuple[torch.Tensor, ...]


@pytest.fixture(params=[8, 1024])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(tiling, "TILE", request.param)
    monkeypatch.setattr(tiling, "BLOCK_ROWS", request.param)
    return request.param


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "TILE", 3)
    monkeypatch.setattr(tiling, "BLOCK_ROWS", 2)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def value_and_gradients(function: Callable[..., torch.Tensor], inputs: Tensors) -> Tensors:
    """The function's result and the gradients of a sum of it with fixed unequal weights."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    (value * normal(*value.shape, seed=9, dtype=value.dtype)).sum().backward()
    return (value.detach(), *(x.grad for x in leaves if x.grad is not None))


def assert_same(left: Tensors, right: Tensors, tolerance: float) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert float((a - b).norm()) <= tolerance * float(b.norm())


def whole_logsumexp(q: torch.Tensor, k: torch.Tensor, row_offset: int, inverse_temperature: float) -> torch.Tensor:
    others = off_diagonal(q.shape[-2], k.shape[-2], row_offset, q.device)
    return (q @ k.mT * inverse_temperature).masked_fill(~others, -torch.inf).logsumexp(-1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("inverse_temperature", [2.0, 40.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_log_sum_of_exponentials_equals_the_whole(
    tile: int, dtype: torch.dtype, inverse_temperature: float, shape: str
) -> None:
    num_rows, num_all, offset = SHAPES[shape]
    k = unit(normal(2, 3, num_all, 5, dtype=dtype))
    q = k[..., offset : offset + num_rows, :].clone()
    tiled = value_and_gradients(lambda q, k: logsumexp_rows(q, k, offset, inverse_temperature), (q, k))
    whole = value_and_gradients(lambda q, k: whole_logsumexp(q, k, offset, inverse_temperature), (q, k))
    # Rounded scores of up to 100 move their exponentials by 1e-5.
    assert_same(tiled, whole, TOLERANCE[dtype] * max(1, inverse_temperature / 20))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("inverse_temperature", [0.5, 40.0, 100.0])
def test_rows_against_themselves_may_use_symmetry(tile: int, dtype: torch.dtype, inverse_temperature: float) -> None:
    z = unit(normal(2, 37, 5, dtype=dtype))
    tiled = value_and_gradients(lambda z: logsumexp_rows(z, z, 0, inverse_temperature), (z,))
    whole = value_and_gradients(lambda z: whole_logsumexp(z, z, 0, inverse_temperature), (z,))
    assert_same(tiled, whole, TOLERANCE[dtype] * max(1, inverse_temperature / 20))


def test_rows_without_weight_in_the_result_still_count_in_the_others(small_tiles: None) -> None:
    z = unit(normal(7, 3))
    mask = torch.tensor([1.0, 0, 1, 0, 0, 1, 0], dtype=z.dtype)
    tiled = value_and_gradients(lambda z: logsumexp_rows(z, z, 0, 2.0) * mask, (z,))
    assert_same(tiled, value_and_gradients(lambda z: whole_logsumexp(z, z, 0, 2.0) * mask, (z,)), 1e-10)


@pytest.mark.parametrize("inverse_temperature", [2.0, 100.0])
def test_the_only_row_has_no_sum_and_no_gradient(inverse_temperature: float) -> None:
    z = unit(normal(1, 3)).requires_grad_()
    value = logsumexp_rows(z, z, 0, inverse_temperature)
    assert value.tolist() == [-torch.inf]
    value.masked_fill(torch.tensor([True]), 0).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_values_equal_affinity_times_values(tile: int, dtype: torch.dtype, shape: str) -> None:
    num_rows, num_all, offset = SHAPES[shape]
    k, v = unit(normal(2, 3, num_all, 5, dtype=dtype)), normal(2, 3, num_all, 4, seed=1, dtype=dtype)
    q = unit(normal(2, 3, num_rows, 5, seed=2, dtype=dtype))
    q[1, 0, 2] = -k[1, 0].sum(0)
    k[0, 1] = k[0, 1].abs()
    q[0, 1, 0] = -1
    tiled = value_and_gradients(lambda q, k, v: mix_values(q, k, v, offset), (q, k, v))
    whole = value_and_gradients(lambda q, k, v: affinity(q, k, offset) @ v, (q, k, v))
    assert (whole[0][0, 1, 0] == 0).all(), "one row is dead"
    assert_same(tiled, whole, TOLERANCE[dtype])


def to_bfloat16(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def test_every_operand_is_rounded_to_bfloat16_and_nothing_else_is(small_tiles: None) -> None:
    q, k, v, g = (normal(1, 7, 4, seed=seed, dtype=torch.float32) for seed in range(4))
    rq, rk, rv = (to_bfloat16(x) for x in (q, k, v))
    scores = (rq @ rk.mT).relu() * off_diagonal(7, 7, 0, q.device)
    total = scores.sum(-1, keepdim=True)
    mixed = to_bfloat16(scores) @ rv / total
    rg = to_bfloat16(g / total)
    slope = to_bfloat16((rg @ rv.mT - (g / total * mixed).sum(-1, keepdim=True)) * (scores > 0))
    expected = mixed, slope @ rk, slope.mT @ rq, to_bfloat16(scores).mT @ rg

    leaves = [x.requires_grad_() for x in (q, k, v)]
    found = mix_values(q, k, v, 0, torch.bfloat16)
    assert_same((found.detach(), *torch.autograd.grad(found, leaves, g)), expected, 2e-4)

    z = unit(q.detach()).requires_grad_()
    rz = to_bfloat16(z.detach())
    weight = (2 * rz @ rz.mT).exp() * off_diagonal(7, 7, 0, q.device)
    total = weight.sum(-1)
    pull = to_bfloat16(weight * (1 / total[0, :, None] + 1 / total))
    found = logsumexp_rows(z, z, 0, 2.0, torch.bfloat16)
    assert_same((found.detach(), *torch.autograd.grad(found.sum(), z)), (total.log(), 2 * pull @ rz), 2e-4)


@pytest.mark.parametrize("offset", [0, 2])
def test_gradients_equal_finite_differences(small_tiles: None, offset: int) -> None:
    q, k, v = (x.requires_grad_() for x in (unit(normal(2, 4, 3, seed=3)), unit(normal(2, 7, 3)), normal(2, 7, 2)))
    assert torch.autograd.gradcheck(lambda q, k, v: mix_values(q, k, v, offset), (q, k, v))
    assert torch.autograd.gradcheck(lambda q, k: logsumexp_rows(q, k, offset, 3.0), (q, k))
    assert torch.autograd.gradcheck(lambda k: logsumexp_rows(k, k, 0, 3.0), (k,))


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation made."""

    num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, torch.Tensor):
                self.num_elements = max(self.num_elements, x.numel())
        return out


def largest_tensor(name: str, num_rows: int) -> int:
    x = normal(num_rows, 6).requires_grad_()
    ids = torch.arange(num_rows) % (num_rows // 2)
    with LargestTensor() as seen:
        if name == "info_nce":
            loss = info_nce(x, x, ids, ids, tiled=True)
        elif name == "affinity_jsd":
            loss = affinity_jsd(unit(x), unit(x), ids % 3, ids % 3, tiled=True)
        else:
            loss = mix_values(unit(x), unit(x), x).square().sum()
        loss.backward()
    return seen.num_elements


@pytest.mark.parametrize("name", ["info_nce", "affinity_jsd", "mix_values"])
def test_no_tensor_grows_with_the_square_of_the_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "TILE", 16)
    monkeypatch.setattr(tiling, "BLOCK_ROWS", 8)
    small, large = largest_tensor(name, 120), largest_tensor(name, 240)
    assert large == 2 * small
    assert large <= 8 * 240


def test_small_matrices_are_formed_whole_whatever_the_number_of_replicates() -> None:
    assert not use_tiles(512, 512)
    assert use_tiles(512, 513)
    assert use_tiles(4, 4, tiled=True)
    assert not use_tiles(9999, 9999, tiled=False)


@pytest.mark.gpu
@pytest.mark.parametrize("product_dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("offset", [0, 100])
def test_a_gpu_gives_the_numbers_of_the_cpu(product_dtype: torch.dtype | None, offset: int) -> None:
    """Sums of the same rounded operands: only the order of summation differs."""
    x, v = normal(2, 1500, 16, dtype=torch.float32), normal(2, 1500, 16, seed=1, dtype=torch.float32)
    rows = slice(offset, offset + 1200) if offset else slice(0, 1500)
    ids = (torch.arange(1500) % 7).expand(2, -1)

    def all_three(x: torch.Tensor, v: torch.Tensor, tiled: bool) -> torch.Tensor:
        z, i = unit(x), ids.to(x.device)
        some = z if not offset else z[:, rows]
        options = {"product_dtype": product_dtype, "tiled": tiled}
        nce = info_nce(some, z, i[:, rows], i, offset, **options)
        jsd = affinity_jsd(some, unit(v), i[:, rows], i, offset, **options)
        if tiled:
            mixed = mix_values(some, unit(v), v, offset, product_dtype)
        else:
            mixed = product(affinity(some, unit(v), offset, product_dtype=product_dtype), v, product_dtype)
        return nce + jsd + (mixed * v[:, rows]).sum((-2, -1))

    for tiled in (False, True):
        on_cpu = value_and_gradients(lambda x, v, t=tiled: all_three(x, v, t), (x, v))
        on_gpu = value_and_gradients(lambda x, v, t=tiled: all_three(x, v, t).cpu(), (x.cuda(), v.cuda()))
        assert_same(tuple(part.cpu() for part in on_gpu), on_cpu, 1e-4 if product_dtype is None else 1e-2)
