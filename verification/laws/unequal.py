"""One identity block on classes of unequal sizes against its law.

Shape suffixes: R batches, N rows, D dimensions.
"""

import torch

from study.recipes.contrastive.affinity import affinity, partners, unit
from study.recipes.contrastive.config import ClustersConfig
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.laws.unbalanced import ONE_BLOCK_UNBALANCED
from verification.laws import settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.thresholds import largest_crossing

_ENTRIES = 4_000_000


@torch.no_grad()
def success_of_unequal(views_RND: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """P of one identity block, (R,): mass on partners over all rows, against the mean chance of a row."""
    x = unit(views_RND)
    same_NN = partners(labels_N, labels_N)
    mass_R = (affinity(x, x) * same_NN).sum(-1).mean(-1)
    chance = (same_NN.sum(-1) / (len(labels_N) - 1)).mean()
    return ((mass_R - chance) / (1 - chance)).double()


def _measure(job: Job) -> Rows:
    dim, sizes = job.setting.dim, job.setting.class_sizes
    assert dim is not None
    assert sizes is not None
    labels_N = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    config = ClustersConfig(dim=dim, num_classes=len(sizes), cosine=job.setting.cosine)
    centres_ND = cluster_centres(config).float()[labels_N]
    num_batches = job.replicates(_ENTRIES / len(labels_N) ** 2)
    noise_RND = torch.randn(num_batches, len(labels_N), dim, generator=job.generator()) / dim**0.5

    def success(sigma: float) -> torch.Tensor:
        return success_of_unequal(centres_ND + sigma * noise_RND, labels_N)

    measured = largest_crossing(success, lambda sigma: success_of_unequal(centres_ND + sigma * noise_RND[:2], labels_N))
    found = {"unequal classes": predicted(job.setting, ONE_BLOCK_UNBALANCED)}
    return {"unequal_classes": Row(setting=job.setting, measured=measured, predictions=found)}


FAMILIES = (
    Family(
        name="unequal_classes",
        draws=settings.unequal_classes,
        measure=_measure,
        seconds=2.0,
        tables={
            "unequal_classes": Table(
                title="One block on unequal classes: sigma_max",
                text="The largest sigma with P = 1/2, identity weights; P is over all rows, against their mean chance.",
                fields=("dim", "cosine", "class_sizes"),
                measured="sigma_max",
                predicted=("unequal classes",),
            )
        },
    ),
)
