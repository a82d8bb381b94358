"""Draw docs/views.png: what a view looks like at each augmentation strength, on two data sets.

Command: python benchmarks/view_strengths.py

A column is one image with one draw of its parameters: down the column only the strength changes.
"""

import dataclasses
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.gridspec import GridSpec

from study.recipes.contrastive import components
from study.recipes.contrastive.config import DataConfig, ViewsConfig
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views, draw_view_parameters

_TARGET = Path(__file__).resolve().parent.parent / "docs" / "views.png"
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_NUM_COLUMNS = 8
_COLOUR_ONLY = {"saturation", "hue", "grayscale"}
_ON = [field.name for field in dataclasses.fields(ViewsConfig) if field.name not in _COLOUR_ONLY]
_RANGES = ViewsConfig(**dict.fromkeys(_ON, 1.0))
_TITLES = {"fashion_mnist": "Fashion-MNIST", "digits": "digits"}


def strength_rows(dataset: Dataset, flip: bool) -> list[torch.Tensor]:
    """For each strength, views (columns, H, W) of one image of each of the first classes."""
    labels = dataset.train.labels
    chosen = torch.stack([torch.nonzero(labels == k)[3, 0] for k in range(_NUM_COLUMNS)])
    uniforms = draw_view_parameters(_NUM_COLUMNS, dataset.input_shape, stream(0, "views"), ranges=_RANGES)[0]
    images = dataset.train.inputs[chosen]
    return [apply_views(images, uniforms, torch.full((_NUM_COLUMNS,), s), flip, _RANGES)[:, 0] for s in _STRENGTHS]


def main() -> None:
    """Write the figure."""
    figure = plt.figure(figsize=(9.6, 4.5), dpi=140)
    grid = GridSpec(
        len(_STRENGTHS),
        2 * _NUM_COLUMNS + 1,
        figure=figure,
        width_ratios=[1] * _NUM_COLUMNS + [0.35] + [1] * _NUM_COLUMNS,
        left=0.06,
        right=0.995,
        top=0.865,
        bottom=0.01,
        wspace=0.06,
        hspace=0.06,
    )
    for index, (name, title) in enumerate(_TITLES.items()):
        flip = components.dataset(name).is_flippable
        offset = index * (_NUM_COLUMNS + 1)
        for row, views in enumerate(strength_rows(load_dataset(DataConfig(name=name)), flip)):
            for column, view in enumerate(views):
                axes = figure.add_subplot(grid[row, offset + column])
                axes.imshow(view.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set_color("0.8")
                    spine.set_linewidth(0.6)
                if index == 0 and column == 0:
                    axes.set_ylabel(f"{_STRENGTHS[row]:g}", rotation=0, ha="right", va="center", fontsize=10)
        on = ", ".join(transform for transform in _ON if flip or transform != "flip")
        middle = grid[0, offset : offset + _NUM_COLUMNS].get_position(figure)
        centre = (middle.x0 + middle.x1) / 2
        figure.text(centre, 0.955, title, ha="center", va="center", fontsize=11, weight="bold")
        figure.text(centre, 0.9, on, ha="center", va="center", fontsize=7.5, color="0.35")
    figure.text(0.008, 0.9, "strength", ha="left", va="center", fontsize=8.5, color="0.2")
    figure.savefig(_TARGET, metadata={"Software": None})


if __name__ == "__main__":
    main()
