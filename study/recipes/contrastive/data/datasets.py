"""Data sets as tensors in memory, with a digest of their bytes.

Images are uint8 (M, C, H, W); ``clusters`` are float32 sources (M, d). Splits are fixed: validation is a
seeded part of the training data, test is the data set's own.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from study.recipes.contrastive import components
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.sets import DataSource
from study.recipes.contrastive.data.streams import stream

SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Split:
    """Inputs (uint8 (M, C, H, W) or float32 (M, d)) and int64 labels (M,)."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set, complete in memory. ``mean`` and ``std`` are of the training pixels in [0, 1]."""

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split
    mean: float
    std: float
    digest: str

    @property
    def is_images(self) -> bool:
        return self.train.inputs.dim() == 4

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.inputs.shape[1:])

    def split(self, name: Literal["validation", "test"]) -> Split:
        return self.validation if name == "validation" else self.test

    def to(self, device: torch.device) -> "Dataset":
        """The same data set on ``device``, moved once per process."""
        moved = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **moved)


def load_dataset(config: DataConfig, data_root: str | None = None) -> Dataset:
    """Load a data set; ``data_root`` (or ``$STUDY_DATA``) is searched first.

    Raises :class:`DataUnavailable` with the ways to get it where it cannot be found or fetched, and
    :class:`ConfigError` naming the file where what was found cannot be used.
    """
    source = components.dataset(config.name)
    if source.vectors is not None:
        return source.vectors(getattr(config, config.name))
    assert source.images is not None, config.name
    root = data_root or os.environ.get("STUDY_DATA")
    directory = Path(root).expanduser() if root else None
    return _from_arrays(source, *source.images(directory))


def _from_arrays(
    source: DataSource, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> Dataset:
    sha = hashlib.sha256()
    for array in (train_x, train_y, test_x, test_y):
        sha.update(str(array.shape).encode())
        sha.update(array.tobytes())
    order = torch.randperm(len(train_y), generator=stream(SPLIT_SEED, "validation-split"))
    num_validation = source.num_validation if len(train_y) > 2 * source.num_validation else len(train_y) // 5
    inputs, labels = torch.from_numpy(train_x), torch.from_numpy(train_y).long()
    held_out, kept = order[:num_validation], order[num_validation:].sort().values
    train = Split(inputs=inputs[kept], labels=labels[kept])
    return Dataset(
        name=source.name,
        num_classes=int(train_y.max()) + 1,
        train=train,
        validation=Split(inputs=inputs[held_out], labels=labels[held_out]),
        test=Split(inputs=torch.from_numpy(test_x), labels=torch.from_numpy(test_y).long()),
        mean=float(train.inputs.numpy().mean() / 255),
        std=float(train.inputs.numpy().std() / 255),
        digest=sha.hexdigest()[:16],
    )
