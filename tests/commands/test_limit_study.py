"""`limit-study`: one command whose subcommands load what they need, when they are called."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from study.__main__ import main
from study.commands.command_line import RUN_EXIT_CODES, SUMMARIES, module_name
from study.designs.catalogue import find_studies
from study.layout import own_version
from study.ledger.ledger import Ledger
from tests.commands.sweeps import ROOT, files, fill_smoke, smoke_design
from tests.synthetic import STARTED, ResultOf, design_row, rise_and_fall

HEAVY = {"torch", "ray", "mlflow", "pandas", "numpy", "pyarrow", "scipy"}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that ends well prints; it says nothing on standard error."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


class TestHelp:
    @pytest.mark.parametrize("word", ["--help", "--version"])
    def test_it_comes_at_once_and_loads_no_library_of_the_work(self, word: str) -> None:
        code = (
            f"import sys; sys.argv = ['limit-study', {word!r}]; from study.__main__ import main; main()\n"
            "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert time.monotonic() - started < 5, "generous for a busy machine: it takes 0.2 s"
        assert HEAVY.isdisjoint(done.stderr.split())
        assert own_version() in done.stdout or "Commands:" in done.stdout

    def test_it_names_every_command_every_exit_code_and_the_completion(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = said(capsys, "--help")
        assert all(f"\n  {name} " in out for name in SUMMARIES)
        assert all(f"\n  {code} " in out for code in RUN_EXIT_CODES)
        assert 'eval "$(_LIMIT_STUDY_COMPLETE=bash_source limit-study)"' in out
        assert max(map(len, out.splitlines())) <= 80

    @pytest.mark.parametrize("name", SUMMARIES)
    def test_every_command_has_one_of_its_own(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, name, "--help").lower().startswith(f"usage: limit-study {name}")

    def test_without_a_word_it_is_printed_as_a_mistake(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "Commands:" in err

    def test_the_version_is_that_of_the_project(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "--version") == f"limit-study {own_version()}\n"
        assert f'version = "{own_version()}"' in (ROOT / "pyproject.toml").read_text()


class TestCompletion:
    def complete(self, words: str) -> list[str]:
        environment = os.environ | {
            "_LIMIT_STUDY_COMPLETE": "bash_complete",
            "COMP_WORDS": f"limit-study {words}",
            "COMP_CWORD": str(words.count(" ") + 1),
        }
        done = subprocess.run(
            [sys.executable, "-m", "study"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    def test_commands_studies_and_options_are_completed(self) -> None:
        assert self.complete("s") == ["show", "status", "sync-mlflow"]
        assert self.complete("run sm") == ["smoke"]
        assert self.complete("run smoke --max-") == ["--max-replicates", "--max-hours", "--max-concurrent"]


class TestEveryCommandIsAModule:
    @pytest.mark.parametrize("name", ["status", "list", "doctor", "show"])
    def test_it_answers_by_that_name_too(self, name: str) -> None:
        module = f"study.commands.{module_name(name)}"
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: python -m {module} ")


class TestRun:
    def test_it_is_the_sweep_and_names_itself_in_what_it_tells_to_type(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert main(["run", "smoke", "--storage", str(storage)]) == 0
        assert f"compare: limit-study mlflow --storage {storage}\n" in capsys.readouterr().out
        assert main(["run"]) == 2
        assert "for example: limit-study run batch_limit" in capsys.readouterr().err

    def test_an_interrupted_one_is_gone_on_with_by_its_own_name(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        no_ray(interrupt)  # type: ignore[arg-type]
        assert main(["run", "smoke", "--fresh", "--storage", str(storage)]) == 130
        assert f"to go on from here:\nlimit-study run smoke --storage {storage}\n" in capsys.readouterr().err


class TestList:
    def test_it_has_every_study(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert [item["study"] for item in json.loads(said(capsys, "list", "--json"))] == find_studies()
        out = said(capsys, "list")
        assert all(name in out for name in find_studies())


class TestShow:
    def test_it_prints_the_answer_and_writes_nothing(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage)
        before = files(storage)
        out = said(capsys, "show", "smoke", "--storage", str(storage))
        assert out.startswith(f"smoke · digits · design {smoke_design().hash} · ")
        assert "minimum batch" in out
        assert files(storage) == before

    def test_its_json_has_the_numbers_of_the_answer(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage)
        result = json.loads(said(capsys, "show", "smoke", "--json", "--storage", str(storage)))
        assert (result["study"], result["design"], result["damaged"]) == ("smoke", smoke_design().hash, [])
        assert result["counts"] == {"ok": result["num_planned"]}

    def test_a_design_can_be_named_and_else_it_is_the_newest(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        later = smoke_design(variant="supervised")
        Ledger.open(str(storage), "smoke").record_design(design_row(later, created_at=STARTED + timedelta(days=1)))
        fill_smoke(storage)
        fill_smoke(storage, variant="supervised")
        learning, supervised = smoke_design().hash, later.hash
        command = ["show", "smoke", "--storage", str(storage)]
        assert f"design {supervised}" in said(capsys, *command)
        assert f"design {learning}" in said(capsys, *command, "--design", learning)
        assert main([*command, "--design", f"{learning[:-1]}x"]) == 2
        assert f"did you mean '{learning}'?" in capsys.readouterr().err

    def test_no_torch_and_no_ray_are_loaded_for_it(self, storage: Path) -> None:
        fill_smoke(storage)
        code = (
            f"import sys; from study.commands.show import main; main(['smoke', '--storage', {str(storage)!r}])\n"
            "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
        assert {"torch", "ray", "mlflow", "matplotlib"}.isdisjoint(done.stderr.split())
        assert "minimum batch" in done.stdout

    @pytest.mark.parametrize(
        ("name", "words"),
        [("smok", "unknown study 'smok': did you mean 'smoke'?"), ("smoke", "limit-study run smoke starts it")],
    )
    def test_what_is_not_there_is_one_sentence(
        self, name: str, words: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["show", name, "--storage", str(storage)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert words in err
        assert err.count("\n") == 1
        assert not storage.exists()


class TestLaws:
    def test_the_recipe_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        result = json.loads(said(capsys, "laws", "--num-classes", "10", "--cosine", "-0.1", "--json"))
        assert result["setting"] == {"num_classes": 10, "cosine": -0.1}
        assert "label_coverage" in [law["name"] for law in result["laws"]]

    def test_its_sentences_name_this_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["laws"]) == 2
        assert "for example: limit-study laws --d 64" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("recipe", "words"), [("nowhere:X", "no recipe at 'nowhere:X'"), ("tests.commands.sweeps:NONE", "no recipe at")]
    )
    def test_a_recipe_that_is_not_there_is_one_sentence(
        self, recipe: str, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["laws", "--recipe", recipe, "--d", "64"]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


class TestTrain:
    def test_one_replicate_is_trained_once_and_then_printed(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        overrides = ("horizon.unit=steps", "horizon.length=2", "batch.train=8", "batch.eval=20", "model.width=4")
        arguments = ["train", "--dataset", "digits", "--seed", "3", "--storage", str(storage)]
        arguments += [word for override in overrides for word in ("--set", override)]
        first = said(capsys, *arguments)
        assert json.loads(first.splitlines()[0])["outcome"] in ("ok", "collapsed")
        assert said(capsys, *arguments) == first

    def test_a_wrong_seed_or_preset_is_one_sentence(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for words, sentence in (
            (["--seed", "one"], "error: --seed takes a whole number, not 'one'\n"),
            (["--preset", "transfusio"], "error: unknown preset 'transfusio': did you mean 'transfusion'?\n"),
        ):
            assert main(["train", *words, "--storage", str(storage)]) == 2
            assert capsys.readouterr() == ("", sentence)
        assert not storage.exists()
