"""Ledgers of real sweeps are read, answered and planned by as they were when they were recorded."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from study.answers.report import Report, make_report
from study.ledger.ledger import Ledger
from tests.goldens.ledgers import (
    ALL,
    BATCH,
    CLUSTERS,
    FOLDER,
    LEDGERS_FILE,
    MAX_BYTES,
    PART_NAME,
    SCHEMA_1,
    SCHEMA_2,
    SMOKE,
    Recorded,
    Replay,
    answered,
    arithmetic,
    as_json,
    golden_json,
    golden_text,
    measured,
    part_of_clusters,
    what_was_read,
)
from tests.synthetic import drive, fill, open_state, rise_and_fall

GOLDEN = json.loads(LEDGERS_FILE.read_text())
OLD = (SCHEMA_1, SCHEMA_2)
same_arithmetic = pytest.mark.skipif(
    arithmetic() != GOLDEN["arithmetic"], reason="recorded where floating-point functions round otherwise than here"
)


def named(*recorded: Recorded) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recorded", recorded, ids=lambda found: found.name)


def differences(found: Any, golden: Any, place: str = "answer") -> list[str]:
    """Where two JSON values differ: in structure or text at all, in numbers by more than a millionth of them."""
    if type(found) is not type(golden):
        return [f"{place}: {found!r}, not {golden!r}"]
    if isinstance(golden, dict) and found.keys() == golden.keys():
        return [line for name in golden for line in differences(found[name], golden[name], f"{place}.{name}")]
    if isinstance(golden, list) and len(found) == len(golden):
        pairs = enumerate(zip(found, golden, strict=True))
        return [line for index, pair in pairs for line in differences(*pair, f"{place}[{index}]")]
    if isinstance(golden, float) and math.isclose(found, golden, rel_tol=1e-6, abs_tol=1e-12):
        return []
    return [] if found == golden else [f"{place}: {found!r}, not {golden!r}"]


def identities(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """What tells the entries of a round apart, in their order."""
    return [[row[name] for name in ("key", "role", "cell", "nuisance", "seed")] for row in rows]


def check_answer(name: str, report: Report) -> None:
    assert report.text == golden_text(name)
    assert differences(as_json(report), golden_json(name)) == []


def check_rounds(replay: Replay, numbers: Iterable[int]) -> None:
    for index in numbers:
        planned, rows = replay.proposal(index), replay.rows[index] if index < len(replay.rows) else []
        assert identities(planned) == identities(rows)
        for row, golden in zip(planned, rows, strict=True):
            # A field that came later has no place in an older file.
            assert json.loads(golden["config"]).items() <= json.loads(row["config"]).items()


@pytest.fixture(scope="session")
def open_ledger(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The ledger of a record, unpacked once: for tests that only read."""
    opened: dict[str, Ledger] = {}

    def open_(recorded: Recorded) -> Ledger:
        if recorded.name not in opened:
            opened[recorded.name] = recorded.unpack(tmp_path_factory.mktemp(recorded.name))
        return opened[recorded.name]

    return open_


def test_all_records_together_are_small() -> None:
    files = [file for file in FOLDER.iterdir() if file.suffix in (".xz", ".json", ".txt")]
    assert {recorded.archive for recorded in ALL} <= {*files}
    assert sum(file.stat().st_size for file in files) < MAX_BYTES


@named(*ALL)
def test_every_row_is_read_and_the_same_keys_are_settled(recorded: Recorded, open_ledger: Any) -> None:
    ledger = open_ledger(recorded)
    assert what_was_read(recorded, ledger) == GOLDEN[recorded.name]
    assert GOLDEN[recorded.name]["schema_versions"] == [recorded.schema_version]
    assert ledger.damage() == []


@named(BATCH, SMOKE, *OLD)
def test_what_was_measured_is_answered_alike_on_every_machine(recorded: Recorded, open_ledger: Any) -> None:
    answer = as_json(make_report(open_ledger(recorded), recorded.study_hash))
    assert differences(measured(answer), measured(golden_json(recorded.name))) == []


@same_arithmetic
@named(BATCH, SMOKE, *OLD)
def test_the_answer_is_what_it_was_to_the_letter(recorded: Recorded, open_ledger: Any) -> None:
    check_answer(recorded.name, answered(recorded, open_ledger(recorded)))


@pytest.mark.slow
@same_arithmetic
@named(CLUSTERS)
def test_the_answer_beside_laws_is_what_it_was_to_the_letter(recorded: Recorded, open_ledger: Any) -> None:
    check_answer(recorded.name, answered(recorded, open_ledger(recorded)))


@same_arithmetic
def test_the_answer_of_two_recipes_beside_laws_is_what_it_was_to_the_letter(tmp_path: Path) -> None:
    check_answer(PART_NAME, make_report(part_of_clusters(tmp_path), CLUSTERS.study_hash))


@named(*ALL)
def test_every_round_before_a_limit_is_sought_is_planned_again(recorded: Recorded, open_ledger: Any) -> None:
    replay = Replay.of(recorded, open_ledger(recorded))
    after_the_last = len(replay.rounds) + 1
    check_rounds(replay, range(after_the_last if recorded.num_unsought is None else recorded.num_unsought))


@same_arithmetic
@named(BATCH, CLUSTERS)
def test_every_round_that_seeks_a_limit_is_planned_again_from_those_before_it(
    recorded: Recorded, open_ledger: Any
) -> None:
    replay = Replay.of(recorded, open_ledger(recorded))
    assert recorded.num_unsought is not None
    assert recorded.num_unsought < len(replay.rounds)
    check_rounds(replay, range(recorded.num_unsought, len(replay.rounds) + 1))


@named(SMOKE, *OLD)
def test_a_sweep_that_is_resumed_runs_what_its_ledger_lacks_and_no_more(recorded: Recorded, tmp_path: Path) -> None:
    ledger = recorded.unpack(tmp_path)
    design = recorded.design()
    (data_digest,) = {row["data_digest"] for row in ledger.settled().values()}
    assert open_state(ledger, design, data_digest=data_digest).is_plan_finished()
    name = ledger.names("replicates")[-1]
    lost = {row["key"] for row in ledger.read("replicates").to_pylist()}
    ledger.store.delete(f"replicates/{name}")
    state = open_state(ledger, design, data_digest=data_digest)
    lost -= state.settled.keys()
    assert lost
    tasks = drive(state, rise_and_fall)
    assert {replicate.key for task in tasks for replicate in task.replicates} == lost
    assert state.is_finished


@named(*OLD)
def test_a_sweep_of_another_design_leaves_the_rows_and_the_answer_of_an_old_ledger(
    recorded: Recorded, tmp_path: Path
) -> None:
    ledger = recorded.unpack(tmp_path)
    before, answer = ledger.settled(), make_report(ledger, recorded.study_hash).text
    design = SMOKE.design()
    assert fill(ledger, design, rise_and_fall).is_plan_finished()
    ledger = Ledger.open(str(tmp_path), recorded.study)
    assert ledger.names("designs") == sorted([f"{design.hash}.parquet", f"{recorded.study_hash}.parquet"])
    assert before.items() <= ledger.settled().items()
    assert make_report(ledger, recorded.study_hash).text == answer
