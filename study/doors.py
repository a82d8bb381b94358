"""Where paths come in: workers stand in other folders, so every path is absolute before anything stores or sends it."""

import argparse
import os

from study.addresses import absolute

_SQLITE = "sqlite:///"


def absolute_paths(options: argparse.Namespace) -> None:
    """Make the paths of a sweep's options absolute, and those of the environment, which local processes inherit."""
    places = (("storage", "STUDY_STORAGE", absolute), ("data_root", "STUDY_DATA", absolute))
    for name, variable, to_absolute in (*places, ("tracking_uri", "MLFLOW_TRACKING_URI", tracking_place)):
        if given := os.environ.get(variable):
            os.environ[variable] = to_absolute(given)
        if given := getattr(options, name):
            setattr(options, name, to_absolute(given))
    options.data_root = options.data_root or os.environ.get("STUDY_DATA")


def tracking_place(text: str) -> str:
    """A tracking URI with the path of a SQLite file made absolute; MLflow has words of its own for other places."""
    path = text.removeprefix(_SQLITE)
    return text if path == text or path.startswith("file:") else _SQLITE + absolute(path)
