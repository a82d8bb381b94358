"""The synthetic data model: sources around unit centres, complete in memory (:class:`ClustersConfig`)."""

import hashlib

import numpy as np
import torch

from study.recipes.contrastive.config import ClustersConfig
from study.recipes.contrastive.data.datasets import SPLIT_SEED, Dataset, Split
from study.recipes.contrastive.data.streams import stream


def cluster_centres(config: ClustersConfig) -> torch.Tensor:
    """Unit centres (K, d), float64, all pairwise cosines equal to ``config.cosine``, in the first K axes."""
    k = config.num_classes
    gram = (1 - config.cosine) * np.eye(k) + config.cosine * np.ones((k, k))
    values, vectors = np.linalg.eigh(gram)
    centres = np.zeros((k, config.dim))
    centres[:, :k] = vectors * np.sqrt(np.clip(values, 0, None))
    return torch.from_numpy(centres)


def make_clusters(config: ClustersConfig) -> Dataset:
    centres_Kd = cluster_centres(config)
    rotation_dd = None
    if config.basis == "random":
        gaussian_dd = torch.randn(
            config.dim, config.dim, generator=stream(SPLIT_SEED, "clusters-basis"), dtype=torch.float64
        )
        rotation_dd = torch.linalg.qr(gaussian_dd).Q
    splits = {}
    sizes = {"train": config.num_sources, "validation": 5_000, "test": 5_000}
    for name, size in sizes.items():
        labels = torch.arange(size) % config.num_classes
        noise = torch.randn(size, config.dim, generator=stream(SPLIT_SEED, f"clusters-{name}"), dtype=torch.float64)
        sources = centres_Kd[labels] + config.spread * noise / config.dim**0.5
        sources[:, config.num_classes :] += config.mean_norm / max(config.dim - config.num_classes, 1) ** 0.5
        if rotation_dd is not None:
            sources = sources @ rotation_dd
        splits[name] = Split(inputs=sources.float(), labels=labels)
    # Fields that came later leave the digest as it was where they change nothing.
    without_effect = {"mean_norm": 0.0, "basis": "axes"}
    fields = [f"{name}={value!r}" for name, value in vars(config).items() if without_effect.get(name) != value]
    sha = hashlib.sha256(f"ClustersConfig({', '.join(fields)})".encode())
    for split in splits.values():
        sha.update(split.inputs[:64].numpy().tobytes())
    return Dataset(
        name="clusters",
        num_classes=config.num_classes,
        mean=0.0,
        std=1.0,
        digest=sha.hexdigest()[:16],
        **splits,
    )
