"""What a search space comes to once variant, profile, data set and overrides are applied: the registered design."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.space import SERIES, Budget, Flank, Series
from study.designs.values import Scalar, Values, canonical, digest, flatten, with_values
from study.formatting import plain_value
from study.interface.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DesignSlice:
    """The axis (or the plane) that a limit is sought on, at fixed values of all else, with a series where there are.

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
        return ", ".join(map(plain_value, self.others.values()))


@dataclass(frozen=True, kw_only=True)
class Design:
    """A search space with variant, profile, data set and ``--set`` applied: what is pre-registered and hashed."""

    study: str
    variant: str
    recipe: Recipe[Any]
    config: Any
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    series: tuple[Series, ...]
    criterion: Criterion
    further_criteria: tuple[Criterion, ...]
    tuning: Values
    budget: Budget
    laws: tuple[str, ...]
    margin_octaves: float
    flank: Flank
    plane: bool
    is_exploratory: bool
    is_first_variant: bool = True

    def __post_init__(self) -> None:
        sought = [axis.is_sought for axis in self.scientific]
        width = 2 if self.plane else 1
        for axis in self.scientific[:width]:
            has_words = any(isinstance(value, str) for value in axis.values)
            assert not has_words, f"{self.study}: a limit lies along numbers, and {axis.path} takes words"
        assert len(sought) >= width, f"{self.study}: a plane has two axes"
        assert not any(sought[width:]), f"{self.study}: a limit is sought along the first axis, a plane's first two"
        assert sought[0] or not any(sought), f"{self.study}: the limit in a plane is that of its first axis"
        assert not (self.plane and self.flank == "both"), f"{self.study}: a boundary has one flank"
        shares = [criterion.share for criterion in (self.criterion, *self.further_criteria)]
        assert not self.plane or shares == [None] * len(shares), f"{self.study}: successes are sought along one axis"
        for axis, series in itertools.product(self.scientific, self.series):
            if axis.is_sought and axis.path in series.grids:
                axis.check_stage_one(series.grids[axis.path])

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
            "recipes": [one.canonical() for one in self.series],
            "further_criteria": [criterion.canonical() for criterion in self.further_criteria],
            "flank": "" if self.flank == "rising" else self.flank,
            "plane": self.plane,
            "entry_point": self.recipe.identity,
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
    def dataset(self) -> str:
        """The name of the data set, empty where the recipe has none."""
        return dataset_of(self.recipe, self.config)

    def split(self, role: Literal["tuning", "reported"]) -> str:
        """The split that replicates of a role are judged on, in words; empty where the recipe has none."""
        path = self.recipe.split_path
        extra = self.tuning if role == "tuning" else {}
        return f"{extra.get(path, flatten(self.config)[path])} split" if path else ""

    @property
    def hash(self) -> str:
        return digest(self.canonical(), length=8)

    def points(self) -> list[dict[str, Scalar]]:
        """The values of the scientific axes in every cell, with the name of its series where there are several."""
        if not self.series:
            return self._grid({})
        return [{**point, SERIES: series.name} for series in self.series for point in self._grid(series.grids)]

    def slices(self) -> tuple[DesignSlice, ...]:
        """What one limit each is sought in: every series at all values of the axes that are not sought along."""
        paths = tuple(axis.path for axis in self.scientific[: 2 if self.plane else 1])
        parts: dict[str, list[dict[str, Scalar]]] = {}
        for point in self.points():
            others = {path: value for path, value in point.items() if path not in paths}
            parts.setdefault(cell_name(others), []).append(point)
        grids = {series.name: series.grids for series in self.series}
        found = []
        for points in parts.values():
            own = grids.get(str(points[0].get(SERIES)), {})
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

    def resolve(self, point: Values, nuisance: Values, role: Literal["tuning", "reported"]) -> Any:
        """The configuration of a replicate of a cell."""
        extra = self.tuning if role == "tuning" else {}
        also: dict[str, Scalar] = {}
        for series in self.series:
            also |= series.values if series.name == point[SERIES] else {}
        for axis in self.scientific:
            also |= axis.also.get(point[axis.path], {})
        values = {path: value for path, value in point.items() if path != SERIES}
        return with_values(self.config, {**also, **values, **nuisance, **extra})


def cell_name(point: Values) -> str:
    """The identity of a cell in the ledger: its point as sorted JSON."""
    return json.dumps(dict(point), sort_keys=True)


def dataset_of(recipe: Recipe[Any], config: Any) -> str:
    """The name of a configuration's data set, empty where the recipe has none."""
    return str(flatten(config)[recipe.dataset_path]) if recipe.dataset_path else ""
