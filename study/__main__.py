"""The command ``limit-study``, also ``python -m study``: a subcommand is loaded when it is called."""

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, shell_complete

from study.commands.command_line import PROGRAM, RUN_EXIT_CODES, SUMMARIES, module_name, run, write_exit_codes
from study.commands.streams import run_main
from study.layout import own_version

_COMPLETE = "_LIMIT_STUDY_COMPLETE"
_COMPLETION = {
    "bash": f'eval "$({_COMPLETE}=bash_source {PROGRAM})"',
    "zsh": f'eval "$({_COMPLETE}=zsh_source {PROGRAM})"',
    "fish": f"{_COMPLETE}=fish_source {PROGRAM} | source",
}


class Commands(click.Group):
    """The subcommands, of which help and completion need no more than their summaries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        command: click.Command = importlib.import_module(f"study.commands.{module_name(cmd_name)}").COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_exit_codes(formatter, RUN_EXIT_CODES)
        with formatter.section("Completion of words, by a line in the shell's start-up file"):
            formatter.write_dl(list(_COMPLETION.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=SUMMARIES[name]) for name in SUMMARIES if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        print(f"{PROGRAM} {own_version()}")
        ctx.exit()


GROUP = Commands(
    PROGRAM,
    help="Find out where a training recipe breaks, with a confidence interval.",
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version.",
        )
    ],
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    if instruction := os.environ.get(_COMPLETE):
        return shell_complete(GROUP, {}, PROGRAM, _COMPLETE, instruction)
    return run(GROUP, arguments, PROGRAM)


def console() -> int:
    """Entry point of the installed command."""
    return run_main(main)


if __name__ == "__main__":
    sys.exit(console())
