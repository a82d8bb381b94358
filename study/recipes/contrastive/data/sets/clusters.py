"""The synthetic data model, whose laws are known: vectors around centres."""

from typing import TYPE_CHECKING

from study.recipes.contrastive.data.sets import DataSource

if TYPE_CHECKING:
    from study.recipes.contrastive.config import ClustersConfig
    from study.recipes.contrastive.data.datasets import Dataset


def _vectors(config: "ClustersConfig") -> "Dataset":
    from study.recipes.contrastive.data.cluster_model import make_clusters

    return make_clusters(config)


DATASET = DataSource(name="clusters", num_classes=None, vectors=_vectors)
