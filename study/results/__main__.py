"""Look at ledgers, and clean up, without running anything: ``python -m study.results status``, ``gc``, ``mlflow``..."""

import argparse
import contextlib
import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence

from study.addresses import without_secret
from study.command_line import run_main, show
from study.config import ConfigError, error_sentence, unknown_name_sentence
from study.design import find_studies
from study.results.ledger import Ledger, settle
from study.results.retention import clean, ends, plan_cleaning, sentence
from study.results.store import Store, default_storage
from study.results.tracking import Tracker, default_tracking_uri, in_one_sentence
from study.space import Values
from study.words import count

_HOST = "127.0.0.1"
_PORTS = range(5000, 5100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (2 for wrong usage, or where a server or a file cannot be had)."""
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
        elif options.command == "sync-mlflow":
            sync(used, options.tracking_uri or default_tracking_uri(storage))
        else:
            serve(used, options.tracking_uri or default_tracking_uri(storage))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {without_secret(error_sentence(error))}", file=sys.stderr)
        return 2
    return 0


def sync(used: Sequence[tuple[str, Ledger]], uri: str) -> None:
    """Rebuild MLflow's runs of every design; what was deleted there comes back."""
    tracker = Tracker(uri)
    for name, ledger in used:
        for design in ledger.read("designs").to_pylist():
            with in_one_sentence(uri):
                written = tracker.sync(ledger, design["study_hash"])
            show(f"{name} {design['study_hash']}: {count(written, 'run')} written, in {without_secret(uri)}")


def serve(used: Sequence[tuple[str, Ledger]], uri: str) -> None:
    """Print a link for every design and become the MLflow server, unless one was named; it ends with Ctrl-C."""
    tracker = Tracker(uri)
    is_served = uri.startswith(("http://", "https://"))
    port = 0 if is_served else free_port()
    base = without_secret(uri).rstrip("/") if is_served else f"http://{_HOST}:{port}"
    for name, ledger in used:
        for design in ledger.read("designs").to_pylist():
            with in_one_sentence(uri):
                tracker.sync(ledger, design["study_hash"])
                link = tracker.comparison(name, design["study_hash"])
            if link:
                print(f"{name} {design['study_hash']}: {base}/{link}", flush=True)
    if not is_served:
        # In the environment, for everybody on this machine may read a command and a password in it.
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": uri}
        command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)]
        os.execv(sys.executable, command)


def free_port() -> int:
    """The first port that nobody holds, which is said where it is not the usual one."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket() as probe:
            # As the server will: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            if port != _PORTS[0]:
                print(f"port {_PORTS[0]} is taken: MLflow is served at port {port}", file=sys.stderr)
            return port
    raise ConfigError(f"ports {_PORTS[0]} to {_PORTS[-1]} are all taken: stop a server on one of them")


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
        label = " exploratory" if design["exploratory"] else ""
        start = (
            f"  design {design['study_hash']} {design['variant']}{label}, since {design['created_at']:%Y-%m-%d %H:%M}"
        )
        try:
            rounds = ledger.rounds(design["study_hash"])
        except ConfigError as error:
            show(f"{start}: {error}")
            continue
        keys = {row["key"] for round_ in rounds for row in round_}
        outcomes = Counter(settled[key]["outcome"] if key in settled else "open" for key in keys)
        retried = sum(len(attempts.get(key, [])) > 1 for key in keys)
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        show(
            f"{start}: {count(len(rounds), 'round')}, {count(len(keys), 'replicate')}: {words}"
            + (f", {retried} retried" if retried else "")
        )
    for sentence_ in ledger.damage():
        show(f"  {sentence_}")


if __name__ == "__main__":
    sys.exit(run_main(main))
