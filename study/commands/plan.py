"""What a command prints without running anything: the studies there are, and the plan of one."""

import json
import sys
from typing import Literal

from study.commands.streams import show
from study.designs.catalogue import find_studies, load_space
from study.designs.cost import NUM_BORROWED, PlanSize, plan_size
from study.designs.design import Design
from study.errors import ConfigError
from study.formatting import count, count_range, plain_value

# Columns of the names in a plan.
_PLAN_INDENT = 12


def print_list(as_json: bool) -> None:
    """Print the studies with their questions and variants; a file that gives none is a line on standard error."""
    spaces = []
    for name in find_studies():
        try:
            spaces.append(load_space(name))
        except ConfigError as error:
            print(f"warning: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps([{"study": s.name, "question": s.question, "variants": list(s.variants)} for s in spaces]))
        return
    width = max((len(space.name) for space in spaces), default=0) + 2
    for space in spaces:
        show(f"{space.name:<{width}}{space.question}", width)
        show(f"{'':<{width}}variants: {', '.join(space.variants)}", 0)


def print_plan(design: Design, replicates: int, as_json: bool) -> None:
    """Print a design's stage one, its rule and its least and greatest cost."""
    size = plan_size(design, replicates)
    if as_json:
        plan = {"design": design.hash, "points": design.points(), "least": size.least, "greatest": size.greatest}
        sought = {
            "precision": design.budget.precision,
            "max_replicates": design.budget.max_replicates,
            "round_replicates": design.budget.round_replicates,
            "candidates": [len(part.candidates) for part in design.slices()],
        }
        plan |= {"sought": sought} if design.is_sought else {}
        print(json.dumps(plan | {"canonical": design.canonical()}))
        return
    named = f"{design.study} ({design.variant})"
    show(" · ".join(filter(None, (named, design.dataset, f"design {design.hash}"))))
    grids = {path for series in design.series for path in series.grids}
    for axis in design.scientific:
        values = "by series" if axis.path in grids else ", ".join(map(plain_value, axis.values))
        _show_part("scientific", f"{axis.path}: {values}")
    for series in design.series:
        own = "; ".join(f"{path} {', '.join(map(plain_value, grid))}" for path, grid in series.grids.items())
        _show_part("series", series.name + (f": {own}" if own else ""))
    for axis in design.nuisance:
        _show_part("nuisance", f"{axis.path}: {', '.join(f'{v:g}' for v in axis.values)}")
    _show_part("criterion", " and ".join(c.sentence for c in (design.criterion, *design.further_criteria)))
    if design.laws:
        _show_part("laws", ", ".join(design.laws))
    if design.nuisance:
        _show_part(
            "round 0",
            f"{count(size.num_tuning, 'replicate')}: every nuisance setting of every point with "
            f"{count(design.tuning_seeds, 'seed')}{_split(design, 'tuning')}",
        )
        _show_part(
            "then",
            f"at most {size.num_extension:,}: one more value beyond the edge where the best one lies at an edge",
        )
        _show_part(
            "then",
            f"{size.num_reported:,}: every point at its best setting with {count(replicates, 'fresh seed')}"
            f"{_split(design, 'reported')}",
        )
    else:
        _show_part(
            "round 0",
            f"{count(size.num_reported, 'replicate')}: every point with {count(replicates, 'seed')}"
            f"{_split(design, 'reported')}",
        )
    if design.is_sought:
        _print_rule(design, size)
    horizons = dict.fromkeys(design.recipe.horizon(design.resolve(p, {}, "reported")) for p in design.points())
    of = f" of {', '.join(horizons)}" if any(horizons) else ""
    _show_part("cost", count_range(size.least, size.greatest, "replicate") + of)


def _split(design: Design, role: Literal["tuning", "reported"]) -> str:
    return f", {split}" if (split := design.split(role)) else ""


def _print_rule(design: Design, size: PlanSize) -> None:
    """What follows stage one where a limit is sought."""
    slices, budget = design.slices(), design.budget
    flank = {"rising": "the rise", "falling": "the fall", "both": "rise and fall"}[design.flank]
    fewest, most = (extreme(len(part.candidates) for part in slices) for extreme in (min, max))
    per_slice = f" in each of {count(len(slices), 'slice')}" if len(slices) > 1 else ""
    _show_part(
        "then",
        f"at most {size.num_sought:,}: up to {budget.round_replicates} per round where they narrow "
        f"{flank} through the criterion{'' if not design.plane else ', a line in the plane,'} most, among "
        f"{count_range(fewest, most, 'point')}{per_slice}",
    )
    verb = "is" if budget.max_replicates == 1 else "are"
    _show_part(
        "until",
        f"half the width of the 95 % interval is at most {budget.precision:g} octaves"
        f"{' in the mean along the line' if design.plane else ''}, or more replicates would not change the statement, "
        f"or {count(budget.max_replicates, 'replicate')} {verb} reported{per_slice}",
    )
    if design.nuisance:
        _show_part(
            "tuned",
            f"with at most {size.num_sought_tuning:,} more: a new point takes the setting that its tuned "
            f"neighbours agree on, or tries at most {NUM_BORROWED} with {count(design.tuning_seeds, 'seed')}",
        )


def _show_part(name: str, text: str) -> None:
    """Print a line of a plan, continued under its text."""
    show(f"{name:<{_PLAN_INDENT}}{text}", _PLAN_INDENT)
