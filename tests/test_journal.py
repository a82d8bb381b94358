"""The journal says in which order a study came about: what was decided, upon what, and what counted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from study.execution.task_run import run_task
from study.ledger.attempts import MAX_ATTEMPTS
from study.ledger.journal import Journal, Kind, settled_order
from study.ledger.ledger import Ledger
from study.ledger.retention import clean, plan_cleaning
from study.ledger.store import Store
from study.outcome import Outcome
from tests.synthetic import Result, drive, fill, known_design, open_state, rise_and_fall
from tests.toy_study import open_toy, run_toy, toy_design


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(str(tmp_path), "toy")


def kinds(ledger: Ledger) -> list[Kind]:
    return [entry.kind for entry in Journal(ledger.store).entries()]


def test_entries_are_numbered_without_gaps_and_name_what_happened(ledger: Ledger) -> None:
    run_toy(open_toy(ledger))
    entries = Journal(ledger.store).entries()
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.kind for entry in entries[:4]] == [Kind.PROPOSAL, Kind.DESIGN, Kind.ACCEPTED, Kind.PROPOSAL]
    files = {f"{table}/{name}" for table in ("designs", "rounds", "replicates") for name in ledger.names(table)}
    assert {entry.file for entry in entries} == files


def test_settled_results_have_one_order(ledger: Ledger) -> None:
    run_toy(open_toy(ledger))
    order = settled_order(Journal(ledger.store).entries())
    assert len(order) == len({*order})
    assert {*order} == Ledger(ledger.store).settled().keys()
    proposed = [row["key"] for row in ledger.planned(toy_design().hash)]
    first = [key for key in order if key in proposed[:24]]
    assert first == order[:24]


def test_a_proposal_says_up_to_where_it_had_read(ledger: Ledger) -> None:
    run_toy(open_toy(ledger))
    proposals = [entry for entry in Journal(ledger.store).entries() if entry.kind is Kind.PROPOSAL]
    assert [entry.details["based_on"] for entry in proposals] == [0, *(entry.number - 1 for entry in proposals[1:])]
    assert [entry.details["pending"] for entry in proposals] == [[]] * len(proposals)
    assert [entry.details["purpose"] for entry in proposals[:2]] == ["tuning", "reporting"]


def test_a_ledger_without_a_journal_is_adopted_by_its_next_driver_and_by_no_reader(ledger: Ledger) -> None:
    run_toy(open_toy(ledger), max_packs=2)
    folder = ledger.store.local_path
    assert folder is not None
    for file in (folder / "journal").iterdir():
        file.unlink()
    old = Ledger(ledger.store)
    assert len(old.settled()) == 32
    assert kinds(old) == []
    run_toy(open_toy(old), max_packs=1)
    entries = Journal(ledger.store).entries()
    assert Counter(entry.kind for entry in entries[:5]) == {Kind.PROPOSAL: 2, Kind.ACCEPTED: 2, Kind.DESIGN: 1}
    assert {*settled_order(entries)} == Ledger(ledger.store).settled().keys()


def test_what_was_adopted_is_not_adopted_again(ledger: Ledger) -> None:
    run_toy(open_toy(ledger))
    before = kinds(ledger)
    again = Ledger(ledger.store)
    assert again.adopt(again.attempts()) == len(before)
    assert kinds(ledger) == before


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind": "result acc',
        b'{"number": 3, "kind": "result accepted", "file": "replicates/x.parquet"}',
        b'{"number": Infinity, "kind": "retry", "file": ""}',
    ],
    ids=["half", "no keys", "no number"],
)
def test_an_entry_that_cannot_be_read_is_made_again(text: bytes, ledger: Ledger) -> None:
    run_toy(open_toy(ledger), max_packs=2)
    wanted = settled_order(Journal(ledger.store).entries())
    ledger.store.write("journal/00000003.json", text)
    again = Ledger(ledger.store)
    again.adopt(again.attempts())
    assert {*settled_order(Journal(ledger.store).entries())} == {*wanted}


def test_what_a_worker_writes_after_the_ledger_was_read_is_adopted_once_it_is_read(ledger: Ledger) -> None:
    state = open_toy(ledger)
    run_toy(state, max_packs=1)
    reader = Ledger(ledger.store)
    read_before = reader.attempts()
    task = state.next_task(is_idle=True)
    assert task is not None
    run_task(task)
    reader.adopt(read_before)
    assert Kind.SET_ASIDE not in kinds(ledger)
    reader.adopt(reader.attempts())
    assert {*settled_order(Journal(ledger.store).entries())} == Ledger(ledger.store).settled().keys()


def test_two_drivers_of_one_ledger_take_numbers_of_their_own(tmp_path: Path) -> None:
    first, second = Journal(Store(str(tmp_path))), Journal(Store(str(tmp_path)))
    numbers = [journal.append(Kind.RETRY, keys=[]).number for journal in (first, second, first, second)]
    assert numbers == [1, 2, 3, 4]


def test_a_number_that_is_taken_meanwhile_is_left_to_whoever_took_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    Journal(store).append(Kind.RETRY, keys=["a"])
    late = Journal(store)
    monkeypatch.setattr(Journal, "last", 0)
    assert late.append(Kind.RETRY, keys=["b"]).number == 2
    assert json.loads(store.read("journal/00000001.json") or b"")["keys"] == ["a"]


def test_a_second_finding_of_a_key_is_set_aside(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), "known")
    state = fill(ledger, known_design(), rise_and_fall)
    (row, *_) = Ledger(ledger.store).settled().values()
    ledger.append_pack([row | {"attempt": 2}], [])
    again = Ledger(ledger.store)
    again.adopt(again.attempts())
    assert kinds(ledger)[-1] is Kind.SET_ASIDE
    assert {*settled_order(Journal(ledger.store).entries())} == state.settled.keys()


def test_a_retry_is_noted_once(tmp_path: Path) -> None:
    ledger, design = Ledger.open(str(tmp_path), "known"), known_design(nuisance=())
    for _ in range(MAX_ATTEMPTS + 1):
        drive(open_state(ledger, design), lambda _: Result(outcome=Outcome.FAILED))
    assert Kind.RETRY not in kinds(ledger)
    drive(open_state(ledger, design, is_retry=True), rise_and_fall)
    (retry,) = [entry for entry in Journal(ledger.store).entries() if entry.kind is Kind.RETRY]
    assert len(retry.details["keys"]) == len(design.points()) * 5


def test_what_is_removed_is_forgotten_in_writing(tmp_path: Path) -> None:
    ledger, design = Ledger.open(str(tmp_path), "known"), known_design()
    fill(ledger, design, rise_and_fall)
    key = ledger.planned(design.hash)[0]["key"]
    ledger.store.write(f"artifacts/{key}/checkpoint.pt", b"state")
    clean(ledger, plan_cleaning(ledger, {design.hash: []}))
    last = Journal(ledger.store).entries()[-1]
    assert (last.kind, last.details["files"]) == (Kind.FORGOTTEN, [f"artifacts/{key}/checkpoint.pt"])


def test_one_file_may_stand_for_many(ledger: Ledger) -> None:
    run_toy(open_toy(ledger))
    journal, folder = Journal(ledger.store), ledger.store.local_path
    assert folder is not None
    wanted, files = journal.entries(), sorted((folder / "journal").iterdir())
    texts = [json.loads(file.read_text()) for file in files]
    ledger.store.write(f"journal/00000001-{len(files):08d}.json", json.dumps(texts).encode())
    for file in files[:-1]:
        file.unlink()
    assert Journal(ledger.store).entries() == wanted
    assert Journal(ledger.store).append(Kind.RETRY, keys=[]).number == len(files) + 1
