"""Fashion-MNIST (arXiv 1708.07747): 60,000 images of clothes, from Debian's package, a folder or its archive."""

from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import DataUnavailable
from study.recipes.contrastive.data.places import INSTEAD, data_folder, places
from study.recipes.contrastive.data.sets import DataSource

if TYPE_CHECKING:
    import numpy as np

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def _fashion_mnist(root: Path | None) -> "tuple[np.ndarray, ...]":
    from study.recipes.contrastive.data.fetching import NotFetched, fetch_fashion_mnist
    from study.recipes.contrastive.data.image_files import idx_folder, read_fashion_mnist

    folder = next((hit for place in places(root, DEBIAN_FASHION_MNIST) if (hit := idx_folder(place))), None)
    if folder is None:
        try:
            folder = fetch_fashion_mnist(root or data_folder())
        except NotFetched as error:
            raise DataUnavailable(
                f"Fashion-MNIST is not on this machine and could not be fetched ({error})",
                "install Debian's package dataset-fashion-mnist, or put its four IDX files into a folder and pass "
                "--data-root (or set STUDY_DATA)",
                INSTEAD,
            ) from error
    return read_fashion_mnist(folder)


DATASET = DataSource(name="fashion_mnist", num_classes=10, is_flippable=True, images=_fashion_mnist)
