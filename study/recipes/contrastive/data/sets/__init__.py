"""The data sets: a file each, which says what it is and how it is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from study.recipes.contrastive.data.datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set before it is loaded.

    ``num_classes`` is None where the configuration says it. Images come from ``images``: training images and labels,
    then those of the test split (uint8, (M, C, H, W) and (M,)), of which ``num_validation`` training images are held
    out. ``is_flippable``: its classes survive a horizontal flip. Vectors come from ``vectors``, complete, by their part
    of the configuration.
    """

    name: str
    num_classes: int | None
    num_validation: int = 5_000
    is_flippable: bool = False
    images: "Callable[[Path | None], tuple[np.ndarray, ...]] | None" = None
    vectors: "Callable[[Any], Dataset] | None" = None

    @property
    def is_vector(self) -> bool:
        return self.vectors is not None
