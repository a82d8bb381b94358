"""The ledger keeps what it promises on a disk and in an object store."""

import io
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.ledger.ledger import Ledger, measurement_hash
from study.ledger.schema import TABLES, arrow_schema, markdown_table
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.metrics.declared import METRICS
from study.rows import before_column, metric_column
from tests.synthetic import STARTED, design_row, drive, fill, known_design, object_store_uri, open_state, rise_and_fall

Row = dict[str, Any]
P, S_J = metric_column("p"), metric_column("s_j")


@pytest.fixture(params=["disk", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "storage") if request.param == "disk" else object_store_uri()


@pytest.fixture
def ledger(storage: str) -> Ledger:
    return Ledger.open(storage, "known")


def attempt(key: str, number: int = 1, outcome: Outcome = Outcome.OK, **values: Any) -> Row:
    return {"key": key, "attempt": number, "outcome": str(outcome), "seed": 1, "started_at": STARTED, **values}


def curve(key: str, value: float = 0.5) -> Row:
    return {"key": key, "attempt": 1, "examples": 600, "metric": "p", "value": value}


def planned(index: int, key: str) -> Row:
    return {
        "study_hash": "hash", "round": index, "role": "reported", "cell": "{}", "nuisance": "{}", "seed": 101,
        "key": key, "config": "{}",
    }  # fmt: skip


def parquet(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


class TestPacks:
    def test_an_empty_ledger_has_every_table_and_no_rows(self, ledger: Ledger) -> None:
        for table in TABLES:
            assert ledger.read(table).num_rows == 0
            assert ledger.read(table).schema == arrow_schema(table)
        assert ledger.attempts() == {}
        assert ledger.settled() == {}

    def test_a_pack_comes_back_as_it_was_written(self, ledger: Ledger, storage: str) -> None:
        rows = [
            attempt("a", dirty=None) | {P: 0.25},
            attempt("b", outcome=Outcome.DIVERGED, dirty=True) | {before_column("p"): 0.01},
        ]
        ledger.append_pack(rows, [curve("a", 0.1), curve("a", 0.25)])
        again = Ledger.open(storage, "known")
        for row in rows:
            (found,) = again.attempts()[row["key"]]
            assert {name: value for name, value in found.items() if value is not None} == {
                name: value for name, value in row.items() if value is not None
            }
        assert [row["value"] for row in again.read("curves").to_pylist()] == [0.1, 0.25]

    def test_the_replicates_file_is_the_commit_and_curves_alone_do_not_count(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, written = ledger.store.write, []

        def die_before_replicates(path: str, data: bytes) -> None:
            if path.startswith("replicates/"):
                raise KeyboardInterrupt
            written.append(path)
            write(path, data)

        monkeypatch.setattr(ledger.store, "write", die_before_replicates)
        with pytest.raises(KeyboardInterrupt):
            ledger.append_pack([attempt("a")], [curve("a")])
        assert [path.split("/")[0] for path in written] == ["curves"]
        assert ledger.attempts() == {}

    def test_a_pack_that_is_written_again_after_it_died_gives_each_curve_once(self, ledger: Ledger) -> None:
        rows, curves = [attempt("a")], [curve("a")]
        for _ in range(2):
            ledger.append_pack(rows, curves)
        assert ledger.read("curves").num_rows == 1
        assert ledger.read("replicates").num_rows == 1

    def test_temporary_files_are_not_read(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("a")], [])
        ledger.store.write("replicates/.x.parquet.123", b"half a fi")
        ledger.store.write("replicates/.y.parquet", b"half a fi")
        assert list(ledger.attempts()) == ["a"]

    def test_a_reader_sees_what_another_process_has_written_since(self, ledger: Ledger, storage: str) -> None:
        reader = Ledger.open(storage, "known")
        ledger.append_pack([attempt("a")], [])
        assert list(reader.attempts()) == ["a"]
        ledger.append_pack([attempt("b")], [])
        assert sorted(reader.attempts()) == ["a", "b"]

    def test_concurrent_readers_see_whole_packs_while_one_writes(self, ledger: Ledger, storage: str) -> None:
        stop, odd, errors = threading.Event(), [], []

        def read() -> None:
            reader = Ledger.open(storage, "known")
            try:
                while not stop.is_set():
                    attempts = reader.attempts()
                    odd.extend(key for key in attempts if key[0] + "x" not in attempts or key[0] + "y" not in attempts)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for letter in "abcdefgh":
            ledger.append_pack([attempt(f"{letter}x"), attempt(f"{letter}y")], [curve(f"{letter}x")])
        stop.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert odd == []
        assert ledger.read("replicates").num_rows == 16


class TestTypes:
    @pytest.mark.parametrize(
        ("column", "value"),
        [("seed", 1.5), ("seed", "one"), (P, "high"), ("started_at", "yesterday"), ("dirty", "x")],
    )
    def test_a_value_that_does_not_fit_its_column_raises_instead_of_being_cut(
        self, ledger: Ledger, column: str, value: object
    ) -> None:
        with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)):
            ledger.append_pack([attempt("a") | {column: value}], [])
        assert ledger.names("replicates") == []

    def test_one_bad_row_among_good_ones_raises(self, ledger: Ledger) -> None:
        with pytest.raises(pa.ArrowInvalid):
            ledger.append_pack([attempt("a"), attempt("b") | {"seed": 1.5}], [])
        assert ledger.names("replicates") == []

    def test_an_unknown_column_raises(self, ledger: Ledger) -> None:
        with pytest.raises(AssertionError, match="accurracy"):
            ledger.append_pack([attempt("a"), attempt("b", accurracy=0.5)], [])
        assert ledger.names("replicates") == []

    def test_a_column_that_a_row_leaves_out_is_null(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("a") | {P: 0.5}, attempt("b")], [])
        assert ledger.attempts()["b"][0][P] is None

    def test_a_whole_number_in_a_column_of_decimals_is_one(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("a") | {P: 1}], [])
        assert type(ledger.attempts()["a"][0][P]) is float

    def test_a_file_of_an_older_schema_reads_with_nulls(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("new") | {S_J: 0.3}], [])
        ledger.store.write(
            "replicates/older.parquet", parquet([{"key": "old", "attempt": 1, "outcome": "ok", "p": 0.2}])
        )
        found = ledger.settled()
        assert (found["old"][P], found["old"].get(S_J), found["new"][S_J]) == (0.2, None, 0.3)
        rows = {row["key"]: row for row in ledger.read("replicates").to_pylist()}
        assert rows["new"].keys() == rows["old"].keys() == {*arrow_schema("replicates").names, P, S_J}
        assert (rows["old"][P], rows["old"][S_J], rows["new"][P]) == (0.2, None, None)

    def test_a_file_of_the_old_schema_alone_reads_with_nulls(self, ledger: Ledger) -> None:
        ledger.store.write("replicates/older.parquet", parquet([{"key": "old", "attempt": 1, "outcome": "diverged"}]))
        row = ledger.settled()["old"]
        assert (row.keys(), row["cpu"]) == ({*arrow_schema("replicates").names}, None)


class TestAttempts:
    def test_attempts_are_ordered_by_their_number_whatever_the_order_of_files(self, ledger: Ledger) -> None:
        for number in (3, 1, 2):
            ledger.append_pack([attempt("a", number, Outcome.FAILED)], [])
        assert [row["attempt"] for row in ledger.attempts()["a"]] == [1, 2, 3]

    def test_a_finding_settles_a_key_whatever_failed_before(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("a", 1, Outcome.FAILED)], [])
        assert ledger.settled() == {}
        ledger.append_pack([attempt("a", 2, Outcome.OK) | {P: 0.5}], [])
        assert (ledger.settled()["a"]["attempt"], ledger.settled()["a"][P]) == (2, 0.5)

    def test_of_two_findings_the_first_counts(self, ledger: Ledger) -> None:
        ledger.append_pack([attempt("a", 2, Outcome.OK) | {P: 0.9}], [])
        ledger.append_pack([attempt("a", 1, Outcome.COLLAPSED) | {P: 0.1}], [])
        assert ledger.settled()["a"][P] == 0.1

    def test_the_third_failure_settles_a_key_and_its_last_row_counts(self, ledger: Ledger) -> None:
        for number, outcome in enumerate((Outcome.FAILED, Outcome.HUNG, Outcome.OUT_OF_MEMORY), start=1):
            assert ledger.settled() == {}
            ledger.append_pack([attempt("a", number, outcome)], [])
        assert ledger.settled()["a"]["outcome"] == "out_of_memory"

    def test_interruptions_never_settle_a_key(self, ledger: Ledger) -> None:
        for number in range(1, 6):
            ledger.append_pack([attempt("a", number, Outcome.INTERRUPTED)], [])
        assert ledger.settled() == {}


class TestDesignsAndRounds:
    def test_a_design_is_noted_at_its_first_run_only(self, ledger: Ledger) -> None:
        design = known_design()
        ledger.record_design(design_row(design, commit="first"))
        ledger.record_design(design_row(design, commit="second", created_at=STARTED + timedelta(days=1)))
        (row,) = ledger.read("designs").to_pylist()
        assert row["commit"] == "first"

    def test_rounds_come_back_in_order_and_by_design(self, ledger: Ledger) -> None:
        first, other = known_design(), known_design(margin_octaves=0.25)
        for design in (first, other):
            drive(open_state(ledger, design), rise_and_fall)
        rounds = [*ledger.proposals(first.hash).values()]
        assert [rows[0]["round"] for rows in rounds] == list(range(len(rounds)))
        assert {row["study_hash"] for rows in rounds for row in rows} == {first.hash}

    def test_a_round_cannot_be_recorded_twice(self, ledger: Ledger) -> None:
        ledger.record_proposal("hash", "0000", [planned(0, "a")])
        with pytest.raises(AssertionError):
            ledger.record_proposal("hash", "0000", [planned(0, "b")])
        assert [row["key"] for row in ledger.proposals("hash")["0000"]] == ["a"]

    def test_more_than_ten_rounds_stay_in_order(self, ledger: Ledger) -> None:
        for index in range(12):
            ledger.record_proposal("hash", f"{index:04d}", [planned(index, str(index))])
        assert [rows[0]["key"] for rows in ledger.proposals("hash").values()] == [str(index) for index in range(12)]


class TestFresh:
    @pytest.fixture
    def old(self, ledger: Ledger) -> Iterator[list[str]]:
        fill(ledger, known_design(), rise_and_fall)
        before = ledger.names("replicates")
        yield before
        assert ledger.names("replicates") == before

    def test_a_fresh_ledger_is_empty_and_later_commands_find_it_from_its_first_round_on(
        self, storage: str, old: list[str]
    ) -> None:
        fresh = Ledger.open_fresh(storage, "known")
        assert fresh.names("replicates") == []
        assert fresh.store.uri == Store(storage).child("known.1").uri
        assert Ledger.open(storage, "known").store.uri == Store(storage).child("known").uri
        fill(fresh, known_design(), rise_and_fall)
        assert Ledger.open(storage, "known").store.uri == fresh.store.uri

    def test_the_next_fresh_ledger_has_the_next_number(self, storage: str, old: list[str]) -> None:
        first, second = (Ledger.open_fresh(storage, "known") for _ in range(2))
        assert first.store.uri == second.store.uri, "the first one was never used"
        fill(first, known_design(), rise_and_fall)
        second = Ledger.open_fresh(storage, "known")
        assert second.store.uri == Store(storage).child("known.2").uri
        fill(second, known_design(), rise_and_fall)
        assert first.names("replicates")
        assert Ledger.open(storage, "known").store.uri == second.store.uri

    def test_another_study_keeps_its_ledger(self, storage: str, old: list[str]) -> None:
        fill(Ledger.open_fresh(storage, "known"), known_design(), rise_and_fall)
        assert Ledger.open(storage, "other").store.uri == Store(storage).child("other").uri


class TestMeasurements:
    def test_measurements_are_stored_once_however_often_they_are_made(self, ledger: Ledger, storage: str) -> None:
        settings = {"evaluation.split": "test", "evaluation.knn_bank": 200}
        assert ledger.measurements("raw_", "data", None, settings) == {}
        for _ in range(2):
            ledger.record_measurements("raw_", "data", None, settings, {"knn_accuracy": 0.8, "probe_accuracy": 0.7})
        assert ledger.names("measurements") == [f"{measurement_hash('raw_', 'data', None, settings)}.parquet"]
        found = Ledger.open(storage, "known").measurements("raw_", "data", None, settings)
        assert found == {"knn_accuracy": 0.8, "probe_accuracy": 0.7}
        assert ledger.measurements("raw_", "data", None, settings | {"evaluation.knn_bank": 5}) == {}
        assert ledger.measurements("raw_", "data", 1, settings) == {}

    def test_the_identity_ignores_the_order_of_settings_and_nothing_else(self) -> None:
        settings = {"a": 1, "b": 2}
        reference = measurement_hash("raw_", "data", None, settings)
        assert measurement_hash("raw_", "data", None, {"b": 2, "a": 1}) == reference
        others = [
            measurement_hash("untrained_", "data", None, settings),
            measurement_hash("raw_", "other", None, settings),
            measurement_hash("raw_", "data", 1, settings),
            measurement_hash("raw_", "data", None, {"a": 1, "b": 3}),
        ]
        assert reference not in others
        assert len(set(others)) == 4


class TestSchema:
    def test_no_table_names_a_column_twice(self) -> None:
        for table in TABLES:
            names = arrow_schema(table).names
            assert len(set(names)) == len(names)

    def test_every_metric_is_a_nullable_column_of_decimals(self, ledger: Ledger) -> None:
        columns = [column(metric.name) for metric in METRICS for column in (metric_column, before_column)]
        ledger.append_pack([attempt("a") | dict.fromkeys(columns, 1), attempt("b")], [])
        found = ledger.read("replicates")
        for name in columns:
            assert found.schema.field(name).type == pa.float64()
            assert found[name].to_pylist() == [1.0, None]

    def test_the_markdown_table_has_a_line_per_column_and_no_stray_bar(self) -> None:
        for table, columns in TABLES.items():
            lines = markdown_table(table).splitlines()
            assert len(lines) == len(columns) + 2
            assert all(line.count("|") == 4 for line in lines)
