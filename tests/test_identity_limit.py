"""The theory's one exact limit: identity weights, one block, orthonormal centres.

P = 1/2 where rho / sqrt(1 - rho^2) = (K + 1) / sqrt(2 pi d), sigma^2 = 1 / rho - 1, for large d and n = N / K >= 10.
The whole path is the project's own: data, views, head, affinity and metric.
"""

import math

import pytest
import torch

from study.designs.values import with_values
from study.recipes.contrastive import components
from study.recipes.contrastive.affinity import affinity
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.evaluation import affinity_success
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import evaluation_set

RATIOS = [0.85, 0.95, 1.05, 1.15]


def sigma_of_law(dim: int, num_classes: int) -> float:
    odds = (num_classes + 1) / math.sqrt(2 * math.pi * dim)
    rho = odds / math.sqrt(1 + odds**2)
    return math.sqrt(1 / rho - 1)


@pytest.mark.parametrize(
    ("dim", "num_classes", "num_rows"), [(64, 5, 50), (256, 5, 50), (128, 10, 100), (1024, 10, 200)]
)
def test_untrained_fusion_breaks_where_the_closed_form_says(dim: int, num_classes: int, num_rows: int) -> None:
    law = sigma_of_law(dim, num_classes)
    config = with_values(
        ReplicateConfig(),
        {
            "data.name": "clusters",
            "data.clusters.dim": dim,
            "data.clusters.num_classes": num_classes,
            "data.clusters.num_sources": 10 * num_classes,
            "batch.train": 2,
            "batch.eval": num_rows,
            "model.encoder": "none",
            "model.init": "identity",
            "model.num_blocks": 1,
            "evaluation.num_batches": 20,
        },
    )
    dataset = load_dataset(config.data)
    configs = [with_values(config, {"data.strength": ratio * law}) for ratio in RATIOS]
    pack = [CONTRASTIVE.replicate(member, 0, dataset.digest) for member in configs]
    evaluation = evaluation_set(dataset, pack)
    model = (
        components.method("transfusion").trainer().build(config, dataset, [stream(0, "initialisation") for _ in pack])
    )
    with torch.no_grad():
        success = affinity_success(affinity(*model.head(model.embed(evaluation.viewed))), evaluation.labels_N)
    p = success["p"].mean(-1).tolist()
    assert p == sorted(p, reverse=True)
    left = next(i for i in range(len(p)) if p[i] >= 0.5 > p[i + 1])
    crossing = RATIOS[left] + (RATIOS[left + 1] - RATIOS[left]) * (p[left] - 0.5) / (p[left] - p[left + 1])
    assert crossing == pytest.approx(1, abs=0.06)
