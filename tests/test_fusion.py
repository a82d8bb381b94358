"""The fusion head equals a per-row numpy version, and the members of a pack do not see each other."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from study.recipes.contrastive import tiling
from study.recipes.contrastive.affinity import affinity
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.models import fusion
from study.recipes.contrastive.models.fusion import FusionBlock, PackedLayerNorm, TransFusion
from study.recipes.contrastive.models.packed import PackedLinear

Array = NDArray[np.float64]
DIM, NUM_ROWS = 6, 10


def head(seeds: Sequence[int], **options: Any) -> TransFusion:
    model = TransFusion(DIM, [stream(seed, "initialisation") for seed in seeds], **options).double()
    noise = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, PackedLayerNorm):
            # Gains of 1 and biases of 0 would hide a mistake in either.
            per_member = [1 + 0.1 * torch.randn(1, DIM, generator=noise, dtype=torch.float64) for _ in range(2)]
            with torch.no_grad():
                module.gain_R1D.copy_(per_member[0].expand_as(module.gain_R1D))
                module.bias_R1D.copy_((per_member[1] - 1).expand_as(module.bias_R1D))
    return model


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(NUM_ROWS, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_row(x: Array) -> Array:
    return x / np.sqrt((x**2).sum())


def literal_head(model: TransFusion, x: Array) -> Array:
    """The affinity of the last block, one row at a time, for the first replicate."""
    for block in model.blocks:
        assert isinstance(block, FusionBlock)
        weights = [
            None if p is None else p.weight_RIO[0].detach().numpy() for p in (block.query, block.key, block.value)
        ]
        h = x
        if block.norm is not None:
            gain, bias = block.norm.gain_R1D[0, 0].detach().numpy(), block.norm.bias_R1D[0, 0].detach().numpy()
            h = np.stack([(row - row.mean()) / np.sqrt(row.var() + 1e-5) * gain + bias for row in x])
        a = np.zeros((len(x), len(x)))
        for i, j in itertools.permutations(range(len(x)), 2):
            a[i, j] = max(unit_row(h[i] @ weights[0]) @ unit_row(h[j] @ weights[1]), 0)
        a = np.stack([row / row.sum() if row.sum() > 0 else row for row in a])
        if block.value is None:
            return a
        mixed = np.stack([sum(a[i, j] * (h[j] @ weights[2]) for j in range(len(x))) for i in range(len(x))])
        x = mixed + x if block.residual else mixed
    raise AssertionError("the last block returns")


@pytest.mark.parametrize("num_blocks", [1, 2, 3])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("identity_init", [True, False])
def test_head_equals_a_literal_version(num_blocks: int, residual: bool, layer_norm: bool, identity_init: bool) -> None:
    model = head([5], num_blocks=num_blocks, residual=residual, layer_norm=layer_norm, identity_init=identity_init)
    x_ND = rows()
    a_NN = affinity(*model(x_ND[None]))[0]
    expected = torch.from_numpy(literal_head(model, x_ND.numpy()))
    torch.testing.assert_close(a_NN, expected, atol=1e-8, rtol=1e-7)


def test_identity_weights_of_one_block_give_the_cosines_of_the_rows() -> None:
    x_ND = rows()
    q, k = head([5], num_blocks=1, identity_init=True)(x_ND[None])
    cosine = torch.nn.functional.cosine_similarity(x_ND[:, None], x_ND[None], dim=-1)
    torch.testing.assert_close((q @ k.mT)[0], cosine)


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"num_blocks": 3, "residual": False}])
def test_a_pack_gives_each_replicate_its_own_result(options: dict[str, bool | int]) -> None:
    seeds = [5, 6, 7]
    x_RND = torch.stack([rows(seed) for seed in seeds])
    together = affinity(*head(seeds, **options)(x_RND))
    for index, seed in enumerate(seeds):
        torch.testing.assert_close(together[index], affinity(*head([seed], **options)(x_RND[index : index + 1]))[0])


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}])
def test_batches_of_one_replicate_do_not_see_each_other(options: dict[str, bool | int]) -> None:
    model = head([5, 6], **options)
    x_RND = torch.stack([torch.stack([rows(0), rows(1), rows(2)])] * 2)
    together = affinity(*model(x_RND))
    assert together.shape == (2, 3, NUM_ROWS, NUM_ROWS)
    for batch in range(3):
        torch.testing.assert_close(together[:, batch], affinity(*model(x_RND[:, batch])))


def test_row_order_does_not_matter() -> None:
    model, x_ND = head([5], num_blocks=3), rows()
    order = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(2))
    straight, shuffled = (affinity(*model(x[None]))[0] for x in (x_ND, x_ND[order]))
    torch.testing.assert_close(shuffled, straight[order][:, order])


@pytest.mark.parametrize("num_workers", [2, 5])
def test_workers_that_gather_get_their_rows_of_the_whole(num_workers: int) -> None:
    """A gather that returns what all workers computed in one process makes the slices add up to the whole."""
    model, x_ND = head([5], num_blocks=2), rows()
    seen: list[torch.Tensor] = []
    whole_q, whole_k = model(x_ND[None], gather=lambda local: seen.append(local) or local)
    local = NUM_ROWS // num_workers
    for rank in range(num_workers):
        replay = iter(seen)
        offset = rank * local
        q, k = model(x_ND[None, offset : offset + local], lambda mine, r=replay: next(r), offset)
        torch.testing.assert_close(q, whole_q[:, offset : offset + local])
        torch.testing.assert_close(k, whole_k)


def test_packed_linear_equals_torch_linear_per_replicate() -> None:
    layer = PackedLinear(4, 3, [stream(seed, "x") for seed in (0, 1)], bias=True)
    with torch.no_grad():
        layer.bias_R1O.copy_(torch.arange(6.0).view(2, 1, 3))
    x = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(0))
    for r in range(2):
        expected = torch.nn.functional.linear(x[r], layer.weight_RIO[r].T, layer.bias_R1O[r, 0])
        torch.testing.assert_close(layer(x)[r], expected)


def outputs_and_gradients(model: TransFusion, x: torch.Tensor) -> torch.Tensor:
    """(q, k) and the gradients of the input and all weights, for an arbitrary weighting of q and k, in one vector."""
    x = x.clone().requires_grad_()
    q, k = model(x)
    noise = torch.Generator().manual_seed(7)
    weights = torch.randn(2, *q.shape, generator=noise, dtype=torch.float64).to(q.dtype)
    grads = torch.autograd.grad((weights * torch.stack([q, k])).sum(), [x, *model.parameters()])
    return torch.cat([part.detach().flatten() for part in (q, k, *grads)])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"residual": False}])
def test_tiles_change_neither_outputs_nor_gradients(
    options: dict[str, bool], dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "TILE", 4)
    x_RBND = torch.stack([rows(0), rows(1), rows(2), rows(3)]).unflatten(0, (2, 2))
    whole = outputs_and_gradients(head([5, 6], num_blocks=3, tiled=False, **options), x_RBND)
    model = head([5, 6], num_blocks=3, tiled=True, **options).to(dtype)
    tiled = outputs_and_gradients(model, x_RBND.to(dtype)).double()
    assert float((tiled - whole).norm()) <= tolerance * float(whole.norm())


def test_large_batches_are_worked_off_in_tiles_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *options: Any) -> torch.Tensor:
        seen.append(q.shape[-2])
        return tiling.mix_values(q, k, v, *options)

    monkeypatch.setattr(fusion, "mix_values", spy)
    monkeypatch.setattr(tiling, "LARGEST_WHOLE", 8 * 8)
    for num_rows in (8, 9):
        head([5, 6, 7])(rows()[:num_rows].expand(3, -1, -1))
    assert seen == [9]


@pytest.mark.parametrize("tiled", [False, True])
def test_a_dead_row_mixes_nothing_in(tiled: bool) -> None:
    model = head([5], identity_init=True, residual=False, tiled=tiled)
    x_ND = rows().abs()
    x_ND[3] *= -1
    block = model.blocks[0]
    assert isinstance(block, FusionBlock)
    assert (block(x_ND[None])[0, 3] == 0).all()


def test_softmax_mixes_by_softmax() -> None:
    model = head([5], num_blocks=2, residual=False, identity_init=True, affinity_kind="softmax", temperature=0.2)
    x_ND = rows()
    cosine = torch.nn.functional.cosine_similarity(x_ND[:, None], x_ND[None], dim=-1)
    expected = torch.softmax((cosine / 0.2).fill_diagonal_(-torch.inf), -1) @ x_ND
    torch.testing.assert_close(model(x_ND[None])[0][0], torch.nn.functional.normalize(expected, dim=-1))


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("kind", ["relu", "softmax"])
def test_bfloat16_operands_come_close(kind: str, tiled: bool) -> None:
    x = rows()[None].float()
    exact = outputs_and_gradients(head([5], affinity_kind=kind).float(), x)
    model = head([5], affinity_kind=kind, product_dtype=torch.bfloat16, tiled=tiled).float()
    found = outputs_and_gradients(model, x)
    assert found.dtype == torch.float32
    assert 1e-6 < float((found - exact).norm() / exact.norm()) < 2e-2
