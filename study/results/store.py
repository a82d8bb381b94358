"""Complete files at a local path or a URL (s3://, gs://): a reader never sees half of one."""

import contextlib
import os
import re
import uuid
from pathlib import Path

from pyarrow import fs

from study.config import ConfigError, first_line


class Store:
    """A folder on a local disk or an object store, addressed by relative POSIX paths."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        if "://" in uri:
            try:
                self._fs, self._root = fs.FileSystem.from_uri(self.uri)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"storage {without_secret(uri)!r} cannot be used ({first_line(error)}): check the URL"
                ) from error
        else:
            self.uri = str(Path(uri).expanduser().absolute())
            self._fs, self._root = fs.LocalFileSystem(), self.uri
        self._is_local = isinstance(self._fs, fs.LocalFileSystem)

    def child(self, name: str) -> "Store":
        """The folder ``name`` inside this one; query parameters of a URL stay at its end."""
        base, mark, query = self.uri.partition("?")
        return Store(f"{base.rstrip('/')}/{name}{mark}{query}")

    @property
    def shown(self) -> str:
        """The address without a user's key and secret, for people to read."""
        return without_secret(self.uri)

    def locate(self, path: str) -> str:
        """Where a file of this folder is, for people to read; query parameters of a URL stay at its end."""
        base, mark, query = self.shown.partition("?")
        return f"{base}/{path}{mark}{query}"

    @property
    def local_path(self) -> Path | None:
        """The folder on this machine's disk, or None for an object store."""
        return Path(self._root) if self._is_local else None

    def write(self, path: str, data: bytes) -> None:
        """Make ``path`` hold ``data``: by temporary name and rename on a disk, by one upload elsewhere."""
        target = f"{self._root}/{path}"
        if not self._is_local:
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        parent = Path(target).parent
        parent.mkdir(parents=True, exist_ok=True)
        temporary = parent / f".{Path(target).name}.{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def read(self, path: str) -> bytes | None:
        """The bytes of ``path``, or None where there is no such file."""
        target = f"{self._root}/{path}"
        if self._fs.get_file_info(target).type != fs.FileType.File:
            return None
        with self._fs.open_input_stream(target) as stream:
            return stream.read()

    def delete(self, path: str) -> None:
        """Remove one file; a missing one is no error."""
        target = f"{self._root}/{path}"
        if self._fs.get_file_info(target).type == fs.FileType.File:
            self._fs.delete_file(target)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Sorted names of the complete files of ``folder`` with ``suffix``."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        names = [info.base_name for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every complete file below ``folder``, at any depth, by its path inside this store."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        infos = [info for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]
        return {
            info.path.removeprefix(f"{self._root}/"): info.size
            for info in sorted(infos, key=lambda info: info.path)
            if not info.base_name.startswith(".")
        }

    def check_writable(self) -> None:
        """Raise :class:`ConfigError` with one sentence where nothing can be written; leaves nothing behind."""
        probe = f".probe-{uuid.uuid4().hex}"
        folder = self.local_path
        made = [] if folder is None else [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            self.write(probe, b"")
            self.delete(probe)
        except OSError as error:
            raise ConfigError(
                f"storage {self.shown} cannot be written ({first_line(error)}): pass a folder of yours or a URL with "
                "--storage, or set STUDY_STORAGE"
            ) from error
        finally:
            for place in made:
                # Another sweep may have begun to write there.
                with contextlib.suppress(OSError):
                    place.rmdir()


def without_secret(uri: str) -> str:
    """A URL without the key and secret before its host."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def default_storage() -> str:
    """``$STUDY_STORAGE``, else a per-user data folder: absolute, as a submitted job's working folder is thrown away."""
    if from_environment := os.environ.get("STUDY_STORAGE"):
        return from_environment
    return user_folder()


def user_folder() -> str:
    """The per-user data folder of this machine."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(base) / "limit-study")
