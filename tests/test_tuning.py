"""Nuisance tuning of a new cell: what it borrows from its tuned neighbours, and what that costs."""

import itertools
import json
import math
from collections.abc import Sequence

import pytest

from study.designs.axis import Axis
from study.designs.cost import NUM_BORROWED
from study.planning.tuning import NuisanceTuner, Setting, TunedCell
from tests.synthetic import BATCHES, RATES, known_design

TUNER = NuisanceTuner(design=known_design())
HERE = {BATCHES.path: 8}


def tuned(batch: int, values: dict[float, float]) -> TunedCell:
    """A cell whose learning rates have these mean outcomes."""
    outcomes = {json.dumps({RATES.path: rate}): [value, value] for rate, value in values.items()}
    return TUNER.tuned({BATCHES.path: batch}, outcomes)


def parabola(best: float, height: float = 0.5, rates: Sequence[float] = (1e-3, 3e-3, 1e-2)) -> dict[float, float]:
    """Outcomes that fall with the squared distance of a learning rate from the best one."""
    return {rate: height - 0.05 * math.log2(rate / best) ** 2 for rate in rates}


def rates(settings: Sequence[Setting]) -> list[float]:
    return [float(setting[RATES.path]) for setting in settings]


class TestBorrowing:
    def test_where_both_neighbours_chose_the_same_there_is_nothing_to_tune(self) -> None:
        neighbours = [tuned(4, parabola(3e-3)), tuned(16, parabola(3.5e-3))]
        assert TUNER.borrowed(HERE, neighbours, 3) == [{RATES.path: 3e-3}]

    def test_neighbours_within_half_a_step_of_the_grid_agree_and_the_nearest_decides(self) -> None:
        near = tuned(4, {1e-3: 0.1, 3e-3: 0.5, 1e-2: 0.2})
        close = tuned(16, {1e-3: 0.1, 5e-3: 0.5, 1e-2: 0.2})
        assert rates(TUNER.borrowed(HERE, [near, close], 3)) == [3e-3]
        assert rates(TUNER.borrowed(HERE, [close, near], 3)) == [5e-3]
        apart = tuned(16, {1e-3: 0.1, 6e-3: 0.5, 1e-2: 0.2})
        assert len(TUNER.borrowed(HERE, [near, apart], 3)) > 1

    def test_where_they_disagree_both_of_their_settings_are_tried_and_one_that_a_model_of_both_proposes(self) -> None:
        settings = TUNER.borrowed(HERE, [tuned(4, parabola(1.2e-3)), tuned(16, parabola(2.5e-3))], 3)
        assert rates(settings)[:2] == [1e-3, 3e-3]
        (proposed,) = rates(settings)[2:]
        assert 1.2e-3 < proposed < 2.5e-3
        assert proposed == float(f"{proposed:.2g}")

    def test_the_middle_of_neighbours_further_apart_than_the_grid_is_tried(self) -> None:
        settings = rates(TUNER.borrowed(HERE, [tuned(4, parabola(1e-3)), tuned(16, parabola(1e-2))], 3))
        assert settings == [1e-3, 1e-2, 3.2e-3]

    def test_a_single_neighbour_is_not_believed_without_a_trial(self) -> None:
        settings = rates(TUNER.borrowed(HERE, [tuned(4, parabola(2e-3))], 3))
        assert settings[0] == 3e-3
        assert 1 <= len(settings) <= 2

    def test_only_the_shape_is_borrowed_not_the_height(self) -> None:
        def ask(height: float) -> list[Setting]:
            return TUNER.borrowed(HERE, [tuned(4, parabola(1.2e-3)), tuned(16, parabola(2.5e-3, height))], 3)

        assert ask(0.5) == ask(0.9) == ask(0.1)

    @pytest.mark.parametrize("seed", range(8))
    def test_settings_nearer_than_a_quarter_of_a_step_are_not_both_tried_and_there_are_at_most_three(
        self, seed: int
    ) -> None:
        low, high = parabola(1e-3 * 1.15**seed), parabola(1e-2 / 1.1**seed)
        settings = rates(TUNER.borrowed(HERE, [tuned(4, low), tuned(16, high)], seed))
        assert len(settings) <= NUM_BORROWED
        logs = sorted(math.log(rate) for rate in settings)
        assert all(b - a > 0.25 * math.log(RATES.ratio) for a, b in itertools.pairwise(logs))

    def test_a_rebuilt_sampler_proposes_the_same(self) -> None:
        neighbours = [tuned(4, parabola(1.2e-3)), tuned(16, parabola(2.5e-3))]
        again = NuisanceTuner(design=known_design())
        assert again.borrowed(HERE, neighbours, 3) == TUNER.borrowed(HERE, neighbours, 3)
        assert len({TUNER.seed(HERE, 3), TUNER.seed(HERE, 4), TUNER.seed({BATCHES.path: 6}, 3)}) == 3

    def test_two_nuisances_agree_only_where_both_do(self) -> None:
        decay = Axis(path="optimizer.weight_decay", values=(1e-4, 1e-3, 1e-2))
        tuner = NuisanceTuner(design=known_design(nuisance=(RATES, decay)))

        def cell(rate: float, best_decay: float) -> TunedCell:
            outcomes = {
                json.dumps({RATES.path: r, decay.path: d}): [0.9 if (r, d) == (rate, best_decay) else 0.1]
                for r in RATES.values
                for d in decay.values
            }
            return tuner.tuned(HERE, outcomes)

        assert tuner.borrowed(HERE, [cell(3e-3, 1e-3), cell(3e-3, 1e-3)], 3) == [{RATES.path: 3e-3, decay.path: 1e-3}]
        assert tuner.borrowed(HERE, [cell(3e-3, 1e-3), cell(3e-3, 1e-2)], 3)[:2] == [
            {RATES.path: 3e-3, decay.path: 1e-3},
            {RATES.path: 3e-3, decay.path: 1e-2},
        ]

    def test_a_proposal_far_beyond_both_neighbours_is_not_tried(self) -> None:
        # Where outcomes fall off like a cusp the model would look at the end of what was tried.
        cusp = {1e-3: 0.3, 3e-3: 0.2, 1e-2: 0.13}, {1e-3: 0.13, 3e-3: 0.2, 1e-2: 0.3, 3.33e-2: 0.2}
        settings = rates(TUNER.borrowed(HERE, [tuned(4, cusp[0]), tuned(16, cusp[1])], 3))
        assert max(settings) < 1e-2 * math.sqrt(RATES.ratio)


class TestExtension:
    def test_what_a_neighbour_tried_beyond_is_no_edge(self) -> None:
        cell = tuned(8, {1e-3: 0.2, 1e-2: 0.5})
        assert rates(TUNER.extension(cell)) == [3.33e-2]
        assert TUNER.extension(cell, [tuned(16, parabola(1e-2, rates=(3e-3, 1e-2, 3.33e-2)))]) == []

    def test_beyond_all_that_anyone_tried_it_goes_on_by_a_step_of_the_grid(self) -> None:
        cell = tuned(8, {1e-2: 0.4, 3.33e-2: 0.5})
        (further,) = rates(TUNER.extension(cell, [tuned(16, parabola(1e-2))]))
        assert further == pytest.approx(3.33e-2 * math.sqrt(10), rel=0.01)

    def test_a_cell_without_a_measured_setting_has_none(self) -> None:
        cell = TUNER.tuned(HERE, {json.dumps({RATES.path: 1e-3}): [0.4, None]})
        assert cell.best is None
        assert TUNER.extension(cell) == []
