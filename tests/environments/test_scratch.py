"""Temporary folders of killed runs are removed by the next one; those of living processes are not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study.execution.scratch import remove_abandoned, scratch_folder


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_scratch_folder_goes_with_its_block_even_where_that_fails() -> None:
    folders = []

    def fail() -> None:
        with scratch_folder() as folder:
            folders.append(folder)
            (folder / "file").write_text("x")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not folders[0].exists()


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    script = (
        f"import os, tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        "from study.execution.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'file').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    other = tmp_path / "limit-study-notes"
    other.mkdir()
    with scratch_folder() as mine:
        assert remove_abandoned() == [left]
        assert mine.exists()
        assert other.exists()


def test_a_number_that_was_given_to_another_process_since_does_not_protect_a_folder(tmp_path: Path) -> None:
    with scratch_folder() as mine:
        left = tmp_path / re.sub(r"-\d+-\w+$", "-1-abc", mine.name)
    assert f"-{os.getpid()}-1-abc" in left.name
    left.mkdir()
    assert remove_abandoned() == [left]


def test_folders_of_other_machines_and_containers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "limit-study-0badcafe-1-1-abc"
    elsewhere.mkdir()
    assert remove_abandoned() == []
    assert elsewhere.exists()
