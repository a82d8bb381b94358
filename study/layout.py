"""Where the files of this installation are: in a checkout beside the package, in an installed wheel inside it."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DISTRIBUTION = "limit-study"


def spaces_folder(package: Path = PACKAGE) -> Path:
    """The folder with the search spaces that come with the package in folder ``package``."""
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def checkout() -> Path | None:
    """The root of the checkout that this code runs from; None where it is installed."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "search_spaces").is_dir() else None


def own_version() -> str:
    """The version of this code, also of a checkout that is not installed."""
    if root := checkout():
        return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
