"""Effective strength and centre cosine of views, in the words of the data model, with the encoder before training.

Shape suffixes: R replicates, N rows.
"""

import torch

from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views, draw_view_parameters
from study.recipes.contrastive.evaluation import cosine_moments
from study.recipes.contrastive.trainers.base import EmbeddingModel, in_chunks

_SEED = 0
_NUM_ROWS = 1_000


def sample_views(dataset: Dataset, config: ReplicateConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """One view each of up to 1,000 training rows (N, ...), the same rows for every strength, and their labels (N,)."""
    order = torch.randperm(len(dataset.train), generator=stream(_SEED, "effective-rows"))[:_NUM_ROWS]
    device = dataset.train.labels.device
    rows = order.to(device)
    generator = stream(_SEED, "effective-views")
    parameters = draw_view_parameters(len(rows), dataset.input_shape, generator, 1, config.data.views)[0].to(device)
    strengths = torch.full((len(rows),), config.data.strength, device=device)
    inputs = dataset.train.inputs[rows]
    viewed = apply_views(
        inputs, parameters, strengths, components.dataset(config.data.name).is_flippable, config.data.views
    )
    return viewed, dataset.train.labels[rows]


def raw_moments(dataset: Dataset, config: ReplicateConfig) -> dict[str, float]:
    """Cosine moments of the viewed inputs themselves."""
    viewed, labels = sample_views(dataset, config)
    return cosine_moments(viewed.flatten(1), labels)


@torch.no_grad()
def encoder_moments(
    model: EmbeddingModel, num_members: int, dataset: Dataset, config: ReplicateConfig
) -> list[dict[str, float]]:
    """Cosine moments of what each member's encoder makes of the views."""
    viewed, labels = sample_views(dataset, config)
    model.eval()
    z_RND = in_chunks(model.embed, viewed.expand(num_members, *viewed.shape))
    model.train()
    return [cosine_moments(z, labels) for z in z_RND]
