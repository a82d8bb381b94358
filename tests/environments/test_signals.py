"""SIGTERM, Ctrl-C and SIGKILL: what is finished is kept, what ran is recorded at once, and the same command goes on."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from study.execution.interrupts import Interrupts
from study.outcome import FINAL_OUTCOMES, Outcome
from study.rows import Row
from tests.tiny_project import ROOT, held, rows, run_sweep, start_sweep


def run_script(body: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, as signal handlers belong to a whole process."""
    script = "import os, signal, sys\nfrom study.execution.interrupts import Interrupts\n" + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_records_at_once_and_then_unwinds(number: signal.Signals) -> None:
    done = run_script(f"""
        interrupts = Interrupts()
        interrupts.install()
        interrupts.on_stop = lambda: print("recorded")
        try:
            signal.raise_signal({number})
        except KeyboardInterrupt:
            print("unwound")
        sys.exit(interrupts.exit_code)
    """)
    assert done.stdout == "recorded\nunwound\n"
    assert done.returncode == 128 + number


def test_a_second_signal_ends_the_process_where_it_stands() -> None:
    done = run_script("""
        interrupts = Interrupts()
        interrupts.install()
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            print("unwinding", flush=True)
            interrupts.farewell = "how to go on\\n"
            signal.raise_signal(signal.SIGINT)
        print("never reached")
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("unwinding\n", "how to go on\n", 143)


def test_a_signal_while_the_first_is_being_recorded_does_not_cut_the_record_short() -> None:
    done = run_script("""
        interrupts = Interrupts()
        interrupts.install()
        def record():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                print("cut short")
            print("recorded", flush=True)
        interrupts.on_stop = record
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            print("unwound")
    """)
    assert done.stdout == "recorded\nunwound\n"


def test_a_record_that_fails_stops_the_program_all_the_same_and_the_next_signal_ends_it() -> None:
    done = run_script("""
        interrupts = Interrupts()
        interrupts.install()
        def fail():
            raise OSError("disk full")
        interrupts.on_stop = fail
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            print(interrupts.trouble, flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("never reached")
    """)
    assert (done.stdout, done.returncode) == ("disk full\n", 143)


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    done = run_script("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        Interrupts().install()
        signal.raise_signal(signal.SIGHUP)
        print("goes on")
    """)
    assert done.stdout == "goes on\n"


def test_once_the_answer_is_out_a_signal_does_not_turn_it_into_a_failure() -> None:
    for exit_code in (0, 4):
        done = run_script(f"""
            interrupts = Interrupts()
            interrupts.install()
            print("the answer", flush=True)
            interrupts.answer_is_out({exit_code})
            signal.raise_signal(signal.SIGTERM)
            print("never reached")
        """)
        assert (done.stdout, done.returncode) == ("the answer\n", exit_code)


def test_a_command_that_has_written_everything_keeps_its_exit_code_to_the_end() -> None:
    """The interpreter's own end takes a while, and puts Python's handlers away first."""
    done = run_script("""
        import atexit
        from study.commands.streams import run_main
        atexit.register(lambda: signal.raise_signal(signal.SIGTERM))
        sys.exit(run_main(lambda: 4))
    """)
    assert done.returncode == 4


def test_the_handlers_that_ray_installs_are_replaced_and_its_exit_is_a_stop() -> None:
    done = run_script("""
        interrupts = Interrupts()
        interrupts.install()
        try:
            with interrupts.kept_through_ray():
                signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
                signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            print(interrupts.received == signal.SIGTERM)
        print(signal.getsignal(signal.SIGTERM) == interrupts._stop)
    """)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_an_interrupt_that_a_library_noticed_first_is_recorded_once() -> None:
    interrupts, recorded = Interrupts(), []
    interrupts.on_stop = lambda: recorded.append(1)
    interrupts.note()
    interrupts.note()
    assert recorded == [1]
    assert interrupts.exit_code == 130


@pytest.mark.slow
def test_a_sweep_that_is_terminated_in_the_middle_of_training_says_143_and_goes_on(tmp_path: Path) -> None:
    arguments = ("smoke", "--set", "horizon.length=600", "--storage", str(tmp_path))
    sweep = start_sweep(ROOT, *arguments)
    _wait_for_a_result(sweep, tmp_path)
    os.kill(sweep.pid, signal.SIGTERM)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 143, output
    assert "everything finished is kept; to go on from here:\npython -m study.sweep smoke" in output
    assert "Traceback" not in output
    first = rows(tmp_path, "smoke")
    assert {row["error"] for row in first if row["outcome"] == "interrupted"} == {"the sweep was stopped"}
    _finish(tmp_path, arguments, first)


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_a_ledger_on_which_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = ("smoke", "--set", "horizon.length=600", "--storage", str(tmp_path))
    sweep = start_sweep(ROOT, *arguments)
    _wait_for_a_result(sweep, tmp_path)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate(timeout=60)
    _finish(tmp_path, arguments, rows(tmp_path, "smoke"))


def _wait_for_a_result(sweep: "subprocess.Popen[str]", storage: Path) -> None:
    end = time.monotonic() + 120
    while not rows(storage, "smoke"):
        assert time.monotonic() < end
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)


def _finish(storage: Path, arguments: tuple[str, ...], before: list[Row]) -> None:
    """Run to the end: nothing finished ran again, and every key has one finding."""
    kept = _findings(before)
    code, output = run_sweep(ROOT, *arguments, timeout=300)
    assert code == 0, output
    after = rows(storage, "smoke")
    findings = _findings(after)
    assert {key: findings[key] for key in kept} == kept
    assert set(Counter(row["key"] for row in after if Outcome(row["outcome"]) in FINAL_OUTCOMES).values()) == {1}
    assert len(findings) >= 33


def _findings(attempts: list[Row]) -> dict[str, Row]:
    """What every finished replicate has; a column that only others fill says nothing."""
    return {row["key"]: held(row) for row in attempts if Outcome(row["outcome"]) in FINAL_OUTCOMES}
