"""The laws of a recipe's theory, asked of a setting: the recipe reads the words, for they are its own."""

import argparse
import sys
from collections.abc import Sequence

from study.commands.command_line import Command, Option, run
from study.commands.streams import run_main, show
from study.errors import ConfigError
from study.interface.recipe import find_recipe
from study.ledger.names_on_disk import FIRST_RECIPE


def act(options: argparse.Namespace) -> int:
    """Hand what was typed to the recipe's own command."""
    recipe = find_recipe(options.recipe)
    if recipe.law_command is None:
        raise ConfigError(f"{options.recipe} has no laws")
    code = recipe.law_command(options.rest, options.program)
    if {"-h", "--help"} & {*options.rest}:
        show(f"\n--recipe PACKAGE.MODULE:NAME asks the laws of another recipe than {FIRST_RECIPE}")
    return code


COMMAND = Command(
    "laws",
    act=act,
    params=[Option(["--recipe"], default=FIRST_RECIPE, help="whose laws, as package.module:NAME")],
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.commands.laws") -> int:
    """Entry point; returns the exit code."""
    return run(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
