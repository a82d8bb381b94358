"""Complete files at a local path or a URL (s3://, gs://): a reader never sees half of one."""

import contextlib
import errno
import os
import uuid
from pathlib import Path

from pyarrow import fs

from study.errors import ConfigError, first_line
from study.ledger.addresses import absolute, is_url, without_secret, without_secret_of

# What a file system without hard links says.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Store:
    """A folder on a local disk or an object store, addressed by relative POSIX paths."""

    def __init__(self, uri: str) -> None:
        if is_url(uri):
            try:
                self._fs, self._root = fs.FileSystem.from_uri(uri.rstrip("/"))
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"storage {without_secret(uri)!r} cannot be used ({without_secret_of(uri, first_line(error))}): "
                    "check the URL"
                ) from error
        else:
            self._fs, self._root = fs.LocalFileSystem(), absolute(uri)
            if not _is_text(self._root):
                raise ConfigError(f"storage {uri!r} has a name that is not UTF-8: pass another folder with --storage")
        self._is_local = isinstance(self._fs, fs.LocalFileSystem)
        self.uri = self._root if self._is_local else uri.rstrip("/")

    def child(self, name: str) -> "Store":
        """The folder ``name`` inside this one."""
        return Store(self._inside(self.uri, name))

    @property
    def shown(self) -> str:
        """The address without a user's key and secret, for people to read."""
        return self.uri if self._is_local else without_secret(self.uri)

    def locate(self, path: str) -> str:
        """Where a file of this folder is, for people to read."""
        return self._inside(self.shown, path)

    def _inside(self, uri: str, path: str) -> str:
        """An address below another; query parameters of a URL stay at its end."""
        if self._is_local:
            return f"{uri.rstrip('/')}/{path}"
        base, mark, query = uri.partition("?")
        return f"{base.rstrip('/')}/{path}{mark}{query}"

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

    def write_new(self, path: str, data: bytes) -> bool:
        """Write a file that is not there yet; False where it is. An object store may let two writers think so."""
        target = f"{self._root}/{path}"
        if not self._is_local:
            if self.read(path) is not None:
                return False
            self.write(path, data)
            return True
        parent = Path(target).parent
        parent.mkdir(parents=True, exist_ok=True)
        temporary = parent / f".{Path(target).name}.{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(data)
            _link(temporary, Path(target))
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

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
        return sorted(info.base_name for info in self._files(folder) if info.base_name.endswith(suffix))

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every complete file below ``folder``, at any depth, by its path inside this store."""
        files = sorted(self._files(folder, is_deep=True), key=lambda info: info.path)
        return {info.path.removeprefix(f"{self._root}/"): info.size for info in files}

    def _files(self, folder: str, *, is_deep: bool = False) -> list[fs.FileInfo]:
        """The complete files of a folder, none where there is no such folder."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=is_deep)
        try:
            infos = self._fs.get_file_info(selector)
        except FileNotFoundError:
            # Arrow looks twice; a folder that is made in between was not there at the first look.
            return []
        return [info for info in infos if info.type == fs.FileType.File and not info.base_name.startswith(".")]

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
                f"storage {self.shown} cannot be written ({without_secret(first_line(error))}): pass a folder of yours "
                "or a URL with --storage, or set STUDY_STORAGE"
            ) from error
        finally:
            for place in made:
                # Another sweep may have begun to write there.
                with contextlib.suppress(OSError):
                    place.rmdir()


def _link(temporary: Path, target: Path) -> None:
    """Give a complete file its name; FileExistsError where another one has it."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Some file systems (FAT, many network and user-space ones) have no links: whoever makes the name has it.
        with target.open("xb"):
            os.replace(temporary, target)


def _is_text(path: str) -> bool:
    """Whether a path has a form in UTF-8, which Arrow needs: bytes of other encodings have none."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def default_storage() -> str:
    """``$STUDY_STORAGE``, else a per-user data folder: absolute, as a submitted job's working folder is thrown away."""
    if from_environment := os.environ.get("STUDY_STORAGE"):
        return from_environment
    return user_folder()


def user_folder() -> str:
    """The per-user data folder of this machine."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(base) / "limit-study")
