"""Jensen-Shannon divergence between an affinity and its target.

Shape suffixes: R replicates (any leading dimensions), B local rows, N rows of the global batch, D dimensions.
"""

import torch

from study.affinity import affinity, partners, with_dead_rows_uniform


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
) -> torch.Tensor:
    """JSD to the target affinity of ``ids``, summed over local rows, over the global number of rows with partners.

    Returns (R,). The sum over workers is the mean over the global batch, comparable across batch sizes. Rows
    without a partner have no target and are left out; dead rows count as uniform, at the divergence of chance
    and without gradient.
    """
    affinity_RBN = with_dead_rows_uniform(affinity(q_RBD, k_RND, row_offset), row_offset)
    partners_RBN = partners(ids_RB, all_ids_RN, row_offset)
    divergence_RB = jsd_rows(affinity_RBN, target_affinity(partners_RBN, affinity_RBN.dtype))
    has_partner_RB = partners_RBN.any(-1)
    num_valid_R = has_some_partner(all_ids_RN).sum(-1).clamp_min(1)
    return (divergence_RB * has_partner_RB).sum(-1) / num_valid_R


def has_some_partner(ids_RN: torch.Tensor) -> torch.Tensor:
    """Boolean (R, N): rows whose id occurs at least twice in the batch."""
    return (ids_RN[..., :, None] == ids_RN[..., None, :]).sum(-1) > 1
