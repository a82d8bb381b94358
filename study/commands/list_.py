"""The studies that there are, with their questions and variants."""

import argparse
import sys
from collections.abc import Sequence

from study.commands.command_line import Command, run
from study.commands.options import as_json
from study.commands.streams import run_main


def act(options: argparse.Namespace) -> int:
    """Print the list."""
    from study.commands.plan import print_list

    print_list(options.json)
    return 0


COMMAND = Command("list", act=act, params=[as_json("the list")])


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.list_") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
