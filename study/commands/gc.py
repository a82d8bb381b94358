"""Clean up: final models away from the thresholds, and checkpoints of finished replicates."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.commands.command_line import Command, Option, run
from study.commands.options import ONE_STUDY, STORAGE
from study.commands.streams import run_main, show
from study.designs.values import Values

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger


def act(options: argparse.Namespace) -> int:
    """Clean every used ledger."""
    from study.commands.ledgers import used_ledgers

    for name, ledger in used_ledgers(options):
        collect_garbage(name, ledger, is_dry_run=options.dry_run)
    return 0


def collect_garbage(name: str, ledger: "Ledger", *, is_dry_run: bool) -> None:
    """Remove what no answer of a study needs, and print one line about it."""
    from study.ledger.retention import clean, plan_cleaning, sentence

    designs = [row["study_hash"] for row in ledger.read("designs").to_pylist()]
    cleaning = plan_cleaning(ledger, {design: points_to_keep(ledger, design) for design in designs})
    if not is_dry_run:
        clean(ledger, cleaning)
    show(sentence(name, cleaning, is_dry_run=is_dry_run))


def points_to_keep(ledger: "Ledger", design: str) -> list[Values] | None:
    """The tried points at a design's thresholds; None where a curve could not be fitted, and for a boundary."""
    from study.answers.answer import answer
    from study.ledger.retention import ends

    result = answer(ledger, design)
    if result.planes:
        return None
    axis = result.design.axis.path
    points: list[Values] = []
    for part in result.slices:
        if part.fit is None:
            return None
        tried = part.frame[axis].unique().tolist()
        crossings = (part.fit.rising, part.fit.falling)
        values = {x for crossing in crossings for x in ends(tried, crossing.status, crossing.estimate)}
        points += [{**part.others, axis: x} for x in sorted(values)]
    return points


DRY_RUN = Option(["--dry-run"], is_flag=True, show_default=False, help="say what would be removed, and remove nothing")
COMMAND = Command("gc", act=act, params=[DRY_RUN, STORAGE, ONE_STUDY])


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.gc") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
