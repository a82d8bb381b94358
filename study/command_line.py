"""The options of a sweep, and what it prints without running anything."""

import argparse
import fcntl
import io
import json
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from study.config import ConfigError, Scalar, error_sentence, parse_value
from study.design import NUM_BORROWED, Design, PlanSize, find_studies, load_space, plan_size
from study.packing import GPU_SHARES
from study.words import count, count_range, wrapped

EXIT_BROKEN_PIPE, EXIT_UNWRITTEN = 128 + signal.SIGPIPE, 5
# Columns of the names in a plan.
_PLAN_INDENT = 12
_SHARES = {f"1/{round(1 / share)}" if share < 1 else "1": share for share in GPU_SHARES}


def run_main(main: Callable[[], int]) -> int:
    """The exit code of a command; where its reader has gone away (``| head``) that of a broken pipe, without a word.

    Once everything is written a signal does not change the exit code any more.
    """
    _secure_streams()
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = EXIT_BROKEN_PIPE
        _write_to_nowhere(sys.stdout, sys.stderr)
    except OSError as error:
        # What is still buffered cannot be written, such as to a full disk.
        code = EXIT_UNWRITTEN
        _write_to_nowhere(sys.stdout)
        print(f"error: the output could not be written ({error_sentence(error)})", file=sys.stderr)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return code


def _write_to_nowhere(*streams: TextIO) -> None:
    """Let what is still buffered vanish: the interpreter would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def _secure_streams() -> None:
    """Standard output and error take every character, and take it to nowhere where they are closed."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None or not _is_writable(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if not _is_writable(number):
                # The next file opened would have this number, and what a child process prints would end up in it.
                os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(nowhere, "w"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_writable(number: int) -> bool:
    """Whether a file descriptor is open, and for writing."""
    try:
        return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


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
    show(f"{design.study} ({design.variant}) · {design.config.data.name} · design {design.hash}")
    grids = {path for recipe in design.recipes for path in recipe.grids}
    for axis in design.scientific:
        values = "by recipe" if axis.path in grids else ", ".join(map(_shown, axis.values))
        _show_part("scientific", f"{axis.path}: {values}")
    for recipe in design.recipes:
        own = "; ".join(f"{path} {', '.join(map(_shown, grid))}" for path, grid in recipe.grids.items())
        _show_part("recipe", recipe.name + (f": {own}" if own else ""))
    for axis in design.nuisance:
        _show_part("nuisance", f"{axis.path}: {', '.join(f'{v:g}' for v in axis.values)}")
    _show_part("criterion", " and ".join(c.sentence for c in (design.criterion, *design.further_criteria)))
    if design.laws:
        _show_part("laws", ", ".join(design.laws))
    if design.nuisance:
        _show_part(
            "round 0",
            f"{count(size.num_tuning, 'replicate')}: every nuisance setting of every point with "
            f"{count(design.tuning_seeds, 'seed')}, validation split",
        )
        _show_part(
            "then",
            f"at most {size.num_extension:,}: one more value beyond the edge where the best one lies at an edge",
        )
        _show_part(
            "then",
            f"{size.num_reported:,}: every point at its best setting with {count(replicates, 'fresh seed')}, "
            "test split",
        )
    else:
        _show_part(
            "round 0",
            f"{count(size.num_reported, 'replicate')}: every point with {count(replicates, 'seed')}, test split",
        )
    if design.is_sought:
        _print_rule(design, size)
    horizons = sorted(
        {(c.length, c.unit) for c in (design.resolve(p, {}, "reported").horizon for p in design.points())}
    )
    *others, (longest, unit) = horizons
    lengths = [f"{length:,}" for length, _ in others] + [count(longest, unit.removesuffix("s"))]
    _show_part("cost", f"{count_range(size.least, size.greatest, 'replicate')} of {', '.join(lengths)}")


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


def _shown(value: Scalar) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _show_part(name: str, text: str) -> None:
    """Print a line of a plan, continued under its text."""
    show(f"{name:<{_PLAN_INDENT}}{text}", _PLAN_INDENT)


def show(text: str, indent: int = 4) -> None:
    """Print lines for a person to read: as wide as the terminal, as they are where the output goes elsewhere."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(wrapped(text, width, indent))
