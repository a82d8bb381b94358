"""Settings that hold for every command: a flag wins over the environment, that over files, those over a default.

The files are ``[tool.limit-study]`` of the ``pyproject.toml`` in the working folder, and ``config.toml`` in the user's
folder for settings. A relative path in a file is meant from the folder of that file.
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.commands.values import EXECUTORS, read_executor, read_niceness, read_positive
from study.errors import ConfigError, first_line, unknown_name_sentence
from study.ledger.addresses import SQLITE, absolute, is_url, without_secret

_TABLE = "tool.limit-study"
# Where results go is said where a folder decides it that the user may have got from somebody else.
_SAID = ("storage", "tracking_uri")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A setting that there is: the type that a file gives it, how that is checked, its variable and its default.

    ``absent`` says what holds where nobody says anything.
    """

    type: type
    read: Callable[[str], Any] = str
    variable: str = ""
    default: Any = None
    absent: str = ""


KINDS = {
    "storage": Kind(type=str, variable="STUDY_STORAGE", absent="a folder of this user"),
    "tracking_uri": Kind(type=str, variable="MLFLOW_TRACKING_URI", absent="a SQLite file in the storage"),
    "data_root": Kind(type=str, variable="STUDY_DATA", absent="a folder of this user"),
    "address": Kind(type=str, variable="RAY_ADDRESS", default="local"),
    "executor": Kind(type=str, read=read_executor, default=EXECUTORS[0]),
    "max_concurrent": Kind(type=int, read=read_positive, absent="as many packs as the CPUs allow"),
    "niceness": Kind(type=int, read=read_niceness, absent="0, a fair share of the processor"),
    "use_gpu": Kind(type=bool, default=False),
}
_TYPE_WORDS = {str: "a text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The value of a setting and where it comes from; None where nobody says anything and there is no default."""

    name: str
    value: Any
    source: str

    @property
    def public(self) -> Any:
        """The value without what is secret in it."""
        return without_secret(self.value) if isinstance(self.value, str) else self.value

    @property
    def shown(self) -> str:
        """The same in words, also of what holds where nobody says anything."""
        return KINDS[self.name].absent if self.value is None else _words(self.public)


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """The settings of one file; ``source`` names it, and ``is_project``: it lies in the working folder."""

    source: str
    values: dict[str, Any]
    is_project: bool


def _words(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def user_file() -> Path | None:
    """The user's settings file, whether it is there or not; None for a user without a home."""
    if base := os.environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "limit-study" / "config.toml"
    try:
        return Path.home() / ".config" / "limit-study" / "config.toml"
    except RuntimeError:
        return None


def read_files() -> list[SettingsFile]:
    """The settings files that are there, the one that wins first; :class:`ConfigError` says what is wrong in one."""
    project, user = _working_folder() / "pyproject.toml", user_file()
    files = []
    tools = _parsed(project).get("tool", {}) if _is_there(project) else {}
    if isinstance(tools, dict) and "limit-study" in tools:
        values = _checked(tools["limit-study"], project, f"[{_TABLE}] of {project}")
        files.append(SettingsFile(source=f"pyproject.toml in {project.parent}", values=values, is_project=True))
    if user is not None and _is_there(user):
        files.append(SettingsFile(source=str(user), values=_checked(_parsed(user), user, str(user)), is_project=False))
    return files


def resolve(name: str, given: Any, files: Sequence[SettingsFile]) -> Setting:
    """A setting by the order of its sources; ``given`` is what a flag says, None where it was not given."""
    kind = KINDS[name]
    if given is not None:
        return Setting(name=name, value=given, source=f"--{name.replace('_', '-')}")
    if text := os.environ.get(kind.variable):
        return Setting(name=name, value=text, source=f"${kind.variable}")
    for file in files:
        if name in file.values:
            return Setting(name=name, value=file.values[name], source=file.source)
    return Setting(name=name, value=kind.default, source="default")


def fill(options: argparse.Namespace) -> None:
    """Give the options that were not given what the files say of them, else their default.

    What the environment says stays there, for whoever looks. Where a file of the working folder decides where results
    go, that is said on standard error.
    """
    names = [name for name in KINDS if hasattr(options, name)]
    if not names:
        return
    files = read_files()
    for name in names:
        setting = resolve(name, getattr(options, name), files)
        if setting.source == f"${KINDS[name].variable}":
            continue
        setattr(options, name, setting.value)
        if name in _SAID and any(file.is_project and file.source == setting.source for file in files):
            print(f"{name} {setting.shown} (from {setting.source})", file=sys.stderr)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working folder was removed: change into one that is there") from None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} cannot be read ({first_line(error)}): mend it, or take it away")


def _checked(table: Any, path: Path, place: str) -> dict[str, Any]:
    """The settings of a table by their names here; :class:`ConfigError` for an unknown one and for a wrong value."""
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table of settings: mend it there")
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in KINDS:
            raise ConfigError(unknown_name_sentence(f"setting in {place}", key, KINDS))
        kind = KINDS[name]
        if type(value) is not kind.type or value == "" or "\0" in str(value):
            raise ConfigError(f"{key} in {place} takes {_TYPE_WORDS[kind.type]}, not {value!r}: mend it there")
        try:
            values[name] = value if kind.type is bool else kind.read(str(value))
        except ValueError as error:
            raise ConfigError(f"{key} in {place} {error}: mend it there") from None
        if isinstance(value, str):
            values[name] = _absolute(name, value, path.parent)
    return values


def _absolute(name: str, text: str, folder: Path) -> str:
    """A setting that is a path, or has the path of a SQLite file in it, as one of ``folder``; others as they are."""
    if name in ("storage", "data_root"):
        return _place(text, folder)
    if name == "tracking_uri" and text.startswith(SQLITE) and not text.startswith(f"{SQLITE}file:"):
        return SQLITE + _place(text.removeprefix(SQLITE), folder)
    return text


def _place(text: str, folder: Path) -> str:
    """A URL as it is, and a path as one of ``folder``."""
    return absolute(text if is_url(text) or text.startswith("~") else str(folder / text))
