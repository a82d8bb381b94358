"""MLflow's pages on this machine, with a link to the comparison of every design; Ctrl-C ends it."""

import argparse
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.commands.command_line import Command, run
from study.commands.options import ONE_STUDY, STORAGE, TRACKING_URI
from study.commands.streams import run_main
from study.errors import ConfigError
from study.ledger.addresses import without_secret

if TYPE_CHECKING:
    from study.commands.ledgers import Used

HOST = "127.0.0.1"
PORTS = range(5000, 5100)


def act(options: argparse.Namespace) -> int:
    """Serve what the ledgers hold."""
    from study.commands.ledgers import used_ledgers
    from study.ledger.store import default_storage
    from study.tracking.mlflow_runs import default_tracking_uri

    used = used_ledgers(options)
    serve(used, options.tracking_uri or default_tracking_uri(options.storage or default_storage()))
    return 0


def serve(used: "Used", uri: str) -> None:
    """Print a link for every design and become the MLflow server, unless one was named; it ends with Ctrl-C."""
    from study.tracking.mlflow_runs import Tracker, in_one_sentence

    tracker = Tracker(uri)
    is_served = uri.startswith(("http://", "https://"))
    port = 0 if is_served else free_port()
    base = without_secret(uri).rstrip("/") if is_served else f"http://{HOST}:{port}"
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
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
        os.execv(sys.executable, command)


def free_port() -> int:
    """The first port that nobody holds, which is said where it is not the usual one."""
    for port in PORTS:
        if is_free(port):
            if port != PORTS[0]:
                print(f"port {PORTS[0]} is taken: MLflow is served at port {port}", file=sys.stderr)
            return port
    raise ConfigError(f"ports {PORTS[0]} to {PORTS[-1]} are all taken: stop a server on one of them")


def is_free(port: int) -> bool:
    """Whether nobody holds a port of this machine."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        # As a server will: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


COMMAND = Command("mlflow", act=act, params=[STORAGE, TRACKING_URI, ONE_STUDY])


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.mlflow") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
