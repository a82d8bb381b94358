"""How well an affinity or an embedding knows the classes.

Shape suffixes: R replicates (any leading dimensions), N rows of an evaluation batch, K classes, D embedding
dimensions, B bank rows, Q query rows. Every metric returns one value per leading index.
"""

import math

import torch

from study.affinity import is_dead, partners, unit, with_dead_rows_uniform
from study.losses.affinity_jsd import jsd_rows, target_affinity

COLLAPSED_MEAN_COSINE = 0.99
COLLAPSED_EFFECTIVE_RANK = 1.5


def chance_mass(num_rows: int, num_partners: int) -> float:
    """The mass that a uniform row puts on its partners, p_c = (n - 1) / (N - 1)."""
    return num_partners / (num_rows - 1)


def jsd_of_mass(p: float) -> float:
    """JSD in nats of a row with mass ``p`` spread evenly on its partners: log 2 - ((1+p) log(1+p) - p log p) / 2."""
    if p == 0:
        return math.log(2)
    return math.log(2) - 0.5 * ((1 + p) * math.log1p(p) - p * math.log(p))


def affinity_success(affinity_RNN: torch.Tensor, ids_N: torch.Tensor) -> dict[str, torch.Tensor]:
    """``p`` and ``s_j`` of balanced batches, and the share of dead rows; (R,) each.

    P = (p_in - p_c) / (1 - p_c) with p_in the mean over all rows of the mass on true partners, and
    S_J = 1 - JSD / J(p_c). Both are 0 at chance, 1 at the target and may be negative. Dead rows count as uniform.
    """
    same_NN = partners(ids_N, ids_N)
    num_rows, num_partners = same_NN.shape[-1], int(same_NN[0].sum())
    assert bool((same_NN.sum(-1) == num_partners).all()), "evaluation batches must be balanced"
    filled = with_dead_rows_uniform(affinity_RNN)
    p_in = (filled * same_NN).sum(-1).mean(-1)
    chance = chance_mass(num_rows, num_partners)
    divergence = jsd_rows(filled, target_affinity(same_NN, filled.dtype)).mean(-1)
    return {
        "p": (p_in - chance) / (1 - chance),
        "s_j": 1 - divergence / jsd_of_mass(chance),
        "dead_row_share": is_dead(affinity_RNN).to(filled.dtype).mean(-1),
    }


def pair_auc(affinity_RNN: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:
    """Probability that a same-class entry exceeds a cross-class entry, ties counted half; (R,)."""
    same_NN = partners(ids_N, ids_N)
    other_NN = ids_N[:, None] != ids_N[None, :]
    positive = affinity_RNN[..., same_NN].contiguous()
    negative = affinity_RNN[..., other_NN].sort(-1).values
    below = torch.searchsorted(negative, positive, right=False)
    not_above = torch.searchsorted(negative, positive, right=True)
    return (below + not_above).double().mean(-1) / (2 * negative.shape[-1])


def knn_accuracy(
    bank_BD: torch.Tensor,
    bank_labels_B: torch.Tensor,
    queries_QD: torch.Tensor,
    labels_Q: torch.Tensor,
    num_neighbours: int,
) -> float:
    """Accuracy of the majority among the ``num_neighbours`` most cosine-similar bank rows.

    A tied vote goes to the class with the larger summed similarity.
    """
    bank_BD, num_classes = unit(bank_BD), int(bank_labels_B.max()) + 1
    num_neighbours = min(num_neighbours, len(bank_BD))
    num_correct = 0
    for queries, labels in zip(queries_QD.split(2048), labels_Q.split(2048), strict=True):
        similarity, index = (unit(queries) @ bank_BD.T).topk(num_neighbours, dim=-1, sorted=False)
        # A summed similarity lies within +-num_neighbours: scaled, it orders ties and never outvotes a neighbour.
        weight = 1 + similarity / (4 * num_neighbours)
        votes = torch.zeros(len(queries), num_classes, dtype=weight.dtype, device=weight.device)
        votes.scatter_add_(1, bank_labels_B[index], weight)
        num_correct += int((votes.argmax(-1) == labels).sum())
    return num_correct / len(labels_Q)


def effective_rank(z_RND: torch.Tensor) -> torch.Tensor:
    """RankMe (arXiv 2210.02885): exp of the entropy of the normalised singular values.

    (R,), NaN where z is not finite.
    """
    is_finite = torch.isfinite(z_RND).flatten(-2).all(-1)
    singular = torch.linalg.svdvals(torch.where(is_finite[..., None, None], z_RND, 0.0).double())
    share = singular / singular.sum(-1, keepdim=True).clamp_min(1e-300)
    return torch.exp(torch.special.entr(share).sum(-1)).masked_fill(~is_finite, torch.nan)


def mean_cosine(z_RND: torch.Tensor) -> torch.Tensor:
    """Mean cosine over all pairs of distinct rows; (R,)."""
    z = unit(z_RND.double())
    num_rows = z.shape[-2]
    total = z.sum(-2).square().sum(-1) - z.square().sum((-2, -1))
    return total / (num_rows * (num_rows - 1))


def is_collapsed(mean_cosine_value: float, effective_rank_value: float) -> bool:
    """Whether evaluation embeddings are one point (mean cosine) or one line (effective rank)."""
    return mean_cosine_value > COLLAPSED_MEAN_COSINE or effective_rank_value < COLLAPSED_EFFECTIVE_RANK
