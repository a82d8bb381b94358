"""CIFAR-100: 60,000 photographs of 32 x 32 pixels in 100 classes."""

from pathlib import Path
from typing import TYPE_CHECKING

from study.recipes.contrastive.data.sets import DataSource

if TYPE_CHECKING:
    import numpy as np


def _images(root: Path | None) -> "tuple[np.ndarray, ...]":
    from study.recipes.contrastive.data.cifar import load_cifar

    return load_cifar("cifar100", root)


DATASET = DataSource(name="cifar100", num_classes=100, is_flippable=True, images=_images)
