"""The options of a sweep, and what it prints without running anything."""

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence

from study.config import ConfigError, Scalar, parse_value
from study.design import NUM_BORROWED, Design, PlanSize, find_studies, load_space, plan_size
from study.packing import GPU_SHARES

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
_SHARES = {f"1/{round(1 / share)}" if share < 1 else "1": share for share in GPU_SHARES}


def run_main(main: Callable[[], int]) -> int:
    """The exit code of a command; where its reader has gone away (``| head``) that of a broken pipe, without a word."""
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
        return code
    except BrokenPipeError:
        # What is still buffered has no reader: the interpreter would complain of it at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return EXIT_BROKEN_PIPE


def build_parser() -> argparse.ArgumentParser:
    """The command line of a sweep."""
    parser = argparse.ArgumentParser(
        prog="python -m study.sweep",
        description="Run a study to its answer. The same command again resumes where it stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("study", nargs="?", help="name of the study (see --list)")
    parser.add_argument("--list", action="store_true", help="list the studies and their questions")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its cost, and run nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    design = parser.add_argument_group("what is studied")
    design.add_argument("--variant", help="one of the study's designs; the first one where not given")
    design.add_argument("--profile", default="laptop", help="laptop or cluster: sizes that fit the machine")
    design.add_argument("--dataset", help="data set; the study's own where not given")
    design.add_argument("--data-root", help="folder with the data set's files, searched first (or $STUDY_DATA)")
    design.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change a configuration value; the study is then called exploratory",
    )
    design.add_argument("--replicates", type=_positive, help="seeds per point; more than before adds only the new ones")
    design.add_argument(
        "--precision",
        type=_positive_float,
        help="half the width in octaves that a sought limit's 95 %% interval may have; the study's own if not given",
    )
    design.add_argument(
        "--max-replicates",
        type=_positive,
        help="most reported replicates per sought limit; the study's own where not given",
    )
    design.add_argument("--max-hours", type=_positive_float, help="start no further pack after this many hours")
    where = parser.add_argument_group("where it runs")
    where.add_argument("--address", help="Ray cluster; $RAY_ADDRESS, else this machine (local)")
    where.add_argument(
        "--executor",
        choices=("auto", "inline", "train"),
        default="auto",
        help="auto: train where more than one worker or the cluster profile is asked for",
    )
    where.add_argument("--workers-per-trial", type=_positive, default=1, help="DDP workers that share each batch")
    where.add_argument(
        "--max-concurrent", type=_positive, help="packs at a time; as many as the CPUs allow where not given"
    )
    where.add_argument(
        "--niceness",
        type=_niceness,
        help="of the workers of a Ray on this machine: 0, where not given, shares the processor fairly; 19 takes what "
        "nobody else wants",
    )
    where.add_argument("--use-gpu", action="store_true", help="train on GPUs")
    where.add_argument(
        "--gpus-per-pack",
        type=_share,
        default="auto",
        metavar=f"{{auto,{','.join(_SHARES)}}}",
        help="share of a GPU that each worker of a pack takes; auto: what the packs' estimated memory needs",
    )
    keep = parser.add_argument_group("where results go")
    keep.add_argument(
        "--storage", help="folder or URL (s3://...) of the ledger; $STUDY_STORAGE, else a per-user folder"
    )
    keep.add_argument("--tracking-uri", help="MLflow; a SQLite file in the storage where not given")
    keep.add_argument("--retry", action="store_true", help="try replicates that failed for good once more")
    keep.add_argument("--fresh", action="store_true", help="start a new ledger; the old one stays where it is")
    return parser


def ray_address(options: argparse.Namespace) -> str:
    """The Ray cluster that a command names, else that of the environment; ``local`` is a Ray of its own."""
    return options.address or os.environ.get("RAY_ADDRESS") or "local"


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a whole number, not {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _niceness(text: str) -> int:
    if not text.isdecimal() or int(text) > 19:
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 to 19, not {text!r}")
    return int(text)


def _share(text: str) -> float | None:
    if text == "auto":
        return None
    if text not in _SHARES:
        raise argparse.ArgumentTypeError(f"takes auto, {', '.join(_SHARES)}, not {text!r}")
    return _SHARES[text]


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes a number, not {text!r}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be positive and finite")
    return value


def parse_overrides(items: Sequence[str]) -> dict[str, Scalar]:
    """Read PATH=VALUE items; :class:`ConfigError` for a wrong form, path or type."""
    values: dict[str, Scalar] = {}
    for item in items:
        path, mark, text = item.partition("=")
        if not mark:
            raise ConfigError(f"--set takes PATH=VALUE, not {item!r}")
        if path in values:
            raise ConfigError(f"--set gives {path} twice: give it once")
        values[path] = parse_value(path, text)
    return values


def print_list(as_json: bool) -> None:
    """Print the studies with their questions and variants."""
    spaces = [load_space(name) for name in find_studies()]
    if as_json:
        print(json.dumps([{"study": s.name, "question": s.question, "variants": list(s.variants)} for s in spaces]))
        return
    width = max(len(space.name) for space in spaces) + 2
    for space in spaces:
        print(f"{space.name:<{width}}{space.question}\n{'':<{width}}variants: {', '.join(space.variants)}")


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
    print(f"{design.study} ({design.variant}) · {design.config.data.name} · design {design.hash}")
    grids = {path for recipe in design.recipes for path in recipe.grids}
    for axis in design.scientific:
        values = "by recipe" if axis.path in grids else ", ".join(map(_shown, axis.values))
        print(f"scientific  {axis.path}: {values}")
    for recipe in design.recipes:
        own = "; ".join(f"{path} {', '.join(map(_shown, grid))}" for path, grid in recipe.grids.items())
        print(f"recipe      {recipe.name}" + (f": {own}" if own else ""))
    for axis in design.nuisance:
        print(f"nuisance    {axis.path}: {', '.join(f'{v:g}' for v in axis.values)}")
    print(f"criterion   {' and '.join(c.sentence for c in (design.criterion, *design.further_criteria))}")
    if design.laws:
        print(f"laws        {', '.join(design.laws)}")
    if design.nuisance:
        print(
            f"round 0     {size.num_tuning} replicates: every nuisance setting of every point with "
            f"{design.tuning_seeds} seeds, validation split"
        )
        print(
            f"then        at most {size.num_extension}: one more value beyond the edge where the best one lies at an "
            "edge"
        )
        print(
            f"then        {size.num_reported}: every point at its best setting with {replicates} fresh seeds, test "
            "split"
        )
    else:
        print(f"round 0     {size.num_reported} replicates: every point with {replicates} seeds, test split")
    if design.is_sought:
        _print_rule(design, size)
    horizons = sorted(
        {(c.length, c.unit) for c in (design.resolve(p, {}, "reported").horizon for p in design.points())}
    )
    lengths = ", ".join(f"{length:,}" for length, _ in horizons)
    print(f"cost        {size.least} to {size.greatest} replicates of {lengths} {horizons[0][1]}")


def _print_rule(design: Design, size: PlanSize) -> None:
    """What follows stage one where a limit is sought."""
    slices, budget = design.slices(), design.budget
    flank = {"rising": "the rise", "falling": "the fall", "both": "rise and fall"}[design.flank]
    fewest, most = (extreme(len(part.candidates) for part in slices) for extreme in (min, max))
    per_slice = f" in each of {len(slices)} slices" if len(slices) > 1 else ""
    print(
        f"then        at most {size.num_sought}: up to {budget.round_replicates} per round where they narrow "
        f"{flank} through the criterion{'' if not design.plane else ', a line in the plane,'} most, among "
        f"{most if fewest == most else f'{fewest} to {most}'} points{per_slice}"
    )
    print(
        f"until       half the width of the 95 % interval is at most {budget.precision:g} octaves"
        f"{' in the mean along the line' if design.plane else ''}, or more replicates would not change the statement, "
        f"or {budget.max_replicates} replicates are reported{per_slice}"
    )
    if design.nuisance:
        print(
            f"tuned       with at most {size.num_sought_tuning} more: a new point takes the setting that its tuned "
            f"neighbours agree on, or tries at most {NUM_BORROWED} with {design.tuning_seeds} seeds"
        )


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else f"{value:g}"
