"""What a search space comes to once variant, profile, data set and overrides are applied: the registered design."""

import dataclasses
import importlib
import itertools
import json
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from study.config import (
    ConfigError,
    ReplicateConfig,
    Scalar,
    canonical,
    digest,
    unknown_name_sentence,
    with_values,
)
from study.space import RECIPE, Axis, Criterion, Recipe, SearchSpace, Values


@dataclass(frozen=True, kw_only=True)
class Design:
    """A search space with variant, profile, data set and ``--set`` applied: what is pre-registered and hashed."""

    study: str
    variant: str
    config: ReplicateConfig
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    recipes: tuple[Recipe, ...]
    criterion: Criterion
    further_criteria: tuple[Criterion, ...]
    tuning: Values
    tuning_seeds: int
    replicates: int
    laws: tuple[str, ...]
    margin_octaves: float
    is_exploratory: bool

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers: everything but budget, replicates, precision and storage.

        What a design does not have is left out, so that designs keep their hash when a new kind of part is added.
        """
        later = {
            "recipes": [recipe.canonical() for recipe in self.recipes],
            "further_criteria": [criterion.canonical() for criterion in self.further_criteria],
        }
        return {name: parts for name, parts in later.items() if parts} | {
            "study": self.study,
            "variant": self.variant,
            "config": canonical(self.config),
            "scientific": [axis.canonical() for axis in self.scientific],
            "nuisance": [axis.canonical() for axis in self.nuisance],
            "criterion": self.criterion.canonical(),
            "tuning": dict(sorted(self.tuning.items())),
            "tuning_seeds": self.tuning_seeds,
            "laws": list(self.laws),
            "margin_octaves": self.margin_octaves,
        }

    @property
    def hash(self) -> str:
        return digest(self.canonical(), length=8)

    def points(self) -> list[dict[str, Scalar]]:
        """The values of the scientific axes in every cell, with the name of its recipe where there are several."""
        if not self.recipes:
            return self._grid({})
        return [{**point, RECIPE: recipe.name} for recipe in self.recipes for point in self._grid(recipe.grids)]

    def _grid(self, grids: Mapping[str, tuple[Scalar, ...]]) -> list[dict[str, Scalar]]:
        axes = [[(axis.path, value) for value in grids.get(axis.path, axis.values)] for axis in self.scientific]
        return [dict(point) for point in itertools.product(*axes)]

    def resolve(self, point: Values, nuisance: Values, role: Literal["tuning", "reported"]) -> ReplicateConfig:
        """The configuration of a replicate of a cell."""
        extra = self.tuning if role == "tuning" else {}
        also: dict[str, Scalar] = {}
        for recipe in self.recipes:
            also |= recipe.values if recipe.name == point[RECIPE] else {}
        for axis in self.scientific:
            also |= axis.also.get(point[axis.path], {})
        values = {path: value for path, value in point.items() if path != RECIPE}
        return with_values(self.config, {**also, **values, **nuisance, **extra})


def find_studies() -> list[str]:
    """Names of all search spaces: the files of search_spaces/."""
    package = importlib.import_module("search_spaces")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_space(name: str) -> SearchSpace:
    """The search space of a study; :class:`ConfigError` with the nearest name for an unknown one."""
    studies = find_studies()
    if name not in studies:
        raise ConfigError(unknown_name_sentence("study", name, studies))
    space = importlib.import_module(f"search_spaces.{name}").SPACE
    assert isinstance(space, SearchSpace)
    assert space.name == name, f"search_spaces/{name}.py calls itself {space.name}"
    return space


def make_design(
    space: SearchSpace,
    *,
    variant: str | None = None,
    profile: str = "laptop",
    dataset: str | None = None,
    overrides: Values | None = None,
) -> Design:
    """Apply a variant, a profile, a data set and overrides to a search space.

    Raises :class:`ConfigError` for unknown names, values out of range and overrides of an axis.
    """
    variant = variant or space.default_variant(dataset)
    if variant not in space.variants:
        raise ConfigError(unknown_name_sentence(f"variant of {space.name}", variant, space.variants))
    if profile not in space.profiles:
        raise ConfigError(unknown_name_sentence(f"profile of {space.name}", profile, space.profiles))
    chosen = space.variants[variant]
    admitted = chosen.datasets or tuple(space.datasets)
    dataset = dataset or (space.config.data.name if space.config.data.name in admitted else admitted[0])
    if dataset not in space.datasets:
        raise ConfigError(unknown_name_sentence(f"data set of {space.name}", dataset, space.datasets))
    if dataset not in admitted:
        raise ConfigError(f"variant {variant} of {space.name} takes --dataset {' or '.join(admitted)}, not {dataset}")
    space = chosen.applied(space)
    overrides = dict(overrides or {})
    axes = {axis.path for axis in (*space.scientific, *space.nuisance)}
    bound = {path for axis in space.scientific for also in axis.also.values() for path in also}
    bound |= {path for recipe in space.recipes for path in recipe.values}
    for path in overrides:
        if path in axes:
            raise ConfigError(f"{path} is an axis of {space.name} and cannot be fixed with --set")
        if path in bound:
            raise ConfigError(f"{path} goes with an axis or recipe of {space.name} and cannot be fixed with --set")
    values: dict[str, Scalar] = {"data.name": dataset}
    for changes in (space.profiles[profile], space.datasets[dataset], chosen.values, overrides):
        values.update(changes)
    config = with_values(space.config, values)
    grid = space.grids.get(dataset, {})
    scientific, nuisance = (
        tuple(dataclasses.replace(axis, values=grid.get(axis.path, axis.values)) for axis in axes)
        for axes in (space.scientific, space.nuisance)
    )
    return Design(
        study=space.name,
        variant=variant,
        config=config,
        scientific=scientific,
        nuisance=nuisance,
        recipes=space.recipes,
        criterion=space.criterion,
        further_criteria=space.further_criteria,
        tuning=space.tuning,
        tuning_seeds=space.budget.tuning_seeds,
        replicates=space.budget.replicates,
        laws=space.laws.get(dataset, ()),
        margin_octaves=space.margin_octaves,
        is_exploratory=bool(overrides),
    )


@dataclass(frozen=True, kw_only=True)
class PlanSize:
    """Least and greatest number of replicates of a plan without an appended round."""

    num_points: int
    num_tuning: int
    num_extension: int
    num_reported: int

    @property
    def least(self) -> int:
        return self.num_tuning + self.num_reported

    @property
    def greatest(self) -> int:
        return self.least + self.num_extension


def plan_size(design: Design, replicates: int) -> PlanSize:
    """Count the replicates of a design's plan."""
    num_points = len(design.points())
    settings = math.prod(len(axis.values) for axis in design.nuisance)
    tuned = bool(design.nuisance)
    return PlanSize(
        num_points=num_points,
        num_tuning=num_points * settings * design.tuning_seeds if tuned else 0,
        num_extension=num_points * len(design.nuisance) * design.tuning_seeds,
        num_reported=num_points * replicates,
    )


def cell_name(point: Values) -> str:
    """The identity of a cell in the ledger: its point as sorted JSON."""
    return json.dumps(dict(point), sort_keys=True)
