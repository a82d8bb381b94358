"""A finished study prints its answer; and once from nothing to an answer, end to end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from study import sweep
from study.ledger.ledger import Ledger
from study.ledger.schema import SCHEMA_VERSION
from tests.commands.sweeps import ROOT, files, fill_smoke, smoke_design


class TestFinishedStudy:
    def test_it_prints_its_answer_and_adds_no_row(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        ledger = fill_smoke(storage)
        before = {name: (storage / name).read_bytes() for name in files(storage)}
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[0].startswith(f"smoke · digits · design {smoke_design().hash} · commit")
        assert "minimum batch" in out
        assert "maximum useful batch" in out
        assert err == ""
        after = {name: (storage / name).read_bytes() for name in before}
        assert after == before
        assert all("reports" in name for name in files(storage) - set(before))
        assert ledger.names("designs") == [f"{smoke_design().hash}.parquet"]

    def test_its_json_is_one_line_with_the_numbers_of_the_answer(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill_smoke(storage)
        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        result = json.loads(out)
        assert (result["study"], result["design"], result["exit_code"]) == ("smoke", smoke_design().hash, 0)
        assert result["counts"] == {"ok": result["num_planned"]}
        assert [point["count"] for point in result["slices"][0]["points"]] == [5, 5, 5]
        assert Path(result["figure"]).is_file()

    def test_its_files_are_where_it_says(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage)
        sweep.main(["smoke", "--storage", str(storage)])
        words = capsys.readouterr().out.split()
        for word in (words[words.index("figure") + 1], words[words.index("data") + 1]):
            assert Path(word).is_file()

    def test_a_variant_is_a_design_of_its_own(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage)
        fill_smoke(storage, variant="supervised")
        for variant in ("learning", "supervised"):
            assert sweep.main(["smoke", "--json", "--variant", variant, "--storage", str(storage)]) == 0
            result = json.loads(capsys.readouterr().out)
            assert (result["variant"], result["design"]) == (variant, smoke_design(variant=variant).hash)

    def test_an_override_labels_the_answer_exploratory(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage, overrides={"horizon.length": 700})
        assert sweep.main(["smoke", "--set", "horizon.length=700", "--storage", str(storage)]) == 0
        assert "exploratory" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["study.sweep --list", "study.commands.status", "study list"])
def test_a_command_whose_output_nobody_reads_ends_quietly_as_unix_tools_do(command: str, storage: Path) -> None:
    fill_smoke(storage)
    environment = {**os.environ, "STUDY_STORAGE": str(storage)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE


def run_command(storage: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "study.sweep", "smoke", "--storage", str(storage), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_from_nothing_to_an_answer_then_nothing_more_then_one_more_seed_per_point(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_command(storage)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].startswith(f"smoke · digits · design {smoke_design().hash}")
    (limit,) = [line for line in lines if line.startswith("minimum batch")]
    found = re.match(r"minimum batch +([\d.]+), 95 % interval ([\d.]+) to ([\d.]+)    half rise of p", limit)
    assert found is not None, limit
    assert 4 < float(found[2]) < float(found[1]) < float(found[3]) < 64
    ledger = Ledger.open(str(storage), "smoke")
    rows = ledger.read("replicates").to_pylist()
    assert {row["outcome"] for row in rows} <= {"ok", "collapsed", "diverged"}
    assert 33 <= len(rows) == len({row["key"] for row in rows}) <= 39
    assert {row["schema_version"] for row in rows} == {SCHEMA_VERSION}
    assert all(row["metric.p"] is not None for row in rows if row["outcome"] == "ok")
    assert (storage / "mlflow.db").is_file()

    assert sweep.main(["smoke", "--storage", str(storage), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_planned"] == len(rows)
    assert Ledger.open(str(storage), "smoke").read("replicates").to_pylist() == rows

    more = run_command(storage, "--replicates", "6")
    assert more.returncode == 0, more.stderr
    keys = {row["key"] for row in rows}
    new = [row for row in Ledger.open(str(storage), "smoke").read("replicates").to_pylist() if row["key"] not in keys]
    batches = Counter(json.loads(row["config"])["batch.train"] for row in new)
    assert batches == {4: 1, 16: 1, 64: 1}
    assert {row["seed"] for row in new} == {106}
