"""InfoNCE over the rows of a batch: NT-Xent where ids are source images, SupCon where they are classes.

Shape suffixes: R replicates (any leading dimensions), B local rows, N rows of the global batch, D dimensions.
"""

import torch

from study.recipes.contrastive.affinity import check_temperature, id_ranges, off_diagonal, product, unit
from study.recipes.contrastive.tiling import logsumexp_rows, use_tiles


def info_nce(
    rows_RBD: torch.Tensor,
    all_RND: torch.Tensor,
    ids_RB: torch.Tensor,
    all_ids_RN: torch.Tensor,
    row_offset: int = 0,
    *,
    temperature: float = 0.5,
    product_dtype: torch.dtype | None = None,
    tiled: bool | None = None,
) -> torch.Tensor:
    """log sum over j != i of exp(s_ij / t) less the mean of s_ip / t over positives p, with s the cosine; in nats.

    Returns (R,): the sum over local rows over the global number of rows that have a positive, another row with the same
    id. The sum over workers is the mean over the global batch; rows without a positive are left out, and a batch
    without any has loss 0. With two or more views and source images as ids this is NT-Xent (arXiv 2002.05709), with
    classes as ids SupCon's L_out (arXiv 2004.11362).

    Large batches are worked off in tiles, in memory linear in the batch; ``tiled`` overrides the choice.
    ``product_dtype`` (see ``affinity.product``) rounds the operands of the scores; positives, sums per id, stay
    exact. Raises ValueError for a temperature that is not positive.
    """
    inverse_temperature = 1 / check_temperature(temperature)
    z_all_RND = unit(all_RND)
    z_RBD = z_all_RND if rows_RBD is all_RND else unit(rows_RBD)
    logsumexp = logsumexp_rows if use_tiles(z_RBD.shape[-2], z_all_RND.shape[-2], tiled) else _whole_logsumexp_rows
    logsumexp_RB = logsumexp(z_RBD, z_all_RND, row_offset, inverse_temperature, product_dtype)

    first_RB, end_RB = id_ranges(ids_RB, all_ids_RN)
    first_RN, end_RN = (first_RB, end_RB) if ids_RB is all_ids_RN else id_ranges(all_ids_RN, all_ids_RN)
    num_positives_RB = end_RB - first_RB - 1
    num_valid_R = (end_RN - first_RN > 1).sum(-1).clamp_min(1)
    sums_RBD = _sums_per_id(z_all_RND, first_RN, first_RB)
    own_RBD = z_all_RND.narrow(-2, row_offset, z_RBD.shape[-2])
    positive_RB = (z_RBD * (sums_RBD - own_RBD)).sum(-1) / num_positives_RB.clamp_min(1)
    loss_RB = logsumexp_RB - inverse_temperature * positive_RB
    return loss_RB.masked_fill(num_positives_RB == 0, 0).sum(-1) / num_valid_R


def _whole_logsumexp_rows(
    rows_RBD: torch.Tensor,
    all_RND: torch.Tensor,
    row_offset: int,
    inverse_temperature: float,
    product_dtype: torch.dtype | None,
) -> torch.Tensor:
    """``logsumexp_rows`` with all scores at once."""
    scores_RBN = product(rows_RBD, all_RND.transpose(-1, -2), product_dtype) * inverse_temperature
    others_BN = off_diagonal(rows_RBD.shape[-2], all_RND.shape[-2], row_offset, scores_RBN.device)
    return scores_RBN.masked_fill(~others_BN, torch.finfo(scores_RBN.dtype).min).logsumexp(-1)


def _sums_per_id(z_RND: torch.Tensor, group_RN: torch.Tensor, asked_RB: torch.Tensor) -> torch.Tensor:
    """The sum of the rows of each asked group, (R, B, D); a group is named by a number below N."""
    num_all, dim = z_RND.shape[-2:]
    flat_RND = z_RND.reshape(-1, num_all, dim)
    start_R1 = num_all * torch.arange(len(flat_RND), device=z_RND.device)[:, None]
    index = (group_RN.reshape(-1, num_all) + start_R1).flatten()
    sums = torch.zeros_like(flat_RND).flatten(0, 1).index_add(0, index, flat_RND.flatten(0, 1))
    asked = (asked_RB.reshape(len(flat_RND), -1) + start_R1).flatten()
    return sums[asked].view(*asked_RB.shape, dim)
