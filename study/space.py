"""A study as data: its axes, criterion, budget and variants, and the design they resolve to."""

import dataclasses
import importlib
import itertools
import json
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from study.config import (
    ConfigError,
    ReplicateConfig,
    Scalar,
    canonical,
    digest,
    field_types,
    unknown_name_sentence,
    with_values,
)

Values = Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values of one configuration path; a geometric grid is extended by its own ratio.

    ``also`` gives further paths that go with a value, such as what only one of two trainers has.
    """

    path: str
    values: tuple[Scalar, ...]
    label: str
    also: Mapping[Scalar, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert {self.path, *itertools.chain.from_iterable(self.also.values())} <= set(field_types()), self.path
        assert len(set(self.values)) == len(self.values) >= 1
        assert set(self.also) <= set(self.values)

    def canonical(self) -> list[Any]:
        """What the study hash covers of an axis."""
        return [
            self.path,
            list(self.values),
            *([sorted((v, dict(w)) for v, w in self.also.items())] if self.also else []),
        ]

    def beyond(self, side: Literal["low", "high"]) -> float:
        """The next value of a geometric grid outside its lowest or highest end."""
        numbers = sorted(float(value) for value in self.values)
        near, far = (numbers[0], numbers[1]) if side == "low" else (numbers[-1], numbers[-2])
        # Three digits keep 3e-5 from becoming 3.0000000000000004e-05 in keys and tables.
        return float(f"{near * near / far:.3g}")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """The outcome that must hold: a metric at an absolute ``level``, or at a ``fraction`` of its rise.

    The rise goes from the floor to the ceiling (the fitted plateau). The floor is the same model before training,
    chance for accuracies of labels that are learned from nothing, or zero where training starts above the level.
    """

    metric: str
    fraction: float | None = None
    level: float | None = None
    floor: Literal["before", "chance", "zero"] = "before"

    def __post_init__(self) -> None:
        assert (self.fraction is None) != (self.level is None), "a criterion is a fraction or a level"

    @property
    def sentence(self) -> str:
        if self.level is not None:
            return f"{self.metric} = {self.level:g}"
        start = " from chance" if self.floor == "chance" else ""
        return (
            f"half rise of {self.metric}{start}"
            if self.fraction == 0.5
            else f"{self.fraction:.0%} rise of {self.metric}{start}"
        )

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers of a criterion."""
        values = dataclasses.asdict(self)
        return values if self.floor != "before" else {k: v for k, v in values.items() if k != "floor"}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seeds per nuisance setting of a cell, and replicates reported per point."""

    tuning_seeds: int = 2
    replicates: int = 5


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """One question: ``config`` fixed, ``scientific`` axes asked about, ``nuisance`` axes tuned in every cell.

    ``profiles``, ``datasets`` and ``variants`` replace configuration values, in the order profile, data set, variant.
    ``tuning`` is applied to tuning replicates only. ``grids`` gives a data set other values of an axis.
    """

    name: str
    question: str
    config: ReplicateConfig
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    criterion: Criterion
    budget: Budget = field(default_factory=Budget)
    tuning: Values = field(default_factory=dict)
    laws: tuple[str, ...] = ()
    margin_octaves: float = 0.5
    variants: Mapping[str, Values]
    profiles: Mapping[str, Values]
    datasets: Mapping[str, Values]
    grids: Mapping[str, Mapping[str, tuple[Scalar, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = field_types()
        changes = (self.tuning, *self.variants.values(), *self.profiles.values(), *self.datasets.values())
        for path in itertools.chain.from_iterable(changes):
            assert path in known, f"{self.name}: {path} is no configuration path"
        for axis in self.nuisance:
            assert len(axis.values) >= 3, f"{self.name}: a nuisance needs at least 3 values per cell"
            assert field_types()[axis.path] is float, f"{self.name}: a nuisance is a float on a log axis"
        axes = {axis.path for axis in (*self.scientific, *self.nuisance)}
        for dataset, grid in self.grids.items():
            assert dataset in self.datasets, f"{self.name}: {dataset} is none of its data sets"
            assert set(grid) <= axes, f"{self.name}: a grid of {dataset} names no axis"

    @property
    def default_variant(self) -> str:
        return next(iter(self.variants))


@dataclass(frozen=True, kw_only=True)
class Design:
    """A search space with variant, profile, data set and ``--set`` applied: what is pre-registered and hashed."""

    study: str
    variant: str
    config: ReplicateConfig
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    criterion: Criterion
    tuning: Values
    tuning_seeds: int
    laws: tuple[str, ...]
    margin_octaves: float
    is_exploratory: bool

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers: everything but budget, replicates, precision and storage."""
        return {
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
        """The values of the scientific axes in every cell."""
        grids = [[(axis.path, value) for value in axis.values] for axis in self.scientific]
        return [dict(point) for point in itertools.product(*grids)]

    def resolve(self, point: Values, nuisance: Values, role: Literal["tuning", "reported"]) -> ReplicateConfig:
        """The configuration of a replicate of a cell."""
        extra = self.tuning if role == "tuning" else {}
        also: dict[str, Scalar] = {}
        for axis in self.scientific:
            also |= axis.also.get(point[axis.path], {})
        return with_values(self.config, {**also, **point, **nuisance, **extra})


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
    variant = variant or space.default_variant
    if variant not in space.variants:
        raise ConfigError(unknown_name_sentence(f"variant of {space.name}", variant, space.variants))
    if profile not in space.profiles:
        raise ConfigError(unknown_name_sentence(f"profile of {space.name}", profile, space.profiles))
    dataset = dataset or space.config.data.name
    if dataset not in space.datasets:
        raise ConfigError(unknown_name_sentence(f"data set of {space.name}", dataset, space.datasets))
    overrides = dict(overrides or {})
    axes = {axis.path for axis in (*space.scientific, *space.nuisance)}
    bound = {path for axis in space.scientific for also in axis.also.values() for path in also}
    for path in overrides:
        if path in axes:
            raise ConfigError(f"{path} is an axis of {space.name} and cannot be fixed with --set")
        if path in bound:
            raise ConfigError(f"{path} goes with an axis of {space.name} and cannot be fixed with --set")
    values: dict[str, Scalar] = {"data.name": dataset}
    for changes in (space.profiles[profile], space.datasets[dataset], space.variants[variant], overrides):
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
        criterion=space.criterion,
        tuning=space.tuning,
        tuning_seeds=space.budget.tuning_seeds,
        laws=space.laws,
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
