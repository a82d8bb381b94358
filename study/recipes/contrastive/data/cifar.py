"""CIFAR-10 and CIFAR-100 in their Python version, from a folder or their archive."""

from pathlib import Path

import numpy as np

from study.errors import DataUnavailable
from study.recipes.contrastive.data.fetching import NotFetched, fetch_archive
from study.recipes.contrastive.data.image_files import is_there, read_cifar
from study.recipes.contrastive.data.places import INSTEAD, data_folder, places


def load_cifar(name: str, root: Path | None) -> tuple[np.ndarray, ...]:
    from torchvision.datasets import CIFAR10, CIFAR100

    cifar = CIFAR10 if name == "cifar10" else CIFAR100
    names = [file for file, _ in (*cifar.train_list, *cifar.test_list)]
    folders = (place / cifar.base_folder for place in places(root))
    folder = next((folder for folder in folders if all(is_there(folder / file) for file in names)), None)
    if folder is None:
        target = root or data_folder()
        try:
            folder = fetch_archive(target, cifar.url, cifar.tgz_md5, cifar.base_folder, names)
        except NotFetched as error:
            raise DataUnavailable(
                f"{name} was not found under {target} and could not be fetched ({error})",
                "unpack its Python version into a folder and pass --data-root (or set STUDY_DATA)",
                INSTEAD,
            ) from error
    return (*read_cifar(folder, cifar.train_list), *read_cifar(folder, cifar.test_list))
