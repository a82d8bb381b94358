"""``python -m study.sweep`` under the name that it has beside the other commands."""

import sys
from collections.abc import Sequence

from study.commands.command_line import run
from study.commands.streams import run_main
from study.sweep import COMMAND


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.run") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
