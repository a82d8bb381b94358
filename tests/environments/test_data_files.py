"""A data set's files are read whole, or refused with a sentence that names the file and what to do."""

import gzip
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from study.errors import ConfigError
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from tests.data_files import STEMS, fashion_arrays, idx_bytes, write_fashion

CIFARS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
Damage = Callable[[Path], object]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "cut short": (cut_short, "is cut short"),
    "empty": (lambda path: path.write_bytes(b""), "is not an IDX file of"),
    "a web page": (lambda path: path.write_bytes(b"<html>not found</html>"), "is not"),
    "a folder": (become_a_folder, "is not a file"),
    "a pipe": (become_a_pipe, "is not a file"),
}


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_idx_file_is_named(tmp_path: Path, name: str, stem: str, compress: bool) -> None:
    damage, words = DAMAGES[name]
    write_fashion(tmp_path, compress=compress)
    path = tmp_path / (f"{stem}.gz" if compress else stem)
    damage(path)
    refused(tmp_path, path, words, "fetch the data set again")


def refused(root: Path, path: Path, *words: str, name: str = "fashion_mnist") -> None:
    """Assert that loading from ``root`` ends with one line that has the path and all words."""
    with pytest.raises(ConfigError) as caught:
        load_dataset(DataConfig(name=name), str(root))
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def deny(monkeypatch: pytest.MonkeyPatch, method: str, denied: Path) -> None:
    """Make the system refuse a path, as it would to a user who is not root."""
    real = getattr(Path, method)

    def refuse(path: Path, *arguments: object, **options: object) -> object:
        if path == denied:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refuse)


@pytest.mark.parametrize("stem", STEMS)
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stem: str) -> None:
    write_fashion(tmp_path)
    deny(monkeypatch, "read_bytes", tmp_path / f"{stem}.gz")
    refused(tmp_path, tmp_path / f"{stem}.gz", "cannot be read (Permission denied)", "make it readable")


def test_a_folder_that_may_not_be_searched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path)
    deny(monkeypatch, "stat", tmp_path / STEMS[0])
    refused(tmp_path, tmp_path, "cannot be read (Permission denied)")


@pytest.mark.parametrize("part", [0, 2], ids=["train", "test"])
@pytest.mark.parametrize("change", [-1, 1], ids=["fewer", "more"])
def test_labels_and_images_of_different_number_are_refused(tmp_path: Path, part: int, change: int) -> None:
    write_fashion(tmp_path, compress=False)
    images, labels = fashion_arrays(0)[part : part + 2]
    other = labels[:change] if change < 0 else np.append(labels, labels[:change])
    (tmp_path / STEMS[part + 1]).write_bytes(idx_bytes(other))
    path = tmp_path / STEMS[part + 1]
    refused(tmp_path, path, f"has {len(other)} labels for the {len(images)} images of {tmp_path / STEMS[part]}")


def test_images_and_labels_under_each_others_names_are_refused(tmp_path: Path) -> None:
    write_fashion(tmp_path, compress=False)
    images, labels = tmp_path / STEMS[0], tmp_path / STEMS[1]
    held = images.read_bytes()
    images.write_bytes(labels.read_bytes())
    labels.write_bytes(held)
    refused(tmp_path, images, "is not an IDX file of images")


WRONG_CONTENT = {
    "more bytes than the header says": (0, idx_bytes(fashion_arrays(0)[0]) + b"\0", "does not hold what its header"),
    "no image": (0, idx_bytes(fashion_arrays(0)[0][:0]), "does not hold what its header says"),
    "other classes": (1, idx_bytes(np.arange(50, dtype=np.uint8)), "has labels above 9"),
    "test images of another size": (2, idx_bytes(fashion_arrays(0)[2][:, 1:]), "are not of 28 x 28 pixels"),
}


@pytest.mark.parametrize("name", WRONG_CONTENT)
def test_a_whole_file_of_wrong_content_is_named(tmp_path: Path, name: str) -> None:
    index, content, words = WRONG_CONTENT[name]
    write_fashion(tmp_path, compress=False)
    (tmp_path / STEMS[index]).write_bytes(content)
    refused(tmp_path, tmp_path / STEMS[index], words)


def test_a_folder_beside_the_compressed_file_does_no_harm(tmp_path: Path) -> None:
    """Some programs unpack NAME.gz into a folder NAME."""
    write_fashion(tmp_path)
    for stem in STEMS:
        (tmp_path / stem).mkdir()
    assert len(load_dataset(DataConfig(name="fashion_mnist"), str(tmp_path)).test) == 20


@pytest.fixture(params=CIFARS)
def cifar(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[Path]]:
    """A complete small CIFAR below ``tmp_path``: its name and its files."""
    name = request.param
    published = CIFARS[name]
    paths = []
    for attribute in ("train_list", "test_list"):
        listing = []
        for file, _ in getattr(published, attribute):
            key = "labels" if name == "cifar10" else "fine_labels"
            entry = {"data": np.full((10, 3072), len(paths), np.uint8), key: list(range(10))}
            paths.append(tmp_path / published.base_folder / file)
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_bytes(pickle.dumps(entry))
            listing.append([file, hashlib.md5(paths[-1].read_bytes()).hexdigest()])
        monkeypatch.setattr(published, attribute, listing)
    return name, paths


def test_a_damaged_cifar_file_is_named_and_never_unpickled(
    tmp_path: Path, cifar: tuple[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, paths = cifar
    load_dataset(DataConfig(name=name), str(tmp_path))

    class Harm:
        def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
            return os.abort, ()

    contents = (b"", b"<html>", paths[0].read_bytes()[:-1], gzip.compress(b"x"), pickle.dumps(Harm()))
    for path in (paths[0], paths[-1]):
        whole = path.read_bytes()
        for content in contents:
            path.write_bytes(content)
            refused(tmp_path, path, "is not the published file", "fetch the data set again", name=name)
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", [become_a_folder, become_a_pipe])
def test_what_is_no_file_in_the_place_of_a_cifar_file_is_named(
    tmp_path: Path, cifar: tuple[str, list[Path]], damage: Damage
) -> None:
    name, paths = cifar
    damage(paths[-1])
    refused(tmp_path, paths[-1], "is not a file", name=name)


def test_a_cifar_file_that_may_not_be_read_is_named(
    tmp_path: Path, cifar: tuple[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, paths = cifar
    deny(monkeypatch, "read_bytes", paths[0])
    refused(tmp_path, paths[0], "cannot be read (Permission denied)", name=name)
