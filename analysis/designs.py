"""Registered designs as the ledger holds them."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.frames import designs_frame
from study.results.ledger import Ledger
from study.space import Criterion, Flank, criteria_of

# Axes along which a method works up to a value: what is asked of a grid that does not say its flank.
_FALLING_AXES = ("data.strength", "model.num_blocks")


@dataclass(frozen=True, kw_only=True)
class DesignRecord:
    """A design as the ledger holds it.

    ``axes`` hold the designed values: where ``is_sought`` those of stage one, and the points are in the data.
    ``flank`` is the crossing that the study asks for; in a ``is_plane`` design it is a boundary over both axes.
    ``dataset_fallback`` is the data set that its first run asked for and that could not be had.
    """

    study: str
    variant: str
    hash: str
    commit: str
    dirty: bool | None
    is_exploratory: bool
    created_at: pd.Timestamp
    dataset_fallback: str | None
    axes: tuple[tuple[str, tuple[Any, ...]], ...]
    nuisance_axes: tuple[tuple[str, tuple[Any, ...]], ...]
    recipes: tuple[tuple[str, dict[str, tuple[Any, ...]]], ...]
    criteria: tuple[Criterion, ...]
    laws: tuple[str, ...]
    margin_octaves: float
    scale: Literal["log", "linear"]
    flank: Flank
    is_sought: bool
    is_plane: bool
    config: dict[str, Any]

    @property
    def criterion(self) -> Criterion:
        """The first criterion, which nuisances are tuned for."""
        return self.criteria[0]

    @property
    def dataset(self) -> str:
        return self.config.get("data.name", "fashion_mnist")


def load_design(ledger: Ledger, study_hash: str | None = None) -> DesignRecord:
    """A design of a ledger, by default the newest; ValueError where there is none."""
    designs = designs_frame(ledger)
    if study_hash is not None:
        designs = designs[designs["study_hash"] == study_hash]
    if designs.empty:
        raise ValueError(f"no design {study_hash or ''} in {ledger.store.shown}: run the study first")
    row = designs.iloc[-1]
    canonical = json.loads(row["design"])
    (path, _, *details), *_ = canonical["scientific"]
    is_sought = any(isinstance(detail, dict) and detail.get("steps_per_octave", 0) > 0 for detail in details)
    return DesignRecord(
        study=row["study"],
        variant=row["variant"],
        hash=row["study_hash"],
        commit=row["commit"] or "",
        dirty=None if pd.isna(row["dirty"]) else bool(row["dirty"]),
        is_exploratory=bool(row["exploratory"]),
        created_at=row["created_at"],
        dataset_fallback=None if pd.isna(row["dataset_fallback"]) else row["dataset_fallback"],
        axes=tuple((path, tuple(values)) for path, values, *_ in canonical["scientific"]),
        nuisance_axes=tuple((path, tuple(values)) for path, values, *_ in canonical["nuisance"]),
        recipes=tuple((name, {p: tuple(g) for p, g in grids}) for name, _, grids in canonical.get("recipes", ())),
        criteria=criteria_of(canonical),
        laws=tuple(canonical["laws"]),
        margin_octaves=canonical["margin_octaves"],
        scale="linear" if "linear" in details else "log",
        flank=canonical.get("flank", "falling" if path in _FALLING_AXES and not is_sought else "rising"),
        is_sought=is_sought,
        is_plane=canonical.get("plane", False),
        config=canonical["config"],
    )
