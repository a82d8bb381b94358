"""Monte Carlo of identity stacks on the data model, with the project's own views, blocks, affinity and metrics.

Shape suffixes: R batches, L blocks, N rows of a batch, D dimensions, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from study.recipes.contrastive.affinity import affinity
from study.recipes.contrastive.config import ClustersConfig
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views
from study.recipes.contrastive.evaluation import affinity_success
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.models.fusion import FusionBlock, TransFusion

_AFFINITY_ENTRIES = 2**19


@dataclass(frozen=True, kw_only=True)
class Batches:
    """R balanced batches of N rows that keep their noise while sigma varies; row i is of class i modulo K."""

    centres_KD: torch.Tensor
    noise_RND: torch.Tensor

    @property
    def labels_N(self) -> torch.Tensor:
        return torch.arange(self.noise_RND.shape[1]) % len(self.centres_KD)

    def first(self, *, num_batches: int | None = None, num_rows: int | None = None) -> "Batches":
        """The first batches, or all cut to their first rows: balanced for a multiple of K."""
        return replace(self, noise_RND=self.noise_RND[:num_batches, :num_rows])

    def views(self, sigma: float | torch.Tensor) -> torch.Tensor:
        """unit(centre + sigma g / sqrt(D)), (R, N, D); one sigma, or one for each batch (R,)."""
        num_batches, num_rows = self.noise_RND.shape[:2]
        sources = self.centres_KD[self.labels_N].repeat(num_batches, 1)
        sigmas = torch.as_tensor(sigma, dtype=sources.dtype).expand(num_batches).repeat_interleave(num_rows)
        return apply_views(sources, self.noise_RND.flatten(0, 1), sigmas, flip=False).view_as(self.noise_RND)

    def chunks(self) -> Iterator["Batches"]:
        """A few batches at a time, so that their affinities stay in the cache or at least small."""
        size = max(1, _AFFINITY_ENTRIES // self.noise_RND.shape[1] ** 2)
        return (replace(self, noise_RND=noise) for noise in self.noise_RND.split(size))


def draw_batches(
    setting: Setting, num_batches: int, generator: torch.Generator, num_rows: int | None = None
) -> Batches:
    """Fresh batches of a setting's dim, classes and cosine; of ``num_rows`` rows where its batch is what is sought."""
    rows = num_rows or setting.batch
    assert setting.dim is not None
    assert setting.num_classes is not None
    assert rows is not None
    config = ClustersConfig(dim=setting.dim, num_classes=setting.num_classes, cosine=setting.cosine)
    noise = torch.randn(num_batches, int(rows), setting.dim, generator=generator)
    return Batches(centres_KD=cluster_centres(config).float(), noise_RND=noise)


class Centring(nn.Module):
    """Takes the batch mean off the rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(-2, keepdim=True)


def identity_stack(setting: Setting, num_blocks: int) -> TransFusion:
    """A stack with identity weights that are applied without multiplying by them.

    A centred setting takes the batch mean off what queries, keys and values see, not off the residual.
    """
    assert setting.dim is not None
    generators = [stream(0, "initialisation")]
    fusion = TransFusion(
        setting.dim, generators, num_blocks=num_blocks, residual=setting.residual, identity_init=True, tiled=False
    )
    for block in fusion.blocks:
        for name in ("query", "key", "value"):
            if getattr(block, name) is not None:
                block.register_module(name, nn.Identity())
        if setting.centred:
            block.norm = Centring()
    return fusion


@torch.no_grad()
def success(fusion: TransFusion, batches: Batches, sigma: float, metric: str = "p") -> torch.Tensor:
    """P or S_J ("s_j") of the stack's affinity on every batch, (R,) in float64."""
    found = []
    for chunk in batches.chunks():
        q, k = fusion(chunk.views(sigma)[None])
        found.append(affinity_success(affinity(q, k), chunk.labels_N)[metric][0])
    return torch.cat(found).double()


@torch.no_grad()
def success_by_depth(fusion: TransFusion, batches: Batches, sigma: float) -> torch.Tensor:
    """P if the stack ended at each of its blocks, (L, R): every block gives its affinity and its output."""
    x, found = batches.views(sigma)[None], []
    for block in fusion.blocks:
        assert isinstance(block, FusionBlock)
        h = x if block.norm is None else block.norm(x)
        found.append(affinity_success(affinity(*block.queries_keys(h, lambda rows: rows)), batches.labels_N)["p"][0])
        if block.value is not None:
            x = block(x)
    return torch.stack(found).double()
