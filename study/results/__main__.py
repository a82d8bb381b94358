"""Look at ledgers, and clean up, without running anything: ``python -m study.results status``, ``gc``, ``mlflow``..."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

from study.command_line import run_main, show
from study.config import ConfigError, unknown_name_sentence
from study.design import find_studies
from study.results.ledger import Ledger, settle
from study.results.retention import clean, ends, plan_cleaning, sentence
from study.results.store import Store, default_storage
from study.results.tracking import Tracker, default_tracking_uri
from study.space import Values
from study.words import count

_HOST, _PORT = "127.0.0.1", 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (2 for wrong usage or an unreachable server)."""
    parser = argparse.ArgumentParser(prog="python -m study.results", description="Look at what the ledger holds.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("status", "designs, rounds and outcomes of every study"),
        ("sync-mlflow", "rebuild MLflow's runs from the ledger"),
        ("gc", "remove final models away from the thresholds, and checkpoints of finished replicates"),
        ("mlflow", "serve MLflow's UI on this machine, with a link to the comparison of every design"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--storage", help="folder or URL of the ledgers; $STUDY_STORAGE, else a per-user folder")
        command.add_argument("--study", help="one study; all where not given")
        if name == "gc":
            command.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
        elif name != "status":
            command.add_argument("--tracking-uri", help="MLflow; a SQLite file in the storage where not given")
    options = parser.parse_args(arguments)
    storage = options.storage or default_storage()
    try:
        studies = find_studies()
        if options.study is not None and options.study not in studies:
            raise ConfigError(unknown_name_sentence("study", options.study, studies))
        ledgers = [(name, Ledger.open(storage, name)) for name in studies if options.study in (None, name)]
        used = [(name, ledger) for name, ledger in ledgers if ledger.names("designs")]
        if not used:
            raise ConfigError(f"no study has run in {Store(storage).shown} yet: python -m study.sweep NAME starts one")
        if options.command == "status":
            for name, ledger in used:
                print_status(name, ledger)
        elif options.command == "gc":
            for name, ledger in used:
                collect_garbage(name, ledger, is_dry_run=options.dry_run)
        else:
            tracker = Tracker(options.tracking_uri or default_tracking_uri(storage))
            for name, ledger in used:
                for design in ledger.read("designs").to_pylist():
                    written = tracker.sync(ledger, design["study_hash"])
                    if options.command == "sync-mlflow":
                        print(f"{name} {design['study_hash']}: {count(written, 'run')} written, in {tracker.uri}")
                    elif link := tracker.comparison(name, design["study_hash"]):
                        print(f"{name} {design['study_hash']}: http://{_HOST}:{_PORT}/{link}", flush=True)
            if options.command == "mlflow":
                serve(tracker.uri)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def serve(tracking_uri: str) -> None:
    """Become the MLflow server; ends with Ctrl-C."""
    server = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(_PORT)]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.execv(sys.executable, [*server, "--backend-store-uri", tracking_uri])


def collect_garbage(name: str, ledger: Ledger, *, is_dry_run: bool) -> None:
    """Remove what no answer of a study needs, and print one line about it."""
    designs = [row["study_hash"] for row in ledger.read("designs").to_pylist()]
    cleaning = plan_cleaning(ledger, {design: points_to_keep(ledger, design) for design in designs})
    if not is_dry_run:
        clean(ledger, cleaning)
    show(sentence(name, cleaning, is_dry_run=is_dry_run))


def points_to_keep(ledger: Ledger, design: str) -> list[Values] | None:
    """The tried points at a design's thresholds; None where a curve could not be fitted, and for a boundary."""
    from analysis.answer import answer

    result = answer(ledger, design)
    if result.planes:
        return None
    axis = result.design.axes[0][0]
    points: list[Values] = []
    for part in result.slices:
        if part.fit is None:
            return None
        tried = part.frame[axis].unique().tolist()
        crossings = (part.fit.rising, part.fit.falling)
        values = {x for crossing in crossings for x in ends(tried, crossing.status, crossing.estimate)}
        points += [{**part.others, axis: x} for x in sorted(values)]
    return points


def print_status(name: str, ledger: Ledger) -> None:
    """Print the designs of a ledger with their rounds and outcomes."""
    attempts = ledger.attempts()
    settled = settle(attempts)
    show(f"{name}  {ledger.store.shown}")
    for design in sorted(ledger.read("designs").to_pylist(), key=lambda row: row["created_at"]):
        rounds = ledger.rounds(design["study_hash"])
        keys = {row["key"] for round_ in rounds for row in round_}
        outcomes = Counter(settled[key]["outcome"] if key in settled else "open" for key in keys)
        retried = sum(len(attempts.get(key, [])) > 1 for key in keys)
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        label = " exploratory" if design["exploratory"] else ""
        show(
            f"  design {design['study_hash']} {design['variant']}{label}, since {design['created_at']:%Y-%m-%d %H:%M}: "
            f"{count(len(rounds), 'round')}, {count(len(keys), 'replicate')}: {words}"
            + (f", {retried} retried" if retried else "")
        )


if __name__ == "__main__":
    sys.exit(run_main(main))
