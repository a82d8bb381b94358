"""The files of image data sets: found, read completely, or refused with a sentence that names the file."""

import gzip
import hashlib
import math
import pickle
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from study.errors import ConfigError

# Images and labels of the two splits of MNIST and its successors.
IDX_FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_NUM_FASHION_CLASSES = 10
# By their number of dimensions.
_KINDS = {3: "images", 1: "labels"}
_REMEDY = "delete it and fetch the data set again"


def is_there(path: Path) -> bool:
    """Whether anything has this name; :class:`ConfigError` where a folder on the way to it may not be searched."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def idx_folder(place: Path) -> Path | None:
    """The folder at or below ``place`` in which each of the four IDX files lies, compressed or not."""
    stems = [stem for pair in IDX_FILES for stem in pair]
    for folder in (place, place / "fashion-mnist", place / "FashionMNIST" / "raw"):
        if all(_idx_path(folder, stem) for stem in stems):
            return folder
    return None


def _idx_path(folder: Path, stem: str) -> Path | None:
    found = [path for path in (folder / stem, folder / f"{stem}.gz") if is_there(path)]
    # A folder of that name counts only where there is no file: then reading it says what is wrong.
    return next((path for path in found if path.is_file()), found[0] if found else None)


def read_fashion_mnist(folder: Path) -> tuple[np.ndarray, ...]:
    """Training images (M, 1, H, W) and labels (M,), test images and labels, all uint8, of a complete folder.

    Raises :class:`ConfigError` naming the file that cannot be read, or that does not go with its neighbour.
    """
    arrays: list[np.ndarray] = []
    for stems in IDX_FILES:
        paths = [_idx_path(folder, stem) for stem in stems]
        images_path, labels_path = (path for path in paths if path is not None)
        images, labels = _read_idx(images_path, num_dims=3), _read_idx(labels_path, num_dims=1)
        if len(images) != len(labels):
            raise ConfigError(
                f"{labels_path} has {len(labels)} labels for the {len(images)} images of {images_path}: delete both "
                "and fetch the data set again"
            )
        if arrays and images.shape[1:] != arrays[0].shape[2:]:
            height, width = arrays[0].shape[2:]
            raise ConfigError(f"the images of {images_path} are not of {height} x {width} pixels: {_REMEDY}")
        if labels.max() >= _NUM_FASHION_CLASSES:
            raise ConfigError(f"{labels_path} has labels above {_NUM_FASHION_CLASSES - 1}: {_REMEDY}")
        arrays += [images[:, None], labels]
    return tuple(arrays)


def _read_idx(path: Path, num_dims: int) -> np.ndarray:
    raw = _read(path)
    if path.suffix == ".gz":
        raw = decompressed(path, raw)
    header = 4 + 4 * num_dims
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, num_dims]):
        raise ConfigError(f"{path} is not an IDX file of {_KINDS[num_dims]}: {_REMEDY}")
    shape = tuple(int.from_bytes(raw[start : start + 4], "big") for start in range(4, header, 4))
    if len(raw) - header < math.prod(shape):
        raise ConfigError(f"{path} is cut short: {_REMEDY}")
    if len(raw) - header > math.prod(shape) or not math.prod(shape):
        raise ConfigError(f"{path} does not hold what its header says: {_REMEDY}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()


def decompressed(path: Path, raw: bytes) -> bytes:
    """The content of a gzip file's bytes; :class:`ConfigError` where they are damaged or none."""
    try:
        return gzip.decompress(raw)
    except EOFError as error:
        raise ConfigError(f"{path} is cut short: {_REMEDY}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ConfigError(f"{path} is not a gzip file, or damaged: {_REMEDY}") from error


def read_cifar(folder: Path, listing: Iterable[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Images (M, 3, 32, 32) and labels (M,), uint8, of the listed files of CIFAR's Python version.

    ``listing`` has a name and an MD5 sum per file. Only what has its sum is unpickled: a pickle can run anything.
    Raises :class:`ConfigError` naming the file that cannot be read or is not the published one.
    """
    images, labels = [], []
    for name, md5 in listing:
        raw = _read(folder / name)
        if hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
            raise ConfigError(f"{folder / name} is not the published file: its checksum differs; {_REMEDY}")
        entry = pickle.loads(raw, encoding="latin1")
        images.append(np.asarray(entry["data"], np.uint8).reshape(-1, 3, 32, 32))
        labels.append(np.asarray(entry.get("labels", entry.get("fine_labels")), np.uint8))
    return np.concatenate(images), np.concatenate(labels)


def _read(path: Path) -> bytes:
    # Reading from what is neither file nor folder, a pipe for example, would wait for ever.
    if is_there(path) and not path.is_file():
        raise ConfigError(f"{path} is not a file: remove it and fetch the data set again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigError:
    reason = error.strerror or type(error).__name__
    return ConfigError(f"{path} cannot be read ({reason}): make it readable, or {_REMEDY}")
