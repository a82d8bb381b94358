"""Tiny data sets and configurations that several tests share."""

import os

# Small problems gain nothing from a second thread, and threads that wait for each other lose minutes beside other work.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset, load_dataset

torch.set_num_threads(1)


def for_trainer(config: ReplicateConfig, trainer: str) -> ReplicateConfig:
    """A tiny configuration changed to what a trainer needs."""
    values: dict[str, Scalar] = {"trainer": trainer}
    if trainer == "oar":
        values |= {"data.num_views": 2, "batch.eval": 40, "data.label_fraction": 0.5, "model.embedding_dim": 12}
        if config.data.name == "clusters":
            values |= {"model.encoder": "linear"}
    return with_values(config, values)


@pytest.fixture(scope="session")
def digits_config() -> ReplicateConfig:
    """Six steps on 8 x 8 digits with the smallest encoder; identity weights leave no row dead before training."""
    return with_values(
        ReplicateConfig(),
        {
            "data.name": "digits",
            "batch.train": 16,
            "batch.eval": 20,
            "model.width": 4,
            "model.embedding_dim": 8,
            "model.init": "identity",
            "horizon.unit": "steps",
            "horizon.length": 6,
            "evaluation.num_batches": 2,
            "evaluation.num_points": 2,
            "evaluation.knn_bank": 200,
            "evaluation.knn_neighbours": 5,
        },
    )


@pytest.fixture(scope="session")
def clusters_config(digits_config: ReplicateConfig) -> ReplicateConfig:
    """The same on vectors around four centres in 16 dimensions."""
    return with_values(
        digits_config,
        {
            "data.name": "clusters",
            "data.strength": 0.8,
            "data.clusters.dim": 16,
            "data.clusters.num_classes": 4,
            "data.clusters.spread": 0.5,
            "data.clusters.num_sources": 400,
            "model.encoder": "none",
            "model.init": "default",
        },
    )


@pytest.fixture(scope="session")
def digits(digits_config: ReplicateConfig) -> Dataset:
    return load_dataset(digits_config.data)


@pytest.fixture(scope="session")
def clusters(clusters_config: ReplicateConfig) -> Dataset:
    return load_dataset(clusters_config.data)
