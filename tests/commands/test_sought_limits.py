"""A sweep that seeks its limit: its plan, its rounds, and how it ends."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from study import sweep
from study.designs.catalogue import load_space
from study.designs.space import Budget
from study.inference.seeking import NextPoints
from study.planning import limit_state as limit_seeking
from tests.synthetic import ResultOf, rise_and_fall

# MLflow's own queries.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def seeks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``smoke`` seek its limit, with an inference whose half-width is 2 octaves over the number of replicates."""

    def halving(x: Sequence[float], *_: Any, precision: float, **__: Any) -> NextPoints:
        width = 2.0 / len(x)
        points = (22.0,) if width > precision else ()
        return NextPoints(points=points, half_width=width, is_settled=not points, reason="scripted")

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
