"""Ledgers are read and written on machines that have no database of time zones."""

import os
import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from study.answers.answer import answer
from study.ledger.ledger import Ledger
from study.ledger.store import Store
from tests.synthetic import fill, known_design, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]

READ_AND_WRITE = """
import sys, zoneinfo
from datetime import UTC, datetime
from study.answers.answer import answer
from study.ledger.ledger import Ledger
from study.ledger.schema import TABLES
from study.ledger.store import Store

try:
    zoneinfo.ZoneInfo("UTC")
    sys.exit("this machine still has time zones")
except zoneinfo.ZoneInfoNotFoundError:
    pass
ledger = Ledger(Store(sys.argv[1]))
for table in TABLES:
    ledger.read(table).to_pylist()
ledger.append_pack([{"key": "new", "attempt": 1, "outcome": "failed", "started_at": datetime.now(UTC)}], [])
assert ledger.attempts()["new"][0]["started_at"].tzinfo is not None
print(answer(ledger).design.created_at)
"""


def test_a_machine_without_them_reads_writes_and_answers(tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path)))
    fill(ledger, known_design(), rise_and_fall)
    if (Path(sys.prefix) / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "tzdata").exists():
        pytest.skip("the package tzdata stands in for the machine's time zones")
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_WRITE, str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONTZPATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(answer(ledger).design.created_at)


def test_times_are_read_in_utc(tmp_path: Path) -> None:
    ledger = Ledger(Store(str(tmp_path)))
    fill(ledger, known_design(), rise_and_fall)
    times = [row[name] for row in ledger.settled().values() for name in ("started_at", "finished_at")]
    assert {time.utcoffset() for time in times} == {timedelta(0)}
    assert times[0] == times[0].astimezone(UTC)
