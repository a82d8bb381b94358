"""Write what is on record anew from today's code: ``python -m tests.goldens.write keys`` (or ``answers``, ``ledger``).

Only a change that is meant to move keys or answers may do so: every replicate of a moved key is run again. A ledger is
recorded from the storage of a finished sweep, and its study and hash stand in ``ledgers.py``.
"""

import argparse
import tempfile
from pathlib import Path

from tests.goldens.ledgers import ALL, pack, write_answers
from tests.goldens.plans import write_keys


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.goldens.write", description="Write the goldens anew.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("keys", help="hashes and keys of every design")
    commands.add_parser("answers", help="what is read and answered of the recorded ledgers")
    ledger = commands.add_parser("ledger", help="record a ledger that a sweep has left")
    ledger.add_argument("name", choices=[recorded.name for recorded in ALL])
    ledger.add_argument("storage", type=Path, help="the sweep's --storage")
    options = parser.parse_args()
    if options.command == "keys":
        write_keys()
    elif options.command == "answers":
        with tempfile.TemporaryDirectory() as folder:
            write_answers(Path(folder))
    else:
        (recorded,) = (recorded for recorded in ALL if recorded.name == options.name)
        pack(recorded, options.storage)


if __name__ == "__main__":
    main()
