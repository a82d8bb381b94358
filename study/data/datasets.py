"""Data sets as tensors in memory, with a digest of their bytes.

Images are uint8 (M, C, H, W); ``clusters`` are float32 sources (M, d). Splits are fixed: validation is a
seeded part of the training data, test is the data set's own.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from study.config import ClustersConfig, ConfigError, DataConfig, DataUnavailable, first_line
from study.data.fetching import NotFetched, fetch_archive, fetch_fashion_mnist
from study.data.image_files import idx_folder, is_there, read_cifar, read_fashion_mnist
from study.data.streams import stream

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NUM_VALIDATION = {"fashion_mnist": 5_000, "digits": 250, "cifar10": 5_000, "cifar100": 5_000, "clusters": 5_000}
_SPLIT_SEED = 0


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
    if config.name == "clusters":
        return _clusters(config.clusters)
    root = data_root or os.environ.get("STUDY_DATA")
    directory = Path(root).expanduser() if root else None
    if config.name == "digits":
        arrays = _digits()
    elif config.name == "fashion_mnist":
        arrays = _fashion_mnist(directory)
    else:
        arrays = _cifar(config.name, directory)
    return _from_arrays(config.name, *arrays)


def _from_arrays(
    name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> Dataset:
    sha = hashlib.sha256()
    for array in (train_x, train_y, test_x, test_y):
        sha.update(str(array.shape).encode())
        sha.update(array.tobytes())
    order = torch.randperm(len(train_y), generator=stream(_SPLIT_SEED, "validation-split"))
    num_validation = NUM_VALIDATION[name] if len(train_y) > 2 * NUM_VALIDATION[name] else len(train_y) // 5
    inputs, labels = torch.from_numpy(train_x), torch.from_numpy(train_y).long()
    held_out, kept = order[:num_validation], order[num_validation:].sort().values
    train = Split(inputs=inputs[kept], labels=labels[kept])
    return Dataset(
        name=name,
        num_classes=int(train_y.max()) + 1,
        train=train,
        validation=Split(inputs=inputs[held_out], labels=labels[held_out]),
        test=Split(inputs=torch.from_numpy(test_x), labels=torch.from_numpy(test_y).long()),
        mean=float(train.inputs.numpy().mean() / 255),
        std=float(train.inputs.numpy().std() / 255),
        digest=sha.hexdigest()[:16],
    )


def _places(root: Path | None, *system: Path) -> Iterator[Path]:
    """Where data sets are looked for: the user's choice, then system folders, then our own folder for them."""
    if root is not None:
        yield root
    yield from system
    yield _data_folder()


def _data_folder() -> Path:
    """The per-user folder for data sets of this machine; :class:`ConfigError` where the user has no home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "limit-study" / "data"
    try:
        return Path.home() / ".cache" / "limit-study" / "data"
    except RuntimeError as error:
        raise ConfigError(
            f"no folder for data sets is known ({first_line(error).rstrip('.')}): pass --data-root, or set STUDY_DATA "
            "or XDG_CACHE_HOME"
        ) from error


def _fashion_mnist(root: Path | None) -> tuple[np.ndarray, ...]:
    folder = next((hit for place in _places(root, DEBIAN_FASHION_MNIST) if (hit := idx_folder(place))), None)
    if folder is None:
        try:
            folder = fetch_fashion_mnist(root or _data_folder())
        except NotFetched as error:
            raise DataUnavailable(
                f"Fashion-MNIST is not on this machine and could not be fetched ({error})",
                "install Debian's package dataset-fashion-mnist, or put its four IDX files into a folder and pass "
                "--data-root (or set STUDY_DATA)",
            ) from error
    return read_fashion_mnist(folder)


def _digits() -> tuple[np.ndarray, ...]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.uint8)
    order = torch.randperm(len(labels), generator=stream(_SPLIT_SEED, "test-split")).numpy()
    test, train = order[:300], np.sort(order[300:])
    return images[train], labels[train], images[test], labels[test]


def _cifar(name: str, root: Path | None) -> tuple[np.ndarray, ...]:
    from torchvision.datasets import CIFAR10, CIFAR100

    cifar = CIFAR10 if name == "cifar10" else CIFAR100
    names = [file for file, _ in (*cifar.train_list, *cifar.test_list)]
    folders = (place / cifar.base_folder for place in _places(root))
    folder = next((folder for folder in folders if all(is_there(folder / file) for file in names)), None)
    if folder is None:
        target = root or _data_folder()
        try:
            folder = fetch_archive(target, cifar.url, cifar.tgz_md5, cifar.base_folder, names)
        except NotFetched as error:
            raise DataUnavailable(
                f"{name} was not found under {target} and could not be fetched ({error})",
                "unpack its Python version into a folder and pass --data-root (or set STUDY_DATA)",
            ) from error
    return (*read_cifar(folder, cifar.train_list), *read_cifar(folder, cifar.test_list))


def cluster_centres(config: ClustersConfig) -> torch.Tensor:
    """Unit centres (K, d), float64, all pairwise cosines equal to ``config.cosine``, in the first K axes."""
    k = config.num_classes
    gram = (1 - config.cosine) * np.eye(k) + config.cosine * np.ones((k, k))
    values, vectors = np.linalg.eigh(gram)
    centres = np.zeros((k, config.dim))
    centres[:, :k] = vectors * np.sqrt(np.clip(values, 0, None))
    return torch.from_numpy(centres)


def _clusters(config: ClustersConfig) -> Dataset:
    centres_Kd = cluster_centres(config)
    rotation_dd = None
    if config.basis == "random":
        gaussian_dd = torch.randn(
            config.dim, config.dim, generator=stream(_SPLIT_SEED, "clusters-basis"), dtype=torch.float64
        )
        rotation_dd = torch.linalg.qr(gaussian_dd).Q
    splits = {}
    sizes = {"train": config.num_sources, "validation": 5_000, "test": 5_000}
    for name, size in sizes.items():
        labels = torch.arange(size) % config.num_classes
        noise = torch.randn(size, config.dim, generator=stream(_SPLIT_SEED, f"clusters-{name}"), dtype=torch.float64)
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
