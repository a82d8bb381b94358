"""Registered designs as the ledger holds them."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from study.answers.frames import designs_frame
from study.designs.axis import Axis
from study.designs.criterion import Criterion, criteria_of
from study.designs.design import dataset_of
from study.designs.space import Flank, Series
from study.designs.values import with_values
from study.interface.recipe import Recipe
from study.ledger.ledger import Ledger
from study.ledger.names_on_disk import FIRST_VARIANT, recipe_of


@dataclass(frozen=True, kw_only=True)
class RegisteredDesign:
    """A design as the ledger holds it.

    ``axes`` hold the designed values: where ``is_sought`` those of stage one, and the points are in the data.
    ``flank`` is the crossing that the study asks for; in a ``is_plane`` design it is a boundary over both axes.
    ``dataset`` is empty where the recipe has none; ``dataset_fallback`` is the one that its first run asked for and
    that could not be had. ``tuning_split`` is what nuisances
    were tuned on, empty where that is nothing of its own.
    """

    study: str
    variant: str
    is_first_variant: bool
    hash: str
    recipe: Recipe[Any]
    commit: str
    dirty: bool | None
    is_exploratory: bool
    created_at: pd.Timestamp
    dataset: str
    dataset_fallback: str | None
    tuning_split: str
    axes: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    series: tuple[Series, ...]
    criteria: tuple[Criterion, ...]
    laws: tuple[str, ...]
    margin_octaves: float
    flank: Flank
    is_plane: bool

    @property
    def criterion(self) -> Criterion:
        """The first criterion, which nuisances are tuned for."""
        return self.criteria[0]

    @property
    def axis(self) -> Axis:
        """The first axis, along which the limit lies."""
        return self.axes[0]

    @property
    def is_sought(self) -> bool:
        """Whether later rounds looked for the limit between the points of the grid."""
        return self.axis.is_sought


def load_design(ledger: Ledger, study_hash: str | None = None) -> RegisteredDesign:
    """A design of a ledger, by default the newest; ValueError where there is none."""
    designs = designs_frame(ledger)
    if study_hash is not None:
        designs = designs[designs["study_hash"] == study_hash]
    if designs.empty:
        raise ValueError(f"no design {study_hash or ''} in {ledger.store.shown}: run the study first")
    row = designs.iloc[-1]
    canonical = json.loads(row["design"])
    recipe, is_first = recipe_of(row["entry_point"]), row["first_variant"]
    axes = tuple(map(Axis.read, canonical["scientific"]))
    works_at_once = recipe.quantity(axes[0].path).works_at_once
    return RegisteredDesign(
        study=row["study"],
        variant=row["variant"],
        is_first_variant=row["variant"] == FIRST_VARIANT if pd.isna(is_first) else bool(is_first),
        hash=row["study_hash"],
        recipe=recipe,
        commit=row["commit"] or "",
        dirty=None if pd.isna(row["dirty"]) else bool(row["dirty"]),
        is_exploratory=bool(row["exploratory"]),
        created_at=row["created_at"],
        dataset=dataset_of(recipe, with_values(recipe.config_class(), canonical["config"])),
        dataset_fallback=None if pd.isna(row["dataset_fallback"]) else row["dataset_fallback"],
        tuning_split=canonical["tuning"].get(recipe.split_path, ""),
        axes=axes,
        nuisance=tuple(map(Axis.read, canonical["nuisance"])),
        series=tuple(map(Series.read, canonical.get("recipes", ()))),
        criteria=criteria_of(canonical),
        laws=tuple(canonical["laws"]),
        margin_octaves=canonical["margin_octaves"],
        # A fixed grid does not say its flank: of what works up to a value, the fall is asked for.
        flank=canonical.get("flank", "falling" if works_at_once and not axes[0].is_sought else "rising"),
        is_plane=canonical.get("plane", False),
    )
