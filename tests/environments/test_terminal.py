"""On a terminal: what a person types runs to its answer, fits the window, and stops when asked to."""

import os
import pickle
import pty
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.execution.on_ray import PackSearcher, PackTrainable, train_on_workers
from study.execution.progress import ProgressDisplay
from study.ledger.ledger import Ledger
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from tests.pseudo_terminal import CTRL_C, TerminalCommand
from tests.synthetic import fill, known_design, open_state, rise_and_fall
from tests.tiny_project import ROOT, environment, held, rows

_SWEEP = [sys.executable, "-m", "study.sweep"]
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def start(*arguments: str, columns: int = 80, term: str = "xterm") -> TerminalCommand:
    return TerminalCommand([*_SWEEP, *arguments], ROOT, environment(), columns, term)


def lines(command: TerminalCommand) -> list[str]:
    """The lines that stay, without what moves the cursor."""
    return [line.rpartition("\r")[2] for line in _CONTROL.sub("", command.screen).replace("\r\n", "\n").split("\n")]


class TestPickling:
    """Tune pickles the searcher, its callbacks and the trainables; none may lead to the terminal."""

    @pytest.fixture
    def display(self, tmp_path: Path) -> Any:
        state = open_state(Ledger.open(str(tmp_path), "known"), known_design())
        main, side = pty.openpty()
        with os.fdopen(side, "w") as stream, ProgressDisplay(state, stream) as display:
            yield display
        os.close(main)

    def test_what_tune_may_pickle_survives_while_a_display_is_attached(
        self, display: ProgressDisplay, tmp_path: Path
    ) -> None:
        state = open_state(Ledger.open(str(tmp_path), "known"), known_design())
        state.on_proposal, state.on_halved = display.on_proposal, display.on_halved
        searcher = PackSearcher(state, display.on_event, display.on_event)
        for thing in (searcher, PackTrainable, train_on_workers):
            assert cloudpickle.loads(cloudpickle.dumps(thing)) is not None

    def test_the_display_itself_does_not_so_that_the_test_can_fail(self, display: ProgressDisplay) -> None:
        with pytest.raises(pickle.PicklingError, match="tty"):
            cloudpickle.dumps(display.on_event)


class TestWithoutWork:
    def test_a_finished_study_prints_its_answer(self, tmp_path: Path) -> None:
        digest = load_dataset(DataConfig(name="digits")).digest
        design = make_design(load_space("smoke"))
        fill(Ledger.open(str(tmp_path), "smoke"), design, rise_and_fall, data_digest=digest)
        command = start("smoke", "--storage", str(tmp_path), columns=60)
        assert command.wait(120) == 0, command.screen
        assert any(line.startswith("minimum batch") for line in lines(command)), command.screen

    @pytest.mark.parametrize("arguments", [["batch_limit", "--dry-run"], ["--list"]], ids=" ".join)
    def test_a_command_that_runs_nothing_prints_what_it_is_asked_for(self, arguments: list[str]) -> None:
        command = start(*arguments, columns=60)
        assert command.wait(60) == 0, command.screen
        assert "batch_limit" in command.screen


@pytest.mark.slow
class TestWithWork:
    @pytest.mark.parametrize("term", ["xterm", "dumb"])
    def test_a_study_runs_to_its_answer(self, term: str, tmp_path: Path) -> None:
        command = start("smoke", "--storage", str(tmp_path), term=term)
        assert command.wait(300) == 0, command.screen
        shown = lines(command)
        assert any(line.startswith("minimum batch") for line in shown), command.screen
        assert any(line.startswith("round 1:") for line in shown), command.screen
        assert "Traceback" not in command.screen
        assert rows(tmp_path, "smoke")

    def test_ctrl_c_stops_it_and_the_same_command_goes_on_to_its_end(self, tmp_path: Path) -> None:
        command = start("smoke", "--storage", str(tmp_path))
        command.wait_until(lambda: len(rows(tmp_path, "smoke")) > 0, 120)
        command.type(CTRL_C)
        assert command.wait(60) == 128 + signal.SIGINT, command.screen
        assert "to go on from here:" in command.screen
        assert "Traceback" not in command.screen
        before = {row["key"]: held(row) for row in rows(tmp_path, "smoke") if row["outcome"] == "ok"}
        again = start("smoke", "--storage", str(tmp_path))
        assert again.wait(300) == 0, again.screen
        after = [row for row in rows(tmp_path, "smoke") if row["key"] in before and row["outcome"] == "ok"]
        assert {row["key"]: held(row) for row in after} == before
        assert len(after) == len(before), "a finished replicate ran twice"
