"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn brings along."""

from pathlib import Path
from typing import TYPE_CHECKING

from study.recipes.contrastive.data.sets import DataSource

if TYPE_CHECKING:
    import numpy as np


def _digits(_root: Path | None) -> "tuple[np.ndarray, ...]":
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from study.recipes.contrastive.data.datasets import SPLIT_SEED
    from study.recipes.contrastive.data.streams import stream

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.uint8)
    order = torch.randperm(len(labels), generator=stream(SPLIT_SEED, "test-split")).numpy()
    test, train = order[:300], np.sort(order[300:])
    return images[train], labels[train], images[test], labels[test]


DATASET = DataSource(name="digits", num_classes=10, num_validation=250, images=_digits)
