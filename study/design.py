"""What a search space comes to once variant, profile, data set and overrides are applied: the registered design."""

import dataclasses
import importlib
import itertools
import json
import math
import pkgutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from study.config import (
    ConfigError,
    ReplicateConfig,
    Scalar,
    canonical,
    digest,
    error_sentence,
    first_line,
    unknown_name_sentence,
    with_values,
)
from study.metrics import reported
from study.space import RECIPE, Axis, Budget, Criterion, Flank, Recipe, SearchSpace, Values

# The most settings that a new cell borrows from its neighbours: two of theirs, and one between.
NUM_BORROWED = 3


@dataclass(frozen=True, kw_only=True)
class DesignSlice:
    """The axis (or the plane) that a limit is sought on, at fixed values of all else, with a recipe where there are.

    ``paths`` are the one or two axes, ``points`` the cells of stage one, ``candidates`` the values of ``paths`` that
    later rounds may measure, stage one included.
    """

    others: dict[str, Scalar]
    paths: tuple[str, ...]
    points: tuple[dict[str, Scalar], ...]
    candidates: tuple[tuple[Scalar, ...], ...]

    def point(self, candidate: tuple[Scalar, ...]) -> dict[str, Scalar]:
        """The cell at a candidate, its values in the order of a cell of stage one."""
        values = dict(zip(self.paths, candidate, strict=True)) | self.others
        return {path: values[path] for path in self.points[0]}

    def holds(self, point: Values) -> bool:
        """Whether a cell belongs to it."""
        return all(point[path] == value for path, value in self.others.items())

    def position(self, point: Values) -> tuple[float, ...]:
        """The values of the sought axes at a cell."""
        return tuple(float(point[path]) for path in self.paths)

    @property
    def name(self) -> str:
        """What tells it from the other slices in a line of text; empty where it is the only one."""
        return ", ".join(value if isinstance(value, str) else f"{value:g}" for value in self.others.values())


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
    budget: Budget
    laws: tuple[str, ...]
    margin_octaves: float
    flank: Flank
    plane: bool
    is_exploratory: bool

    def __post_init__(self) -> None:
        sought = [axis.is_sought for axis in self.scientific]
        width = 2 if self.plane else 1
        assert len(sought) >= width, f"{self.study}: a plane has two axes"
        assert not any(sought[width:]), f"{self.study}: a limit is sought along the first axis, a plane's first two"
        assert sought[0] or not any(sought), f"{self.study}: the limit in a plane is that of its first axis"
        assert not (self.plane and self.flank == "both"), f"{self.study}: a boundary has one flank"
        shares = [criterion.share for criterion in (self.criterion, *self.further_criteria)]
        assert not self.plane or shares == [None] * len(shares), f"{self.study}: successes are sought along one axis"
        for axis, recipe in itertools.product(self.scientific, self.recipes):
            if axis.is_sought and axis.path in recipe.grids:
                axis.check_stage_one(recipe.grids[axis.path])

    @property
    def is_sought(self) -> bool:
        """Whether later rounds look for the limit between the points of the grid."""
        return self.scientific[0].is_sought

    @property
    def tuning_seeds(self) -> int:
        return self.budget.tuning_seeds

    @property
    def replicates(self) -> int:
        return self.budget.replicates

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers: everything but budget, replicates, precision and storage.

        What a design does not have is left out, so that designs keep their hash when a new kind of part is added.
        """
        later = {
            "recipes": [recipe.canonical() for recipe in self.recipes],
            "further_criteria": [criterion.canonical() for criterion in self.further_criteria],
            "flank": "" if self.flank == "rising" else self.flank,
            "plane": self.plane,
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

    def slices(self) -> tuple[DesignSlice, ...]:
        """What one limit each is sought in: every recipe at all values of the axes that are not sought along."""
        paths = tuple(axis.path for axis in self.scientific[: 2 if self.plane else 1])
        parts: dict[str, list[dict[str, Scalar]]] = {}
        for point in self.points():
            others = {path: value for path, value in point.items() if path not in paths}
            parts.setdefault(cell_name(others), []).append(point)
        grids = {recipe.name: recipe.grids for recipe in self.recipes}
        found = []
        for points in parts.values():
            own = grids.get(str(points[0].get(RECIPE)), {})
            axes = [axis.candidates(own.get(axis.path)) for axis in self.scientific[: len(paths)]]
            found.append(
                DesignSlice(
                    others={path: value for path, value in points[0].items() if path not in paths},
                    paths=paths,
                    points=tuple(points),
                    candidates=tuple(itertools.product(*axes)),
                )
            )
        return tuple(found)

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
    """The search space of a study.

    Raises :class:`ConfigError` for an unknown name, with the nearest one, and for a file that gives no search space.
    """
    studies = find_studies()
    if name not in studies:
        raise ConfigError(unknown_name_sentence("study", name, studies))
    file = f"search_spaces/{name}.py"
    try:
        space = importlib.import_module(f"search_spaces.{name}").SPACE
    # Whatever a user's file does when it is run: the other studies do not depend on it.
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file} cannot be used: {_cause(error, file)}") from error
    if not isinstance(space, SearchSpace):
        raise ConfigError(f"{file} cannot be used: its SPACE is no SearchSpace")
    if space.name != name:
        raise ConfigError(f"{file} cannot be used: it calls itself {space.name}, but a study has the name of its file")
    return space


def _cause(error: BaseException, file: str) -> str:
    """What went wrong in a file, and on which of its lines."""
    words = first_line(error) if isinstance(error, AssertionError) else error_sentence(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    if isinstance(error, SyntaxError):
        words = f"SyntaxError: {error.msg}"
        lines = [error.lineno] if str(error.filename).endswith(file) else lines
    return f"{words} (line {lines[-1]})" if lines else words


def make_design(
    space: SearchSpace,
    *,
    variant: str | None = None,
    profile: str = "laptop",
    dataset: str | None = None,
    overrides: Values | None = None,
) -> Design:
    """Apply a variant, a profile, a data set and overrides to a search space.

    Raises :class:`ConfigError` for unknown names, values out of range, overrides of an axis, a declaration that makes
    no design, and a criterion whose metric the replicates do not report.
    """
    try:
        design = _applied(space, variant, profile, dataset, dict(overrides or {}))
    except AssertionError as error:
        named = f" ({variant})" if variant else ""
        raise ConfigError(f"search_spaces/{space.name}.py{named} makes no design: {first_line(error)}") from error
    _check_criteria(design)
    return design


def _applied(
    space: SearchSpace, variant: str | None, profile: str, dataset: str | None, overrides: dict[str, Scalar]
) -> Design:
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
        budget=space.budget,
        laws=space.laws.get(dataset, ()),
        margin_octaves=space.margin_octaves,
        flank=space.flank,
        plane=space.plane,
        is_exploratory=bool(overrides),
    )


def _check_criteria(design: Design) -> None:
    """Raise :class:`ConfigError` where a replicate would end without the metric that it is judged or tuned by."""
    middle: dict[str, Scalar] = {axis.path: axis.values[len(axis.values) // 2] for axis in design.nuisance}
    asked: list[tuple[Literal["tuning", "reported"], Criterion]]
    asked = [("reported", criterion) for criterion in (design.criterion, *design.further_criteria)]
    # Nuisances are tuned for the first criterion alone.
    asked += [("tuning", design.criterion)] if design.nuisance else []
    for point, (role, criterion) in itertools.product(design.points(), asked):
        config = design.resolve(point, middle, role)
        known = reported(config)
        names = known.judged if criterion.floor == "before" else known.at_end
        if criterion.metric in names:
            continue
        when = " before training" if criterion.metric in known.at_end else ""
        raise ConfigError(
            f"{design.study} ({design.variant}) is judged by {criterion.metric}, which {role} replicates with "
            f"trainer={config.trainer} do not report{when}; they report {', '.join(sorted(names))}"
        )


@dataclass(frozen=True, kw_only=True)
class PlanSize:
    """Least and greatest number of replicates of a plan without an appended round.

    ``num_sought`` are the most that are reported after stage one, ``num_sought_tuning`` the most that tune for them.
    """

    num_points: int
    num_tuning: int
    num_extension: int
    num_reported: int
    num_sought: int = 0
    num_sought_tuning: int = 0

    @property
    def least(self) -> int:
        return self.num_tuning + self.num_reported

    @property
    def greatest(self) -> int:
        return self.least + self.num_extension + self.num_sought + self.num_sought_tuning


def plan_size(design: Design, replicates: int) -> PlanSize:
    """Count the replicates of a design's plan."""
    num_points = len(design.points())
    settings = math.prod(len(axis.values) for axis in design.nuisance)
    tuned = bool(design.nuisance)
    slices = design.slices() if design.is_sought else ()
    further = [max(0, design.budget.max_replicates - len(part.points) * replicates) for part in slices]
    new_cells = [min(n, len(part.candidates) - len(part.points)) for n, part in zip(further, slices, strict=True)]
    per_cell = (NUM_BORROWED + len(design.nuisance)) * design.tuning_seeds if tuned else 0
    return PlanSize(
        num_points=num_points,
        num_tuning=num_points * settings * design.tuning_seeds if tuned else 0,
        num_extension=num_points * len(design.nuisance) * design.tuning_seeds,
        num_reported=num_points * replicates,
        num_sought=sum(further),
        num_sought_tuning=per_cell * sum(new_cells),
    )


def cell_name(point: Values) -> str:
    """The identity of a cell in the ledger: its point as sorted JSON."""
    return json.dumps(dict(point), sort_keys=True)
