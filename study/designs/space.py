"""A study as data: its recipe, axes, series, criteria, budget and variants."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.values import Scalar, Values, field_types
from study.interface.recipe import Recipe

# What a cell's series is called beside the paths of its point; no configuration path is called so. Ledgers hold it.
SERIES = "recipe"
# Columns of tables of replicates and of means, which hold the values of axes under their paths as well.
RESERVED = frozenset(
    {SERIES, "round", "role", "cell", "nuisance", "key", "attempt", "seed", "outcome", "config", "started_at"}
    | {"value", "mean", "std", "count"}
)
Flank = Literal["rising", "falling", "both"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seeds per nuisance setting of a cell, and replicates reported per point.

    Where a limit is sought, ``replicates`` are those of stage one; each later round reports at most
    ``round_replicates`` more per slice, until half the width of the limit's 95 % interval is at most ``precision``
    octaves (in a plane its mean along the boundary), or ``max_replicates`` are reported in the slice.
    """

    tuning_seeds: int = 2
    replicates: int = 5
    precision: float = 0.25
    max_replicates: int = 48
    round_replicates: int = 4

    def __post_init__(self) -> None:
        assert self.precision > 0
        assert min(self.tuning_seeds, self.replicates, self.max_replicates, self.round_replicates) >= 1


@dataclass(frozen=True, kw_only=True)
class Series:
    """A named setting that the whole question is asked of: configuration values, and its own values of axes."""

    name: str
    values: Values
    grids: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, canonical: Sequence[Any]) -> "Series":
        """The series of a canonical form."""
        name, values, grids = canonical
        return cls(name=name, values=dict(values), grids={path: tuple(grid) for path, grid in grids})

    def canonical(self) -> list[Any]:
        """What the study hash covers of a series; :meth:`read` reads it."""
        return [self.name, sorted(self.values.items()), sorted((path, list(grid)) for path, grid in self.grids.items())]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One design of a study: configuration values, and what else differs from its space (None: as the space has it).

    ``datasets`` restricts it to these, the first being its own default; empty: all of the space.
    """

    values: Values = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    scientific: tuple[Axis, ...] | None = None
    nuisance: tuple[Axis, ...] | None = None
    series: tuple[Series, ...] | None = None
    criterion: Criterion | None = None
    further_criteria: tuple[Criterion, ...] | None = None
    laws: Mapping[str, tuple[str, ...]] | None = None
    margin_octaves: float | None = None
    budget: Budget | None = None
    flank: Flank | None = None
    plane: bool | None = None

    def applied(self, space: "SearchSpace") -> "SearchSpace":
        """The space with all but ``values`` of this variant in place of its own.

        Grids of data sets belong to the space's own axes: an axis that the variant gives keeps its own values.
        """
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del own["values"], own["datasets"]
        changes = {name: value for name, value in own.items() if value is not None}
        kept = {
            axis.path for name in ("scientific", "nuisance") if name not in changes for axis in getattr(space, name)
        }
        grids = {
            dataset: {path: values for path, values in grid.items() if path in kept}
            for dataset, grid in space.grids.items()
        }
        return dataclasses.replace(space, grids=grids, **changes)


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """One question: ``config`` fixed, ``scientific`` axes asked about, ``nuisance`` axes tuned in every cell.

    ``profiles``, ``datasets`` and ``variants`` replace configuration values, in the order profile, data set, variant.
    ``tuning`` is applied to tuning replicates only. ``grids`` gives a data set other values of an axis. Every series
    asks the whole question of one setting. ``flank`` says which crossing of the first axis is the question, where a
    limit is sought; ``plane`` makes it a boundary in the plane of the first two axes. ``laws`` names, by data set,
    those whose predictions are put beside the answer; ``further_criteria`` are read off the same replicates.
    """

    name: str
    question: str
    recipe: Recipe[Any]
    config: Any
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    criterion: Criterion
    budget: Budget = field(default_factory=Budget)
    tuning: Values = field(default_factory=dict)
    series: tuple[Series, ...] = ()
    further_criteria: tuple[Criterion, ...] = ()
    laws: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    margin_octaves: float = 0.5
    flank: Flank = "rising"
    plane: bool = False
    variants: Mapping[str, Variant] = field(default_factory=lambda: {"default": Variant()})
    profiles: Mapping[str, Values] = field(default_factory=lambda: {"laptop": {}})
    datasets: Mapping[str, Values] = field(default_factory=dict)
    grids: Mapping[str, Mapping[str, tuple[Scalar, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_paths()
        axes = {axis.path for axis in (*self.scientific, *self.nuisance)}
        for variant in self.variants.values():
            assert set(variant.datasets) <= set(self.datasets), f"{self.name}: a variant names an unknown data set"
            axes |= {axis.path for axis in (*(variant.scientific or ()), *(variant.nuisance or ()))}
        for dataset, grid in self.grids.items():
            assert dataset in self.datasets, f"{self.name}: {dataset} is none of its data sets"
            assert set(grid) <= axes, f"{self.name}: a grid of {dataset} names no axis"
        for all_series in (self.series, *(variant.series or () for variant in self.variants.values())):
            names = [series.name for series in all_series]
            assert len(set(names)) == len(names), f"{self.name}: two series of one name"
            for series in all_series:
                assert set(series.grids) <= axes, f"{self.name}: a grid of {series.name} names no axis"

    def _check_paths(self) -> None:
        """Assert that every path is one of the configuration, and every axis of a type that it can be."""
        wanted = self.recipe.config_class
        known = field_types(wanted)
        assert isinstance(self.config, wanted), f"{self.name}: its config must be a {wanted.__name__}, as of its recipe"
        parts: tuple[SearchSpace | Variant, ...] = (self, *self.variants.values())
        nuisance = [axis for part in parts for axis in part.nuisance or ()]
        axes = [*(axis for part in parts for axis in part.scientific or ()), *nuisance]
        changes = (
            self.tuning,
            *(series.values for part in parts for series in part.series or ()),
            *(variant.values for variant in self.variants.values()),
            *self.profiles.values(),
            *self.datasets.values(),
            *(values for axis in axes for values in (*axis.also.values(), (axis.path,))),
        )
        for path in itertools.chain.from_iterable(changes):
            assert path in known, f"{self.name}: {path} is no configuration path"
        for axis in nuisance:
            assert len(axis.values) >= 3, f"{self.name}: a nuisance needs at least 3 values per cell"
            assert known[axis.path] is float, f"{self.name}: a nuisance is a float on a log axis"
        for axis in axes:
            is_free = axis.path not in RESERVED
            assert is_free, f"{self.name}: an axis cannot be called {axis.path}, as a column of tables is"
            is_whole = axis.is_sought and known[axis.path] is int
            assert axis.multiple > 0 or not is_whole, f"{axis.path}: a linear or whole-number axis names its multiple"

    def default_variant(self, dataset: str | None = None) -> str:
        """The first variant, of those made for a data set where it is given."""
        admitting = (
            name for name, variant in self.variants.items() if dataset in (None, *(variant.datasets or self.datasets))
        )
        return next(admitting, next(iter(self.variants)))
