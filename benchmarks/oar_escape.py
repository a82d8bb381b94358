"""Does OAR shorten the escape from the collapsed state by 1 / (1 + lambda)? A linear encoder, eta = 100, mean norm 3.

    python benchmarks/oar_escape.py

The first step, which makes the collapse, is InfoNCE's alone, so that every lambda starts from the same state:
embeddings along one line whose norm R_1 the first step decides. T is the number of steps until their mean cosine falls
below 1/2, T_0 that of lambda = 0 on the same seed. Seeds 101 to 116 were fixed before the run. Orthonormal centres
less their mean have norm sqrt(4 / 5); here centres are unit, and spread, noise and mean are divided by that norm: only
directions of inputs matter to a linear encoder whose embeddings are normalised.
"""

import math

import numpy as np
import torch

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import train_pack

SEEDS = range(101, 117)
_SCALE = math.sqrt(4 / 5)
STATE: dict[str, Scalar] = {
    "trainer": "oar",
    "data.name": "clusters",
    "data.num_views": 2,
    "data.strength": 1.0 / _SCALE,
    "data.clusters.dim": 32,
    "data.clusters.cosine": -0.25,
    "data.clusters.spread": 0.5 / _SCALE,
    "data.clusters.mean_norm": 3.0 / _SCALE,
    "data.clusters.num_sources": 1_000,
    "batch.train": 128,
    "batch.eval": 200,
    "model.encoder": "linear",
    "model.embedding_dim": 16,
    "loss.oar_from_step": 1,
    "optimizer.name": "sgd",
    "optimizer.momentum": 0.0,
    "optimizer.schedule": "constant",
    "horizon.unit": "steps",
    "evaluation.num_batches": 1,
    "evaluation.num_points": 1,
    "evaluation.knn_bank": 0,
    "evaluation.escape": True,
}
CASES: list[tuple[str, dict[str, Scalar]]] = [
    ("all labels, a batch of 128", {"batch.labelled": 128}),
    ("20 % of the labels, a batch of 128", {"batch.labelled": 128, "data.label_fraction": 0.2}),
    ("0.5 % of the labels, a batch of 8", {"batch.labelled": 8, "data.label_fraction": 0.005}),
    ("20 % of the labels, those of the training batch", {"data.label_fraction": 0.2}),
    ("0.5 % of the labels, those of the training batch", {"data.label_fraction": 0.005}),
]


def escapes(values: dict[str, Scalar]) -> np.ndarray:
    """Step of escape of each seed; NaN where it did not come."""
    config = with_values(ReplicateConfig(), STATE | values)
    dataset = load_dataset(config.data)
    pack = [CONTRASTIVE.replicate(config, seed, dataset.digest) for seed in SEEDS]
    return np.array([result.metrics.get("escape_step", math.nan) for result in train_pack(pack, dataset)])


def geometric_mean(ratios: np.ndarray) -> str:
    """Geometric mean with its standard error over seeds, or how many seeds have no ratio."""
    if np.isnan(ratios).any():
        return f"{int(np.isnan(ratios).sum())} of {len(ratios)} censored"
    logs = np.log(ratios)
    return f"{math.exp(logs.mean()):.2f} (× or ÷ {math.exp(logs.std(ddof=1) / math.sqrt(len(logs))):.2f})"


def main() -> None:
    """Print a Markdown table per learning rate."""
    torch.set_num_threads(1)
    print("| eta | labels for OAR | lambda | T_0, quartiles | T / T_0, geometric mean | times (1 + lambda) |")
    print("|---|---|---|---|---|---|")
    for rate in (100.0, 300.0):
        base: dict[str, Scalar] = {"optimizer.learning_rate": rate, "horizon.length": int(25 * rate)}
        alone = escapes(base | {"loss.oar_weight": 0.0})
        quartiles = " ".join(f"{q:.0f}" for q in np.nanquantile(alone, (0.25, 0.5, 0.75)))
        for name, values in CASES if rate == 100 else CASES[:1]:
            for weight in (1.0, 5.0):
                ratios = escapes(base | values | {"loss.oar_weight": weight}) / alone
                row = [f"{rate:g}", name, f"{weight:g}", quartiles]
                row += [geometric_mean(ratios), geometric_mean(ratios * (1 + weight))]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
