"""Recipes of anybody's: fields and metrics are called as their authors like, and what cannot be is said at once."""

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from study.answers.answer import answer
from study.answers.report import make_report
from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.criterion import Criterion
from study.designs.design import Design
from study.designs.space import RESERVED, Budget, SearchSpace
from study.designs.values import field_types, parse_value, with_values
from study.errors import ConfigError
from study.execution.tasks import PackTask
from study.execution.workers import SpentProcess, train_here, work_off
from study.interface.metrics import Metric
from study.interface.recipe import Cost, Method, Recipe, find_recipe
from study.interface.run import CallRun, Context, Replicate, Run
from study.ledger.ledger import Ledger
from study.ledger.schema import REPLICATES, ROUNDS
from study.testing.toy import TOY
from study.tracking.mlflow_runs import Tracker
from tests.toy_study import open_toy, run_toy

TRUTH = 12.0
Numbers = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A part of a configuration."""

    rows: int = 64


@dataclass(frozen=True, kw_only=True)
class ForeignConfig:
    """Fields that are called as columns of the ledger, words and a part of its own."""

    steps: int = 64
    key: float = 1.0
    inner: Inner = Inner()
    kind: Literal["a", "b"] = "a"
    order: Literal[1, 2] = 1


class Foreign(Recipe[ForeignConfig]):
    """The score rises through its half where a path of the configuration is 12."""

    config_class = ForeignConfig
    metrics = (
        Metric(name="seconds", meaning="called as a column of the ledger", has_before=False, chance=0.1),
        Metric(name="top 1@5 (%)", meaning="called as MLflow refuses"),
    )

    def __init__(self, name: str, call: Callable[[Replicate[ForeignConfig]], Numbers]) -> None:
        self.address, self._call = f"{__name__}:{name}", call  # type: ignore[misc]

    def method(self, config: ForeignConfig) -> Method:
        return Method(name="foreign", numerics=1)

    def together(self, config: ForeignConfig) -> str:
        return "all"

    def cost(self, config: ForeignConfig, data: Any, num_workers: int) -> Cost:
        return Cost(largest_pack=100)

    def start(self, pack: Sequence[Replicate[ForeignConfig]], data: Any, context: Context) -> Run:
        return CallRun(pack, self._call)


def score(size: float, seed: int) -> Numbers:
    value = 0.1 + 0.8 / (1 + (TRUTH / size) ** 3) + 0.01 * random.Random(seed).gauss(0, 1)
    return {"seconds": value, "top 1@5 (%)": value}, {"top 1@5 (%)": 0.1}


def without_before(size: float, seed: int) -> Numbers:
    return score(size, seed)[0], {}


STEPS = Foreign("STEPS", lambda replicate: score(replicate.config.steps, replicate.seed))
ROWS = Foreign("ROWS", lambda replicate: score(replicate.config.inner.rows, replicate.seed))
LACKING = Foreign("LACKING", lambda replicate: without_before(replicate.config.steps, replicate.seed))
NO_NUMBER = Foreign("NO_NUMBER", lambda replicate: (score(64, replicate.seed)[0], {"top 1@5 (%)": math.nan}))


def space(recipe: Recipe[Any] = STEPS, path: str = "steps", **changes: Any) -> SearchSpace:
    given: dict[str, Any] = {
        "config": recipe.config_class(),
        "scientific": (Axis(path=path, values=(2, 8, 32, 128), steps_per_octave=4, multiple=1),),
        "criterion": Criterion(metric="top 1@5 (%)", fraction=0.5),
    }
    return SearchSpace(
        name="foreign",
        question="Where?",
        recipe=recipe,
        nuisance=(),
        budget=Budget(replicates=2, precision=0.3, max_replicates=12),
        **(given | changes),
    )


def limit(folder: Path, design: Design) -> float | None:
    """The limit that a whole study finds; its text and its view in MLflow are made as well."""
    ledger = Ledger.open(str(folder), "foreign")
    run_toy(open_toy(ledger, design))
    (part,) = answer(ledger).slices
    assert make_report(ledger).text
    assert Tracker(f"sqlite:///{folder / 'mlflow.db'}").sync(ledger, design.hash) > 0
    return None if part.fit is None else part.fit.rising.estimate


@pytest.mark.parametrize(("recipe", "path"), [(STEPS, "steps"), (ROWS, "inner.rows")], ids=str)
def test_an_axis_may_be_called_as_a_column_or_lie_in_a_part(recipe: Foreign, path: str, tmp_path: Path) -> None:
    assert limit(tmp_path, make_design(space(recipe, path))) == pytest.approx(TRUTH, rel=0.15)


def test_a_metric_may_be_called_as_a_column_and_have_no_value_before_training(tmp_path: Path) -> None:
    criterion = Criterion(metric="seconds", fraction=0.5, floor="chance")
    assert limit(tmp_path, make_design(space(criterion=criterion))) == pytest.approx(TRUTH, rel=0.15)


def test_a_criterion_that_rises_from_before_training_needs_a_value_there() -> None:
    with pytest.raises(ConfigError, match="judged by seconds, which reported replicates of foreign do not report befo"):
        make_design(space(criterion=Criterion(metric="seconds", fraction=0.5)))


def test_an_axis_that_answers_could_not_tell_from_a_column_is_refused() -> None:
    with pytest.raises(AssertionError, match="an axis cannot be called key"):
        space(path="key")
    assert {column.name for column in ROUNDS} - {"study_hash"} <= RESERVED
    assert {"attempt", "outcome", "started_at"} <= {column.name for column in REPLICATES} & RESERVED


def test_a_limit_lies_along_numbers() -> None:
    with pytest.raises(ConfigError, match="a limit lies along numbers, and kind takes words"):
        make_design(space(scientific=(Axis(path="kind", values=("a", "b")),)))


def test_a_recipe_at_another_address_is_refused_before_workers_run_it() -> None:
    stray = Foreign("STEPS", lambda replicate: score(replicate.config.steps, replicate.seed))
    with pytest.raises(ConfigError, match="another recipe than that of foreign, and workers would run that one"):
        make_design(space(stray))
    with pytest.raises(ConfigError, match=r"no recipe at '.*test_foreign_recipes:NOWHERE'"):
        make_design(space(Foreign("NOWHERE", lambda replicate: score(1, 1))))


def test_a_configuration_of_another_recipe_is_refused() -> None:
    with pytest.raises(AssertionError, match="its config must be a ForeignConfig"):
        space(config=TOY.config_class())


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        (("tag", str | None, None), "Config.tag must be a bool, int, float, str, Literal or dataclass"),
        (("sizes", tuple[int, ...], (1,)), "Config.sizes must be a bool, int, float, str"),
        (("rows", int), "Config.rows needs a default"),
    ],
    ids=["optional", "tuple", "no default"],
)
def test_a_field_that_no_value_fits_is_named(field: tuple[Any, ...], sentence: str) -> None:
    config_class = dataclasses.make_dataclass("Config", [field], frozen=True, kw_only=True)
    with pytest.raises(ConfigError, match=sentence):
        field_types(config_class)


def test_a_recipe_without_data_sets_refuses_the_name_of_one() -> None:
    with pytest.raises(ConfigError, match="toy:TOY has no data sets: leave out --dataset"):
        TOY.of_dataset("digits")


def test_a_choice_may_be_of_numbers() -> None:
    assert parse_value(ForeignConfig, "order", "2") == 2
    with pytest.raises(ConfigError, match="order takes one of 1, 2, not '3'"):
        with_values(ForeignConfig(), {"order": parse_value(ForeignConfig, "order", "3")})


def test_a_module_that_cannot_be_loaded_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_recipe.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"no recipe at 'broken_recipe:ONE' \(RuntimeError: no licence\)"):
        find_recipe("broken_recipe:ONE")


@pytest.mark.parametrize("recipe", [LACKING, NO_NUMBER], ids=["lacking", "no number"])
def test_a_result_without_what_its_recipe_reports_fails_and_says_so(recipe: Recipe[Any], tmp_path: Path) -> None:
    ledger = Ledger.open(str(tmp_path), "foreign")
    state = open_toy(ledger, make_design(space(recipe)))
    task = state.next_task(is_idle=True)
    assert task is not None
    with pytest.raises(SpentProcess):
        for _ in work_off(PackTask.from_dict(task.to_dict()), train_here):
            pass
    state.note_complete(task)
    (error,) = {row["error"] for row in state.failed_rows()}
    assert "does not return finite numbers of what it reports: ['top 1@5 (%) before training']" in error


def test_a_module_that_ends_the_program_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_recipe.py").write_text("import sys; sys.exit(4)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"no recipe at 'leaving_recipe:ONE' \(SystemExit: 4\)"):
        find_recipe("leaving_recipe:ONE")


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"metrics": Metric(name="x", meaning="")}, "must be a sequence of Metric"),
        ({"metrics": (Metric(name="x", meaning=""), Metric(name="x", meaning=""))}, "names that differ, not 'x', 'x'"),
        ({"metrics": (Metric(name="", meaning=""),)}, "names that differ, not ''"),
        ({"config_class": object}, "must be a dataclass"),
        ({"config_class": dataclasses.make_dataclass("Config", [("rows", int)])}, "Config.rows needs a default"),
        ({"start": Recipe.start, "method": Recipe.method}, "is not complete: it lacks method, start"),
    ],
    ids=["a metric", "one name twice", "no name", "no dataclass", "no default", "no methods"],
)
def test_a_recipe_that_does_not_say_what_it_must_is_one_sentence(
    declared: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = type("Made", (Foreign,), declared)("MADE", lambda replicate: score(1, 1))
    monkeypatch.setitem(globals(), "MADE", made)
    with pytest.raises(ConfigError, match=sentence):
        find_recipe(made.address)


def test_a_recipe_without_an_address_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Foreign("MADE", lambda replicate: score(1, 1))
    del made.address
    monkeypatch.setitem(globals(), "MADE", made)
    with pytest.raises(ConfigError, match="is not complete: it lacks address"):
        find_recipe(f"{__name__}:MADE")
