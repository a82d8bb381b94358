"""The affinity of a batch in its literal form, and the target it is trained towards.

Shape suffixes: R replicates of a pack (any leading dimensions), B local rows, N rows of the global batch,
D embedding dimensions. ``row_offset`` is the global index of the first local row.
"""

import torch
import torch.nn.functional as F

EPS = 1e-10


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows scaled to norm 1; a zero row stays zero."""
    return F.normalize(x, dim=-1, eps=EPS)


def off_diagonal(num_rows: int, num_all: int, row_offset: int, device: torch.device) -> torch.Tensor:
    """Boolean (B, N): False where a local row meets itself."""
    rows = torch.arange(row_offset, row_offset + num_rows, device=device)
    return rows[:, None] != torch.arange(num_all, device=device)[None, :]


def affinity(q_RBD: torch.Tensor, k_RND: torch.Tensor, row_offset: int = 0) -> torch.Tensor:
    """ReLU of all inner products, zero diagonal, rows divided by their sum: (R, B, N).

    A dead row, whose products are all negative, comes back as zeros.
    """
    scores = torch.relu(q_RBD @ k_RND.transpose(-1, -2))
    scores = scores * off_diagonal(q_RBD.shape[-2], k_RND.shape[-2], row_offset, q_RBD.device)
    return scores / (scores.sum(-1, keepdim=True) + EPS)


def is_dead(affinity_RBN: torch.Tensor) -> torch.Tensor:
    """Boolean (R, B): rows without any positive affinity."""
    return (affinity_RBN == 0).all(-1)


def with_dead_rows_uniform(affinity_RBN: torch.Tensor, row_offset: int = 0) -> torch.Tensor:
    """Dead rows replaced by the uniform row, so that they count as chance; left as zeros they would fake success."""
    num_rows, num_all = affinity_RBN.shape[-2:]
    others_BN = off_diagonal(num_rows, num_all, row_offset, affinity_RBN.device)
    uniform_BN = others_BN.to(affinity_RBN.dtype) / (num_all - 1)
    return torch.where(is_dead(affinity_RBN)[..., None], uniform_BN, affinity_RBN)


def partners(ids_RB: torch.Tensor, all_ids_RN: torch.Tensor, row_offset: int = 0) -> torch.Tensor:
    """Boolean (R, B, N): the other rows with the same id (class label, or source index)."""
    same = ids_RB[..., :, None] == all_ids_RN[..., None, :]
    return same & off_diagonal(ids_RB.shape[-1], all_ids_RN.shape[-1], row_offset, ids_RB.device)
