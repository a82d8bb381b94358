"""A study as data: its axes, recipes, criteria, budget and variants."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from study.config import (
    ReplicateConfig,
    Scalar,
    field_types,
)
from study.words import percent

Values = Mapping[str, Scalar]
# The name of a cell's recipe beside the paths of its point; no configuration path is called so.
RECIPE = "recipe"
# Points of stage one along an axis that is sought.
MAX_STAGE_ONE = 6
Flank = Literal["rising", "falling", "both"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values of one configuration path; a geometric grid is extended by its own ratio.

    ``scale`` is the axis on which the flanks of a curve are taken to be symmetric.
    ``also`` gives further paths that go with a value, such as what only one of two trainers has.

    ``steps_per_octave`` above zero makes it an axis along which a limit is sought: ``values`` are then the points of
    stage one, and later rounds may measure :meth:`candidates` between them. These are whole multiples of
    ``multiple`` where it is given (always on a linear axis), else numbers of three significant digits.
    """

    path: str
    values: tuple[Scalar, ...]
    label: str
    scale: Literal["log", "linear"] = "log"
    also: Mapping[Scalar, Values] = field(default_factory=dict)
    steps_per_octave: int = 0
    multiple: int = 0

    def __post_init__(self) -> None:
        assert {self.path, *itertools.chain.from_iterable(self.also.values())} <= set(field_types()), self.path
        assert len(set(self.values)) == len(self.values) >= 1
        assert set(self.also) <= set(self.values)
        if self.steps_per_octave:
            assert self.steps_per_octave > 0
            assert not self.also, f"{self.path}: candidates of an axis that is sought bring nothing with them"
            is_whole = self.scale == "linear" or field_types()[self.path] is int
            assert self.multiple > 0 or not is_whole, f"{self.path}: a linear or whole-number axis names its multiple"
            self.check_stage_one(self.values)

    def check_stage_one(self, values: tuple[Scalar, ...]) -> None:
        """Assert that values can be stage one of this axis."""
        assert 2 <= len(values) <= MAX_STAGE_ONE, f"{self.path}: stage one has at most {MAX_STAGE_ONE} values"
        if self.multiple:
            assert all(float(value) % self.multiple == 0 for value in values), f"{self.path}: not in multiples"

    @property
    def is_sought(self) -> bool:
        return self.steps_per_octave > 0

    def candidates(self, values: tuple[Scalar, ...] | None = None) -> tuple[Scalar, ...]:
        """What later rounds may measure, in order: stage one, and equal steps between its neighbours.

        ``values`` are another stage one, such as a recipe's own; an axis that is not sought has its values alone. On
        a log axis neighbours are divided into about ``steps_per_octave`` geometric steps, from its first positive
        value on: a control at zero belongs to no fit. On a linear axis all multiples between its ends are candidates.
        """
        chosen = self.values if values is None else values
        if not self.is_sought:
            return chosen
        given = {float(value): value for value in chosen if self.scale == "linear" or float(value) > 0}
        numbers = sorted(given)
        if self.scale == "linear":
            low, high = (round(end / self.multiple) for end in (numbers[0], numbers[-1]))
            found = {float(step * self.multiple) for step in range(low, high + 1)}
        else:
            found = set(numbers)
            for start, end in itertools.pairwise(numbers):
                num_steps = round(self.steps_per_octave * math.log2(end / start))
                found |= {self._rounded(start * (end / start) ** (step / num_steps)) for step in range(1, num_steps)}
        # A value of stage one keeps its own spelling, 1 or 1.0: it is part of the name of its cell.
        return tuple(given.get(value, int(value) if self.multiple else value) for value in sorted(found))

    def _rounded(self, value: float) -> float:
        return float(f"{value:.3g}") if not self.multiple else float(round(value / self.multiple) * self.multiple)

    def canonical(self) -> list[Any]:
        """What the study hash covers of an axis."""
        return [
            self.path,
            list(self.values),
            *([sorted((v, dict(w)) for v, w in self.also.items())] if self.also else []),
            *([self.scale] if self.scale != "log" else []),
            *([{"steps_per_octave": self.steps_per_octave, "multiple": self.multiple}] if self.is_sought else []),
        ]

    def position(self, value: Scalar) -> float:
        """Where a value stands on the axis's own scale; a log axis begins at minus infinity with zero."""
        if self.scale == "linear":
            return float(value)
        return math.log2(float(value)) if float(value) > 0 else -math.inf

    @property
    def ratio(self) -> float:
        """The mean step of a geometric grid, as a factor."""
        numbers = [float(value) for value in self.values]
        return float((max(numbers) / min(numbers)) ** (1 / (len(numbers) - 1)))

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

    With ``share`` a replicate succeeds or fails, by whether it reaches the level, and the limit is where that share of
    seeds succeeds: for metrics that end in one of two states, whose mean over seeds is a state of none of them.
    """

    metric: str
    fraction: float | None = None
    level: float | None = None
    floor: Literal["before", "chance", "zero"] = "before"
    share: float | None = None

    def __post_init__(self) -> None:
        assert (self.fraction is None) != (self.level is None), "a criterion is a fraction or a level"
        assert self.share is None or self.level is not None, "success is to reach a level"
        assert self.share is None or 0 < self.share < 1, "a share of seeds lies between 0 and 1"

    def outcome(self, value: float) -> float:
        """What a replicate's metric counts as: itself, or 1 where it succeeds and 0 where it fails."""
        if self.share is None:
            return value
        assert self.level is not None, "success is to reach a level"
        return float(value >= self.level)

    def quantity(self, metric: str) -> str:
        """What the fitted curve shows, with the metric's name as it is written there."""
        return metric if self.share is None else f"share of seeds with {metric} ≥ {self.level:g}"

    @property
    def sentence(self) -> str:
        if self.share is not None:
            return f"{self.metric} ≥ {self.level:g} in {percent(self.share)} of seeds"
        if self.level is not None:
            return f"{self.metric} = {self.level:g}"
        assert self.fraction is not None, "a criterion is a fraction or a level"
        share = "half" if self.fraction == 0.5 else percent(self.fraction)
        return f"{share} rise of {self.metric}" + (" from chance" if self.floor == "chance" else "")

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers of a criterion."""
        left_out = {name for name, value in (("floor", "before"), ("share", None)) if getattr(self, name) == value}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}


def criteria_of(canonical: Mapping[str, Any]) -> tuple[Criterion, ...]:
    """The criteria of a design in its canonical form, the first one first."""
    return tuple(Criterion(**values) for values in (canonical["criterion"], *canonical.get("further_criteria", ())))


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
class Recipe:
    """A named setting that the whole question is asked of: configuration values, and its own values of axes."""

    name: str
    values: Values
    grids: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def canonical(self) -> list[Any]:
        """What the study hash covers of a recipe."""
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
    recipes: tuple[Recipe, ...] | None = None
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
    ``tuning`` is applied to tuning replicates only. ``grids`` gives a data set other values of an axis. Every recipe
    is a series of its own along the axes. ``flank`` says which crossing of the first axis is the question, where a
    limit is sought; ``plane`` makes it a boundary in the plane of the first two axes. ``laws`` names, by data set,
    those whose predictions are put beside the answer; ``further_criteria`` are read off the same replicates.
    """

    name: str
    question: str
    config: ReplicateConfig
    scientific: tuple[Axis, ...]
    nuisance: tuple[Axis, ...]
    criterion: Criterion
    budget: Budget = field(default_factory=Budget)
    tuning: Values = field(default_factory=dict)
    recipes: tuple[Recipe, ...] = ()
    further_criteria: tuple[Criterion, ...] = ()
    laws: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    margin_octaves: float = 0.5
    flank: Flank = "rising"
    plane: bool = False
    variants: Mapping[str, Variant]
    profiles: Mapping[str, Values]
    datasets: Mapping[str, Values]
    grids: Mapping[str, Mapping[str, tuple[Scalar, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = field_types()
        all_recipes = [self.recipes, *(variant.recipes or () for variant in self.variants.values())]
        changes = (
            self.tuning,
            *(recipe.values for recipes in all_recipes for recipe in recipes),
            *(variant.values for variant in self.variants.values()),
            *self.profiles.values(),
            *self.datasets.values(),
        )
        for path in itertools.chain.from_iterable(changes):
            assert path in known, f"{self.name}: {path} is no configuration path"
        for axis in self.nuisance:
            assert len(axis.values) >= 3, f"{self.name}: a nuisance needs at least 3 values per cell"
            assert field_types()[axis.path] is float, f"{self.name}: a nuisance is a float on a log axis"
        axes = {axis.path for axis in (*self.scientific, *self.nuisance)}
        for variant in self.variants.values():
            assert set(variant.datasets) <= set(self.datasets), f"{self.name}: a variant names an unknown data set"
            axes |= {axis.path for axis in (*(variant.scientific or ()), *(variant.nuisance or ()))}
        for dataset, grid in self.grids.items():
            assert dataset in self.datasets, f"{self.name}: {dataset} is none of its data sets"
            assert set(grid) <= axes, f"{self.name}: a grid of {dataset} names no axis"
        for recipes in all_recipes:
            names = [recipe.name for recipe in recipes]
            assert len(set(names)) == len(names), f"{self.name}: two recipes of one name"
            for recipe in recipes:
                assert set(recipe.grids) <= axes, f"{self.name}: a grid of {recipe.name} names no axis"

    def default_variant(self, dataset: str | None = None) -> str:
        """The first variant, of those made for a data set where it is given."""
        admitting = (
            name for name, variant in self.variants.items() if dataset in (None, *(variant.datasets or self.datasets))
        )
        return next(admitting, next(iter(self.variants)))
