"""MLflow's runs rebuilt from the ledger: what was deleted there comes back."""

import argparse
import sys
from collections.abc import Sequence

from study.commands.command_line import Command, run
from study.commands.options import ONE_STUDY, STORAGE, TRACKING_URI
from study.commands.streams import run_main, show
from study.formatting import count
from study.ledger.addresses import without_secret


def act(options: argparse.Namespace) -> int:
    """Rebuild the runs of every design."""
    from study.commands.ledgers import used_ledgers
    from study.ledger.store import default_storage
    from study.tracking.mlflow_runs import Tracker, default_tracking_uri, in_one_sentence

    used = used_ledgers(options)
    uri = options.tracking_uri or default_tracking_uri(options.storage or default_storage())
    tracker = Tracker(uri)
    for name, ledger in used:
        for design in ledger.read("designs").to_pylist():
            with in_one_sentence(uri):
                written = tracker.sync(ledger, design["study_hash"])
            show(f"{name} {design['study_hash']}: {count(written, 'run')} written, in {without_secret(uri)}")
    return 0


COMMAND = Command("sync-mlflow", act=act, params=[STORAGE, TRACKING_URI, ONE_STUDY])


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.sync_mlflow") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
