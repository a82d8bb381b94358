"""Orthonormal Anchor Regression (arXiv 2403.18699): labelled views are pulled to the fixed anchor of their class.

Shape suffixes: R replicates (any leading dimensions), B local rows, N rows of the global batch, D dimensions,
K classes.
"""

from collections.abc import Sequence

import torch

from study.recipes.contrastive.affinity import unit


def oar(
    rows_RBD: torch.Tensor,
    labels_RB: torch.Tensor,
    labelled_RB: torch.Tensor,
    all_labelled_RN: torch.Tensor,
    anchors_RKD: torch.Tensor,
) -> torch.Tensor:
    """Minus the cosine between a labelled row and the anchor of its label, between -1 and 1.

    Returns (R,): the sum over local labelled rows over the global number of labelled rows, so that the sum over
    workers is the mean; 0 where no row is labelled. Labels of rows that are not labelled are not read.
    """
    index_RB = labels_RB.masked_fill(~labelled_RB, 0)
    anchors_RBD = torch.take_along_dim(anchors_RKD.to(rows_RBD.dtype), index_RB[..., None], dim=-2)
    cosine_RB = (unit(rows_RBD) * anchors_RBD).sum(-1)
    return -cosine_RB.masked_fill(~labelled_RB, 0).sum(-1) / all_labelled_RN.sum(-1).clamp_min(1)


def orthonormal_anchors(num_classes: int, dim: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Orthonormal rows, uniformly distributed, from one generator per replicate: (R, K, D) in float32.

    The orthogonal factor of a Gaussian matrix, in float64; the signs that make it unique make it uniform as well
    (arXiv math-ph/0609050). Raises ValueError if there are more classes than dimensions.
    """
    if num_classes > dim:
        raise ValueError(
            f"{num_classes} classes have no orthonormal anchors in {dim} dimensions: "
            f"give the embedding at least {num_classes} dimensions"
        )
    gaussians = [torch.randn(num_classes, dim, generator=generator, dtype=torch.float64) for generator in generators]
    orthogonal_RDK, triangular_RKK = torch.linalg.qr(torch.stack(gaussians).transpose(-1, -2))
    signs_RK = triangular_RKK.diagonal(dim1=-2, dim2=-1).sign()
    return (orthogonal_RDK * signs_RK[:, None, :]).transpose(-1, -2).contiguous().float()
