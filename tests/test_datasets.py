"""Data sets are found where the user says, read completely or refused with a sentence, and have a stable digest."""

import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from study.errors import DataUnavailable
from study.recipes.contrastive.config import ClustersConfig, DataConfig
from study.recipes.contrastive.data import cifar, fetching
from study.recipes.contrastive.data.cluster_model import cluster_centres
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.data.fetching import NotFetched
from study.recipes.contrastive.data.sets import fashion_mnist
from tests.data_files import STEMS, Bytes, fashion_arrays, write_fashion

CIFARS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
FASHION = DataConfig(name="fashion_mnist")


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """The system folder and the cache, both empty, and no download."""
    found = {"debian": tmp_path / "debian", "cache": tmp_path / "cache" / "limit-study" / "data"}
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FASHION_MNIST", found["debian"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("STUDY_DATA", raising=False)

    def refuse(*arguments: object, **options: object) -> None:
        raise NotFetched("no network in tests")

    monkeypatch.setattr(fetching, "fetch_fashion_mnist", refuse)
    monkeypatch.setattr(cifar, "fetch_archive", refuse)
    return found


def digest_of(seed: int, scratch: Path) -> str:
    return load_dataset(FASHION, str(write_fashion(scratch / f"reference-{seed}", seed))).digest


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("folder", [".", "fashion-mnist", "FashionMNIST/raw"])
def test_idx_files_are_read_below_the_data_root(tmp_path: Path, compress: bool, folder: str) -> None:
    write_fashion(tmp_path / "root" / folder, compress=compress)
    dataset = load_dataset(FASHION, str(tmp_path / "root"))
    train_x, train_y, test_x, test_y = fashion_arrays(0)
    assert torch.equal(dataset.test.inputs, torch.from_numpy(test_x)[:, None])
    assert dataset.test.labels.tolist() == test_y.tolist()
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.num_classes == 10
    assert (len(dataset.train), len(dataset.validation)) == (40, 10)
    seen = torch.cat([dataset.train.inputs, dataset.validation.inputs])[:, 0].numpy()
    labels = torch.cat([dataset.train.labels, dataset.validation.labels]).tolist()
    known = {image.tobytes(): int(label) for image, label in zip(train_x, train_y, strict=True)}
    assert {image.tobytes(): label for image, label in zip(seen, labels, strict=True)} == known
    assert dataset.mean == pytest.approx(float((dataset.train.inputs / 255).mean()), abs=1e-6)
    assert dataset.std == pytest.approx(float((dataset.train.inputs / 255).std(correction=0)), abs=1e-6)


def test_compression_does_not_change_the_digest_and_bytes_do(tmp_path: Path) -> None:
    loaded = [
        load_dataset(FASHION, str(write_fashion(tmp_path / name, seed, compress=compress)))
        for name, seed, compress in (("a", 0, True), ("b", 0, False), ("c", 1, True))
    ]
    assert loaded[0].digest == loaded[1].digest != loaded[2].digest


def test_the_argument_comes_before_the_variable_the_system_and_the_cache(
    tmp_path: Path, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [digest_of(seed, tmp_path) for seed in range(4)]
    write_fashion(places["cache"], 3)
    assert load_dataset(FASHION).digest == digests[3]
    write_fashion(places["debian"], 2)
    assert load_dataset(FASHION).digest == digests[2]
    monkeypatch.setenv("STUDY_DATA", str(write_fashion(tmp_path / "variable", 1)))
    assert load_dataset(FASHION).digest == digests[1]
    root = write_fashion(tmp_path / "argument", 0)
    assert load_dataset(FASHION, str(root)).digest == digests[0]


def test_an_incomplete_folder_is_passed_over(tmp_path: Path, places: dict[str, Path]) -> None:
    root = write_fashion(tmp_path / "argument", 0)
    (root / f"{STEMS[3]}.gz").unlink()
    write_fashion(places["debian"], 2)
    assert load_dataset(FASHION, str(root)).digest == digest_of(2, tmp_path)


def test_a_data_root_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_fashion(tmp_path / "data", 0)
    assert load_dataset(FASHION, "~/data").digest == digest_of(0, tmp_path)


def test_missing_fashion_mnist_names_every_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable) as caught:
        load_dataset(FASHION, str(tmp_path / "nothing"))
    for way in ("--data-root", "STUDY_DATA", "dataset-fashion-mnist", "--dataset digits"):
        assert way in str(caught.value)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_names_every_way_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        load_dataset(DataConfig(name=name), str(tmp_path))
    for way in (name, str(tmp_path), "--data-root", "STUDY_DATA", "--dataset digits", "no network in tests"):
        assert way in str(caught.value)


def write_cifar(root: Path, name: str) -> dict[str, tuple[Bytes, list[int]]]:
    """Ten images a file in the pickled format of the Python version; returns each file's images and labels."""
    folder, key, classes, files = {
        "cifar10": ("cifar-10-batches-py", "labels", 10, [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]),
        "cifar100": ("cifar-100-python", "fine_labels", 100, ["train", "test"]),
    }[name]
    rng = np.random.default_rng(0)
    (root / folder).mkdir(parents=True)
    written = {}
    for file in files:
        pixels, labels = rng.integers(0, 256, (10, 3072), dtype=np.uint8), rng.permutation(classes)[:10].tolist()
        labels[0] = classes - 1
        written[file] = pixels, labels
        (root / folder / file).write_bytes(pickle.dumps({"data": pixels, key: labels, "coarse_labels": [0] * 10}))
    return written


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read_from_its_python_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, num_classes: int
) -> None:
    files = write_cifar(tmp_path, name)
    published = CIFARS[name]
    for listing in ("train_list", "test_list"):
        sums = [[file, md5_of(tmp_path / published.base_folder / file)] for file, _ in getattr(published, listing)]
        monkeypatch.setattr(published, listing, sums)
    dataset = load_dataset(DataConfig(name=name), str(tmp_path))
    test_pixels, test_labels = files.popitem()[1]
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.num_classes == num_classes
    assert torch.equal(dataset.test.inputs, torch.from_numpy(test_pixels).view(10, 3, 32, 32))
    assert dataset.test.labels.tolist() == test_labels
    assert len(dataset.train) + len(dataset.validation) == 10 * len(files)
    known = {
        row.tobytes(): label for pixels, labels in files.values() for row, label in zip(pixels, labels, strict=True)
    }
    for image, label in zip(dataset.train.inputs.numpy(), dataset.train.labels.tolist(), strict=True):
        assert known[image.tobytes()] == label


def test_digits_are_the_same_everywhere(digits: Dataset) -> None:
    assert digits.input_shape == (1, 8, 8)
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1247, 250, 300]
    assert digits.train.inputs.dtype == torch.uint8
    assert digits.digest == "04978ae7510ab4fb"
    assert digits.train.labels[:12].tolist() == [0, 1, 3, 5, 6, 8, 7, 8, 9, 0, 1, 4]


def test_splits_share_no_image(digits: Dataset) -> None:
    splits = (digits.train, digits.validation, digits.test)
    sets = [{image.tobytes() for image in split.inputs.numpy()} for split in splits]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 1797


def test_the_named_split_is_the_one_asked_for(digits: Dataset) -> None:
    assert digits.split("test") is digits.test
    assert digits.split("validation") is digits.validation


@pytest.mark.parametrize("cosine", [0.0, 0.3, -0.25])
def test_centres_are_unit_with_one_pairwise_cosine(cosine: float) -> None:
    centres = cluster_centres(ClustersConfig(dim=7, num_classes=5, cosine=cosine))
    expected = torch.full((5, 5), cosine, dtype=torch.float64).fill_diagonal_(1)
    assert centres.shape == (5, 7)
    torch.testing.assert_close(centres @ centres.T, expected, atol=1e-12, rtol=0)


def test_cluster_sources_scatter_around_their_centre() -> None:
    config = ClustersConfig(dim=256, num_classes=4, spread=0.5, num_sources=2000)
    dataset = load_dataset(DataConfig(name="clusters", clusters=config))
    centres = cluster_centres(config).float()
    for split in (dataset.train, dataset.validation, dataset.test):
        distance = (split.inputs - centres[split.labels]).norm(dim=-1)
        assert float(distance.mean()) == pytest.approx(0.5, rel=0.01)
        assert torch.bincount(split.labels).unique().numel() == 1
    assert not torch.equal(dataset.validation.inputs[:2000], dataset.test.inputs[:2000])
    assert not torch.equal(dataset.train.inputs, dataset.test.inputs[:2000])


def test_cluster_sources_without_spread_are_the_centres(clusters: Dataset) -> None:
    config = ClustersConfig(dim=16, num_classes=4, num_sources=40)
    dataset = load_dataset(DataConfig(name="clusters", clusters=config))
    assert torch.equal(dataset.train.inputs, cluster_centres(config).float()[dataset.train.labels])
    assert not dataset.is_images


def test_the_digest_of_clusters_names_the_model_and_not_the_strength() -> None:
    small = ClustersConfig(dim=8, num_classes=3, num_sources=30)
    other = ClustersConfig(dim=8, num_classes=3, num_sources=30, spread=0.1)
    digests = [
        load_dataset(DataConfig(name="clusters", clusters=config, strength=strength)).digest
        for config, strength in ((small, 0.1), (small, 2.0), (other, 0.1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_random_basis_turns_all_sources_together_and_changes_nothing_else() -> None:
    axes = ClustersConfig(dim=24, num_classes=3, cosine=0.2, spread=0.4, mean_norm=1.5, num_sources=60)
    plain, turned = (
        load_dataset(DataConfig(name="clusters", clusters=config))
        for config in (axes, dataclasses.replace(axes, basis="random"))
    )
    for name in ("train", "validation", "test"):
        before, after = getattr(plain, name).inputs, getattr(turned, name).inputs
        torch.testing.assert_close(after[:60] @ after[:60].T, before[:60] @ before[:60].T, atol=1e-5, rtol=0)
        assert torch.equal(getattr(plain, name).labels, getattr(turned, name).labels)
    assert float((plain.train.inputs - turned.train.inputs).norm(dim=-1).min()) > 0.5
    assert plain.digest != turned.digest
