"""Errors that a user can act on, and how any error is said in one line."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration that a user asked for and that cannot be: its message says what to do."""


class DataUnavailable(ConfigError):
    """The data set is neither on disk nor to be had: ``remedy`` names the ways to get it, ``instead`` another one."""

    def __init__(self, trouble: str, remedy: str, instead: str = "") -> None:
        super().__init__(trouble, remedy, instead)
        self.trouble, self.remedy, self.instead = trouble, remedy, instead

    def __str__(self) -> str:
        return f"{self.trouble}: {self.remedy}" + (f", or {self.instead}" if self.instead else "")


def unknown_name_sentence(kind: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: the nearest one, or all."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}: {hint}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def error_sentence(error: BaseException) -> str:
    """An error's type and the first line of its message, where it has one."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"
