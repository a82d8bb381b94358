"""A damaged file of a ledger is named and left out, and what it held is made again; a newer one is refused."""

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study import sweep
from study.__main__ import main
from study.answers.answer import answer, to_json
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.errors import ConfigError
from study.ledger.ledger import Ledger
from study.ledger.schema import SCHEMA_VERSION, TABLES
from study.ledger.store import Store
from study.outcome import Outcome
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.metrics.declared import METRICS
from study.rows import BEFORE, METRIC, before_column, is_metric_column, metric_column
from tests.synthetic import commit, drive, fill, known_design, object_store_uri, open_state, rise_and_fall

DESIGN = known_design()
P = metric_column("p")
SMOKE = make_design(load_space("smoke"))


def written(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def parsed(data: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(data))


def with_column(data: bytes, name: str, value: object) -> bytes:
    """The same file with one column of another content, as another program may have left it."""
    table = parsed(data)
    column = pa.array([value] * table.num_rows)
    if name in table.column_names:
        return written(table.set_column(table.column_names.index(name), name, column))
    return written(table.append_column(name, column))


def flipped(data: bytes) -> bytes:
    """The same file with one byte of its rows changed."""
    # The dictionary of keys ends where the column's data begin.
    place = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0).data_page_offset - 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "0 bytes"),
    "cut at its end": (lambda data: data[:-9], "no readable Parquet file"),
    "its first half": (lambda data: data[: len(data) // 2], "no readable Parquet file"),
    "zeros": (lambda data: bytes(len(data)), "no readable Parquet file"),
    "no Parquet": (lambda data: b'{"key": "a"}' * 100, "no readable Parquet file"),
    "a flipped byte": (flipped, "no readable Parquet file"),
    "another table": (lambda data: written(pa.table({"x": [1]})), "unknown column 'x'"),
    "a column more": (lambda data: with_column(data, "p_new", 0.5), "unknown column 'p_new'"),
    "another type": (lambda data: with_column(data, "seed", "one"), "column 'seed' holds string, not int64"),
    "another time": (
        lambda data: with_column(data, "started_at", datetime.date(2030, 1, 1)),
        "column 'started_at' holds date32",
    ),
    "a column twice": (
        lambda data: written(parsed(data).append_column("key", parsed(data)["key"])),
        "a column stands there twice",
    ),
    "no keys": (lambda data: written(parsed(data).drop_columns(["key"])), "rows without 'key'"),
    "null keys": (
        lambda data: written(parsed(data).set_column(0, "key", pa.nulls(parsed(data).num_rows, "string"))),
        "rows without 'key'",
    ),
}


def older_name(column: str) -> str:
    """What a column was called before metrics had columns of their own kind."""
    name = column.removeprefix(METRIC)
    return f"{name.removeprefix(BEFORE)}_before" if name.startswith(BEFORE) else name


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The ledger of a finished study."""
    made = Ledger(Store(str(tmp_path / "storage" / "known")))
    fill(made, DESIGN, rise_and_fall)
    return made


def fresh(ledger: Ledger) -> Ledger:
    """What a new command opens."""
    return Ledger(Store(ledger.store.uri))


def damage(ledger: Ledger, path: str, change: Callable[[bytes], bytes] = lambda data: b"") -> bytes:
    data = ledger.store.read(path)
    assert data is not None
    ledger.store.write(path, change(data))
    return data


def contents(ledger: Ledger) -> dict[str, bytes | None]:
    return {f"{table}/{name}": ledger.store.read(f"{table}/{name}") for table in TABLES for name in ledger.names(table)}


class TestReplicates:
    @pytest.mark.parametrize("kind", DAMAGES)
    def test_a_damaged_file_is_named_once_and_its_replicates_run_again(self, kind: str, ledger: Ledger) -> None:
        change, reason = DAMAGES[kind]
        sound, before = contents(ledger), fresh(ledger).settled()
        path = f"replicates/{ledger.names('replicates')[0]}"
        held = {row["key"] for row in parsed(damage(ledger, path, change)).to_pylist()}
        spoiled = contents(ledger)

        reader = fresh(ledger)
        for _ in range(2):
            assert reader.settled().keys() == before.keys() - held
        (sentence,) = reader.damage()
        assert sentence.startswith(f"damaged and left out: {ledger.store.uri}/{path} (")
        assert sentence.endswith("); its replicates run again where they are missing")
        assert reason in sentence
        assert "\n" not in sentence
        assert contents(ledger) == spoiled

        ran = drive(open_state(ledger, DESIGN), rise_and_fall)
        assert {replicate.key for task in ran for replicate in task.replicates} == held
        healed = fresh(ledger)
        assert {key: (row[P], row["attempt"]) for key, row in healed.settled().items()} == {
            key: (row[P], row["attempt"]) for key, row in before.items()
        }
        # The same pack under the same name: what was lost is back in its place.
        assert healed.damage() == []
        assert contents(ledger).keys() == sound.keys()
        others = sound.keys() - {path, path.replace("replicates", "curves")}
        assert all(contents(ledger)[other] == sound[other] for other in others)

    def test_replicates_that_come_back_in_other_packs_leave_the_damaged_file_as_it_is(self, ledger: Ledger) -> None:
        before = to_json(answer(ledger))
        num_curves = ledger.read("curves").num_rows
        path = f"replicates/{ledger.names('replicates')[0]}"
        damage(ledger, path)
        state = open_state(ledger, DESIGN)
        for replicate in state.open_replicates():
            task = state._task([replicate])
            state.running.append(task)
            commit(task, rise_and_fall)
            state.note_complete(task)
        again = fresh(ledger)
        assert to_json(answer(again)) == before
        # Curves of the pack that is no longer committed are not counted beside those of the new ones.
        assert again.read("curves").num_rows == num_curves
        assert ledger.store.read(path) == b""
        assert len(again.damage()) == 1

    def test_a_sound_file_in_the_place_of_a_damaged_one_is_seen_by_who_saw_the_damage(self, ledger: Ledger) -> None:
        path = f"replicates/{ledger.names('replicates')[0]}"
        data, reader = damage(ledger, path), fresh(ledger)
        lacking = len(reader.settled())
        Store(ledger.store.uri).write(path, data)
        assert len(reader.settled()) > lacking
        assert reader.damage() == []

    def test_a_file_that_was_removed_is_damaged_no_more(self, ledger: Ledger) -> None:
        path = f"replicates/{ledger.names('replicates')[0]}"
        damage(ledger, path)
        reader = fresh(ledger)
        reader.settled()
        ledger.store.delete(path)
        reader.settled()
        assert reader.damage() == []

    def test_it_is_the_same_in_an_object_store(self) -> None:
        ledger = Ledger(Store(object_store_uri()))
        fill(ledger, DESIGN, rise_and_fall)
        before = len(ledger.settled())
        damage(ledger, f"replicates/{ledger.names('replicates')[0]}")
        reader = fresh(ledger)
        assert 0 < len(reader.settled()) < before
        (sentence,) = reader.damage()
        assert "secret" not in sentence
        drive(open_state(ledger, DESIGN), rise_and_fall)
        assert len(fresh(ledger).settled()) == before

    def test_a_file_of_the_second_version_is_sound(self, ledger: Ledger) -> None:
        before = fresh(ledger).settled()
        for name in ledger.names("replicates"):
            data = ledger.store.read(f"replicates/{name}")
            assert data is not None
            table = parsed(data).drop_columns(["cpu"])
            for column in ("started_at", "finished_at"):
                times = table[column].cast(pa.timestamp("us", tz="UTC"))
                table = table.set_column(table.column_names.index(column), column, times)
            versions = pa.array([2] * table.num_rows)
            table = table.set_column(table.column_names.index("schema_version"), "schema_version", versions)
            table = table.rename_columns([older_name(column) for column in table.column_names])
            assert {"p", "p_before"} <= {*table.column_names}
            ledger.store.write(f"replicates/{name}", written(table.replace_schema_metadata(None)))
        older = fresh(ledger)
        assert {key: row | {"schema_version": SCHEMA_VERSION} for key, row in older.settled().items()} == before
        assert older.damage() == []


class TestRows:
    """A row that says it is a finding, and has not the numbers of one."""

    def spoil(self, ledger: Ledger, columns: dict[str, float | None]) -> tuple[str, str]:
        """Change the first row of a file; returns its key and the file's path."""
        path = f"replicates/{ledger.names('replicates')[0]}"
        data = ledger.store.read(path)
        assert data is not None
        table = parsed(data)
        for name, value in columns.items():
            values = [value, *table[name].to_pylist()[1:]]
            table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64()))
        ledger.store.write(path, written(table))
        return table["key"][0].as_py(), path

    @pytest.mark.parametrize(
        ("columns", "lacks"),
        [
            ({P: None}, "lacks metric.p"),
            ({P: float("nan")}, "lacks metric.p"),
            ({before_column("p"): None}, "lacks before.p"),
            (
                {column(name): None for name in ("p", "knn_accuracy") for column in (metric_column, before_column)},
                "has no number",
            ),
        ],
    )
    def test_it_runs_again_as_a_further_attempt_and_the_sound_row_counts(
        self, columns: dict[str, float | None], lacks: str, ledger: Ledger
    ) -> None:
        before = fresh(ledger).settled()
        key, path = self.spoil(ledger, columns)
        reader = fresh(ledger)
        assert reader.settled().keys() == before.keys() - {key}
        (sentence,) = reader.damage()
        assert f"{path} (row {key}: it says ok and {lacks})" in sentence
        (row,) = reader.attempts()[key]
        assert (row["attempt"], row["outcome"]) == (1, Outcome.ENVIRONMENT)

        (task,) = drive(open_state(ledger, DESIGN), rise_and_fall)
        assert (task.replicates[0].key, task.attempts) == (key, (2,))
        after = fresh(ledger).settled()
        assert after[key]["attempt"] == 2
        assert {k: row[P] for k, row in after.items()} == {k: row[P] for k, row in before.items()}

    def test_a_metric_that_no_criterion_asks_for_may_be_missing(self, ledger: Ledger) -> None:
        self.spoil(ledger, {metric_column("knn_accuracy"): None})
        reader = fresh(ledger)
        assert drive(open_state(ledger, DESIGN), rise_and_fall) == []
        assert reader.settled()
        assert reader.damage() == []

    def test_one_that_never_gets_its_number_stops_the_sweep_instead_of_running_for_ever(self, ledger: Ledger) -> None:
        other = known_design(margin_octaves=0.3)
        store = ledger.store.child("other")

        def without_p(task_ledger: Ledger) -> None:
            for name in task_ledger.names("replicates"):
                data = task_ledger.store.read(f"replicates/{name}")
                assert data is not None
                task_ledger.store.write(f"replicates/{name}", with_column(data, P, float("nan")))

        state = open_state(Ledger(store), other)
        for _ in range(100):
            task = state.next_task(is_idle=True)
            if task is None:
                break
            commit(task, rise_and_fall)
            without_p(Ledger(store))
            state.ledger = Ledger(store)
            state.note_complete(task)
        assert "lacks metric.p" in state.trouble

    def test_an_outcome_of_another_code_is_no_finding(self, ledger: Ledger) -> None:
        path = f"replicates/{ledger.names('replicates')[0]}"
        damage(ledger, path, lambda data: with_column(data, "outcome", "marvellous"))
        reader = fresh(ledger)
        reader.settled()
        assert "its outcome is 'marvellous'" in reader.damage()[0]


class TestRounds:
    def test_the_last_one_is_planned_again_as_it_was(self, ledger: Ledger) -> None:
        before, sound = [*fresh(ledger).proposals(DESIGN.hash).values()], contents(ledger)
        damage(ledger, f"rounds/{ledger.names('rounds')[-1]}")
        assert [*fresh(ledger).proposals(DESIGN.hash).values()] == before[:-1]
        assert drive(open_state(ledger, DESIGN), rise_and_fall) == []
        assert [*fresh(ledger).proposals(DESIGN.hash).values()] == before
        assert contents(ledger) == sound

    @pytest.mark.parametrize("is_there", [True, False], ids=["damaged", "missing"])
    def test_one_that_others_rest_on_is_one_sentence_and_no_smaller_plan(self, is_there: bool, ledger: Ledger) -> None:
        path = f"rounds/{ledger.names('rounds')[0]}"
        assert len(ledger.names("rounds")) > 1
        damage(ledger, path) if is_there else ledger.store.delete(path)
        before = contents(ledger)
        with pytest.raises(ConfigError, match=f"{path} is {'0 bytes' if is_there else 'missing'}, and later") as caught:
            open_state(ledger, DESIGN)
        assert "\n" not in str(caught.value)
        assert contents(ledger) == before

    def test_those_of_another_design_do_not_matter(self, ledger: Ledger) -> None:
        other = known_design(margin_octaves=0.3)
        fill(ledger, other, rise_and_fall)
        before = [*fresh(ledger).proposals(DESIGN.hash).values()]
        damage(ledger, f"rounds/{other.hash}-0000.parquet")
        assert [*fresh(ledger).proposals(DESIGN.hash).values()] == before

    def test_copies_under_other_names_add_nothing(self, ledger: Ledger) -> None:
        before = [*fresh(ledger).proposals(DESIGN.hash).values()]
        data = ledger.store.read(f"rounds/{DESIGN.hash}-0000.parquet")
        assert data is not None
        ledger.store.write(f"rounds/{DESIGN.hash}-0000 (copy).parquet", data)
        assert [*fresh(ledger).proposals(DESIGN.hash).values()] == before


class TestOtherTables:
    def test_a_design_is_registered_again(self, ledger: Ledger) -> None:
        damage(ledger, f"designs/{DESIGN.hash}.parquet")
        reader = fresh(ledger)
        assert not reader.has_design(DESIGN.hash)
        assert "the next run registers its design again" in reader.damage()[0]
        state = open_state(ledger, DESIGN)
        state.ledger.record_design(state.design_row)
        assert fresh(ledger).has_design(DESIGN.hash)

    def test_curves_are_left_out(self, ledger: Ledger) -> None:
        before = fresh(ledger).read("curves").num_rows
        damage(ledger, f"curves/{ledger.names('curves')[0]}")
        reader = fresh(ledger)
        assert 0 < reader.read("curves").num_rows < before
        assert "its learning curves are missing" in reader.damage()[0]

    def test_measurements_are_made_again(self, ledger: Ledger) -> None:
        thing = ("raw_", "data", None, {"a": 1})
        ledger.record_measurements(*thing, {"knn_accuracy": 0.8})
        damage(ledger, f"measurements/{ledger.names('measurements')[0]}")
        reader = fresh(ledger)
        assert reader.measurements(*thing) == {}
        assert "what it held is measured again" in reader.damage()[0]
        reader.record_measurements(*thing, {"knn_accuracy": 0.8})
        assert reader.measurements(*thing) == {"knn_accuracy": 0.8}
        assert reader.damage() == []

    @pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe", b"../elsewhere\n", b"known.1x"])
    def test_a_note_of_fresh_that_names_no_ledger_is_one_sentence(self, data: bytes, tmp_path: Path) -> None:
        Store(str(tmp_path)).write("known/current", data)
        with pytest.raises(ConfigError, match="known/current should name the ledger that --fresh began") as caught:
            Ledger.open(str(tmp_path), "known")
        assert "\n" not in str(caught.value)


class TestNewer:
    @pytest.mark.parametrize("table", ["designs", "rounds", "replicates", "curves"])
    def test_a_file_of_a_newer_schema_is_refused_and_nothing_is_touched(self, table: str, ledger: Ledger) -> None:
        path = f"{table}/{ledger.names(table)[0]}"
        stamp = {"schema_version": "99"}
        damage(ledger, path, lambda data: written(parsed(data).replace_schema_metadata(stamp)))
        before = contents(ledger)
        with pytest.raises(ConfigError, match=rf"{path} was .* newer version .*schema 99.*{SCHEMA_VERSION}\)"):
            open_state(ledger, DESIGN) if table != "curves" else fresh(ledger).read("curves")
        assert contents(ledger) == before

    def test_one_whose_columns_and_types_this_code_does_not_know_is_newer_and_not_damaged(self, ledger: Ledger) -> None:
        stamp = {"schema_version": "99"}
        path = f"replicates/{ledger.names('replicates')[0]}"
        damage(ledger, path, lambda data: written(pa.table({"x": [1]}).replace_schema_metadata(stamp)))
        with pytest.raises(ConfigError, match="newer version"):
            fresh(ledger).settled()

    def test_a_row_of_a_newer_schema_is_refused_too(self, ledger: Ledger) -> None:
        path = f"replicates/{ledger.names('replicates')[0]}"
        damage(ledger, path, lambda data: with_column(data, "schema_version", 99))
        with pytest.raises(ConfigError, match="schema 99"):
            fresh(ledger).settled()

    def test_every_file_says_by_which_version_it_was_written(self, ledger: Ledger) -> None:
        for path, data in contents(ledger).items():
            assert data is not None
            stamp = pq.ParquetFile(io.BytesIO(data)).metadata.metadata[b"schema_version"]
            assert stamp == str(SCHEMA_VERSION).encode(), path


class TestCommands:
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Path:
        digest = load_dataset(DataConfig(name="digits")).digest
        fill(Ledger.open(str(tmp_path), "smoke"), SMOKE, rise_and_fall, data_digest=digest)
        return tmp_path

    def test_status_names_what_is_damaged(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = next((storage / "smoke" / "replicates").iterdir())
        file.write_bytes(b"")
        assert main(["status", "--storage", str(storage)]) == 0
        out = capsys.readouterr().out
        assert f"damaged and left out: {file} (0 bytes); its replicates run again" in out
        assert " open" in out

    def test_status_shows_the_other_designs_beside_one_that_cannot_go_on(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = make_design(load_space("smoke"), overrides={"horizon.length": 800})
        fill(Ledger.open(str(storage), "smoke"), other, rise_and_fall)
        (storage / "smoke" / "rounds" / f"{SMOKE.hash}-0000.parquet").write_bytes(b"")
        assert main(["status", "--storage", str(storage)]) == 0
        out = capsys.readouterr().out
        assert f"{SMOKE.hash}-0000.parquet is 0 bytes, and later rounds of the search rest on it" in out
        assert next(line for line in out.splitlines() if other.hash in line).endswith(" ok")

    def test_the_answer_names_what_is_damaged(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = storage / "smoke" / "replicates" / "stray.parquet"
        file.write_bytes(b"")
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        sentence = f"damaged and left out: {file} (0 bytes); its replicates run again where they are missing"
        assert err == f"warning: {sentence}\n"
        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        assert json.loads(capsys.readouterr().out)["damaged"] == [sentence]

    def test_a_finished_study_whose_design_is_damaged_registers_it_and_answers(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (storage / "smoke" / "designs" / f"{SMOKE.hash}.parquet").write_bytes(b"")
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        assert err == ""
        assert Ledger.open(str(storage), "smoke").has_design(SMOKE.hash)

    @pytest.mark.parametrize("command", ["status", "gc", "sweep"])
    def test_a_newer_ledger_is_one_sentence_of_every_command(
        self, command: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = next((storage / "smoke" / "replicates").iterdir())
        file.write_bytes(with_column(file.read_bytes(), "schema_version", 99))
        before = {path: path.read_bytes() for path in (storage / "smoke").rglob("*.parquet")}
        call = (sweep.main, "smoke") if command == "sweep" else (main, command)
        assert call[0]([call[1], "--storage", str(storage)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {file} was written by a newer version of this code")
        assert err.count("\n") == 1
        assert {path: path.read_bytes() for path in (storage / "smoke").rglob("*.parquet")} == before

    def test_a_file_that_may_not_be_read_is_one_sentence(
        self, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Store, "read", fail)
        assert main(["status", "--storage", str(storage)]) == 2
        assert capsys.readouterr().err == "error: PermissionError: [Errno 13] Permission denied\n"


def test_no_column_of_every_replicate_passes_for_a_metric() -> None:
    names = {column.name for column in TABLES["replicates"]}
    assert not any(map(is_metric_column, names))
    # Older files call a metric by its name alone.
    assert names.isdisjoint(metric.name for metric in METRICS)
