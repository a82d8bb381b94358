"""The command line of a sweep: mistakes give one sentence, exit codes mean what they say, and once end to end."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import search_spaces
from study import limit_seeking, sweep
from study.config import DataConfig, Replicate
from study.data.datasets import load_dataset
from study.design import Design, find_studies, load_space, make_design, plan_size
from study.inference.seeking import Proposal
from study.outcome import MAX_ATTEMPTS, Outcome
from study.results.__main__ import main as results_main
from study.results.ledger import Ledger
from study.results.schema import SCHEMA_VERSION
from study.space import Budget, Variant
from study.sweep_state import SweepState
from study.tasks import PackTask
from tests.synthetic import Result, ResultOf, commit, fill, rise_and_fall

ROOT = Path(__file__).resolve().parent.parent

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("STUDY_STORAGE", str(tmp_path / "default"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage inside a folder that is in use."""
    (tmp_path / "kept").write_text("x")
    return tmp_path / "storage"


@pytest.fixture
def num_syncs() -> list[int]:
    """A one for every time that MLflow was brought up to date, under ``no_ray``."""
    return []


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, num_syncs: list[int]) -> Callable[[ResultOf], None]:
    """Replaces Ray by a loop that invents each pack's results, and MLflow by nothing."""
    from study import executors, ray_start
    from study.results import live_view

    class NoTracker:
        def __init__(self, uri: str) -> None:
            pass

        def sync(self, ledger: Ledger, study_hash: str) -> None:
            num_syncs.append(1)

    def use(result_of: ResultOf) -> None:
        def run_rounds(
            state: SweepState, width: int, on_event: Callable[[], None], on_pack_end: Callable[[], None]
        ) -> None:
            while (task := state.next_task(is_idle=True)) is not None:
                try:
                    for part in task.halves() if is_halved(task) else [task]:
                        commit(part, result_of)
                    state.note_complete(task)
                except OSError as error:
                    state.lose_storage(error)
                on_event()
                on_pack_end()

        def is_halved(task: PackTask) -> bool:
            return len(task.replicates) == 5 and task.config.batch.train == 16

        monkeypatch.setattr(executors, "run_rounds", run_rounds)
        monkeypatch.setattr(ray_start, "start_ray", lambda address, needs_dashboard, niceness: None)
        monkeypatch.setattr(ray_start, "stop_ray", lambda: None)
        monkeypatch.setattr(executors, "plan_room", lambda state, asked, share, shape, is_local: 1)
        monkeypatch.setattr(live_view, "Tracker", NoTracker)

    return use


def smoke_design(**changes: Any) -> Design:
    return make_design(load_space("smoke"), **changes)


def fill_smoke(storage: Path, **changes: Any) -> Ledger:
    """A finished smoke study with invented results."""
    ledger = Ledger.open(str(storage), "smoke")
    digest = load_dataset(DataConfig(name="digits")).digest
    fill(ledger, smoke_design(**changes), rise_and_fall, data_digest=digest)
    return ledger


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


USAGE = [
    (["batchlimit"], "unknown study 'batchlimit': did you mean 'batch_limit'?"),
    ([], "name a study"),
    (["smoke", "--variant", "lerning"], "unknown variant of smoke 'lerning': did you mean 'learning'?"),
    (["smoke", "--profile", "claptop"], "unknown profile of smoke 'claptop': did you mean 'laptop'?"),
    (["smoke", "--dataset", "digit"], "unknown data set of smoke 'digit': did you mean 'digits'?"),
    (["smoke", "--dataset", "cifar10"], "unknown data set of smoke 'cifar10'"),
    (["smoke", "--set", "horizon.lenght=10"], "did you mean 'horizon.length'?"),
    (["smoke", "--set", "horizon.length"], "--set takes PATH=VALUE, not 'horizon.length'"),
    (["smoke", "--set", "horizon.length=many"], "horizon.length takes a value of type int, not 'many'"),
    (["smoke", "--set", "horizon.length=1.5"], "horizon.length takes a value of type int, not '1.5'"),
    (["smoke", "--set", "model.residual=yes"], "model.residual takes true or false, not 'yes'"),
    (["smoke", "--set", "data.strength=nan"], "data.strength must be a finite number"),
    (["smoke", "--set", "horizon.length=-1"], "horizon.length must not be negative"),
    (["smoke", "--set", "data.strength=2"], "data.strength on images must lie in [0, 1.5]"),
    (["smoke", "--set", "loss.target=pixel"], "loss.target takes one of class, source, not 'pixel'"),
    (["smoke", "--set", "batch.train=8"], "batch.train is an axis of smoke and cannot be fixed with --set"),
    (["smoke", "--set", "optimizer.learning_rate=1"], "optimizer.learning_rate is an axis of smoke"),
    (["smoke", "--set", "trainer=supervised"], "smoke (learning) is judged by p, which reported replicates with"),
    (["smoke", "--set", "batch.eval=41"], "batch.eval=41 cannot be balanced over 10 classes"),
    (["smoke", "--set", "batch.eval=4000"], "batch.eval=4000 needs 400 images of every class"),
    (["smoke", "--precision", "0.2"], "--precision has no effect on smoke (learning): its points are a fixed grid"),
    (["smoke", "--max-replicates", "20"], "--max-replicates has no effect on smoke (learning)"),
    (["smoke", "--executor", "inline", "--workers-per-trial", "2"], "--executor inline has one worker"),
    (["smoke", "--gpus-per-pack", "1/4", "--workers-per-trial", "2"], "--gpus-per-pack below 1 needs one worker"),
]


class TestMistakes:
    @pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
    def test_a_mistake_gives_one_sentence_and_exit_code_2_and_writes_nothing(
        self, arguments: list[str], words: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main([*arguments, "--storage", str(storage)]) == 2
        out, err = capsys.readouterr()
        assert words in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert out == ""
        assert not storage.exists()
        assert files(storage.parent) == {"kept"}

    def test_a_batch_larger_than_the_data_is_refused(
        self, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = load_space("smoke")
        large = dataclasses.replace(space.scientific[0], values=(4, 2048))
        monkeypatch.setattr(sweep, "load_space", lambda name: dataclasses.replace(space, scientific=(large,)))
        assert sweep.main(["smoke", "--storage", str(storage)]) == 2
        err = capsys.readouterr().err
        assert "batch.train=2048 is larger than the data: digits has" in err
        assert err.count("\n") == 1
        assert not storage.exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ["smoke", "--replicates", "0"],
            ["smoke", "--replicates", "many"],
            ["smoke", "--precision", "0"],
            ["smoke", "--precision", "-0.25"],
            ["smoke", "--precision", "nan"],
            ["smoke", "--precision", "fine"],
            ["smoke", "--max-replicates", "0"],
            ["smoke", "--max-replicates", "1.5"],
            ["smoke", "--max-hours", "0"],
            ["smoke", "--max-hours", "nan"],
            ["smoke", "--executor", "outline"],
            ["smoke", "--gpus-per-pack", "1/3"],
            ["smoke", "--workers-per-trial", "-1"],
            ["smoke", "--nonsense"],
            ["smoke", "batch_limit"],
        ],
        ids=" ".join,
    )
    def test_what_argparse_refuses_exits_2_too(
        self, arguments: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            sweep.main([*arguments, "--storage", str(storage)])
        assert caught.value.code == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("python -m study.sweep: error: ")
        assert "_positive" not in last
        assert not storage.exists()

    def test_a_storage_that_cannot_be_written_is_refused(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["smoke", "--storage", str(storage.parent / "kept" / "below")]) == 2
        err = capsys.readouterr().err
        assert "cannot be written" in err
        assert err.count("\n") == 1
        assert files(storage.parent) == {"kept"}

    @pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["", "fresh"])
    def test_a_tracking_server_that_does_not_answer_is_refused_before_anything_is_written(
        self, fresh: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["smoke", "--storage", str(storage), "--tracking-uri", "http://127.0.0.1:9", *fresh]
        assert sweep.main(arguments) == 2
        err = capsys.readouterr().err
        assert "http://127.0.0.1:9 does not answer" in err
        assert err.count("\n") == 1
        assert not storage.exists()

    def test_a_mistake_on_an_existing_ledger_changes_nothing(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fill_smoke(storage)
        before = files(storage)
        assert sweep.main(["smoke", "--storage", str(storage), "--set", "horizon.length=-1"]) == 2
        arguments = ["smoke", "--storage", str(storage), "--replicates", "9", "--tracking-uri", "http://127.0.0.1:9"]
        assert sweep.main(arguments) == 2
        assert files(storage) == before


class TestListAndDryRun:
    def test_the_list_has_every_study_with_its_question_and_variants(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert sweep.main(["--list"]) == 0
        out = capsys.readouterr().out
        for name in find_studies():
            space = load_space(name)
            assert name in out
            assert space.question in out
            assert ", ".join(space.variants) in out

    def test_the_list_is_also_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert sweep.main(["--list", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [item["study"] for item in listed] == find_studies()
        assert all(item["variants"] == list(load_space(item["study"]).variants) for item in listed)

    @pytest.mark.parametrize("name", find_studies())
    def test_a_dry_run_prints_axes_criterion_rounds_and_cost_and_writes_nothing(
        self, name: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main([name, "--dry-run", "--storage", str(storage)]) == 0
        out = capsys.readouterr().out
        space = load_space(name)
        size = plan_size(make_design(space), space.budget.replicates)
        assert make_design(space).hash in out
        for axis in (*space.scientific, *space.nuisance):
            assert axis.path in out
        assert f"{size.least} to {size.greatest} replicates" in out
        assert not storage.exists()

    def test_a_dry_run_counts_the_replicates_that_were_asked_for(
        self, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep.main(["smoke", "--dry-run", "--json", "--replicates", "7", "--storage", str(storage)])
        plan = json.loads(capsys.readouterr().out)
        assert (plan["least"], plan["greatest"]) == (18 + 21, 18 + 21 + 6)
        assert plan["points"] == [{"batch.train": 4}, {"batch.train": 16}, {"batch.train": 64}]
        assert plan["design"] == smoke_design().hash
        assert plan["canonical"]["scientific"] == [["batch.train", [4, 16, 64]]]

    def test_an_override_changes_the_design_of_a_dry_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        sweep.main(["smoke", "--dry-run", "--json", "--set", "horizon.length=700"])
        plan = json.loads(capsys.readouterr().out)
        assert plan["design"] == smoke_design(overrides={"horizon.length": 700}).hash != smoke_design().hash


BROKEN = {
    "syntax": ("SPACE = (", "SyntaxError: '(' was never closed (line 1)"),
    "library": ("x = 1\nimport no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library' (line 2)"),
    "assertion": (
        'from study.space import Axis\n\nAxis(path="batch.train", values=(4, 8), label="b", steps_per_octave=1)\n',
        "batch.train: a linear or whole-number axis names its multiple (line 3)",
    ),
    "leaves": ("import sys\n\nsys.exit(7)\n", "SystemExit: 7 (line 3)"),
    "nothing": ("", "AttributeError: module 'search_spaces.broken' has no attribute 'SPACE'"),
    "no space": ("SPACE = 3\n", "its SPACE is no SearchSpace"),
    "other name": (
        "from search_spaces.smoke import SPACE\n",
        "it calls itself smoke, but a study has the name of its file",
    ),
}


@pytest.mark.parametrize(("text", "cause"), BROKEN.values(), ids=BROKEN)
class TestABrokenSearchSpace:
    @pytest.fixture(autouse=True)
    def _broken(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        folder = tmp_path / "search_spaces"
        folder.mkdir()
        (folder / "broken.py").write_text(text)
        monkeypatch.setattr(search_spaces, "__path__", [*search_spaces.__path__, str(folder)])
        yield
        sys.modules.pop("search_spaces.broken", None)

    @pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
    def test_the_list_has_the_others_and_one_line_about_it(
        self, cause: str, form: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["--list", *form]) == 0
        out, err = capsys.readouterr()
        assert all(name in out for name in find_studies() if name != "broken")
        assert "broken" not in out
        assert err == f"warning: search_spaces/broken.py cannot be used: {cause}\n"

    def test_asking_for_it_is_one_sentence_with_file_and_cause(
        self, cause: str, storage: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["broken", "--storage", str(storage)]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"error: search_spaces/broken.py cannot be used: {cause}\n")
        assert not storage.exists()

    @pytest.mark.usefixtures("cause")
    def test_another_study_does_not_know_of_it(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fill_smoke(storage)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        assert err == ""
        assert results_main(["status", "--storage", str(storage)]) == 0


def test_a_variant_that_makes_no_design_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space("smoke")
    plane = dataclasses.replace(space, variants={"learning": Variant(), "flat": Variant(plane=True)})
    monkeypatch.setattr(sweep, "load_space", lambda name: plane)
    assert sweep.main(["smoke", "--dry-run"]) == 0
    capsys.readouterr()
    assert sweep.main(["smoke", "--variant", "flat", "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        "error: search_spaces/smoke.py (flat) makes no design: smoke: a plane has two axes\n"
    )


@pytest.mark.parametrize("name", find_studies())
@pytest.mark.parametrize("arguments", [["--list"], ["NAME", "--dry-run"]], ids=["list", "dry run"])
def test_on_a_terminal_of_60_columns_no_line_is_longer(
    name: str, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [name if word == "NAME" else word for word in arguments]
    sweep.main(arguments)
    whole = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    sweep.main(arguments)
    wrapped = capsys.readouterr().out
    assert max(map(len, wrapped.splitlines())) <= 60
    assert wrapped.split() == whole.split()


@pytest.fixture
def seeks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``smoke`` seek its limit, with an inference whose half-width is 2 octaves over the number of replicates."""

    def halving(x: Sequence[float], *_: Any, precision: float, **__: Any) -> Proposal:
        width = 2.0 / len(x)
        points = (22.0,) if width > precision else ()
        return Proposal(points=points, half_width=width, is_settled=not points, reason="scripted")

    space = load_space("smoke")
    sought = dataclasses.replace(space.scientific[0], steps_per_octave=2, multiple=2)
    budget = Budget(tuning_seeds=1, replicates=1, precision=0.25, max_replicates=10, round_replicates=2)
    seeking = dataclasses.replace(space, scientific=(sought,), budget=budget)
    monkeypatch.setattr(sweep, "load_space", lambda name: seeking)
    monkeypatch.setattr(limit_seeking, "propose", halving)


@pytest.mark.usefixtures("seeks")
class TestSeeking:
    def test_a_dry_run_prints_stage_one_the_rule_and_the_least_and_greatest_cost(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert sweep.main(["smoke", "--dry-run", "--precision", "0.4", "--max-replicates", "7"]) == 0
        out = capsys.readouterr().out
        assert "then        3: every point at its best setting with 1 fresh seed, test split" in out
        assert "then        at most 4: up to 2 per round where they narrow the rise through the criterion most" in out
        assert "among 9 points" in out
        assert "half the width of the 95 % interval is at most 0.4 octaves" in out
        assert "or 7 replicates are reported" in out
        assert "tuned       with at most 16 more" in out
        assert "cost        12 to 35 replicates" in out

    def test_its_json_has_the_budget_and_the_bounds(self, capsys: pytest.CaptureFixture[str]) -> None:
        sweep.main(["smoke", "--dry-run", "--json", "--max-replicates", "7"])
        plan = json.loads(capsys.readouterr().out)
        assert (plan["least"], plan["greatest"]) == (12, 35)
        expected = {"precision": 0.25, "max_replicates": 7, "round_replicates": 2, "candidates": [9]}
        assert plan["sought"] == expected

    def test_the_budget_is_no_part_of_the_design(self, capsys: pytest.CaptureFixture[str]) -> None:
        hashes = set()
        for extra in ([], ["--precision", "0.1"], ["--max-replicates", "9"]):
            sweep.main(["smoke", "--dry-run", "--json", *extra])
            hashes.add(json.loads(capsys.readouterr().out)["design"])
        assert len(hashes) == 1

    def test_a_budget_below_stage_one_is_refused(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert sweep.main(["smoke", "--max-replicates", "2", "--storage", str(storage)]) == 2
        assert capsys.readouterr().err == (
            "error: --max-replicates must be at least 3, the replicates of stage one of every limit\n"
        )
        assert not storage.exists()

    def test_it_seeks_until_the_precision_and_says_what_each_round_is_for(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage), "--precision", "0.4"]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        rounds = [line for line in err.splitlines() if line.startswith("round ")]
        assert rounds == [
            "round 0: tuning nuisances, 9 replicates in 3 cells",
            "round 1: reported replicates, 3 replicates in 3 cells",
            "round 2: limit seeking, 1 replicate in 1 cell; known to about 0.67 octaves",
            "round 3: limit seeking, 1 replicate in 1 cell; known to about 0.5 octaves",
        ]
        assert "9 tuning and 5 reported replicates in the ledger" in err

    def test_a_budget_that_ends_before_the_precision_exits_4_and_says_what_to_do(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        arguments = ["smoke", "--storage", str(storage), "--max-replicates", "5"]
        for _ in range(2):
            assert sweep.main(arguments) == 4
            err = capsys.readouterr().err
            assert err.splitlines()[-1] == (
                "the replicates ended before the precision of 0.25 octaves: training batch (rows) after 5 (scripted). "
                "The same command with a larger --max-replicates goes on from here, with a larger --precision it asks "
                "for less"
            )
        assert sweep.main([*arguments, "--precision", "0.4"]) == 0
        assert sweep.main([*arguments[:-1], "8"]) == 0

    def test_more_replicates_of_a_sought_study_are_seeds_of_every_reported_point(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        arguments = ["smoke", "--storage", str(storage), "--precision", "0.4"]
        sweep.main(arguments)
        capsys.readouterr()
        assert sweep.main([*arguments, "--replicates", "3"]) == 0
        assert "round 4: reported replicates, 7 replicates in 4 cells" in capsys.readouterr().err


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


class TestExitCodes:
    def test_a_sweep_that_ends_well_exits_0(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        out, err = capsys.readouterr()
        assert "minimum batch" in out
        assert "round 0: tuning nuisances, 18 replicates in 3 cells" in err

    def test_a_pack_that_ran_out_of_memory_is_named_and_is_no_failure(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        assert capsys.readouterr().err.count("a pack of 5 ran out of memory and was halved: trained as 3 + 2\n") == 1

    def test_mlflow_is_brought_up_to_date_when_a_pack_ends_and_at_the_end(
        self, storage: Path, no_ray: Callable[[ResultOf], None], num_syncs: list[int]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        rows = Ledger.open(str(storage), "smoke").read("replicates").to_pylist()
        num_packs = sum(1 / row["pack_planned"] for row in rows)
        assert len(num_syncs) == round(num_packs) + 1

    def test_a_sweep_that_ends_with_failed_replicates_exits_3_and_names_them(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        err = capsys.readouterr().err
        assert err.count("failed (attempt 2): RuntimeError: invented") == 3, "first in a pack, then alone"
        assert "tries failed replicates again" in err

    def test_a_study_whose_replicates_have_failed_for_good_still_exits_3(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            return Result(outcome=Outcome.FAILED) if replicate.seed == 103 else rise_and_fall(replicate)

        no_ray(result_of)
        codes = [sweep.main(["smoke", "--storage", str(storage)]) for _ in range(MAX_ATTEMPTS)]
        assert codes == [3] * MAX_ATTEMPTS
        capsys.readouterr()
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        err = capsys.readouterr().err
        assert "3 replicates of them failed alone 3 times or more and will not be tried again, but with --retry" in err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 3
        assert sweep.main(["smoke", "--storage", str(storage), "--retry"]) == 0

    def test_a_full_disk_exits_5_and_the_same_command_goes_on_when_there_is_room(
        self,
        storage: Path,
        no_ray: Callable[[ResultOf], None],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                raise OSError(28, "No space left on device")
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 5
        err = capsys.readouterr().err
        assert "cannot be used any more ([Errno 28] No space left on device); everything finished is kept" in err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0

    def test_what_libraries_print_meanwhile_does_not_reach_the_json(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capfd: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            print("a library's line")
            os.write(1, b"a line of its C++ part\n")
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--json", "--storage", str(storage)]) == 0
        out, err = capfd.readouterr()
        assert out.count("\n") == 1
        assert json.loads(out)["exit_code"] == 0
        assert "a library's line" in err
        assert "a line of its C++ part" in err

    def test_a_budget_that_ends_first_exits_4(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--max-hours", "1e-9", "--storage", str(storage)]) == 4
        assert "the same command goes on from here" in capsys.readouterr().err
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0

    def test_a_budget_that_ends_before_a_second_design_has_begun_exits_4(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        arguments = ["smoke", "--variant", "supervised", "--max-hours", "1e-9", "--storage", str(storage)]
        assert sweep.main(arguments) == 4

    def test_an_interrupted_sweep_exits_130_and_goes_on_later(
        self,
        storage: Path,
        no_ray: Callable[[ResultOf], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                raise KeyboardInterrupt
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGINT
        assert "everything finished is kept" in capsys.readouterr().err
        no_ray(rise_and_fall)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        attempts = Ledger.open(str(storage), "smoke").attempts()
        outcomes = {tuple(row["outcome"] for row in rows) for rows in attempts.values()}
        assert outcomes == {("ok",), ("interrupted", "ok")}

    def test_a_terminated_sweep_exits_143(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def result_of(replicate: Replicate) -> Result:
            if replicate.seed == 103:
                os.kill(os.getpid(), signal.SIGTERM)
            return rise_and_fall(replicate)

        no_ray(result_of)
        assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGTERM

    def test_a_sweep_whose_progress_nobody_reads_stops_and_goes_on_later(
        self, storage: Path, no_ray: Callable[[ResultOf], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Unread(io.StringIO):
            """A pipe whose reader goes away after three lines."""

            def write(self, text: str) -> int:
                if self.getvalue().count("\n") >= 3:
                    raise BrokenPipeError
                return super().write(text)

        no_ray(rise_and_fall)
        with monkeypatch.context() as unread:
            unread.setattr(sys, "stderr", Unread())
            assert sweep.main(["smoke", "--storage", str(storage)]) == 128 + signal.SIGPIPE
        before = Ledger.open(str(storage), "smoke").read("replicates").num_rows
        assert 0 < before < 33
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        attempts = Ledger.open(str(storage), "smoke").attempts()
        assert {len(rows) for rows in attempts.values()} == {1}

    def test_fresh_starts_a_new_ledger_and_keeps_the_old(
        self, storage: Path, no_ray: Callable[[ResultOf], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        no_ray(rise_and_fall)
        for arguments, folder in (([], "smoke"), (["--fresh"], "smoke.1"), (["--fresh"], "smoke.2")):
            assert sweep.main(["smoke", *arguments, "--storage", str(storage)]) == 0
            assert f"ledger {storage / folder}\n" in capsys.readouterr().err
        assert sweep.main(["smoke", "--storage", str(storage)]) == 0
        assert str(storage / "smoke.2" / "reports") in capsys.readouterr().out
        counts = [Ledger.open(str(storage), "smoke").read("replicates").num_rows]
        counts += [len(list((storage / name / "replicates").iterdir())) > 0 for name in ("smoke", "smoke.1")]
        assert counts == [counts[0], True, True]
        assert counts[0] >= 33


@pytest.mark.parametrize("command", [["study.sweep", "--list"], ["study.results", "status"]], ids=" ".join)
def test_a_command_whose_output_nobody_reads_ends_quietly_as_unix_tools_do(command: list[str], storage: Path) -> None:
    fill_smoke(storage)
    environment = {**os.environ, "STUDY_STORAGE": str(storage)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
    assert all(row["p"] is not None for row in rows if row["outcome"] == "ok")
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
