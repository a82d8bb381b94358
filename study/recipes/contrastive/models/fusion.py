"""TransFusion: attention blocks over the batch, ReLU instead of softmax, the last one cut to its affinity.

The method follows the abstract of arXiv 2403.18681 v1 and its authors' public description of a block.

Shape suffixes: R replicates (batches of one replicate may follow as further dimensions), B local rows, N rows of
the global batch, D embedding dimensions.
"""

from collections.abc import Sequence

import torch
from torch import nn

from study.recipes.contrastive.affinity import AffinityKind, affinity, product, unit
from study.recipes.contrastive.models.packed import Gather, PackedLinear, identity_gather
from study.recipes.contrastive.tiling import mix_values, use_tiles


class PackedLayerNorm(nn.Module):
    """Layer normalisation with one gain and bias per replicate."""

    def __init__(self, num_replicates: int, dim: int) -> None:
        super().__init__()
        self.gain_R1D = nn.Parameter(torch.ones(num_replicates, 1, dim))
        self.bias_R1D = nn.Parameter(torch.zeros(num_replicates, 1, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normalised = torch.nn.functional.layer_norm(x, x.shape[-1:]).flatten(1, -2)
        return (normalised * self.gain_R1D + self.bias_R1D).unflatten(1, x.shape[1:-1])


class FusionBlock(nn.Module):
    """One attention block over the rows of the batch.

    q = unit(W_q x), k = unit(W_k x), v = W_v x; A = ReLU(q k^T) with zero diagonal and rows of sum 1; the
    output is A v (+ x with the residual). The last block returns (q of the local rows, k of all rows): its
    affinity and the loss are formed outside, with the same ``affinity_kind``, ``temperature`` and ``product_dtype``.

    ``affinity_kind``, ``temperature`` and ``product_dtype`` are those of ``affinity.affinity``; the last holds
    for A v as well, not for the weights' products. The affinity of large batches is worked off in tiles, in memory
    linear in the batch; ``tiled`` overrides the choice. The softmax affinity is always formed whole.
    """

    def __init__(
        self,
        dim: int,
        generators: Sequence[torch.Generator],
        *,
        is_last: bool,
        residual: bool,
        layer_norm: bool,
        identity_init: bool,
        affinity_kind: AffinityKind = "relu",
        temperature: float = 0.5,
        product_dtype: torch.dtype | None = None,
        tiled: bool | None = None,
    ) -> None:
        super().__init__()
        self.norm = PackedLayerNorm(len(generators), dim) if layer_norm else None
        self.query = PackedLinear(dim, dim, generators, bias=False)
        self.key = PackedLinear(dim, dim, generators, bias=False)
        self.value = None if is_last else PackedLinear(dim, dim, generators, bias=False)
        self.residual = residual
        self.affinity_kind = affinity_kind
        self.temperature = temperature
        self.product_dtype = product_dtype
        self.tiled = tiled
        if identity_init:
            for layer in (self.query, self.key, self.value):
                if layer is not None:
                    layer.set_identity()

    def queries_keys(self, x_RBD: torch.Tensor, gather: Gather) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit queries of the local rows (R, B, D) and unit keys of all rows (R, N, D)."""
        return unit(self.query(x_RBD)), gather(unit(self.key(x_RBD)))

    def forward(
        self, x_RBD: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        h_RBD = x_RBD if self.norm is None else self.norm(x_RBD)
        q_RBD, k_RND = self.queries_keys(h_RBD, gather)
        if self.value is None:
            return q_RBD, k_RND
        mixed = self.mix(q_RBD, k_RND, gather(self.value(h_RBD)), row_offset)
        return mixed + x_RBD if self.residual else mixed

    def mix(self, q_RBD: torch.Tensor, k_RND: torch.Tensor, v_RND: torch.Tensor, row_offset: int) -> torch.Tensor:
        """The affinity of the local rows times all values: (R, B, D)."""
        if self.affinity_kind == "relu" and use_tiles(q_RBD.shape[-2], k_RND.shape[-2], self.tiled):
            return mix_values(q_RBD, k_RND, v_RND, row_offset, self.product_dtype)
        affinity_RBN = affinity(
            q_RBD,
            k_RND,
            row_offset,
            kind=self.affinity_kind,
            temperature=self.temperature,
            product_dtype=self.product_dtype,
        )
        return product(affinity_RBN, v_RND, self.product_dtype)


class TransFusion(nn.Module):
    """A stack of fusion blocks; returns (q_rows, k_all) of the last one. Options are those of ``FusionBlock``."""

    def __init__(
        self,
        dim: int,
        generators: Sequence[torch.Generator],
        *,
        num_blocks: int = 2,
        residual: bool = True,
        layer_norm: bool = False,
        identity_init: bool = False,
        affinity_kind: AffinityKind = "relu",
        temperature: float = 0.5,
        product_dtype: torch.dtype | None = None,
        tiled: bool | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            FusionBlock(
                dim,
                generators,
                is_last=index == num_blocks - 1,
                residual=residual,
                layer_norm=layer_norm,
                identity_init=identity_init,
                affinity_kind=affinity_kind,
                temperature=temperature,
                product_dtype=product_dtype,
                tiled=tiled,
            )
            for index in range(num_blocks)
        )

    def forward(
        self, x_RBD: torch.Tensor, gather: Gather = identity_gather, row_offset: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for block in self.blocks[:-1]:
            x_RBD = block(x_RBD, gather, row_offset)
        return self.blocks[-1](x_RBD, gather, row_offset)
