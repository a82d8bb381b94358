"""Draws docs/affinities.png: the affinity of one test batch, rows by class, before and after training by each method.

    python -m benchmarks.affinities

Fashion-MNIST, ten images of every class, unaugmented; every method of benchmarks/downstream.py trained on 60,000
images, seed 1. TransFusion shows the affinity of its last block, the others the ReLU affinity of their embeddings. Rows
sum to 1; all panels share one colour scale.
"""

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib.figure import Figure

from benchmarks.downstream import COMMON, METHODS
from study.designs.values import with_values
from study.recipes.contrastive.affinity import affinity, unit
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.evaluation import affinity_success
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun
from study.recipes.contrastive.trainers.transfusion import TransFusionModel

_PER_CLASS = 10
_HORIZON = 60_000


def sorted_batch(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """The first test images of every class, class by class: (1, N, C, H, W) in [0, 1], and labels (N,)."""
    labels = dataset.test.labels
    rows = torch.cat([torch.nonzero(labels == k).flatten()[:_PER_CLASS] for k in range(dataset.num_classes)])
    return dataset.test.inputs[rows][None] / 255, labels[rows]


@torch.no_grad()
def affinity_of(run: PackRun, inputs: torch.Tensor) -> torch.Tensor:
    """The affinity (1, N, N) that a run's model gives a batch now."""
    run.model.eval()
    if isinstance(run.model, TransFusionModel):
        found = affinity(*run.model.head(run.model.embed(inputs)))
    else:
        z_RND = unit(run.model.judged(inputs))
        found = affinity(z_RND, z_RND)
    run.model.train()
    return found


def main() -> None:
    """Train, draw and save."""
    torch.set_num_threads(1)
    base = with_values(ReplicateConfig(), COMMON | {"horizon.length": _HORIZON, "evaluation.num_points": 1})
    dataset = load_dataset(base.data)
    inputs, labels_N = sorted_batch(dataset)
    panels: list[tuple[str, torch.Tensor]] = []
    for method, values in METHODS.items():
        config = with_values(base, {**values, "horizon.length": _HORIZON})
        run = PackRun([CONTRASTIVE.replicate(config, 1, dataset.digest)], dataset)
        if not panels:
            panels.append(("untrained encoder", affinity_of(run, inputs)))
        while not run.is_done:
            run.advance()
        panels.append((method, affinity_of(run, inputs)))
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    axes = figure.subplots(2, 4).flatten()
    for ax in axes:
        ax.axis("off")
    for ax, (name, found_RNN) in zip(axes, panels, strict=False):
        success = float(affinity_success(found_RNN, labels_N)["p"])
        ax.imshow(found_RNN[0].sqrt(), cmap="magma", vmin=0, vmax=0.35, interpolation="nearest")
        ax.set_title(f"{name}\nP = {success:.2f}", fontsize=9, loc="left")
    figure.suptitle("Square root of the affinity of 100 Fashion-MNIST test images, sorted by class", fontsize=11)
    figure.savefig("docs/affinities.png", dpi=110)


if __name__ == "__main__":
    main()
