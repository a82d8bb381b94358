"""How well an affinity or an embedding knows the classes.

Shape suffixes: R replicates (any leading dimensions), N rows of an evaluation batch, K classes, D embedding
dimensions, B bank rows, Q query rows. Every metric returns one value per leading index.
"""

import math

import torch

from study.recipes.contrastive.affinity import is_dead, partners, unit, with_dead_rows_uniform
from study.recipes.contrastive.losses.affinity_jsd import jsd_rows, target_affinity

COLLAPSED_MEAN_COSINE = 0.99
COLLAPSED_EFFECTIVE_RANK = 1.5
# Inverse strengths of the linear probe's L2 penalty.
_PROBE_PENALTIES = (0.01, 0.1, 1.0)


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
    if num_partners == num_rows - 1:
        raise ValueError("a batch of one class cannot be judged: every row is a partner, so chance is already success")
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


Labelled = tuple[torch.Tensor, torch.Tensor]


def linear_probe_accuracy(train: Labelled, validation: Labelled, test: Labelled) -> float:
    """Accuracy of a multinomial logistic regression on frozen features (N, D) with labels (N,).

    Features are standardised by the training rows; the strength of the L2 penalty is chosen on ``validation``.
    """
    from sklearn.linear_model import LogisticRegression

    mean, std = train[0].mean(0), train[0].std(0).clamp_min(1e-6)
    x, y = (((features - mean) / std).cpu().numpy() for features in (train[0], validation[0])), train[1].cpu().numpy()
    fit_on, choose_on = x
    fits = [LogisticRegression(C=c, max_iter=1000, tol=1e-3).fit(fit_on, y) for c in _PROBE_PENALTIES]
    best = max(fits, key=lambda fit: fit.score(choose_on, validation[1].cpu().numpy()))
    return float(best.score(((test[0] - mean) / std).cpu().numpy(), test[1].cpu().numpy()))


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


def alignment(z_REND: torch.Tensor, sources_N: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of unit views of one source (Wang and Isola 2020), from 0 to 4; (R, E).

    2 - 2 cos, averaged over ordered pairs of distinct rows with one source.
    """
    z = unit(z_REND)
    same_NN = partners(sources_N, sources_N)
    cosines = (z @ z.transpose(-1, -2) * same_NN).sum((-2, -1)) / same_NN.sum()
    return 2 - 2 * cosines


def uniformity(z_REND: torch.Tensor) -> torch.Tensor:
    """log of the mean of exp(-2 |z - z'|^2) over pairs of distinct unit rows (Wang and Isola 2020); (R, E).

    0 where all rows are one point; the more evenly they cover the sphere, the lower (not below -8).
    """
    z = unit(z_REND)
    num_rows = z.shape[-2]
    kernel = torch.exp(4 * (z @ z.transpose(-1, -2)) - 4)
    pairs = kernel.sum((-2, -1)) - kernel.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.log(pairs / (num_rows * (num_rows - 1)))


def cosine_moments(z_ND: torch.Tensor, labels_N: torch.Tensor) -> dict[str, float]:
    """Mean and s.d. of cosines within and across classes, and the effective strength and centre cosine of these means.

    In the data model two views of one class have mean cosine rho = 1 / (1 + sigma^2) and of two classes c rho. The
    effective values are left out where classes do not cohere (rho <= 0).
    """
    z = unit(z_ND.double())
    classes = [z[labels_N == label] for label in labels_N.unique()]
    within = torch.stack([_pair_sums(members) for members in classes]).sum(0)
    across = _pair_sums(z) - within
    rho, within_sd = _mean_and_sd(within)
    mean_across, across_sd = _mean_and_sd(across)
    moments = {
        "cosine_within_mean": rho,
        "cosine_within_sd": within_sd,
        "cosine_across_mean": mean_across,
        "cosine_across_sd": across_sd,
    }
    if rho <= 0:
        return moments
    effective = {"effective_sigma": math.sqrt(max(1 / rho - 1, 0.0)), "effective_cosine": mean_across / rho}
    return moments | effective


def _pair_sums(z_ND: torch.Tensor) -> torch.Tensor:
    """Number of ordered pairs of distinct unit rows, and sums of their cosines and squared cosines, in O(N D^2).

    The squared cosines sum to the squared Frobenius norm of z^T z, for sum_ij (z_i z_j)^2 = tr((z^T z)^2).
    """
    num_rows = len(z_ND)
    cosines, squares = z_ND.sum(0).square().sum(), (z_ND.T @ z_ND).square().sum()
    own = z_ND.square().sum(-1)
    return torch.stack(
        [torch.tensor(num_rows * (num_rows - 1.0)).to(z_ND), cosines - own.sum(), squares - own.square().sum()]
    )


def _mean_and_sd(sums: torch.Tensor) -> tuple[float, float]:
    count, total, squares = sums.tolist()
    mean = total / count
    return mean, math.sqrt(max(squares / count - mean**2, 0.0))


def is_collapsed(mean_cosine_value: float, effective_rank_value: float) -> bool:
    """Whether evaluation embeddings are one point (mean cosine) or one line (effective rank)."""
    return mean_cosine_value > COLLAPSED_MEAN_COSINE or effective_rank_value < COLLAPSED_EFFECTIVE_RANK
