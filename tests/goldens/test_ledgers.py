"""Ledgers of real sweeps are read, answered and planned by as they were when they were recorded."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from analysis.report import Report, make_report
from study.results.ledger import Ledger
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
    as_json,
    golden_json,
    golden_text,
    part_of_clusters,
    what_was_read,
)
from tests.synthetic import drive, fill, open_state, rise_and_fall

GOLDEN = json.loads(LEDGERS_FILE.read_text())
OLD = (SCHEMA_1, SCHEMA_2)


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
def test_the_answer_is_what_it_was_to_the_letter(recorded: Recorded, open_ledger: Any) -> None:
    check_answer(recorded.name, answered(recorded, open_ledger(recorded)))


@pytest.mark.slow
@named(CLUSTERS)
def test_the_answer_beside_laws_is_what_it_was_to_the_letter(recorded: Recorded, open_ledger: Any) -> None:
    check_answer(recorded.name, answered(recorded, open_ledger(recorded)))


def test_the_answer_of_two_recipes_beside_laws_is_what_it_was_to_the_letter(tmp_path: Path) -> None:
    check_answer(PART_NAME, make_report(part_of_clusters(tmp_path), CLUSTERS.study_hash))


@named(*ALL)
def test_every_recorded_round_is_planned_again_from_those_before_it(recorded: Recorded, open_ledger: Any) -> None:
    replay = Replay.of(recorded, open_ledger(recorded))
    assert len(replay.rounds) >= 2
    for index, rows in enumerate(replay.rows):
        planned = replay.proposal(index)
        assert identities(planned) == identities(rows)
        for row, golden in zip(planned, rows, strict=True):
            # A field that came later has no place in an older file.
            assert json.loads(golden["config"]).items() <= json.loads(row["config"]).items()
    assert replay.proposal(len(replay.rounds)) == []


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
    before = ledger.settled()
    design = SMOKE.design()
    assert fill(ledger, design, rise_and_fall).is_plan_finished()
    ledger = Ledger.open(str(tmp_path), recorded.study)
    assert ledger.names("designs") == sorted([f"{design.hash}.parquet", f"{recorded.study_hash}.parquet"])
    assert before.items() <= ledger.settled().items()
    assert make_report(ledger, recorded.study_hash).text == golden_text(recorded.name)
