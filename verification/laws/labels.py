"""Labels against their laws: class means of labelled sources, and what random labels cover.

Shape suffixes: R draws of labels, S labels per class, L labels, K and J classes, D dimensions, T test sources of a
class.
"""

from dataclasses import dataclass, replace

import torch

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ClustersConfig, ReplicateConfig
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.laws.labels import CLASS_MEAN_LABELS, LABEL_COVERAGE, LABELS_SUBSPACE, MISSED
from study.recipes.contrastive.laws.labels_trained import LABELS_TRAINED
from study.recipes.contrastive.laws.law import Setting
from verification.laws import settings_trained as settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.thresholds import Measured, grid_crossing, size_crossing
from verification.laws.train_blocks import run_pack

_NUM_DRAWS = 100
_NUM_TEST = 50
_PER_CLASS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80)
_MOST_PER_CLASS = 100
_NUM_SEQUENCES = 20_000
# Training runs by labels of a class, out of so many sources, and the rows of a batch of their views.
_NUM_RUNS = 12
_TRAINED_PER_CLASS = (1, 2, 4, 8, 16, 32, 64)
_SOURCES_PER_CLASS = 128
_LABELLED_ROWS = 128


def _accuracy(means_RKD: torch.Tensor, test_RKTD: torch.Tensor) -> torch.Tensor:
    """Share of test sources with which the mean of their own class has the largest inner product, (R,)."""
    scores_RKTJ = test_RKTD @ means_RKD[:, None].transpose(-1, -2)
    classes_K1 = torch.arange(test_RKTD.shape[1])[:, None]
    return (scores_RKTJ.argmax(-1) == classes_K1).double().mean((-2, -1))


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Centres, the scale of a source's deviation from them, and fresh sources to classify."""

    centres_KD: torch.Tensor
    scale: float
    test_RKTD: torch.Tensor

    @property
    def half_way(self) -> float:
        """The accuracy half-way from chance to that of the true centres."""
        return (1 / len(self.centres_KD) + float(_accuracy(self.centres_KD[None], self.test_RKTD).mean())) / 2


def _sources(job: Job) -> _Sources:
    dim, k = (int(value) for value in job.setting.given("dim", "num_classes"))
    centres_KD = cluster_centres(ClustersConfig(dim=dim, num_classes=k, cosine=job.setting.cosine)).float()
    scale, shape = job.setting.spread / dim**0.5, (job.replicates(_NUM_DRAWS), k, _NUM_TEST, dim)
    noise_RKTD = torch.randn(shape, generator=job.generator("test"))
    return _Sources(centres_KD=centres_KD, scale=scale, test_RKTD=centres_KD[:, None] + scale * noise_RKTD)


def _per_class(found: Measured, num_classes: int) -> Measured:
    """What was found in labels of a class, in labels."""
    return replace(found, value=num_classes * found.value, standard_error=num_classes * found.standard_error)


def _labels(job: Job) -> Rows:
    """n_F half-way from chance to the accuracy of the true centres; fewer labels are the first of more."""
    sources = _sources(job)
    num_draws, k, _, dim = sources.test_RKTD.shape
    sums_RSKD = torch.randn(num_draws, _MOST_PER_CLASS, k, dim, generator=job.generator()).cumsum_(1)

    def accuracy(size: int) -> torch.Tensor:
        return _accuracy(sources.centres_KD + sources.scale * sums_RSKD[:, size - 1] / size, sources.test_RKTD)

    measured = _per_class(size_crossing(accuracy, _PER_CLASS, level=sources.half_way), k)
    laws = {
        "class means": predicted(job.setting, CLASS_MEAN_LABELS),
        "known subspace": predicted(job.setting, LABELS_SUBSPACE),
    }
    return {"labels": Row(setting=job.setting, measured=measured, predictions=laws)}


def _labels_trained(job: Job) -> Rows:
    """n_F at which OAR alone, on views of n_F sources, is half-way from chance to the accuracy of the true centres."""
    sources, seeds = _sources(job), job.seeds(_NUM_RUNS)
    accuracies = []
    for size in _TRAINED_PER_CLASS:
        config = with_values(oar_config(job.setting), {"data.label_fraction": size / _SOURCES_PER_CLASS})
        results = run_pack([config] * len(seeds), seeds)
        accuracies.append([result.metrics["accuracy_clean"] for result in results])
    found = grid_crossing(_TRAINED_PER_CLASS, torch.tensor(accuracies), level=sources.half_way, rising=True)
    laws = {
        "trained": predicted(job.setting, LABELS_TRAINED),
        "class means": predicted(replace(job.setting, optimizer=None), CLASS_MEAN_LABELS),
    }
    measured = _per_class(found, len(sources.centres_KD))
    return {"labels_trained": Row(setting=job.setting, measured=measured, predictions=laws)}


def oar_config(setting: Setting) -> ReplicateConfig:
    """A linear encoder trained by anchor regression alone; the fraction of labelled sources is left to be set."""
    dim, k, sigma, steps, rate = setting.given("dim", "num_classes", "sigma", "steps", "learning_rate")
    values: dict[str, Scalar] = {
        "trainer": "oar",
        "data.name": "clusters",
        "data.strength": sigma,
        "data.clusters.dim": int(dim),
        "data.clusters.num_classes": int(k),
        "data.clusters.spread": setting.spread,
        "data.clusters.num_sources": _SOURCES_PER_CLASS * int(k),
        "batch.train": 2,
        "batch.labelled": _LABELLED_ROWS,
        "batch.eval": 20 * int(k),
        "model.encoder": "linear",
        "model.embedding_dim": int(k),
        "loss.contrast": "none",
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.0,
        "optimizer.schedule": "constant",
        "optimizer.learning_rate": rate,
        "horizon.unit": "steps",
        "horizon.length": int(steps),
        "evaluation.num_batches": 10,
        "evaluation.num_points": 1,
        "evaluation.knn_bank": 0,
    }
    return with_values(ReplicateConfig(), values)


def _coverage(job: Job) -> Rows:
    """n_F, a line between whole numbers, at which all but the missed share of random sequences hold every class."""
    (num_classes,) = job.setting.given("num_classes")
    k, length = int(num_classes), 12 * int(num_classes)
    num_sequences = job.replicates(_NUM_SEQUENCES, most=_NUM_SEQUENCES)
    labels_RL = torch.randint(k, (num_sequences, length), generator=job.generator())
    positions_RL = torch.arange(1, length + 1).expand_as(labels_RL)
    first_RK = torch.full((num_sequences, k), length).scatter_reduce_(1, labels_RL, positions_RL, "amin")
    covered_L = torch.bincount(first_RK.amax(-1), minlength=length + 1).cumsum(0) / num_sequences
    above = int((covered_L < 1 - MISSED).sum())
    low, high = covered_L[above - 1 : above + 1].tolist()
    position = above - 1 + (1 - MISSED - low) / (high - low)
    error = (MISSED * (1 - MISSED) / num_sequences) ** 0.5 / (high - low)
    found = Measured(value=position, standard_error=error)
    laws = {"union bound": predicted(job.setting, LABEL_COVERAGE)}
    return {"label_coverage": Row(setting=job.setting, measured=found, predictions=laws)}


FAMILIES = (
    Family(
        name="labels",
        draws=settings.labels,
        measure=_labels,
        seconds=0.3,
        tables={
            "labels": Table(
                title="Labels for class means",
                text="n_F, evenly over classes, at which nearest class means classify fresh sources half-way from "
                "chance to what the true centres reach; beside it the law where the class subspace is known.",
                fields=("dim", "num_classes", "cosine", "spread"),
                measured="n_F",
                predicted=("class means", "known subspace"),
            )
        },
    ),
    Family(
        name="labels_trained",
        draws=settings.labels_trained,
        measure=_labels_trained,
        seconds=9.0,
        tables={
            "labels_trained": Table(
                title="Labels for a trained encoder",
                text="n_F at which a linear encoder trained by OAR alone classifies fresh sources half-way from chance "
                "to what the true centres reach; beside it the law of class means.",
                fields=("dim", "num_classes", "spread", "sigma", "learning_rate"),
                measured="n_F",
                predicted=("trained", "class means"),
            )
        },
    ),
    Family(
        name="label_coverage",
        draws=settings.label_coverage,
        measure=_coverage,
        seconds=0.1,
        tables={
            "label_coverage": Table(
                title="Random labels that cover every class",
                text="n_F at which nine draws of ten have a label of every class.",
                fields=("num_classes",),
                measured="n_F",
                predicted=("union bound",),
            ),
        },
    ),
)
