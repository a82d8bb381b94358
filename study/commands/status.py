"""What the ledgers hold: designs, rounds and outcomes of every study."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.commands.command_line import Command, run
from study.commands.options import ONE_STUDY, STORAGE
from study.commands.streams import run_main, show
from study.errors import ConfigError
from study.formatting import count

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger


def act(options: argparse.Namespace) -> int:
    """Print the status of every used ledger."""
    from study.commands.ledgers import used_ledgers

    for name, ledger in used_ledgers(options):
        print_status(name, ledger)
    return 0


def print_status(name: str, ledger: "Ledger") -> None:
    """Print the designs of a ledger with their rounds and outcomes."""
    from study.ledger.attempts import settle

    attempts = ledger.attempts()
    settled = settle(attempts)
    show(f"{name}  {ledger.store.shown}")
    for design in sorted(ledger.read("designs").to_pylist(), key=lambda row: row["created_at"]):
        label = " exploratory" if design["exploratory"] else ""
        start = (
            f"  design {design['study_hash']} {design['variant']}{label}, since {design['created_at']:%Y-%m-%d %H:%M}"
        )
        try:
            rounds = ledger.proposals(design["study_hash"])
        except ConfigError as error:
            show(f"{start}: {error}")
            continue
        keys = {row["key"] for rows in rounds.values() for row in rows}
        outcomes = Counter(settled[key]["outcome"] if key in settled else "open" for key in keys)
        retried = sum(len(attempts.get(key, [])) > 1 for key in keys)
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        show(
            f"{start}: {count(len(rounds), 'round')}, {count(len(keys), 'replicate')}: {words}"
            + (f", {retried} retried" if retried else "")
        )
    for sentence in ledger.damage():
        show(f"  {sentence}")


COMMAND = Command("status", act=act, params=[STORAGE, ONE_STUDY])


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.status") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
