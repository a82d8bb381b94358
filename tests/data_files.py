"""Small data sets in the published file formats, for tests of finding, fetching and reading them."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: Bytes) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def fashion_arrays(seed: int) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    rng = np.random.default_rng(seed)
    train, test = (rng.integers(0, 256, (size, 28, 28), dtype=np.uint8) for size in (50, 20))
    return train, np.arange(50, dtype=np.uint8) % 10, test, np.arange(20, dtype=np.uint8) % 10


def fashion_files(seed: int = 0) -> dict[str, bytes]:
    """The content of the four files by their name, without compression."""
    return {stem: idx_bytes(array) for stem, array in zip(STEMS, fashion_arrays(seed), strict=True)}


def write_fashion(directory: Path, seed: int = 0, *, compress: bool = True) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for stem, raw in fashion_files(seed).items():
        if compress:
            (directory / f"{stem}.gz").write_bytes(gzip.compress(raw))
        else:
            (directory / stem).write_bytes(raw)
    return directory
