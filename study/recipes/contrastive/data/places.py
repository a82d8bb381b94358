"""Where data sets are looked for, and what is said where one is not to be had."""

import os
from collections.abc import Iterator
from pathlib import Path

from study.errors import ConfigError, first_line

INSTEAD = "try --dataset digits, which needs no download"


def places(root: Path | None, *system: Path) -> Iterator[Path]:
    """Where data sets are looked for: the user's choice, then system folders, then our own folder for them."""
    if root is not None:
        yield root
    yield from system
    yield data_folder()


def data_folder() -> Path:
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
