"""The affinity of a batch in its literal form, and the target it is trained towards.

Shape suffixes: R replicates of a pack (any leading dimensions), B local rows, N rows of the global batch,
D embedding dimensions. ``row_offset`` is the global index of the first local row.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

EPS = 1e-10

AffinityKind = Literal["relu", "softmax"]


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows scaled to norm 1; a zero row stays zero."""
    return F.normalize(x, dim=-1, eps=EPS)


def off_diagonal(num_rows: int, num_all: int, row_offset: int, device: torch.device) -> torch.Tensor:
    """Boolean (B, N): False where a local row meets itself."""
    rows = torch.arange(row_offset, row_offset + num_rows, device=device)
    return rows[:, None] != torch.arange(num_all, device=device)[None, :]


def rounded(x: torch.Tensor, product_dtype: torch.dtype | None) -> torch.Tensor:
    """``x`` as the operand of a matrix product, see ``product``.

    CUDA multiplies bfloat16 operands and keeps float32 sums. CPUs would round the sums to bfloat16 as well, so there
    the rounded operand comes back in its old type: the right numbers, and nothing gained in speed.
    """
    if product_dtype is None:
        return x
    if product_dtype != torch.bfloat16:
        raise ValueError(f"product_dtype must be None or torch.bfloat16, but is {product_dtype}")
    return x.to(product_dtype) if x.is_cuda else x.to(product_dtype).to(x.dtype)


class _RoundedProduct(torch.autograd.Function):
    """A batched product whose operands are rounded, in the backward pass too."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, product_dtype: torch.dtype) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        ctx.product_dtype = product_dtype
        return _multiply_rounded(a, b, product_dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        a, b = ctx.saved_tensors
        grad_a = _multiply_rounded(grad, b.transpose(-1, -2), ctx.product_dtype)
        return grad_a, _multiply_rounded(a.transpose(-1, -2), grad, ctx.product_dtype), None


def _multiply_rounded(a: torch.Tensor, b: torch.Tensor, product_dtype: torch.dtype) -> torch.Tensor:
    left, right = rounded(a, product_dtype), rounded(b, product_dtype)
    if left.dtype == a.dtype:
        return left @ right
    left, right = (x.reshape(-1, *x.shape[-2:]) for x in (left, right))
    return torch.bmm(left, right, out_dtype=torch.float32).reshape(*a.shape[:-1], b.shape[-1]).to(a.dtype)


def product(a: torch.Tensor, b: torch.Tensor, product_dtype: torch.dtype | None = None) -> torch.Tensor:
    """``a @ b`` for equal leading dimensions.

    With ``product_dtype=torch.bfloat16`` both operands are rounded to bfloat16, here and in the gradient's products,
    while products accumulate in float32 and the result is float32.
    """
    return a @ b if product_dtype is None else _RoundedProduct.apply(a, b, product_dtype)


def affinity(
    q_RBD: torch.Tensor,
    k_RND: torch.Tensor,
    row_offset: int = 0,
    *,
    kind: AffinityKind = "relu",
    temperature: float = 0.5,
    product_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """ReLU of all inner products, zero diagonal, rows divided by their sum: (R, B, N).

    A dead row, whose products are all negative, comes back as zeros. ``kind="softmax"`` is a control: the softmax over
    all other rows of the products over ``temperature``, which "relu" does not use. ``product_dtype`` as in ``product``.
    """
    scores = product(q_RBD, k_RND.transpose(-1, -2), product_dtype)
    others_BN = off_diagonal(q_RBD.shape[-2], k_RND.shape[-2], row_offset, q_RBD.device)
    if kind == "softmax":
        return softmax_over_others(scores / check_temperature(temperature), others_BN)
    if kind != "relu":
        raise ValueError(f"kind must be 'relu' or 'softmax', but is {kind!r}")
    scores = torch.relu(scores) * others_BN
    return scores / (scores.sum(-1, keepdim=True) + EPS)


def softmax_over_others(scores_RBN: torch.Tensor, others_BN: torch.Tensor) -> torch.Tensor:
    """Softmax over the entries that ``others_BN`` leaves, zero elsewhere; a row without others is zero."""
    masked = scores_RBN.masked_fill(~others_BN, torch.finfo(scores_RBN.dtype).min)
    return torch.softmax(masked, dim=-1) * others_BN


def check_temperature(temperature: float) -> float:
    """The temperature itself; ValueError unless it is positive."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, but is {temperature}")
    return temperature


def is_dead(affinity_RBN: torch.Tensor) -> torch.Tensor:
    """Boolean (R, B): rows without any positive affinity."""
    return (affinity_RBN == 0).all(-1)


def with_dead_rows_uniform(affinity_RBN: torch.Tensor, row_offset: int = 0) -> torch.Tensor:
    """Dead rows replaced by the uniform row, so that they count as chance; left as zeros they would fake success."""
    num_rows, num_all = affinity_RBN.shape[-2:]
    others_BN = off_diagonal(num_rows, num_all, row_offset, affinity_RBN.device)
    uniform_BN = others_BN.to(affinity_RBN.dtype) / max(num_all - 1, 1)
    return torch.where(is_dead(affinity_RBN)[..., None], uniform_BN, affinity_RBN)


def partners(ids_RB: torch.Tensor, all_ids_RN: torch.Tensor, row_offset: int = 0) -> torch.Tensor:
    """Boolean (R, B, N): the other rows with the same id (class label, or source index)."""
    same = ids_RB[..., :, None] == all_ids_RN[..., None, :]
    return same & off_diagonal(ids_RB.shape[-1], all_ids_RN.shape[-1], row_offset, ids_RB.device)


def id_ranges(ids_RB: torch.Tensor, all_ids_RN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each row's id starts and ends among the sorted ids of all rows, (R, B) each; memory linear in N."""
    sorted_RN, ids_RB = all_ids_RN.sort(-1).values, ids_RB.contiguous()
    return torch.searchsorted(sorted_RN, ids_RB), torch.searchsorted(sorted_RN, ids_RB, right=True)
