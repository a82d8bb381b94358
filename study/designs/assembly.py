"""From a search space to a design: variant, profile, data set and overrides applied, and the result checked."""

import dataclasses
import itertools
from typing import Literal

from study.designs.criterion import Criterion
from study.designs.design import Design, dataset_of
from study.designs.space import SearchSpace
from study.designs.values import Scalar, Values, with_values
from study.errors import ConfigError, first_line, unknown_name_sentence
from study.interface.recipe import find_recipe


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
    no design, a recipe that workers would not find, and a criterion whose metric the replicates do not report.
    """
    _check_address(space)
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
    dataset = _dataset(space, variant, dataset)
    space = chosen.applied(space)
    axes = {axis.path for axis in (*space.scientific, *space.nuisance)}
    bound = {path for axis in space.scientific for also in axis.also.values() for path in also}
    bound |= {path for series in space.series for path in series.values}
    for path in overrides:
        if path in axes:
            raise ConfigError(f"{path} is an axis of {space.name} and cannot be fixed with --set")
        if path in bound:
            raise ConfigError(f"{path} goes with an axis or series of {space.name} and cannot be fixed with --set")
    values: dict[str, Scalar] = {space.recipe.dataset_path: dataset} if dataset else {}
    for changes in (space.profiles[profile], space.datasets.get(dataset, {}), chosen.values, overrides):
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
        recipe=space.recipe,
        config=config,
        scientific=scientific,
        nuisance=nuisance,
        series=space.series,
        criterion=space.criterion,
        further_criteria=space.further_criteria,
        tuning=space.tuning,
        budget=space.budget,
        laws=space.laws.get(dataset, ()),
        margin_octaves=space.margin_octaves,
        flank=space.flank,
        plane=space.plane,
        is_exploratory=bool(overrides),
        is_first_variant=variant == next(iter(space.variants)),
    )


def _dataset(space: SearchSpace, variant: str, asked: str | None) -> str:
    """The name of the data set that a variant runs on, empty where the study has none."""
    admitted = space.variants[variant].datasets or tuple(space.datasets)
    if not admitted:
        if asked is not None:
            raise ConfigError(f"{space.name} has no data sets: leave out --dataset")
        return ""
    own = dataset_of(space.recipe, space.config)
    dataset = asked or (own if own in admitted else admitted[0])
    if dataset not in space.datasets:
        raise ConfigError(unknown_name_sentence(f"data set of {space.name}", dataset, space.datasets))
    if dataset not in admitted:
        raise ConfigError(f"variant {variant} of {space.name} takes --dataset {' or '.join(admitted)}, not {dataset}")
    return dataset


def _check_address(space: SearchSpace) -> None:
    """Raise :class:`ConfigError` where workers, who have the address alone, would run another recipe or none."""
    address = getattr(space.recipe, "address", "")
    if find_recipe(address) is not space.recipe:
        raise ConfigError(
            f"{address} is another recipe than that of {space.name}, and workers would run that one: name the module "
            "and the variable of this one in its address"
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
        known = design.recipe.reported(config)
        names = known.judged if criterion.floor == "before" else known.at_end
        if criterion.metric in names:
            if criterion.floor == "chance" and design.recipe.metric(criterion.metric).chance_of(config) is None:
                raise ConfigError(
                    f"{design.study} ({design.variant}) takes {criterion.metric} from chance, but it has no chance "
                    "level: take floor=before or floor=zero"
                )
            continue
        when = " before training" if criterion.metric in known.at_end else ""
        raise ConfigError(
            f"{design.study} ({design.variant}) is judged by {criterion.metric}, which {role} replicates of "
            f"{design.recipe.method(config).name} do not report{when}; they report {', '.join(sorted(names))}"
        )
