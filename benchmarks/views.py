"""Views per second and core: lightly's SimCLRTransform in its DataLoader against ours, side by side in one run.

Command: python benchmarks/views.py (needs lightly, which the project itself does not)

Both make two views of the same random 32 x 32 colour images at batch 256, on one thread; a view counts as an image.
lightly's images are decoded PIL images in memory, which it views faster than tensors of this size.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from study.recipes.contrastive.config import ViewsConfig
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views, draw_view_parameters

_BATCH = 256
_NUM_IMAGES = 4 * _BATCH
_NUM_VIEWS = 2
_SHAPE = (3, 32, 32)
_STRENGTH = 1.0
_NUM_REPEATS = 7

# lightly's jitter of small images, and the same ranges at our strength 1. Normalisation, which our encoders do, is off.
_COMMON: dict[str, Any] = {"input_size": 32, "cj_strength": 0.5, "rr_prob": 0.0, "normalize": None}
_BASIC: dict[str, Any] = {"cj_hue": 0.0, "cj_sat": 0.0, "gaussian_blur": 0.0, "random_gray_scale": 0.0}
_FULL = {"saturation": 1.0, "hue": 1.0, "grayscale": 1.0, "blur": 1.0}
_SETS = {
    "crop, flip, brightness, contrast": (SimCLRTransform(**_COMMON, **_BASIC), ViewsConfig(rotation=0.0)),
    "the same, saturation, hue, grayscale, blur": (SimCLRTransform(**_COMMON), ViewsConfig(rotation=0.0, **_FULL)),
}
_ALONE = {
    "the same, and noise": ViewsConfig(rotation=0.0, noise=1.0, **_FULL),
    "the default: rotation too, no colour, blur or noise": ViewsConfig(),
}


class _Images(Dataset):
    """PIL images in memory with their transform."""

    def __init__(self, images_BCHW: torch.Tensor, transform: SimCLRTransform) -> None:
        self._images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images_BCHW]
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> list[Any]:
        return self._transform(self._images[index])


def _lightly(images_BCHW: torch.Tensor, transform: SimCLRTransform) -> Callable[[], int]:
    loader = DataLoader(_Images(images_BCHW, transform), batch_size=_BATCH, num_workers=0)
    return lambda: sum(len(view) for views in loader for view in views)


def _ours(images_BCHW: torch.Tensor, ranges: ViewsConfig) -> Callable[[], int]:
    strength_B = torch.full((_BATCH * _NUM_VIEWS,), _STRENGTH)

    def one_pass() -> int:
        num_views = 0
        for step, batch in enumerate(images_BCHW.split(_BATCH)):
            rows = batch.repeat_interleave(_NUM_VIEWS, dim=0)
            parameters = draw_view_parameters(len(rows), _SHAPE, stream(0, "views", step), ranges=ranges)[0]
            num_views += len(apply_views(rows, parameters, strength_B, True, ranges))
        return num_views

    return one_pass


def _views_per_second(one_pass: Callable[[], int]) -> float:
    """Median over passes, after a warm-up."""
    one_pass()
    rates = []
    for _ in range(_NUM_REPEATS):
        start = time.perf_counter()
        num_views = one_pass()
        rates.append(num_views / (time.perf_counter() - start))
    return median(rates)


def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    images_BCHW = torch.randint(0, 256, (_NUM_IMAGES, *_SHAPE), generator=stream(0, "images"), dtype=torch.uint8)
    print("| transforms | lightly, views per second | ours | ratio |")
    print("|---|---|---|---|")
    for name, (transform, ranges) in _SETS.items():
        theirs = _views_per_second(_lightly(images_BCHW, transform))
        ours = _views_per_second(_ours(images_BCHW, ranges))
        print(f"| {name} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.1f} |", flush=True)
    for name, ranges in _ALONE.items():
        print(f"| {name} | | {_views_per_second(_ours(images_BCHW, ranges)):,.0f} | |", flush=True)


if __name__ == "__main__":
    main()
