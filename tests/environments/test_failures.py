"""Replicates without a result are counted, placed and explained; a damaged checkpoint is none."""

from pathlib import Path

import pytest
import torch

from study.answers.answer import answer, to_json
from study.answers.report import word_answer
from study.interface.run import Replicate
from study.ledger.artifacts import Artifacts
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.trainers.checkpoints import TorchCheckpoints
from tests.synthetic import Result, drive, known_design, open_state, rise_and_fall


def broken_below_ten(replicate: Replicate) -> Result:
    is_broken = replicate.config.batch.train < 10 and replicate.seed > 102
    return Result(outcome=Outcome.FAILED) if is_broken else rise_and_fall(replicate)


def test_an_answer_says_how_many_failed_where_and_why_and_that_a_limit_may_be_biased(tmp_path: Path) -> None:
    ledger, design = Ledger(Store(str(tmp_path))), known_design()
    drive(open_state(ledger, design), broken_below_ten)
    result = answer(ledger)
    lines = word_answer(result)
    at = lines.index("3 replicates failed and are missing: a limit near them may be biased")
    assert lines[at + 1] == "    3 replicates at batch.train = 4 (failed): RuntimeError: invented"
    (failure,) = to_json(result)["failures"]
    assert failure == {
        "point": {"batch.train": 4},
        "outcome": "failed",
        "error": "RuntimeError: invented",
        "num_replicates": 3,
    }


def test_what_was_only_cut_short_has_not_failed(tmp_path: Path) -> None:
    ledger, design = Ledger(Store(str(tmp_path))), known_design()
    state = open_state(ledger, design)
    state.next_task(is_idle=True)
    state.interrupt()
    assert ledger.attempts()
    assert answer(ledger).failures == ()


def test_an_answer_without_failures_does_not_speak_of_them(tmp_path: Path) -> None:
    ledger, design = Ledger(Store(str(tmp_path))), known_design()
    drive(open_state(ledger, design), rise_and_fall)
    assert not any("failed" in line for line in word_answer(answer(ledger)))


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign"])
def test_a_damaged_checkpoint_is_discarded(damage: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    checkpoints = TorchCheckpoints(Artifacts(store))
    checkpoints.save("key", {"step": 3, "weights": torch.ones(100)})
    whole = store.read("artifacts/key/checkpoint.pt")
    assert whole is not None
    bad = {"empty": b"", "cut": whole[: len(whole) // 2], "foreign": b"no checkpoint at all"}[damage]
    store.write("artifacts/key/checkpoint.pt", bad)
    assert checkpoints.load("key") is None
    assert store.read("artifacts/key/checkpoint.pt") is None
    checkpoints.save("key", {"step": 3})
    assert checkpoints.load("key") == {"step": 3}
