"""The answer comes out whatever the environment does to output and figures."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from study import sweep
from study.answers import figures
from study.answers.answer import StudyAnswer, answer
from study.answers.figures import draw_answer, figure_bytes
from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.ledger.ledger import Ledger
from study.recipes.contrastive.config import DataConfig
from study.recipes.contrastive.data.datasets import load_dataset
from tests.synthetic import fill, rise_and_fall

ROOT = Path(__file__).resolve().parents[2]
SMOKE = make_design(load_space("smoke"))
REPORTS = Path("smoke") / "reports" / SMOKE.hash
FILES = ["smoke.json", "smoke.png", "smoke.svg"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a finished study, with invented results."""
    storage = tmp_path_factory.mktemp("storage")
    digest = load_dataset(DataConfig(name="digits")).digest
    fill(Ledger.open(str(storage), "smoke"), SMOKE, rise_and_fall, data_digest=digest)
    return storage


@pytest.fixture
def storage(finished: Path) -> Path:
    """The same without the files of an answer."""
    shutil.rmtree(finished / "smoke" / "reports", ignore_errors=True)
    return finished


@pytest.fixture(scope="module")
def result(finished: Path) -> StudyAnswer:
    return answer(Ledger.open(str(finished), "smoke"))


@pytest.fixture(scope="module")
def drawn(result: StudyAnswer) -> bytes:
    """The figure as it should look."""
    return figure_bytes(draw_answer(result), "svg")


def files(storage: Path) -> list[str]:
    return sorted(path.name for path in (storage / REPORTS).glob("*"))


def answered(
    storage: Path, *arguments: str, redirect: str = "", folder: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """The command in a shell, with its output redirected; the answer of a finished study needs no Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_", "MPL"))}
    environment = kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "study.sweep", "smoke", "--storage", str(storage), *arguments]
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirect}', "bash", *command],
        cwd=folder, env=environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip


class TestFigures:
    @pytest.mark.parametrize("settings", [{"text.usetex": True}, {"font.size": 30.0, "axes.grid": True}], ids=str)
    def test_settings_of_this_process_change_nothing(
        self, settings: dict[str, object], result: StudyAnswer, drawn: bytes
    ) -> None:
        with matplotlib.rc_context(settings):
            assert figure_bytes(draw_answer(result), "svg") == drawn

    def test_a_style_changes_nothing(self, result: StudyAnswer, drawn: bytes) -> None:
        import matplotlib.style

        with matplotlib.style.context("dark_background"):
            assert figure_bytes(draw_answer(result), "svg") == drawn

    def test_a_users_files_and_backend_change_nothing(self, storage: Path, tmp_path: Path) -> None:
        figure = storage / REPORTS / "smoke.svg"
        (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 30\nbackend: tkagg\n")
        drawn = []
        for folder, variables in ((ROOT, {}), (tmp_path, {"MPLBACKEND": "nonsense"})):
            done = answered(storage, folder=folder, **variables)
            assert (done.returncode, done.stderr) == (0, b"")
            assert files(storage) == FILES
            drawn.append(figure.read_bytes())
            figure.unlink()
        assert drawn[0] == drawn[1]

    def test_where_matplotlib_cannot_be_loaded_there_is_an_answer_and_a_warning(
        self, storage: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
        done = answered(storage, folder=tmp_path)
        assert done.returncode == 0
        assert b"minimum batch" in done.stdout
        assert done.stderr.count(b"warning: the figure of the answer could not be written: UnicodeDecodeError") == 1
        assert b"Traceback" not in done.stderr
        assert files(storage) == ["smoke.json"]

    @pytest.mark.parametrize("step", ["draw_answer", "figure_bytes"])
    def test_one_that_fails_is_a_warning_after_the_answer(
        self, step: str, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        printed = []

        def fail(*_: object) -> None:
            printed.append(capsys.readouterr().out)
            raise ZeroDivisionError("no\nroom")

        monkeypatch.setattr(figures, step, fail)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in printed[0]
        assert err == "warning: the figure of the answer could not be written: ZeroDivisionError: no\n"
        assert "figure" not in out
        assert f"data {storage / REPORTS / 'smoke.json'}" in out

    def test_json_has_its_path_only_where_it_was_drawn(
        self, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        assert json.loads(capsys.readouterr().out)["figure"] == str(storage / REPORTS / "smoke.svg")
        monkeypatch.setattr(figures, "draw_answer", fail)
        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["figure"] is None
        assert err == "warning: the figure of the answer could not be written: MemoryError\n"

    def test_files_that_cannot_be_written_are_warnings(
        self, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (storage / "smoke" / "reports").write_text("a file where a folder should be")
        try:
            assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        finally:
            (storage / "smoke" / "reports").unlink()
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        lines = err.splitlines()
        assert [line[: line.index(" could")] for line in lines] == [
            "warning: the data of the answer",
            "warning: the figure of the answer",
        ]


class TestStreams:
    def test_what_an_encoding_lacks_is_replaced(self, storage: Path) -> None:
        done = answered(storage, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"smoke ? digits ? design ")
        assert files(storage) == FILES

    def test_standard_error_takes_every_character_too(self) -> None:
        code = (
            "import sys; from study.commands.streams import run_main; "
            "from study.execution.progress import ProgressDisplay; "
            "sys.exit(run_main(lambda: ProgressDisplay(None).say('ledger /tmp/\\u00fc \\u00b7') or 0))"
        )
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"ledger /tmp/? ?\n")

    def test_a_closed_output_loses_nothing(self, storage: Path) -> None:
        done = answered(storage, redirect=">&-")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert files(storage) == FILES

    @pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "1</dev/null", "2</dev/null"])
    def test_a_closed_stream_is_no_file_that_is_opened_next(self, redirect: str, tmp_path: Path) -> None:
        """A file is opened, and this process and a child of it print: none of that ends up in the file."""
        code = (
            "import os, subprocess, sys; from study.commands.streams import run_main\n"
            "def main():\n"
            f"    with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
            "        subprocess.run('echo child; echo child >&2', shell=True)\n"
            "        print('out', flush=True); print('err', file=sys.stderr, flush=True); file.write('written')\n"
            "    return 5\n"
            "sys.exit(run_main(main))"
        )
        command = ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, "-c", code]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 5
        assert (tmp_path / "file").read_text() == "written"

    def test_a_pipe_that_is_closed_ends_quietly_with_every_file_written(self, storage: Path) -> None:
        done = answered(storage, redirect="| true; exit ${PIPESTATUS[0]}")
        assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGPIPE, b"", b"")
        assert files(storage) == FILES
