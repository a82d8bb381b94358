"""Partners that are views of one source, against their law: the largest batch, and the mass in a given one.

Shape suffixes: R batches, M sources, V views, N = M V rows, D dimensions.
"""

from dataclasses import dataclass

import torch

from study.recipes.contrastive.affinity import affinity, partners, unit, with_dead_rows_uniform
from study.recipes.contrastive.config import ClustersConfig
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.data.views import apply_views
from study.recipes.contrastive.laws.source_mass import SOURCE_BATCH
from verification.laws import settings_trained as settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.thresholds import Measured, mean_of, size_crossing

_ROWS = 40_000
_SOURCES = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80)
_MOST_SOURCES = 100


@dataclass(frozen=True, kw_only=True)
class Views:
    """Batches of all views of their sources, source by source; source i is of class i modulo K where there are any."""

    rows_RMVD: torch.Tensor

    def source_mass(self, num_sources: int) -> torch.Tensor:
        """Mass on the other views of a row's source in the first sources alone, by one identity block; (R,)."""
        rows_RND = self.rows_RMVD[:, :num_sources].flatten(1, 2)
        ids_N = torch.arange(num_sources).repeat_interleave(self.rows_RMVD.shape[2])
        mass_RNN = with_dead_rows_uniform(affinity(unit(rows_RND), unit(rows_RND))) * partners(ids_N, ids_N)
        return mass_RNN.sum(-1).mean(-1)


def draw_views(job: Job) -> Views:
    """Views of sources with a spread within classes, or of random directions where the setting has no classes."""
    setting, generator = job.setting, job.generator()
    dim, sigma = setting.given("dim", "sigma")
    num_batches = job.replicates(_ROWS / (_MOST_SOURCES * setting.num_views))
    noise_RMD = torch.randn(num_batches, _MOST_SOURCES, int(dim), generator=generator)
    if setting.num_classes is None:
        sources_RMD = unit(noise_RMD)
    else:
        config = ClustersConfig(dim=int(dim), num_classes=setting.num_classes)
        centres_MD = cluster_centres(config).float()[torch.arange(_MOST_SOURCES) % setting.num_classes]
        sources_RMD = centres_MD + setting.spread * noise_RMD / dim**0.5
    sources = sources_RMD.repeat_interleave(setting.num_views, dim=1).flatten(0, 1)
    noise = torch.randn(sources.shape, generator=generator)
    rows = apply_views(sources, noise, torch.full((len(sources),), sigma), flip=False)
    return Views(rows_RMVD=rows.view(num_batches, _MOST_SOURCES, setting.num_views, int(dim)))


def _source_batch(job: Job) -> Rows:
    setting, views = job.setting, draw_views(job)
    (batch,) = setting.given("batch")
    num_views = setting.num_views
    found = size_crossing(views.source_mass, _SOURCES, rising=False)
    largest = Measured(value=num_views * found.value, standard_error=num_views * found.standard_error, note=found.note)
    assert SOURCE_BATCH.outcome is not None
    return {
        "source_batch": Row(setting=setting, measured=largest, predictions={"law": predicted(setting, SOURCE_BATCH)}),
        "source_mass": Row(
            setting=setting,
            measured=mean_of(views.source_mass(int(batch) // num_views)),
            predictions={"law": SOURCE_BATCH.outcome(setting)},
        ),
    }


_FIELDS = ("dim", "num_classes", "spread", "num_views", "sigma")

FAMILIES = (
    Family(
        name="source_batch",
        draws=settings.source_batch,
        measure=_source_batch,
        seconds=0.2,
        tables={
            "source_batch": Table(
                title="Views of one source: the largest batch",
                text="The largest N in which half of a row's mass lies on the other views of its source; without K "
                "every source is a direction of its own.",
                fields=_FIELDS,
                measured="N_max",
                predicted=("law",),
            ),
            "source_mass": Table(
                title="Views of one source: their mass",
                text="Mass of a row on the other views of its source in a batch of N rows.",
                fields=(*_FIELDS, "batch"),
                measured="mass",
                predicted=("law",),
            ),
        },
    ),
)
