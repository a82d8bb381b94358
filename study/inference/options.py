"""Checks of what a caller asks for; every message says what to change."""

import numpy as np


def check_criterion(fraction: float | None, level: float | None) -> None:
    """Raise ValueError unless exactly one of a fraction of the rise and a level is given, and it is sound."""
    if (fraction is None) == (level is None):
        raise ValueError("Give exactly one criterion: fraction=0.5 or level=0.5 with fraction=None.")
    check_fraction(fraction)
    if level is not None and not np.isfinite(level):
        raise ValueError(f"level must be a finite number, not {level}.")


def check_fraction(fraction: float | None) -> None:
    """Raise ValueError where a fraction is given and none."""
    if fraction is not None and not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction}.")


def check_confidence(confidence: float) -> None:
    """Raise ValueError where a confidence is none."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}.")


def check_scale(scale: str) -> None:
    """Raise ValueError for an unknown scale of an axis."""
    if scale not in ("log", "linear"):
        raise ValueError(f"scale must be 'log' or 'linear', not {scale!r}.")
