"""The answer of a design as a ledger holds it: no data set, no training, and nothing is written."""

import argparse
import json
import sys
from collections.abc import Sequence

import click

from study.commands.command_line import Command, Option, other_command, run
from study.commands.options import STORAGE, StudyName, as_json
from study.commands.streams import run_main
from study.commands.streams import show as show_text
from study.errors import ConfigError, unknown_name_sentence


def act(options: argparse.Namespace) -> int:
    """Print the answer of one design, the newest where none is named."""
    from study.answers.answer import to_json
    from study.answers.report import make_report
    from study.designs.catalogue import find_studies
    from study.ledger.ledger import Ledger
    from study.ledger.store import default_storage

    ledger = Ledger.open(options.storage or default_storage(), options.study)
    designs = [row["study_hash"] for row in ledger.read("designs").to_pylist()]
    if not designs:
        if options.study not in find_studies():
            raise ConfigError(unknown_name_sentence("study", options.study, find_studies()))
        start = other_command(options.program, "run")
        raise ConfigError(f"{options.study} has not run in {ledger.store.shown} yet: {start} {options.study} starts it")
    if options.design not in (None, *designs):
        raise ConfigError(unknown_name_sentence(f"design of {options.study}", options.design, designs))
    report = make_report(ledger, options.design)
    if options.json:
        print(json.dumps(to_json(report.answer) | {"damaged": ledger.damage()}))
        return 0
    show_text(report.text)
    for warning in ledger.damage():
        print(f"warning: {warning}", file=sys.stderr)
    return 0


COMMAND = Command(
    "show",
    act=act,
    params=[
        click.Argument(["study"], type=StudyName(), help="name of the study (see list)"),
        Option(["--design"], help="hash of a design (see status); the newest where not given"),
        as_json("the answer"),
        STORAGE,
    ],
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.show") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
