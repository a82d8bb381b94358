"""Sums over all pairs of rows, tile by tile: forward and backward in memory linear in the batch.

A tile of scores is small enough to stay in the cache while it is used and is computed anew in the backward pass.

Shape suffixes: R replicates (any leading dimensions), B local rows, N rows of the global batch, D embedding
dimensions, MN a tile. ``row_offset`` is the global index of the first local row.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from study.recipes.contrastive.affinity import EPS, rounded

# Rows and columns of a tile: 16 MiB of float32. Smaller ones are no faster, and two threads that share their cores with
# other processes wait for each other after every operation.
TILE = 2048
# Rows of a block that spans all columns, for what needs whole rows: 2 KiB of float32 per row of the global batch.
BLOCK_ROWS = 512
# Score matrices of one replicate up to this size are formed whole: below, a tile's bookkeeping costs more.
LARGEST_WHOLE = 2**18
# exp of scores within this bound, and sums of them, stay inside float32 without a shift.
LARGEST_UNSHIFTED = 40.0

_LOG2_E = math.log2(math.e)


def use_tiles(num_rows: int, num_all: int, tiled: bool | None = None) -> bool:
    """Whether to work by tiles: what ``tiled`` says or, where it is None, whether one replicate's scores are many."""
    return num_rows * num_all > LARGEST_WHOLE if tiled is None else tiled


def multiply_into(
    out_MN: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, scale: float = 1.0, add: bool = False
) -> torch.Tensor:
    """``out = scale a b``, or with ``add`` ``out += scale a b``; sums in the type of ``out``, operands ``rounded``."""
    if a.dtype == out_MN.dtype:
        return out_MN.addmm_(a, b, beta=int(add), alpha=scale)
    summed_MN = torch.mm(a, b, out_dtype=torch.float32)
    return out_MN.add_(summed_MN, alpha=scale) if add else torch.mul(summed_MN, scale, out=out_MN)


def slices(length: int, size: int) -> list[slice]:
    """Consecutive slices of ``size``, the last one shorter."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def row_blocks(num_rows: int) -> list[slice]:
    """Blocks of rows that span all columns."""
    return slices(num_rows, BLOCK_ROWS)


def block_buffer(like: torch.Tensor, num_rows: int, num_all: int) -> torch.Tensor:
    """Uninitialised memory that all blocks share."""
    return like.new_empty(min(BLOCK_ROWS, num_rows) * num_all)


def view_of(buffer: torch.Tensor, num_rows: int, num_columns: int) -> torch.Tensor:
    """The start of a buffer as a contiguous matrix."""
    return buffer[: num_rows * num_columns].view(num_rows, num_columns)


def own_entries(tile_MN: torch.Tensor, rows: slice, columns: slice, row_offset: int) -> torch.Tensor:
    """A view of the entries of a tile where a row meets itself; it may be empty."""
    return tile_MN.diagonal(row_offset + rows.start - columns.start)


def _tile_buffer(like: torch.Tensor, num_rows: int, num_all: int) -> torch.Tensor:
    return like.new_empty(min(TILE, num_rows) * min(TILE, num_all))


def logsumexp_rows(
    rows_RBD: torch.Tensor,
    all_RND: torch.Tensor,
    row_offset: int,
    inverse_temperature: float,
    product_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """log sum over all j other than the row itself of exp(inverse_temperature <row, all_j>); (R, B).

    Rows must be of norm 1 (or 0). Where ``rows_RBD`` is ``all_RND``, the scores are symmetric and every pair is taken
    once; a low temperature, whose exponentials would need a shift, takes whole rows and their true maximum instead.
    The only row of a batch gets -inf and no gradient. ``product_dtype`` as in ``affinity.product``.
    """
    flat_RND = all_RND.reshape(-1, *all_RND.shape[-2:])
    if rows_RBD is all_RND and inverse_temperature <= LARGEST_UNSHIFTED:
        logsumexp_RB = _SymmetricLogSumExp.apply(flat_RND, inverse_temperature, product_dtype)
    else:
        rows_flat_RBD = rows_RBD.reshape(-1, *rows_RBD.shape[-2:])
        logsumexp_RB = _LogSumExp.apply(rows_flat_RBD, flat_RND, row_offset, inverse_temperature, product_dtype)
    return logsumexp_RB.reshape(rows_RBD.shape[:-1])


def _exponential_tiles(
    z_ND: torch.Tensor, inverse_temperature: float, buffer: torch.Tensor
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Rows, columns and exp(scores) of every tile on or above the diagonal; own entries are 0.

    Powers of 2, because torch's exp2 takes a third of the time of its exp on a CPU. At least eight tiles a side where
    they are not too small for it: those on the diagonal are computed whole.
    """
    parts = slices(len(z_ND), min(TILE, max(len(z_ND) // 8, 256)))
    for index, rows in enumerate(parts):
        for columns in parts[index:]:
            tile_MN = view_of(buffer, rows.stop - rows.start, columns.stop - columns.start)
            multiply_into(tile_MN, z_ND[rows], z_ND[columns].T, scale=inverse_temperature * _LOG2_E).exp2_()
            own_entries(tile_MN, rows, columns, 0).zero_()
            yield rows, columns, tile_MN


class _SymmetricLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z_RND: torch.Tensor, inverse_temperature: float, product_dtype: torch.dtype | None
    ) -> torch.Tensor:
        total_RN = z_RND.new_zeros(z_RND.shape[:-1])
        buffer = _tile_buffer(z_RND, *total_RN.shape[-1:] * 2)
        for z_ND, total_N in zip(rounded(z_RND, product_dtype), total_RN, strict=True):
            for rows, columns, tile_MN in _exponential_tiles(z_ND, inverse_temperature, buffer):
                total_N[rows] += tile_MN.sum(1)
                if rows != columns:
                    total_N[columns] += tile_MN.sum(0)
        ctx.save_for_backward(z_RND, total_RN)
        ctx.options = inverse_temperature, product_dtype
        return total_RN.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RN: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Each pair pulls both of its rows: the weight of z_j in the gradient of z_i is exp(s_ij) (w_i + w_j)."""
        z_RND, total_RN = ctx.saved_tensors
        inverse_temperature, product_dtype = ctx.options
        weight_RN = torch.where(grad_RN == 0, 0.0, grad_RN / total_RN)
        grad_RND = torch.zeros_like(z_RND)
        buffer, pair_buffer = (_tile_buffer(z_RND, *total_RN.shape[-1:] * 2) for _ in range(2))
        for z_ND, weight_N, grad_ND in zip(rounded(z_RND, product_dtype), weight_RN, grad_RND, strict=True):
            for rows, columns, tile_MN in _exponential_tiles(z_ND, inverse_temperature, buffer):
                pair_MN = view_of(pair_buffer, *tile_MN.shape)
                torch.add(weight_N[rows, None], weight_N[columns], out=pair_MN)
                pull_MN = rounded(tile_MN.mul_(pair_MN), product_dtype)
                multiply_into(grad_ND[rows], pull_MN, z_ND[columns], scale=inverse_temperature, add=True)
                if rows != columns:
                    multiply_into(grad_ND[columns], pull_MN.T, z_ND[rows], scale=inverse_temperature, add=True)
        return grad_RND, None, None


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_RBD: torch.Tensor,
        k_RND: torch.Tensor,
        row_offset: int,
        inverse_temperature: float,
        product_dtype: torch.dtype | None,
    ) -> torch.Tensor:
        """The sums are of powers of 2: what is saved for the backward pass is a logarithm to the base 2."""
        log2_RB = q_RBD.new_empty(q_RBD.shape[:-1])
        ctx.options = row_offset, inverse_temperature, product_dtype
        q_op, k_op = rounded(q_RBD, product_dtype), rounded(k_RND, product_dtype)
        for r, rows, block_MN in _log2_blocks(q_op, k_op, log2_RB, ctx):
            peak_M = block_MN.amax(1).clamp_min(torch.finfo(log2_RB.dtype).min)
            log2_RB[r, rows] = block_MN.sub_(peak_M[:, None]).exp2_().sum(1).log2_() + peak_M
        ctx.save_for_backward(q_RBD, k_RND, log2_RB)
        return log2_RB / _LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RB: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        q_RBD, k_RND, log2_RB = ctx.saved_tensors
        _, inverse_temperature, product_dtype = ctx.options
        q_op, k_op = rounded(q_RBD, product_dtype), rounded(k_RND, product_dtype)
        log2_RB = log2_RB.masked_fill(grad_RB == 0, math.inf)
        grad_q, grad_k = torch.zeros_like(q_RBD), torch.zeros_like(k_RND)
        for r, rows, block_MN in _log2_blocks(q_op, k_op, log2_RB, ctx):
            block_MN.sub_(log2_RB[r, rows, None]).exp2_().mul_(grad_RB[r, rows, None])
            pull_MN = rounded(block_MN, product_dtype)
            multiply_into(grad_q[r, rows], pull_MN, k_op[r], scale=inverse_temperature)
            multiply_into(grad_k[r], pull_MN.T, q_op[r, rows], scale=inverse_temperature, add=True)
        return grad_q, grad_k, None, None, None


def _log2_blocks(
    q_RBD: torch.Tensor, k_RND: torch.Tensor, scores_like: torch.Tensor, ctx: Any
) -> Iterator[tuple[int, slice, torch.Tensor]]:
    """Replicate, rows and scores, in powers of 2, of blocks of whole rows; own entries are -inf."""
    row_offset, inverse_temperature, _ = ctx.options
    num_all = k_RND.shape[-2]
    buffer = block_buffer(scores_like, q_RBD.shape[-2], num_all)
    for r in range(len(q_RBD)):
        for rows in row_blocks(q_RBD.shape[-2]):
            block_MN = view_of(buffer, rows.stop - rows.start, num_all)
            multiply_into(block_MN, q_RBD[r, rows], k_RND[r].T, scale=inverse_temperature * _LOG2_E)
            own_entries(block_MN, rows, slice(0, num_all), row_offset).fill_(-math.inf)
            yield r, rows, block_MN


def mix_values(
    q_RBD: torch.Tensor,
    k_RND: torch.Tensor,
    v_RND: torch.Tensor,
    row_offset: int = 0,
    product_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """``affinity(q, k, row_offset) @ v`` for the ReLU affinity, which is never stored: (R, B, D).

    ``product_dtype`` as in ``study.recipes.contrastive.affinity.product``.
    """
    flat = (x.reshape(-1, *x.shape[-2:]) for x in (q_RBD, k_RND, v_RND))
    mixed_RBD = _MixValues.apply(*flat, row_offset, product_dtype)
    return mixed_RBD.reshape(*q_RBD.shape[:-1], v_RND.shape[-1])


def _relu_tiles(
    q_BD: torch.Tensor, k_ND: torch.Tensor, row_offset: int, buffer: torch.Tensor
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Rows, columns and ReLU of the scores of every tile; own entries are 0."""
    for rows in slices(len(q_BD), TILE):
        for columns in slices(len(k_ND), TILE):
            tile_MN = view_of(buffer, rows.stop - rows.start, columns.stop - columns.start)
            multiply_into(tile_MN, q_BD[rows], k_ND[columns].T).relu_()
            own_entries(tile_MN, rows, columns, row_offset).zero_()
            yield rows, columns, tile_MN


class _MixValues(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_RBD: torch.Tensor,
        k_RND: torch.Tensor,
        v_RND: torch.Tensor,
        row_offset: int,
        product_dtype: torch.dtype | None,
    ) -> torch.Tensor:
        total_RB = q_RBD.new_full(q_RBD.shape[:-1], EPS)
        mixed_RBD = q_RBD.new_zeros(*q_RBD.shape[:-1], v_RND.shape[-1])
        buffer = _tile_buffer(q_RBD, q_RBD.shape[-2], k_RND.shape[-2])
        q_op, k_op, v_op = (rounded(x, product_dtype) for x in (q_RBD, k_RND, v_RND))
        for r in range(len(q_RBD)):
            for rows, columns, tile_MN in _relu_tiles(q_op[r], k_op[r], row_offset, buffer):
                total_RB[r, rows] += tile_MN.sum(1)
                multiply_into(mixed_RBD[r, rows], rounded(tile_MN, product_dtype), v_op[r, columns], add=True)
        mixed_RBD /= total_RB[..., None]
        ctx.save_for_backward(q_RBD, k_RND, v_RND, total_RB, mixed_RBD)
        ctx.options = row_offset, product_dtype
        return mixed_RBD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RBD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        """With g = grad / sum of the row, the gradient of a positive score is <g_i, v_j> - <g_i, mixed_i>."""
        q_RBD, k_RND, v_RND, total_RB, mixed_RBD = ctx.saved_tensors
        row_offset, product_dtype = ctx.options
        g_RBD = grad_RBD / total_RB[..., None]
        level_RB = (g_RBD * mixed_RBD).sum(-1)
        q_op, k_op, v_op, g_op = (rounded(x, product_dtype) for x in (q_RBD, k_RND, v_RND, g_RBD))
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q_RBD, k_RND, v_RND))
        buffer, slope_buffer = (_tile_buffer(q_RBD, q_RBD.shape[-2], k_RND.shape[-2]) for _ in range(2))
        for r in range(len(q_RBD)):
            for rows, columns, tile_MN in _relu_tiles(q_op[r], k_op[r], row_offset, buffer):
                multiply_into(grad_v[r, columns], rounded(tile_MN, product_dtype).T, g_op[r, rows], add=True)
                slope_MN = view_of(slope_buffer, *tile_MN.shape)
                multiply_into(slope_MN, g_op[r, rows], v_op[r, columns].T).sub_(level_RB[r, rows, None])
                slope_op = rounded(slope_MN.mul_(tile_MN.gt_(0)), product_dtype)
                multiply_into(grad_q[r, rows], slope_op, k_op[r, columns], add=True)
                multiply_into(grad_k[r, columns], slope_op.T, q_op[r, rows], add=True)
        return grad_q, grad_k, grad_v, None, None
