"""Runs the open rounds of a sweep: Ray, the live view in MLflow, what a user sees, and an orderly end in every case."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from study.errors import error_sentence
from study.execution.interrupts import Interrupts
from study.execution.progress import ProgressDisplay, duration
from study.formatting import count
from study.ledger.attempts import MAX_ATTEMPTS

if TYPE_CHECKING:
    from study.execution.prepared import Prepared
    from study.execution.queue import SweepState

EXIT_USAGE, EXIT_FAILED, EXIT_BUDGET, EXIT_STORAGE = 2, 3, 4, 5
_MOST_ROWS_SHOWN = 5


def run_open_packs(
    options: argparse.Namespace, prepared: "Prepared", state: "SweepState", interrupts: Interrupts
) -> int:
    """Run what is missing to its end, to the budget's, or to a signal; returns the exit code."""
    from study.execution.scratch import remove_abandoned
    from study.ledger.lock import only_driver

    with only_driver(state.ledger.store, state.design.hash) as unguarded, _standard_output_for_the_answer():
        # Loading Ray takes seconds: who is refused need not wait for it.
        from study.execution.ray_start import stop_ray

        # Whoever held the lock until now may have finished some of it.
        state.reload()
        remove_abandoned()
        started = time.monotonic()
        interrupts.on_stop = state.interrupt
        how_to_go_on = f"everything finished is kept; to go on from here:\n{options.command}"
        interrupts.farewell = f"ended: {how_to_go_on}\n"
        with ProgressDisplay(state, on_unread=interrupts.on_unread) as display:
            if unguarded:
                display.say(unguarded)
            try:
                _run(options, prepared, state, interrupts, display)
            except KeyboardInterrupt:
                interrupts.note()
                if interrupts.trouble is not None:
                    display.say(f"what was running could not be recorded ({error_sentence(interrupts.trouble)})")
                if not state.trouble:
                    display.say(f"interrupted: {how_to_go_on}")
                interrupts.farewell = ""
            finally:
                stop_ray()
                # Ray has put SIGTERM back to what ends a process without a word.
                interrupts.install()
            num_tuning, num_reported = state.num_by_role()
            display.say(
                f"swept for {duration(time.monotonic() - started)}: {num_tuning} tuning and {num_reported} reported "
                "replicates in the ledger"
            )
    is_stopped = interrupts.received is not None and not state.trouble
    return interrupts.exit_code if is_stopped else _exit_code(state)


def _run(
    options: argparse.Namespace,
    prepared: "Prepared",
    state: "SweepState",
    interrupts: Interrupts,
    display: ProgressDisplay,
) -> None:
    from study.execution.on_ray import has_gpus, plan_room, run_packs
    from study.execution.ray_start import start_ray, watched

    with interrupts.kept_through_ray():
        start_ray(prepared.address, needs_dashboard=prepared.executor == "train", niceness=options.niceness)
    is_local = prepared.address == "local"
    width = plan_room(state, options.max_concurrent, options.gpus_per_pack, prepared.data_of, is_local=is_local)
    state.on_proposal, state.on_halved = display.on_proposal, display.on_halved
    if not prepared.provenance.commit:
        display.say("commit and dirty flag are unknown here and stay empty (make submit passes them)")
    display.say(f"ledger {state.ledger.store.shown}")
    for sentence in state.ledger.damage():
        display.say(sentence)
    if options.use_gpu and not has_gpus():
        display.say("the cluster has no GPU now: packs wait until a node with one joins it")
    view = prepared.view

    def say(sentences: list[str]) -> None:
        for sentence in sentences:
            display.say(sentence)

    def on_pack_end() -> None:
        say(view.sync(state.ledger, state.design.hash))

    def on_ray_end() -> None:
        state.stop_for("Ray's own processes on this machine ended (killed, or for memory)")
        signal.raise_signal(signal.SIGINT)

    say(view.open())
    with watched(on_ray_end):
        run_packs(state, width, display.on_event, on_pack_end)
    display.on_event()
    on_pack_end()
    if view.num_failures:
        display.say(f"MLflow failed {count(view.num_failures, 'time')}: limit-study sync-mlflow catches up")


@contextlib.contextmanager
def _standard_output_for_the_answer() -> Iterator[None]:
    """Send to standard error what libraries print meanwhile, in Python or below it: standard output is the answer's."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (AttributeError, OSError, ValueError):
        # There is no standard output to keep clean.
        yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _exit_code(state: "SweepState") -> int:
    if state.trouble:
        print(f"stopped: {state.trouble}; everything finished is kept, the same command goes on", file=sys.stderr)
        return EXIT_STORAGE if state.is_storage_lost else EXIT_FAILED
    if say_failures(state):
        return EXIT_FAILED
    if state.is_out_of_budget:
        print("the budget of --max-hours ended first; the same command goes on from here", file=sys.stderr)
        return EXIT_BUDGET
    if left := len(state.open_replicates()):
        print(f"{count(left, 'replicate')} lost their node each time; the same command goes on", file=sys.stderr)
        return EXIT_FAILED
    return 0


def say_failures(state: "SweepState") -> bool:
    """Say which replicates have no result, why, and what to do; whether there are any."""
    failed = state.failed_rows()
    for row in failed[:_MOST_ROWS_SHOWN]:
        print(f"replicate {row['key']} {row['outcome']} (attempt {row['attempt']}): {row['error']}", file=sys.stderr)
    if len(failed) > _MOST_ROWS_SHOWN:
        print(f"... and {len(failed) - _MOST_ROWS_SHOWN} more", file=sys.stderr)
    given_up = sum(row["key"] in state.settled for row in failed)
    if given_up:
        print(
            f"{count(given_up, 'replicate')} of them failed alone {MAX_ATTEMPTS} times or more and will not be tried "
            "again, but with --retry",
            file=sys.stderr,
        )
    if len(failed) > given_up:
        print("the same command tries failed replicates again", file=sys.stderr)
    return bool(failed)
