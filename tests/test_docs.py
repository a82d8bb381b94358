"""What the documentation says is what the code does, and its links lead somewhere."""

import dataclasses
import importlib.util
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from study.answers.answer import answer, to_json
from study.answers.report import make_report
from study.commands import checks
from study.commands.command_line import EXIT_USAGE, SUMMARIES, Command, module_name, parse
from study.commands.options import parse_overrides
from study.commands.settings import KINDS
from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.catalogue import load_space
from study.designs.criterion import Criterion
from study.designs.space import SERIES, Budget, SearchSpace
from study.designs.values import with_values
from study.execution.session import EXIT_BUDGET, EXIT_FAILED, EXIT_STORAGE
from study.interface.recipe import Recipe
from study.ledger.journal import Kind
from study.ledger.ledger import Ledger
from study.ledger.names_on_disk import ON_DISK
from study.ledger.schema import SCHEMA_VERSION, TABLES, markdown_table
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.__main__ import main as ask_the_laws
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.theory import setting_of
from study.sweep import COMMAND as SWEEP
from tests.synthetic import fill, rise_and_fall
from tests.toy_study import open_toy, run_toy

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for page in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(page.relative_to(DOCS).parts)),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def between(path: Path, name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", path.read_text(), re.DOTALL)
    assert found is not None, f"{path.name} lacks the markers <!-- {name} --> and <!-- /{name} -->"
    return found[1].strip()


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def links(page: Path) -> list[str]:
    """Targets of a page's links and images that are not addresses of the network."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    return [unquote(target) for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as the hosting site names them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    names: set[str] = set()
    for title in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while name in names:
            number += 1
            name = f"{slug}-{number}"
        names.add(name)
    return names


def dead_links(page: Path) -> Iterator[str]:
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        is_dead = not place.exists() or {"_build", "_generated"} & set(place.parts)
        if is_dead or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_dead_links_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title: *with* marks\n## Again\n## Again\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-title-with-marks) [b](other.md#again-1) [c](none.md) [d](other.md#none) `[e](f.md)`"
    )
    assert list(dead_links(page)) == ["none.md", "other.md#none"]


def rows_of(table: str) -> list[list[str]]:
    """The cells of a table's rows, without its heading."""
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_of_columns_are_the_schema(table: str) -> None:
    assert between(REFERENCE / "ledger.md", table) == markdown_table(table)


def test_the_table_of_metrics_is_what_the_recipe_declares() -> None:
    text = between(REFERENCE / "ledger.md", "metrics")
    rows = re.findall(r"^\| `(\w+)` \| (yes|) ?\| (.*) \|$", text, re.MULTILINE)
    assert rows == [(metric.name, "yes" if metric.has_before else "", metric.meaning) for metric in CONTRASTIVE.metrics]


def test_the_page_of_the_ledger_names_every_kind_of_entry_of_the_journal() -> None:
    rows = rows_of(between(REFERENCE / "ledger.md", "journal"))
    assert [row[0].strip("`") for row in rows] == [str(kind) for kind in Kind]


def test_the_page_of_the_ledger_has_the_words_on_disk_and_the_schema_s_number() -> None:
    assert rows_of(between(REFERENCE / "ledger.md", "words")) == [[here, there] for here, there in ON_DISK.items()]
    assert f"today's is {SCHEMA_VERSION}." in (REFERENCE / "ledger.md").read_text()


def test_the_table_of_settings_is_the_code_s() -> None:
    types = {str: "a text", int: "a whole number", bool: "true or false"}
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \| `(.*?)` \| (.*?) ?\| (.*?) \|$",
        between(REFERENCE / "settings.md", "settings"),
        re.MULTILINE,
    )
    assert rows == [
        (
            name,
            types[kind.type],
            f"--{name.replace('_', '-')}",
            f"`{kind.variable}`" if kind.variable else "",
            kind.absent or str(kind.default).lower(),
        )
        for name, kind in KINDS.items()
    ]


# They tell what was.
HISTORIES = ("LOG.md", "CHANGELOG.md")


def shown_commands() -> dict[str, set[str]]:
    """The arguments of every command that a page shows, by its subcommand; those with placeholders are left out."""
    found: dict[str, set[str]] = {}
    names = "|".join(sorted(SUMMARIES, key=len, reverse=True))
    for page, name in zip(PAGES, NAMES, strict=True):
        if name in HISTORIES:
            continue
        text = page.read_text()
        calls = [("run", arguments) for arguments in re.findall(r"python -m study\.sweep\b([^`\n#|]*)", text)]
        calls += re.findall(rf"(?<![\w/.-])(?:\.venv/bin/)?limit-study ({names})\b(?!-)([^`\n#|]*)", text)
        for command, arguments in calls:
            if not re.search(r"\b[A-Z]{4,}\b", arguments):
                found.setdefault(command, set()).add(arguments.strip())
    return found


SHOWN = shown_commands()
OWN_RECIPE = DOCS / "how-to" / "own-recipe.md"
sys.path.append(str(DOCS / "examples"))
RIDGE: Recipe[Any] = importlib.import_module("my_recipes.ridge").RIDGE
# Studies that are no search space of the project.
OF_PAGES: dict[str, SearchSpace] = {"ridge_limit": importlib.import_module("ridge_limit").SPACE}


def command_of(name: str) -> Command:
    command: Command = importlib.import_module(f"study.commands.{module_name(name)}").COMMAND
    return command


@pytest.mark.parametrize("arguments", sorted(SHOWN["run"] - {"--help"}))
def test_a_study_that_a_page_runs_can_be_run(arguments: str) -> None:
    options = parse(SWEEP, shlex.split(arguments), "limit-study run")
    if options.study is not None:
        space = OF_PAGES.get(options.study) or load_space(options.study)
        make_design(
            space,
            variant=options.variant,
            profile=options.profile,
            dataset=options.dataset,
            overrides=parse_overrides(space.recipe.config_class, options.overrides),
        )


@pytest.mark.parametrize("arguments", sorted(SHOWN["laws"] - {"", "--json"}))
def test_a_question_to_the_laws_is_answered(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask_the_laws(shlex.split(arguments)) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, given) for name in sorted({*SHOWN} - {"run", "laws"}) for given in sorted(SHOWN[name])],
)
def test_another_command_that_a_page_shows_can_be_given(name: str, arguments: str) -> None:
    words = shlex.split(arguments)
    command = command_of(name)
    # A command that is only named has no study.
    needed = [param.name for param in command.params if param.required]
    options = parse(command, [*words, *(["smoke"] if needed and not words else [])], f"limit-study {name}")
    if name == "train":
        parse_overrides((RIDGE if options.recipe == RIDGE.address else CONTRASTIVE).config_class, options.overrides)
        assert options.preset in (None, *CONTRASTIVE.presets)


def code_of(page: Path, name: str) -> str:
    """A block of Python between markers."""
    return between(page, name).removeprefix("```python\n").removesuffix("```")


@pytest.mark.parametrize(("name", "file"), [("recipe", "my_recipes/ridge.py"), ("space", "ridge_limit.py")])
def test_the_recipe_of_the_page_is_the_one_that_is_tested(name: str, file: str) -> None:
    assert code_of(OWN_RECIPE, name) == (DOCS / "examples" / file).read_text()


def contract_of_the_page() -> type:
    names: dict[str, Any] = {"__name__": __name__}
    exec(code_of(OWN_RECIPE, "contract"), names)
    found: type = names["TestRidge"]
    return found


# pytest runs the suite that the page tells its readers to write.
TestRidge = contract_of_the_page()


def test_the_page_prints_the_key_of_its_replicate() -> None:
    key = RIDGE.key(with_values(RIDGE.config_class(), {"rows": 100}), 1, "")
    assert f'{{"key": "{key}", "outcome": "ok"' in OWN_RECIPE.read_text()


def test_the_study_of_the_page_comes_to_the_answer_that_the_page_prints(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), "ridge_limit")
    run_toy(open_toy(ledger, make_design(OF_PAGES["ridge_limit"])))
    text = make_report(Ledger.open(str(tmp_path), "ridge_limit")).text
    found, shown = (
        re.search(r"^fewest rows +(\d+), 95 % interval", page, re.MULTILINE) for page in (text, OWN_RECIPE.read_text())
    )
    assert found is not None
    assert shown is not None
    # Sums round differently elsewhere, and a search may then take another point.
    assert float(found[1]) == pytest.approx(float(shown[1]), rel=0.15)


def test_the_page_of_the_doctor_names_every_check() -> None:
    rows = rows_of(between(DOCS / "how-to" / "check-the-machine.md", "checks"))
    named = [name.strip("`") for row in rows for name in row[0].split(", ")]
    assert named == [
        "settings",
        *re.findall(r'^        \("(\w+)", ', inspect.getsource(checks.check_all), re.MULTILINE),
    ]


def test_the_pages_show_commands_of_every_kind() -> None:
    assert {"batch_limit --dry-run", "smoke"} <= SHOWN["run"]
    assert {*SHOWN} >= {*SUMMARIES}
    assert "--dry-run" in SHOWN["gc"]


def test_the_table_of_commands_names_all_of_them_and_their_modules() -> None:
    text = (REFERENCE / "command-line.md").read_text()
    rows = dict(re.findall(r"^\| `limit-study ([a-z-]+)[^`]*` \|.*\| `python -m ([\w.]+)` \|$", text, re.MULTILINE))
    assert rows == {
        name: "study.sweep" if name == "run" else f"study.commands.{module_name(name)}" for name in SUMMARIES
    }
    assert [name for name, module in rows.items() if importlib.util.find_spec(module) is None] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORIES], ids=lambda page: page.stem)
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    parts = r"(?<![\w/-])(?:study|analysis|search_spaces|benchmarks|verification|cluster|tests)/"
    files = {
        name
        for name in re.findall(rf"{parts}[\w/]*(?:\.[a-z]+\b|/)", text)
        if "NAME" not in name and not any(study in name for study in OF_PAGES)
    }
    assert {name for name in files if not (ROOT / name).exists()} == set()
    for module, names in re.findall(r"^from (study[\w.]*) import (.+)$", text, re.MULTILINE):
        found = importlib.import_module(module)
        assert [name for name in names.split(", ") if not hasattr(found, name)] == [], module


def test_every_target_of_make_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z_ -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    for page, name in zip(PAGES, NAMES, strict=True):
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z_-]+)", page.read_text(), re.MULTILINE))
        assert named <= known, (name, named - known)


def test_the_settings_of_methods_are_configuration_paths() -> None:
    codes = re.findall(r"`([^`\n]+=[^`\n]+)`", (REFERENCE / "methods.md").read_text())
    settings = [item for code in codes for item in code.replace("--set ", "").split() if not item.endswith("...")]
    assert {"trainer=transfusion", "loss.contrast=supcon"} <= set(settings)
    for item in settings:
        parse_overrides(CONTRASTIVE.config_class, [item])


def test_the_predictions_in_the_table_of_laws_are_those_of_the_code() -> None:
    rows = [line.split("|") for line in between(DOCS / "explanation" / "laws.md", "laws").splitlines()[2:]]
    design = make_design(load_space("augmentation_limit"), dataset="clusters")
    for series, row in zip(design.series, rows, strict=True):
        point = next(point for point in design.points() if point[SERIES] == series.name)
        name, predicted = re.findall(r"`(\w+)` ([\d.]+)", row[3])[0]
        setting = setting_of(design.resolve(point, {}, "reported"), is_tuned=False)
        value = LAWS[name].predict(dataclasses.replace(setting, sigma=None)).value
        # Rounding to two decimals, and what another CPU makes of weights that are searched in single precision.
        assert value == pytest.approx(float(predicted), abs=0.01), series.name


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    assert [int(code) for code in rows] == [0, EXIT_USAGE, EXIT_FAILED, EXIT_BUDGET, EXIT_STORAGE]


def test_every_variable_of_ours_is_explained() -> None:
    page = (REFERENCE / "environment.md").read_text()
    sources = [*(ROOT / "study").rglob("*.py"), ROOT / "Makefile"]
    names = {name for path in sources for name in re.findall(r"\bSTUDY_[A-Z_]+\b", path.read_text())}
    assert {"STUDY_STORAGE", "STUDY_DATA"} <= names
    assert {name for name in names if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("part", [SearchSpace, Axis, Criterion, Budget])
def test_every_field_of_a_search_space_is_explained(part: type) -> None:
    text = (REFERENCE / "search-space.md").read_text()
    section = re.search(rf"^## `{part.__name__}`\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None
    rows = {
        name for line in re.findall(r"^\| (`.*?) \|", section[1], re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    }
    assert rows == {field.name for field in dataclasses.fields(part)}


def test_every_default_of_a_budget_is_the_code_s() -> None:
    text = (REFERENCE / "search-space.md").read_text()
    for field in dataclasses.fields(Budget):
        assert re.search(rf"^\| `{field.name}` \|.*\| {field.default} \|$", text, re.MULTILINE), field.name


def test_every_name_of_an_answer_in_json_is_explained(tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), "batch_limit")
    fill(ledger, make_design(load_space("batch_limit")), rise_and_fall)
    said = to_json(answer(ledger))
    page = (REFERENCE / "json.md").read_text()
    for names in (said, said["slices"][0], said["slices"][0]["minimum"]):
        assert [name for name in names if f"`{name}`" not in page] == []


def test_modules_of_generated_pages_exist() -> None:
    conf = runpy.run_path(str(DOCS / "conf.py"))
    assert [name for name in conf["API"] if importlib.util.find_spec(name) is None] == []


def test_the_changelog_sorts_changes_by_release_and_kind() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert releases[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", release) for release in releases[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_workflow_calls_the_project_s_own_check() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    assert steps[-1]["run"] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")] == ["3.11"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_the_hosting_site_asks_for(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = [item for item in form["body"] if item["type"] != "markdown"]
    assert len({item["id"] for item in fields}) == len(fields) > 0
    assert all(item["attributes"]["label"] for item in fields)
    assert any(item.get("validations", {}).get("required") for item in fields)


def test_a_report_asks_for_command_output_and_versions() -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    required = {item["id"] for item in form["body"] if item.get("validations", {}).get("required")}
    assert {"command", "output", "versions"} <= required


@pytest.mark.slow
def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-E", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, "-b", "html", str(DOCS), str(tmp_path / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "_generated" / "api" / "study.designs.axis.html").read_text()
    assert "Values of one configuration path" in page
    options = (tmp_path / "html" / "_generated" / "options.html").read_text()
    assert "--max-replicates" in options
    assert [name for name in SUMMARIES if f"limit-study {name}" not in options] == []
