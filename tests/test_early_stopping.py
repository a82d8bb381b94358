"""What is left out of a study, and that no threshold moves by it.

Replicates are left out before they run: tuning where the neighbours agree (test_tuning.py), and reported replicates of
a limit that is settled (test_sought_plan.py). Nothing that enters a threshold is stopped by a value on its way.
"""

import ast
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from study.designs.criterion import Criterion
from study.inference.seeking import NextPoints
from study.outcome import Outcome
from study.planning import limit_state as limit_seeking
from study.planning.proposals import Entry
from study.rows import before_column, metric_column
from tests.synthetic import FLOOR, RATES
from tests.test_sought_plan import batch, planner_for, play, sought_design

ROOT = Path(__file__).resolve().parent.parent
P, BEFORE = metric_column("p"), before_column("p")


class WatchedRow(dict[str, Any]):
    """A row that remembers which of its columns were asked for."""

    def __init__(self, values: dict[str, Any], asked: set[str]) -> None:
        super().__init__(values)
        self._asked = asked

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._asked.add(name)
        return super().get(name, default)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the inference is asked, in order; it wants one more replicate at batch 22 until it has eight."""
    asked: list[tuple[Any, ...]] = []

    def scripted(x: Sequence[float], outcome: Sequence[float], seeds: Any, floor: Any, **_: Any) -> NextPoints:
        asked.append((list(x), list(outcome), list(seeds), list(floor)))
        points = (22.0,) if len(x) < 8 else ()
        return NextPoints(points=points, half_width=0.5, is_settled=not points, reason="scripted")

    monkeypatch.setattr(limit_seeking, "propose", scripted)
    return asked


def learned(entry: Entry) -> float:
    rate = math.log2(float(entry.nuisance[RATES.path]) / 3e-3)
    return FLOOR + 0.5 / (1 + (24 / batch(entry)) ** 3) * math.exp(-0.1 * rate**2)


def test_every_replicate_of_a_cell_has_the_whole_horizon_of_its_design(questions: list[tuple[Any, ...]]) -> None:
    design = sought_design(nuisance=(RATES,))

    def row_of(entry: Entry) -> dict[str, Any]:
        return {"outcome": "ok", P: learned(entry), BEFORE: FLOOR}

    _, rounds, _ = play(planner_for(design), row_of)
    assert len(rounds) > 3
    assert {e.replicate.config.horizon for round_ in rounds for e in round_} == {design.config.horizon}


def test_a_plan_knows_of_a_replicate_only_its_outcome_and_its_metric_before_and_at_the_end(
    questions: list[tuple[Any, ...]],
) -> None:
    asked: set[str] = set()

    def row_of(entry: Entry) -> dict[str, Any]:
        values = {
            "outcome": "ok",
            P: learned(entry),
            BEFORE: FLOOR,
            "seconds": 3.0,
            "steps": 10,
            metric_column("s_j"): 0.4,
        }
        return WatchedRow(values, asked)

    play(planner_for(sought_design(nuisance=(RATES,))), row_of)
    assert asked == {"outcome", P, BEFORE}


@pytest.mark.parametrize("floor", ["before", "zero"])
def test_a_diverged_replicate_stands_at_its_floor_however_far_it_had_come(
    questions: list[tuple[Any, ...]], floor: Any
) -> None:
    """So it may end at once: nothing that it could still do would enter the threshold."""
    design = sought_design(nuisance=(RATES,), criterion=Criterion(metric="p", fraction=0.5, floor=floor))

    def ending(steps: int, left: float | None) -> Any:
        def row_of(entry: Entry) -> dict[str, Any]:
            diverged = batch(entry) == 16 or float(entry.nuisance[RATES.path]) > 5e-3
            known = {BEFORE: FLOOR, "steps": steps, "examples": 4 * steps, "seconds": 0.1 * steps}
            if diverged:
                return known | {"outcome": str(Outcome.DIVERGED), P: left}
            return known | {"outcome": "ok", P: learned(entry)}

        return row_of

    plans = []
    for steps, left in ((1, None), (600, None), (600, 0.9)):
        questions.clear()
        _, rounds, _ = play(planner_for(design), ending(steps, left))
        plans.append(([[e.replicate.key for e in round_] for round_ in rounds], list(questions)))
    assert plans[0] == plans[1] == plans[2]
    x, outcome, _, floors = plans[0][1][0]
    assert outcome[x.index(16)] == floors[x.index(16)] == (FLOOR if floor == "before" else 0.0)


def test_a_diverged_setting_is_not_preferred_to_one_that_works_but_lies_below_the_untrained_model() -> None:
    """Judged against zero a diverged replicate counts as zero, while its nuisance is tuned too."""
    design = sought_design(nuisance=(RATES,), criterion=Criterion(metric="p", level=0.5, floor="zero"))

    def row_of(entry: Entry) -> dict[str, Any]:
        rate = float(entry.nuisance[RATES.path])
        if rate > 5e-3:
            return {"outcome": str(Outcome.DIVERGED), P: None, BEFORE: 0.6}
        return {"outcome": "ok", P: 0.55 if rate > 2e-3 else 0.3, BEFORE: 0.6}

    _, rounds, _ = play(planner_for(design), row_of)
    assert {e.nuisance[RATES.path] for round_ in rounds for e in round_ if e.role == "reported"} == {3e-3}


def keywords(source: str) -> Iterator[str]:
    return (keyword.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
            for keyword in node.keywords if keyword.arg)  # fmt: skip


def test_no_scheduler_and_no_stopper_is_given_to_what_runs_the_packs() -> None:
    """A truncated replicate has another horizon, and its value would pass for a result of this one."""
    source = (ROOT / "study" / "execution" / "on_ray.py").read_text()
    assert "search_alg" in set(keywords(source))
    assert {"scheduler", "stop", "pruner"}.isdisjoint(keywords(source))
