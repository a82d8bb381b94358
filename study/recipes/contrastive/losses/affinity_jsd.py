"""Jensen-Shannon divergence between an affinity and its target.

Shape suffixes: R replicates (any leading dimensions), B local rows, N rows of the global batch, D dimensions.
"""

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from study.recipes.contrastive.affinity import (
    EPS,
    AffinityKind,
    affinity,
    id_ranges,
    partners,
    rounded,
    with_dead_rows_uniform,
)
from study.recipes.contrastive.tiling import block_buffer, multiply_into, row_blocks, use_tiles, view_of


def jsd_rows(p_RBN: torch.Tensor, q_RBN: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of each row, (R, B), between 0 and log 2.

    JSD = (KL(p | m) + KL(q | m)) / 2 with m = (p + q) / 2. The logarithms are clamped from below: xlogy would
    have a NaN gradient at the zeros that ReLU and the diagonal make.
    """
    tiny = torch.finfo(p_RBN.dtype).tiny
    log_m = (0.5 * (p_RBN + q_RBN)).clamp_min(tiny).log()

    def kl(a: torch.Tensor) -> torch.Tensor:
        return (a * (a.clamp_min(tiny).log() - log_m)).sum(-1)

    return 0.5 * (kl(p_RBN) + kl(q_RBN))


def target_affinity(partners_RBN: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Equal mass on every partner; a row without partners is zero."""
    mass = partners_RBN.to(dtype)
    return mass / mass.sum(-1, keepdim=True).clamp_min(1)


def affinity_jsd(
    q_RBD: torch.Tensor,
    k_RND: torch.Tensor,
    ids_RB: torch.Tensor,
    all_ids_RN: torch.Tensor,
    row_offset: int = 0,
    *,
    kind: AffinityKind = "relu",
    temperature: float = 0.5,
    product_dtype: torch.dtype | None = None,
    tiled: bool | None = None,
) -> torch.Tensor:
    """JSD to the target affinity of ``ids``, summed over local rows, over the global number of rows with partners.

    Returns (R,). The sum over workers is the mean over the global batch, comparable across batch sizes. Rows
    without a partner have no target and are left out; dead rows count as uniform, at the divergence of chance
    and without gradient.

    ``kind``, ``temperature`` and ``product_dtype`` are those of ``affinity``. Large batches are worked off in blocks
    of rows, in memory linear in the batch; ``tiled`` overrides the choice. The softmax affinity is always formed whole.
    """
    num_valid_R = has_some_partner(all_ids_RN).sum(-1).clamp_min(1)
    if kind == "relu" and use_tiles(q_RBD.shape[-2], k_RND.shape[-2], tiled):
        needs_grad = torch.is_grad_enabled() and (q_RBD.requires_grad or k_RND.requires_grad)
        flat_q, flat_k = (x.reshape(-1, *x.shape[-2:]) for x in (q_RBD, k_RND))
        flat_ids, flat_all_ids = (ids.reshape(-1, ids.shape[-1]) for ids in (ids_RB, all_ids_RN))
        total_R = _BlockwiseJSD.apply(flat_q, flat_k, flat_ids, flat_all_ids, row_offset, product_dtype, needs_grad)
        return total_R.view(num_valid_R.shape) / num_valid_R
    affinity_RBN = affinity(q_RBD, k_RND, row_offset, kind=kind, temperature=temperature, product_dtype=product_dtype)
    affinity_RBN = with_dead_rows_uniform(affinity_RBN, row_offset)
    partners_RBN = partners(ids_RB, all_ids_RN, row_offset)
    divergence_RB = jsd_rows(affinity_RBN, target_affinity(partners_RBN, affinity_RBN.dtype))
    has_partner_RB = partners_RBN.any(-1)
    return (divergence_RB * has_partner_RB).sum(-1) / num_valid_R


def has_some_partner(ids_RN: torch.Tensor) -> torch.Tensor:
    """Boolean (R, N): rows whose id occurs at least twice in the batch."""
    first_RN, end_RN = id_ranges(ids_RN, ids_RN)
    return end_RN - first_RN > 1


class _BlockwiseJSD(torch.autograd.Function):
    """The sum of the divergences of the local rows, (R,), and its gradient, formed in the same pass over the scores.

    With a = score / n, n the sum of the row, m = (a + target) / 2 and D = log(a / m) / 2, the gradient of a positive
    score is (D - sum of D a over the row) / n. Off the partners D is log(2) / 2: only partners need logarithms, and
    sorted by id they are one rectangle of a block of rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_RBD: torch.Tensor,
        k_RND: torch.Tensor,
        ids_RB: torch.Tensor,
        all_ids_RN: torch.Tensor,
        row_offset: int,
        product_dtype: torch.dtype | None,
        needs_grad: bool,
    ) -> torch.Tensor:
        first_RB, end_RB = id_ranges(ids_RB, all_ids_RN)
        total_R = q_RBD.new_zeros(len(q_RBD))
        grad_q, grad_k = (torch.zeros_like(x) if needs_grad else None for x in (q_RBD, k_RND))
        buffer = block_buffer(q_RBD, q_RBD.shape[-2], k_RND.shape[-2])
        for r in range(len(q_RBD)):
            order_N, order_B = all_ids_RN[r].argsort(), ids_RB[r].argsort()
            own_B = order_N.argsort()[row_offset + order_B]
            q_BD, k_ND = rounded(q_RBD[r, order_B], product_dtype), rounded(k_RND[r, order_N], product_dtype)
            first_B, end_B = first_RB[r, order_B], end_RB[r, order_B]
            firsts, ends = first_B.tolist(), end_B.tolist()
            for rows in row_blocks(len(q_BD)):
                score_MN = view_of(buffer, rows.stop - rows.start, len(k_ND))
                multiply_into(score_MN, q_BD[rows], k_ND.T).relu_().scatter_(1, own_B[rows, None], 0)
                span = slice(firsts[rows.start], ends[rows.stop - 1])
                rectangle = _PartnerRectangle(score_MN, span, first_B[rows], end_B[rows], own_B[rows])
                total_R[r] += rectangle.divergence_M.sum()
                if grad_q is not None and grad_k is not None:
                    slope_MN = rounded(rectangle.score_gradient_(), product_dtype)
                    grad_q[r, order_B[rows]] = multiply_into(torch.empty_like(q_RBD[r, rows]), slope_MN, k_ND)
                    multiply_into(grad_k[r], slope_MN.T, q_BD[rows], add=True)
            if grad_k is not None:
                grad_k[r] = grad_k[r, order_N.argsort()]
        if needs_grad:
            ctx.save_for_backward(grad_q, grad_k)
        return total_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_R: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_q, grad_k = (x * grad_R[:, None, None] for x in ctx.saved_tensors)
        return grad_q, grad_k, None, None, None, None, None


class _PartnerRectangle:
    """The divergences of a block of rows sorted by id, whose partners lie in the columns of ``span``."""

    def __init__(
        self,
        score_MN: torch.Tensor,
        span: slice,
        first_M: torch.Tensor,
        end_M: torch.Tensor,
        own_M: torch.Tensor,
    ) -> None:
        num_partners_M = (end_M - first_M - 1).to(score_MN.dtype)
        sum_M = score_MN.sum(1)
        self.score_MN, self.span = score_MN, span
        self.norm_M = sum_M + EPS
        self.has_partner_M = num_partners_M > 0
        column_W = torch.arange(span.start, span.stop, device=score_MN.device)
        self.same_MW = (column_W >= first_M[:, None]) & (column_W < end_M[:, None]) & (column_W != own_M[:, None])

        a_MW = score_MN[:, span] * self.same_MW / self.norm_M[:, None]
        target_M = 1 / num_partners_M.clamp_min(1)
        log_m_MW = (0.5 * (a_MW + target_M[:, None])).log_()
        elsewhere_M = (sum_M / self.norm_M - a_MW.sum(1)) * (0.5 * math.log(2))
        self.slope_MW = a_MW.clamp_min(torch.finfo(a_MW.dtype).tiny).log_().sub_(log_m_MW).mul_(0.5)
        self.slope_of_row_M = (a_MW.mul_(self.slope_MW)).sum(1) + elsewhere_M
        rest_M = (target_M.log()[:, None] - log_m_MW).mul_(self.same_MW).sum(1) * (0.5 * target_M)
        chance_M = _divergence_of_chance(num_partners_M, score_MN.shape[1])
        alive_M = torch.where(sum_M == 0, chance_M, self.slope_of_row_M + rest_M)
        self.divergence_M = alive_M.masked_fill(~self.has_partner_M, 0)

    def score_gradient_(self) -> torch.Tensor:
        """The gradient of the sum of the divergences, (M, N), in the place of the scores."""
        per_row_M = torch.where(self.has_partner_M, 1 / self.norm_M, 0)
        is_positive_MN = self.score_MN.gt_(0)
        log_half = 0.5 * math.log(2)
        partners_MW = self.slope_MW.sub_(log_half).mul_(self.same_MW).mul_(per_row_M[:, None])
        partners_MW.mul_(is_positive_MN[:, self.span])
        is_positive_MN.mul_(((log_half - self.slope_of_row_M) * per_row_M)[:, None])
        is_positive_MN[:, self.span] += partners_MW
        return is_positive_MN


def _divergence_of_chance(num_partners_M: torch.Tensor, num_all: int) -> torch.Tensor:
    """JSD between the uniform row and the target of rows with so many partners."""
    mass, target_M = 1 / max(num_all - 1, 1), 1 / num_partners_M.clamp_min(1)
    m_M = 0.5 * (mass + target_M)
    on_partners_M = mass * (mass / m_M).log() + target_M * (target_M / m_M).log()
    return 0.5 * (num_partners_M * on_partners_M + (1 - num_partners_M * mass) * math.log(2))
