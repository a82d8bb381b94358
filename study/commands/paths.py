"""Where paths come in: workers stand in other folders, so every path is absolute before anything stores or sends it."""

import argparse
import os
import tempfile
from pathlib import Path

from study.errors import ConfigError
from study.ledger.addresses import SQLITE, absolute


def absolute_paths(options: argparse.Namespace) -> None:
    """Make the paths of a sweep's options absolute, and those of the environment, which local processes inherit."""
    places = (("storage", "STUDY_STORAGE", absolute), ("data_root", "STUDY_DATA", absolute))
    for name, variable, to_absolute in (*places, ("tracking_uri", "MLFLOW_TRACKING_URI", tracking_place)):
        if given := os.environ.get(variable):
            os.environ[variable] = to_absolute(given)
        if given := getattr(options, name):
            setattr(options, name, to_absolute(given))
    options.data_root = options.data_root or os.environ.get("STUDY_DATA")
    _need_a_home(options.storage or os.environ.get("STUDY_STORAGE"))


def _need_a_home(storage: str | None) -> None:
    """Libraries look for a home; a user without an account and without ``HOME`` gets an empty one for what they keep.

    Raises :class:`ConfigError` where results would be lost in it.
    """
    try:
        Path.home()
    except RuntimeError:
        if storage is None:
            raise ConfigError(
                "this user has no home folder: pass --storage, or set STUDY_STORAGE or HOME, to say where results go"
            ) from None
        folder = Path(tempfile.gettempdir(), f"limit-study-home-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["HOME"] = str(folder)


def tracking_place(text: str) -> str:
    """A tracking URI with the path of a SQLite file made absolute; MLflow has words of its own for other places."""
    path = text.removeprefix(SQLITE)
    return text if path == text or path.startswith("file:") else SQLITE + absolute(path)
