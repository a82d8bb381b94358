"""The options of the commands: those that several share, and those of a sweep."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from study.commands.command_line import Option
from study.commands.values import (
    EXECUTORS,
    SHARES,
    read_executor,
    read_niceness,
    read_positive,
    read_positive_float,
    read_share,
)
from study.designs.catalogue import find_studies
from study.designs.values import Scalar, parse_value
from study.errors import ConfigError


class Read(click.ParamType):
    """Words that a function reads, which raises ValueError with what it takes."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class StudyName(click.ParamType):
    """The name of a study, which the shell completes."""

    name = "study"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in find_studies() if name.startswith(incomplete)]


POSITIVE, POSITIVE_FLOAT = Read("integer", read_positive), Read("number", read_positive_float)

_DESIGN, _WHERE, _KEEP = "What is studied", "Where it runs", "Where results go"

STORAGE = Option(
    ["--storage"], heading=_KEEP, help="folder or URL (s3://...) of the ledger; $STUDY_STORAGE, else a per-user folder"
)
TRACKING_URI = Option(
    ["--tracking-uri"],
    heading=_KEEP,
    help="MLflow; $MLFLOW_TRACKING_URI, else a SQLite file in the storage",
)
DATA_ROOT = Option(
    ["--data-root"],
    heading=_DESIGN,
    help="folder with the data set's files, searched first; $STUDY_DATA, else a per-user folder",
)
USE_GPU = Option(["--use-gpu/--no-use-gpu"], heading=_WHERE, default=None, help="train on GPUs")
OVERRIDES = Option(
    ["--set", "overrides"],
    heading=_DESIGN,
    multiple=True,
    metavar="PATH=VALUE",
    help="change a configuration value; the study is then called exploratory",
)
ADDRESS = Option(["--address"], heading=_WHERE, help="Ray cluster; $RAY_ADDRESS, else this machine (local)")
EXECUTOR = Option(
    ["--executor"],
    heading=_WHERE,
    type=Read("executor", read_executor),
    metavar=f"[{'|'.join(EXECUTORS)}]",
    help="auto, where not given: train where more than one worker or the cluster profile is asked for",
)
MAX_CONCURRENT = Option(
    ["--max-concurrent"],
    heading=_WHERE,
    type=POSITIVE,
    help="packs at a time; as many as the CPUs allow where not given",
)
NICENESS = Option(
    ["--niceness"],
    heading=_WHERE,
    type=Read("integer", read_niceness),
    help="of the workers of a Ray on this machine: 0, where not given, shares the processor fairly; 19 takes what "
    "nobody else wants",
)
ONE_STUDY = Option(["--study"], type=StudyName(), help="one study; all where not given")


def as_json(what: str = "the result") -> Option:
    """The option that prints JSON instead of text."""
    return Option(["--json"], is_flag=True, show_default=False, help=f"print {what} as JSON on standard output")


def _flag(name: str, help_text: str, heading: str = "Options") -> Option:
    return Option([name], is_flag=True, show_default=False, heading=heading, help=help_text)


SWEEP: tuple[click.Parameter, ...] = (
    click.Argument(["study"], required=False, type=StudyName(), help="name of the study (see --list)"),
    _flag("--list", "list the studies and their questions"),
    _flag("--dry-run", "print the plan and its cost, and run nothing"),
    as_json(),
    Option(["--variant"], heading=_DESIGN, help="one of the study's designs; the first one where not given"),
    Option(["--profile"], heading=_DESIGN, default="laptop", help="laptop or cluster: sizes that fit the machine"),
    Option(["--dataset"], heading=_DESIGN, help="data set; the study's own where not given"),
    DATA_ROOT,
    OVERRIDES,
    Option(
        ["--replicates"],
        heading=_DESIGN,
        type=POSITIVE,
        help="seeds per point; more than before adds only the new ones",
    ),
    Option(
        ["--precision"],
        heading=_DESIGN,
        type=POSITIVE_FLOAT,
        help="half the width in octaves that a sought limit's 95 % interval may have; the study's own if not given",
    ),
    Option(
        ["--max-replicates"],
        heading=_DESIGN,
        type=POSITIVE,
        help="most reported replicates per sought limit; the study's own where not given",
    ),
    Option(["--max-hours"], heading=_DESIGN, type=POSITIVE_FLOAT, help="start no further pack after this many hours"),
    ADDRESS,
    EXECUTOR,
    Option(["--workers-per-trial"], heading=_WHERE, type=POSITIVE, default=1, help="DDP workers that share each batch"),
    MAX_CONCURRENT,
    NICENESS,
    USE_GPU,
    Option(
        ["--gpus-per-pack"],
        heading=_WHERE,
        type=Read("share", read_share),
        default="auto",
        metavar=f"[auto|{'|'.join(SHARES)}]",
        help="share of a GPU that each worker of a pack takes; auto: what the packs' estimated memory needs",
    ),
    STORAGE,
    TRACKING_URI,
    _flag("--retry", "try replicates that failed for good once more", _KEEP),
    _flag("--fresh", "start a new ledger; the old one stays where it is", _KEEP),
)


def ray_address(options: argparse.Namespace) -> str:
    """The Ray cluster that a command names, else that of the environment; ``local`` is a Ray of its own."""
    return options.address or os.environ.get("RAY_ADDRESS") or "local"


def parse_overrides(config_class: type, items: Sequence[str]) -> dict[str, Scalar]:
    """Read PATH=VALUE items for a configuration class; :class:`ConfigError` for a wrong form, path or type."""
    values: dict[str, Scalar] = {}
    for item in items:
        path, mark, text = item.partition("=")
        if not mark:
            raise ConfigError(f"--set takes PATH=VALUE, not {item!r}")
        if path in values:
            raise ConfigError(f"--set gives {path} twice: give it once")
        values[path] = parse_value(config_class, path, text)
    return values
