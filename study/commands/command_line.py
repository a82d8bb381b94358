"""What every command shares: how its words are read, how a mistake is said, and what its help shows.

A command is a click command. Its options reach the function that does the work as one namespace, together with
``program`` (how the command was called) and ``arguments`` (what was typed after that).
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from study.commands.settings import fill
from study.errors import ConfigError, error_sentence, unknown_name_sentence
from study.ledger.addresses import without_secret

EXIT_USAGE = 2
PROGRAM = "limit-study"

# Every command with one line about it, in the order of the help.
SUMMARIES = {
    "run": "Run a study to its answer; again, it goes on or prints the answer.",
    "list": "List the studies with their questions and variants.",
    "show": "Print the answer that a ledger holds, without running anything.",
    "status": "Show designs, rounds and outcomes of every study.",
    "train": "Train one replicate in this process, without Ray.",
    "laws": "Say what the laws predict of a setting.",
    "mlflow": "Serve MLflow on this machine, with links to the comparisons.",
    "sync-mlflow": "Rebuild MLflow's runs from the ledger.",
    "gc": "Remove models and checkpoints that no answer needs.",
    "doctor": "Check this machine and the settings, with remedies.",
}
EXIT_CODES = {0: "done", EXIT_USAGE: "wrong usage, or something that is needed cannot be had"}
RUN_EXIT_CODES = EXIT_CODES | {
    3: "ended with failed replicates, or stopped by what the environment did",
    4: "the budget ended first; the same command goes on",
    5: "the storage can no longer be written",
    128: "plus the number of a signal: interrupted, with everything kept",
}


class Option(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *arguments: Any, heading: str = "Options", **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heading = heading


class Command(click.Command):
    """A command whose options are handed to ``act``, which returns the exit code.

    ``fills``: options that were not given are taken from the settings files where these have them.
    """

    def __init__(
        self,
        name: str,
        *,
        act: Callable[[argparse.Namespace], int],
        params: Sequence[click.Parameter],
        exit_codes: Mapping[int, str] = EXIT_CODES,
        fills: bool = True,
        **more: Any,
    ) -> None:
        settings = {"help_option_names": ["-h", "--help"], "show_default": True} | more.pop("context_settings", {})
        more.setdefault("help", SUMMARIES[name])
        super().__init__(name, params=list(params), context_settings=settings, **more)
        self._act, self._exit_codes, self._fills = act, exit_codes, fills

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["arguments"] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> int:
        options = _namespace(ctx)
        if self._fills:
            fill(options)
        return self._act(options)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        headings: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                headings.setdefault(getattr(param, "heading", "Options"), []).append(record)
        for heading, records in headings.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_exit_codes(formatter, self._exit_codes)
        super().format_epilog(ctx, formatter)


def write_exit_codes(formatter: click.HelpFormatter, codes: Mapping[int, str]) -> None:
    """The section of a help that says what the exit codes mean."""
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code), meaning) for code, meaning in codes.items()])


def parse(command: Command, arguments: Sequence[str], program: str) -> argparse.Namespace:
    """The options of a command, as typed; raises click's exceptions for what cannot be read."""
    return _namespace(command.make_context(program, list(arguments)))


def run(command: click.Command, arguments: Sequence[str] | None, program: str) -> int:
    """Run a command to its exit code; a mistake is one sentence on standard error."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with command.make_context(program, list(given)) as context:
            code: int = command.invoke(context)
            return code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_USAGE
    except click.ClickException as error:
        print(f"error: {usage_sentence(error)}", file=sys.stderr)
        return EXIT_USAGE
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {without_secret(error_sentence(error))}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def usage_sentence(error: click.ClickException) -> str:
    """What to say of words that cannot be read: what is wrong, and the nearest name where one is not known."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [name for param in context.command.get_params(context) for name in (*param.opts, *param.secondary_opts)]
        return unknown_name_sentence("option", error.option_name, [name for name in known if name.startswith("--")])
    if isinstance(error, click.exceptions.NoSuchCommand):
        return unknown_name_sentence("command", error.command_name, SUMMARIES)
    param = getattr(error, "param", None)
    if isinstance(error, click.MissingParameter) and param is not None:
        return f"{_shown(param)} is missing: see --help"
    if isinstance(error, click.BadParameter) and param is not None:
        return f"{_shown(param)} {error.message}"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def other_command(program: str, name: str) -> str:
    """How another command is called by someone who called this one as ``program``."""
    if program.partition(" ")[0] == PROGRAM:
        return f"{PROGRAM} {name}"
    return "python -m study.sweep" if name == "run" else f"python -m study.commands.{module_name(name)}"


def module_name(command: str) -> str:
    """The module of a command below ``study.commands``."""
    return {"list": "list_"}.get(command, command.replace("-", "_"))


def _namespace(context: click.Context) -> argparse.Namespace:
    return argparse.Namespace(
        program=context.command_path, arguments=context.meta["arguments"], rest=context.args, **context.params
    )


def _shown(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name
