"""Values that are read from words, on the command line and in settings files; a ValueError says what is taken."""

import math

from study.execution.packs import GPU_SHARES

EXECUTORS = ("auto", "inline", "train")
SHARES = {f"1/{round(1 / share)}" if share < 1 else "1": share for share in GPU_SHARES}


def read_positive(text: str) -> int:
    """A whole number from 1 on."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"takes a whole number, not {text!r}") from None
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def read_positive_float(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"takes a number, not {text!r}") from None
    if not 0 < value < math.inf:
        raise ValueError("must be positive and finite")
    return value


def read_seed(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"takes a whole number, not {text!r}") from None


def read_niceness(text: str) -> int:
    """A whole number from 0 to 19."""
    if not text.isdecimal() or int(text) > 19:
        raise ValueError(f"takes a whole number from 0 to 19, not {text!r}")
    return int(text)


def read_share(text: str) -> float | None:
    """The share of a GPU that a pack's worker takes; None is left to the packs' estimated memory."""
    if text == "auto":
        return None
    if text not in SHARES:
        raise ValueError(f"takes auto, {', '.join(SHARES)}, not {text!r}")
    return SHARES[text]


def read_executor(text: str) -> str:
    """One of the executors."""
    if text not in EXECUTORS:
        raise ValueError(f"takes one of {', '.join(EXECUTORS)}, not {text!r}")
    return text
