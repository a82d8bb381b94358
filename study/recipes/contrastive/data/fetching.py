"""Data sets that are not on this machine: fetched whole and checked, or not at all.

A source that does not answer is given up within seconds, so that a machine without a network learns it soon: the
mirrors have ``_MIRROR_SECONDS`` to begin their answer, the package archive four. What is fetched lies under a
temporary name until it is complete.
"""

import contextlib
import errno
import functools
import hashlib
import shutil
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import build_opener

from study.errors import ConfigError, first_line
from study.recipes.contrastive.data.debian import PackageUnavailable, unpack_package
from study.recipes.contrastive.data.image_files import decompressed

# Of the files as they are without compression: mirrors and Debian compress them differently.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_PACKAGE = "dataset-fashion-mnist"
_MIRROR_SECONDS = 3.0
_STALL_SECONDS = 15.0
_WHOLE_SECONDS = 900.0
_CHUNK = 1 << 16


class NotFetched(Exception):
    """No source could give a data set: the message says why of each."""


def fetch_fashion_mnist(target: Path) -> Path:
    """The folder below ``target`` with the four IDX files, from torchvision's mirrors, else from Debian's archive.

    Raises :class:`NotFetched` with the reason of each source; ``target`` then holds nothing new.
    """
    sources: dict[str, Callable[[Path, Callable[[], None]], None]] = {"mirror": _from_mirrors, "apt-get": _from_debian}
    reasons = []
    with _staged(target / "fashion-mnist") as staged:
        for name, source in sources.items():
            try:
                source(staged, functools.partial(_announce, "Fashion-MNIST", target))
                break
            except (OSError, HTTPException, ValueError, PackageUnavailable) as error:
                reasons.append(f"{name}: {_reason(error)}")
        else:
            raise NotFetched("; ".join(reasons))
    return target / "fashion-mnist"


def fetch_archive(target: Path, url: str, md5: str, folder: str, names: Sequence[str]) -> Path:
    """The folder below ``target`` with the named files of ``folder`` in a tar archive of known MD5 sum.

    Raises :class:`NotFetched` with the reason; ``target`` then holds nothing new.
    """
    with _staged(target / folder) as staged:
        archive = staged.with_name("archive")
        try:
            _download(url, archive, _MIRROR_SECONDS, functools.partial(_announce, url, target))
        except (OSError, HTTPException, ValueError) as error:
            raise NotFetched(_reason(error)) from error
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if found != md5:
            raise NotFetched(f"{url} gave another file: its checksum differs")
        with tarfile.open(archive) as tar:
            for name in names:
                member = tar.extractfile(f"{folder}/{name}")
                assert member is not None, name
                (staged / name).write_bytes(member.read())
    return target / folder


def _reason(error: Exception) -> str:
    """Why a source failed, in words for a sentence; urllib wraps what the system said."""
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    return first_line(error).rstrip(".:")


def _announce(what: str, target: Path) -> None:
    """Say that a source answers: what follows may take minutes."""
    print(f"fetching {what} (once) into {target}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _staged(final: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``final`` once it is filled, and vanishes where that fails.

    Raises :class:`NotFetched` where it cannot be written.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as temporary:
            staged = Path(temporary) / final.name
            staged.mkdir()
            yield staged
            _put(staged, final)
    except OSError as error:
        raise NotFetched(f"{final} cannot be written: {first_line(error)}") from error


def _put(staged: Path, final: Path) -> None:
    try:
        staged.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Another process was faster, or a part was there: every single file is whole.
        for file in staged.iterdir():
            file.replace(final / file.name)


def _from_mirrors(folder: Path, on_answer: Callable[[], None]) -> None:
    from torchvision.datasets import FashionMNIST

    mirrors = FashionMNIST.mirrors
    for number, mirror in enumerate(mirrors, start=1):
        try:
            first, *others = (f"{stem}.gz" for stem in FASHION_MNIST_SHA256)
            seconds = _MIRROR_SECONDS / len(mirrors)
            _download(mirror + first, folder / first, seconds, on_answer)
            for name in others:
                _download(mirror + name, folder / name, seconds)
            _check_fashion_mnist(folder)
            return
        except (OSError, HTTPException, ValueError):
            if number == len(mirrors):
                raise


def _from_debian(folder: Path, on_answer: Callable[[], None]) -> None:
    with unpack_package(DEBIAN_PACKAGE, on_answer) as root:
        for stem in FASHION_MNIST_SHA256:
            found = next(root.rglob(f"{stem}.gz"), None)
            if found is None:
                raise PackageUnavailable(f"{DEBIAN_PACKAGE} holds no {stem}.gz")
            shutil.copyfile(found, folder / found.name)
    _check_fashion_mnist(folder)


def _check_fashion_mnist(folder: Path) -> None:
    """Raise :class:`ConfigError` where a file is not the published one."""
    for stem, sha256 in FASHION_MNIST_SHA256.items():
        path = folder / f"{stem}.gz"
        try:
            content = decompressed(path, path.read_bytes())
        except ConfigError as error:
            raise ConfigError(f"{path.name} arrived damaged") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ConfigError(f"{path.name} is not the published file: its checksum differs")


def _download(url: str, path: Path, seconds: float, on_answer: Callable[[], None] | None = None) -> None:
    """Write what a URL gives to ``path``; OSError or HTTPException where it cannot be had.

    ``seconds`` bound the time until the answer begins, :data:`_STALL_SECONDS` each silence after that.
    """
    deadline = time.monotonic() + _WHOLE_SECONDS
    with _opened(url, seconds) as response, path.open("wb") as file:
        if on_answer is not None:
            on_answer()
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {_WHOLE_SECONDS:g} s")


def _opened(url: str, seconds: float) -> IO[bytes]:
    """The answer to a request.

    In a thread: a socket's time-out covers neither the look-up of its name nor all of its addresses together.
    """
    answer: Future[IO[bytes]] = Future()

    def request() -> None:
        try:
            answer.set_result(build_opener().open(url, timeout=_STALL_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=request, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(f"no answer in {seconds:g} s") from error
