"""What a sweep prints without running anything: the studies there are, broken files named, and the plan of one."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study import sweep
from study.commands.status import main as status
from study.designs import catalogue
from study.designs.assembly import make_design
from study.designs.catalogue import find_studies, load_space
from study.designs.cost import plan_size
from study.designs.space import Variant
from study.layout import spaces_folder
from tests.commands.sweeps import fill_smoke, smoke_design


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
        "from study.designs.axis import Axis\n\n"
        'Axis(path="batch.train", values=(4, 8), scale="linear", steps_per_octave=1)\n',
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
        folder = shutil.copytree(spaces_folder(), tmp_path / "search_spaces")
        (folder / "broken.py").write_text(text)
        monkeypatch.setattr(catalogue, "spaces_folder", lambda: folder)
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:
            del sys.modules[name]

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
        assert status(["--storage", str(storage)]) == 0


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
