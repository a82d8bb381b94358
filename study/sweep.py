"""Run a study: ``python -m study.sweep NAME``. The same command again resumes, or prints what is known.

Exit codes: 0 done; 2 wrong usage, or a service that cannot be reached at the start; 3 ended with failed
replicates; 4 the budget ended first; 128 + signal interrupted, with everything kept (141: nobody reads the output).
"""

import argparse
import dataclasses
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

from study.command_line import build_parser, parse_overrides, print_list, print_plan, run_main, show
from study.config import ClustersConfig, ConfigError
from study.design import Design, load_space, make_design
from study.progress import ProgressDisplay, duration
from study.provenance import Provenance, collect

if TYPE_CHECKING:
    from study.limit_seeking import SliceState
    from study.results.ledger import Ledger
    from study.results.tracking import Tracker
    from study.searcher import DigestOf
    from study.sweep_state import SweepState
    from study.tasks import ExecutorName

EXIT_USAGE, EXIT_FAILED, EXIT_BUDGET = 2, 3, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        if options.list:
            print_list(options.json)
            return 0
        if options.study is None:
            raise ConfigError("name a study, for example: python -m study.sweep batch_limit (--list shows all)")
        return _sweep(options)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE


def _sweep(options: argparse.Namespace) -> int:
    design = make_design(
        load_space(options.study),
        variant=options.variant,
        profile=options.profile,
        dataset=options.dataset,
        overrides=parse_overrides(options.overrides),
    )
    design, replicates = budgeted(options, design)
    if options.dry_run:
        print_plan(design, replicates, options.json)
        return 0
    prepared = prepare(options, design, replicates)
    return run(options, prepared)


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


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything checked before anything is written or started."""

    design: Design
    replicates: int
    digest_of: "DigestOf"
    input_shape: tuple[int, ...]
    provenance: Provenance
    storage: str
    executor: "ExecutorName"
    address: str
    tracker: "Tracker | None"


def prepare(options: argparse.Namespace, design: Design, replicates: int) -> Prepared:
    """Check data, storage and sizes; raises :class:`ConfigError` with nothing half-written."""
    from study.data.datasets import Dataset, load_dataset
    from study.results.store import Store, default_storage
    from study.tasks import device_for
    from study.trainers.batch import check_evaluation

    storage = options.storage or default_storage()
    Store(storage).check_writable()
    if options.executor == "inline" and options.workers_per_trial > 1:
        raise ConfigError("--executor inline has one worker: use --executor train with --workers-per-trial")
    if options.gpus_per_pack is not None and options.gpus_per_pack < 1 and options.workers_per_trial > 1:
        raise ConfigError("--gpus-per-pack below 1 needs one worker per pack: NCCL refuses two ranks on one GPU")
    if options.workers_per_trial > 1 and design.config.model.norm == "batch":
        raise ConfigError("model.norm=batch needs one worker: its statistics would be those of each worker's part")
    is_wide = options.workers_per_trial > 1 or options.profile == "cluster"
    wanted = options.executor if options.executor != "auto" else ("train" if is_wide else "inline")
    executor: ExecutorName = "train" if wanted == "train" else "inline"
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    if options.use_gpu and address == "local":
        device_for(use_gpu=True)
    datasets: dict[tuple[str, ClustersConfig], Dataset] = {}
    candidates = [part.point(candidate) for part in design.slices() for candidate in part.candidates]
    for point in candidates if design.is_sought else design.points():
        for role in ("tuning", "reported"):
            config = design.resolve(point, {}, role)
            key = (config.data.name, config.data.clusters)
            if key not in datasets:
                datasets[key] = load_dataset(config.data, options.data_root)
            check_evaluation(config, datasets[key])
    tracker = None
    if options.tracking_uri:
        from study.results.tracking import Tracker

        tracker = Tracker(options.tracking_uri)
    return Prepared(
        design=design,
        replicates=replicates,
        digest_of=lambda config: datasets[config.data.name, config.data.clusters].digest,
        # Of vectors of several lengths the longest decides how much fits.
        input_shape=max((dataset.input_shape for dataset in datasets.values()), key=math.prod),
        provenance=collect(),
        storage=Store(storage).uri,
        executor=executor,
        address=address,
        tracker=tracker,
    )


def run(options: argparse.Namespace, prepared: Prepared) -> int:
    """Run what is missing, then print the answer."""
    from study.results.ledger import Ledger
    from study.searcher import RoundPlanner
    from study.sweep_state import SweepState
    from study.tasks import TaskSettings

    design = prepared.design
    opener = Ledger.open_fresh if options.fresh else Ledger.open
    ledger = opener(prepared.storage, design.study)
    settings = TaskSettings(
        ledger_uri=ledger.store.uri,
        study_hash=design.hash,
        data_root=options.data_root,
        executor=prepared.executor,
        workers_per_trial=options.workers_per_trial,
        threads=1,
        use_gpu=options.use_gpu,
        provenance=prepared.provenance,
    )
    planner = RoundPlanner(design=design, digest_of=prepared.digest_of, replicates=prepared.replicates)
    hours = options.max_hours
    deadline = float("inf") if hours is None else time.monotonic() + 3600 * hours
    state = SweepState(design=design, ledger=ledger, planner=planner, settings=settings, deadline=deadline)
    exit_code = EXIT_FAILED if state.failed_rows() else 0
    if not state.is_plan_finished():
        exit_code = _run_open_rounds(options, prepared, state)
    if exit_code in (0, EXIT_FAILED) and (unsettled := state.unsettled_slices()):
        print(budget_sentence(design, unsettled), file=sys.stderr)
        exit_code = exit_code or EXIT_BUDGET
    return _print_answer(options, ledger, design, state.slice_states(), exit_code)


def budget_sentence(design: Design, unsettled: "Sequence[SliceState]") -> str:
    """Which limits are less certain than was asked for, and what to do."""
    ended = [
        f"{state.slice.name or design.scientific[0].label} after {state.num_planned} ({state.reason})"
        for state in unsettled
    ]
    return (
        f"the replicates ended before the precision of {design.budget.precision:g} octaves: {'; '.join(ended)}. "
        "The same command with a larger --max-replicates goes on from here, with a larger --precision it "
        "asks for less"
    )


def design_row(design: Design, provenance: Provenance) -> dict[str, object]:
    """The row that registers a design before its first replicate."""
    return {
        "study_hash": design.hash,
        "study": design.study,
        "variant": design.variant,
        "design": json.dumps(design.canonical(), sort_keys=True),
        "exploratory": design.is_exploratory,
        "commit": provenance.commit,
        "dirty": provenance.dirty,
        "created_at": datetime.now(UTC),
    }


class _Signals:
    """SIGTERM becomes SIGINT, which Tune turns into an orderly end; the first signal is remembered.

    So does a progress line that nobody reads any more, as if it were the SIGPIPE that Python does not raise.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, number: int, _frame: FrameType | None) -> None:
        self.received = number
        os.kill(os.getpid(), signal.SIGINT)

    def on_unread(self) -> None:
        self._terminate(signal.SIGPIPE, None)


def _run_open_rounds(options: argparse.Namespace, prepared: Prepared, state: "SweepState") -> int:
    from study.executors import plan_room, run_rounds, start_ray, stop_ray
    from study.results.tracking import Tracker, default_tracking_uri

    signals = _Signals()
    signals.install()
    started = time.monotonic()
    with ProgressDisplay(state, on_unread=signals.on_unread) as display:
        try:
            start_ray(prepared.address, needs_dashboard=prepared.executor == "train")
            is_local, shape = prepared.address == "local", prepared.input_shape
            width = plan_room(state, options.max_concurrent, options.gpus_per_pack, shape, is_local=is_local)
            tracker = prepared.tracker or Tracker(default_tracking_uri(prepared.storage))
            state.ledger.record_design(design_row(prepared.design, prepared.provenance))
            state.on_round, state.on_halved = display.on_round, display.on_halved
            if not prepared.provenance.commit:
                display.say("commit and dirty flag are unknown here and stay empty (make submit passes them)")
            display.say(f"ledger {state.ledger.store.shown}")

            said: set[str] = set()

            def on_pack_end() -> None:
                trouble = tracker.try_sync(state.ledger, state.design.hash)
                if trouble and trouble not in said:
                    said.add(trouble)
                    display.say(f"{trouble}; python -m study.results sync-mlflow catches up")

            is_cut_off = bool(run_rounds(state, width, display.on_event, on_pack_end))
            display.on_event()
            on_pack_end()
        except KeyboardInterrupt:
            is_cut_off = True
        finally:
            stop_ray()
        num_tuning, num_reported = state.num_by_role()
        display.say(
            f"swept for {duration(time.monotonic() - started)}: {num_tuning} tuning and {num_reported} reported "
            "replicates in the ledger"
        )
    if is_cut_off or (not state.is_finished and not state.is_out_of_budget):
        print("interrupted: everything finished is kept; the same command goes on from here", file=sys.stderr)
        return 128 + (signals.received or signal.SIGINT)
    if failed := state.failed_rows():
        for row in failed[:5]:
            text = f"replicate {row['key']} {row['outcome']} (attempt {row['attempt']}): {row['error']}"
            print(text, file=sys.stderr)
        print("the same command tries failed replicates again", file=sys.stderr)
        return EXIT_FAILED
    if state.is_out_of_budget:
        print("the budget of --max-hours ended first; the same command goes on from here", file=sys.stderr)
        return EXIT_BUDGET
    return 0


def _print_answer(
    options: argparse.Namespace,
    ledger: "Ledger",
    design: Design,
    states: "Sequence[SliceState]",
    exit_code: int,
) -> int:
    from analysis.answer import to_json
    from analysis.fits import SearchEnd, slice_key
    from analysis.report import make_report
    from analysis.report_files import write_report

    if not ledger.names("replicates"):
        if options.json:
            print(json.dumps({"study": design.study, "design": design.hash, "num_planned": 0, "exit_code": exit_code}))
        return exit_code
    ends = {
        slice_key(state.slice.others): SearchEnd(
            precision=design.budget.precision, is_settled=state.is_settled, reason=state.reason
        )
        for state in states
    }
    report = make_report(ledger, design.hash, ends)
    try:
        if not options.json:
            # Before anything is drawn or written: the answer is there whatever becomes of its files.
            show(report.text)
            show("compare: make mlflow" + (f" STORAGE={options.storage}" if options.storage else ""))
            sys.stdout.flush()
    finally:
        # Also where nobody reads on: `| head` wants fewer lines, not fewer files.
        written = write_report(ledger, report.answer)
    for warning in written.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.json:
        print(json.dumps(to_json(report.answer) | {"figure": written.figure, "exit_code": exit_code}))
        return exit_code
    for name, place, more in (("figure", written.figure, "    .png"), ("data", written.data, "")):
        if place is not None:
            show(f"{name} {place}{more}")
    return exit_code


if __name__ == "__main__":
    sys.exit(run_main(main))
