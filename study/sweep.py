"""Run a study: ``python -m study.sweep NAME``. The same command again resumes, or prints what is known.

Exit codes: 0 done; 2 wrong usage, or a service that cannot be reached at the start; 3 ended with failed
replicates, or stopped by what the environment did; 4 the budget ended first; 5 the storage can no longer be written;
128 + signal interrupted, with everything kept (141: nobody reads the output).
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.commands.command_line import PROGRAM, RUN_EXIT_CODES, Command, other_command
from study.commands.command_line import run as run_command
from study.commands.missing_data import earlier_answer, sentence, stand_in
from study.commands.options import SWEEP, parse_overrides
from study.commands.paths import absolute_paths
from study.commands.plan import print_list, print_plan
from study.commands.prepare import prepare
from study.commands.streams import run_main, show
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.design import Design
from study.errors import ConfigError, DataUnavailable, error_sentence
from study.execution.interrupts import Interrupts
from study.execution.prepared import Prepared
from study.execution.session import EXIT_BUDGET, EXIT_FAILED, EXIT_STORAGE, run_open_packs, say_failures
from study.ledger.addresses import without_secret
from study.ledger.registration import design_row

if TYPE_CHECKING:
    from study.ledger.ledger import Ledger
    from study.planning.limit_state import SliceState


def act(options: argparse.Namespace) -> int:
    """Run a study, or print what was asked for; returns the exit code."""
    # To go on is not to begin anew once more.
    resuming = (without_secret(item) for item in options.arguments if item != "--fresh")
    options.command = f"{options.program} {shlex.join(resuming)}"
    interrupts = Interrupts()
    try:
        if options.list:
            print_list(options.json)
            return 0
        if options.study is None:
            raise ConfigError(f"name a study, for example: {options.program} batch_limit (--list shows all)")
        return _sweep(options, interrupts)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {without_secret(error_sentence(error))}", file=sys.stderr)
        return EXIT_STORAGE
    except KeyboardInterrupt:
        print("interrupted: nothing was running", file=sys.stderr)
        return interrupts.exit_code


def _sweep(options: argparse.Namespace, interrupts: Interrupts) -> int:
    space = load_space(options.study)
    design = make_design(
        space,
        variant=options.variant,
        profile=options.profile,
        dataset=options.dataset,
        overrides=parse_overrides(space.recipe.config_class, options.overrides),
    )
    design, replicates = budgeted(options, design)
    if options.dry_run:
        print_plan(design, replicates, options.json)
        return 0
    interrupts.install()
    absolute_paths(options)
    asked_for = design.dataset
    try:
        prepared = prepare(options, design, replicates)
    except DataUnavailable as error:
        other = stand_in(options, design)
        if other is None:
            raise
        print(sentence(design, error), file=sys.stderr)
        prepared = prepare(options, *budgeted(options, other))
    return run(options, prepared, asked_for, interrupts)


def budgeted(options: argparse.Namespace, design: Design) -> tuple[Design, int]:
    """The design with the budget of the command line, and the seeds per point of its grid.

    Raises :class:`ConfigError` for a precision or a budget that could have no effect.
    """
    given = {name: getattr(options, name) for name in ("precision", "max_replicates")}
    given = {name: value for name, value in given.items() if value is not None}
    replicates = options.replicates or design.replicates
    if given and not design.is_sought:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ConfigError(f"{option} has no effect on {design.study} ({design.variant}): its points are a fixed grid")
    stage_one = max(len(part.points) for part in design.slices()) * replicates
    if given.get("max_replicates", stage_one) < stage_one:
        raise ConfigError(f"--max-replicates must be at least {stage_one}, the replicates of stage one of every limit")
    given.setdefault("max_replicates", max(design.budget.max_replicates, stage_one))
    return dataclasses.replace(design, budget=dataclasses.replace(design.budget, **given)), replicates


def run(options: argparse.Namespace, prepared: Prepared, asked_for: str, interrupts: Interrupts) -> int:
    """Run what is missing, then print the answer; ``asked_for`` is the data set that the command wants."""
    from study.execution.queue import SweepState
    from study.execution.tasks import TaskSettings
    from study.ledger.ledger import Ledger
    from study.planning.planner import RoundPlanner

    design = prepared.design
    opener = Ledger.open_fresh if options.fresh else Ledger.open
    ledger = opener(prepared.storage, design.study)
    settings = TaskSettings(
        ledger_uri=ledger.store.uri,
        recipe=design.recipe.address,
        study_hash=design.hash,
        data_root=options.data_root,
        executor=prepared.executor,
        workers_per_trial=options.workers_per_trial,
        threads=1,
        use_gpu=options.use_gpu,
        provenance=prepared.provenance,
    )
    planner = RoundPlanner(
        design=design, digest_of=lambda config: prepared.data_of(config).digest, replicates=prepared.replicates
    )
    hours = options.max_hours
    deadline = float("inf") if hours is None else time.monotonic() + 3600 * hours
    state = SweepState(
        design=design,
        ledger=ledger,
        planner=planner,
        replicates=prepared.replicates,
        settings=settings,
        design_row=design_row(design, prepared.provenance, asked_for),
        deadline=deadline,
        is_retry=options.retry,
    )
    if state.is_plan_finished():
        if not ledger.has_design(design.hash):
            # Its file is damaged: without a design there is no answer to print.
            check_places(options, prepared)
            ledger.record_design(state.design_row)
        exit_code = EXIT_FAILED if say_failures(state) else 0
    else:
        check_places(options, prepared)
        exit_code = run_open_packs(options, prepared, state, interrupts)
    if exit_code in (0, EXIT_FAILED) and (unsettled := state.unsettled_slices()):
        print(budget_sentence(design, unsettled), file=sys.stderr)
        exit_code = exit_code or EXIT_BUDGET
    return _print_answer(options, ledger, design, state.slice_states(), exit_code, asked_for, interrupts)


def check_places(options: argparse.Namespace, prepared: Prepared) -> None:
    """Raise :class:`ConfigError` where a sweep could not write: a finished study needs neither place.

    A tracking server that was named must answer. A file beside the storage may be mended later.
    """
    from study.ledger.store import Store

    Store(prepared.storage).check_writable()
    if options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"):
        prepared.view.require()


def budget_sentence(design: Design, unsettled: "Sequence[SliceState]") -> str:
    """Which limits are less certain than was asked for, and what to do."""
    label = design.recipe.quantity(design.scientific[0].path).label
    ended = [f"{state.slice.name or label} after {state.num_planned} ({state.reason})" for state in unsettled]
    return (
        f"the replicates ended before the precision of {design.budget.precision:g} octaves: {'; '.join(ended)}. "
        "The same command with a larger --max-replicates goes on from here, with a larger --precision it "
        "asks for less"
    )


def _print_answer(
    options: argparse.Namespace,
    ledger: "Ledger",
    design: Design,
    states: "Sequence[SliceState]",
    exit_code: int,
    asked_for: str,
    interrupts: Interrupts,
) -> int:
    from study.answers.answer import to_json
    from study.answers.fits import SearchEnd, slice_key
    from study.answers.report import make_report
    from study.answers.report_files import write_report

    if not ledger.has_design(design.hash):
        if options.json:
            print(json.dumps({"study": design.study, "design": design.hash, "num_planned": 0, "exit_code": exit_code}))
        return exit_code
    ends = {
        slice_key(state.slice.others): SearchEnd(
            precision=design.budget.precision, is_settled=state.is_settled, reason=state.reason
        )
        for state in states
    }
    report = make_report(ledger, design.hash, ends, asked_for)
    earlier = earlier_answer(options, design, ledger)
    try:
        if not options.json:
            # Before anything is drawn or written: the answer is there whatever becomes of its files.
            show(report.text)
            if earlier is not None:
                show(f"an answer on {design.recipe.stand_in} stood in for this one before: {earlier}")
            show(f"compare: {_mlflow_command(options)}")
            sys.stdout.flush()
            interrupts.answer_is_out(exit_code)
    finally:
        # Also where nobody reads on: `| head` wants fewer lines, not fewer files.
        written = write_report(ledger, report.answer)
    damage = ledger.damage()
    for warning in (*damage, *written.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        call = {"figure": written.figure, "exit_code": exit_code, "fallback_answer": earlier, "damaged": damage}
        print(json.dumps(to_json(report.answer) | call))
        sys.stdout.flush()
        interrupts.answer_is_out(exit_code)
        return exit_code
    for name, place, more in (("figure", written.figure, "    .png"), ("data", written.data, "")):
        if place is not None:
            show(f"{name} {place}{more}")
    return exit_code


def _mlflow_command(options: argparse.Namespace) -> str:
    """The command that serves the comparison: make's where the sweep was started as a module of a checkout."""
    if options.program.partition(" ")[0] != PROGRAM:
        return "make mlflow" + (f" STORAGE={_for_make(options.storage)}" if options.storage else "")
    place = f" --storage {shlex.quote(without_secret(options.storage))}" if options.storage else ""
    return other_command(options.program, "mlflow") + place


def _for_make(storage: str) -> str:
    """An address as a shell hands it to make, which has a meaning of its own for dollars."""
    return shlex.quote(without_secret(storage).replace("$", "$$"))


COMMAND = Command(
    "run",
    act=act,
    params=SWEEP,
    help="Run a study to its answer. The same command again resumes where it stopped.",
    exit_codes=RUN_EXIT_CODES,
)


def main(arguments: Sequence[str] | None = None, program: str = "python -m study.sweep") -> int:
    """Entry point; returns the exit code."""
    return run_command(COMMAND, arguments, program)


if __name__ == "__main__":
    sys.exit(run_main(main))
