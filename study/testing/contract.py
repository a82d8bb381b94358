"""The contract of a recipe, as tests: inherit :class:`RecipeContract`, name the recipe, and run pytest.

class TestMine(RecipeContract):
    recipe = MINE
    configs = (MyConfig(), MyConfig(width=8))
"""

import dataclasses
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from study.designs.values import Scalar, flatten, from_json, to_json, with_values
from study.interface.metrics import Metric
from study.interface.recipe import Recipe, find_recipe
from study.interface.run import Context, Replicate, Result
from study.outcome import MEASURED_OUTCOMES, Outcome


class MemoryCheckpoints:
    """Checkpoints that live as long as the test."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}

    def load(self, key: str) -> bytes | None:
        return self.states.get(key)

    def save(self, key: str, state: bytes) -> None:
        self.states[key] = state

    def delete(self, key: str) -> None:
        self.states.pop(key, None)


class RecipeContract:
    """What every recipe keeps.

    ``configs`` are small ones that train in a moment; ``alike`` are changes of the first one that may share a pack
    with it. ``tolerance`` is how far a member of a pack may be from what it is alone, relative and absolute: batched
    products round differently.
    """

    recipe: ClassVar[Recipe[Any]]
    configs: ClassVar[Sequence[Any]]
    alike: ClassVar[Sequence[Mapping[str, Scalar]]] = ()
    data_root: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 0.0

    def run(self, pack: Sequence[Replicate[Any]], context: Context | None = None) -> list[Result]:
        """Work a pack off."""
        data = self.recipe.load(pack[0].config, self.data_root)
        run = self.recipe.start(pack, data, context or Context())
        while not run.is_done:
            run.advance()
        return run.results()

    def replicate(self, config: Any, seed: int = 101) -> Replicate[Any]:
        """A replicate on the recipe's own data."""
        return self.recipe.replicate(config, seed, self.recipe.load(config, self.data_root).digest)

    def assert_same(self, one: Result, other: Result, tolerance: float) -> None:
        """Assert that two results are the same finding."""
        assert one.replicate.key == other.replicate.key
        assert one.outcome == other.outcome
        for found, wanted in ((one.metrics, other.metrics), (one.before, other.before)):
            assert dict(found) == pytest.approx(dict(wanted), rel=tolerance, abs=tolerance)

    def test_workers_find_it_by_its_address(self) -> None:
        assert find_recipe(self.recipe.address) is self.recipe

    def test_a_configuration_is_frozen_and_comes_back_from_its_text(self) -> None:
        configs: list[Any] = [self.recipe.config_class(), *self.configs]
        for config in configs:
            assert isinstance(config, self.recipe.config_class)
            assert from_json(self.recipe.config_class, to_json(config)) == config
            assert pickle.loads(pickle.dumps(config)) == config
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(config, next(iter(vars(config))), None)

    def test_metrics_have_names_of_their_own_and_say_what_they_mean(self) -> None:
        names = [metric.name for metric in self.recipe.metrics]
        assert names
        assert len({*names}) == len(names)
        assert all(isinstance(metric, Metric) and metric.meaning for metric in self.recipe.metrics)

    def test_what_is_reported_is_declared(self) -> None:
        declared = {metric.name: metric for metric in self.recipe.metrics}
        for config in self.configs:
            reported = self.recipe.reported(config)
            assert reported.at_end | reported.sometimes <= declared.keys()
            assert all(declared[name].has_before for name in reported.judged)
            levels = [metric.chance_of(config) for metric in self.recipe.metrics]
            assert all(level is None or math.isfinite(level) for level in levels)

    def test_a_key_tells_configurations_seeds_and_data_apart(self) -> None:
        config = self.configs[0]
        keys = [self.recipe.key(config, seed, data) for seed in (1, 2) for data in ("a", "b")]
        keys += [self.recipe.key(other, 1, "a") for other in self.configs[1:]]
        assert len({*keys}) == len(keys)
        assert self.recipe.key(with_values(config, flatten(config)), 1, "a") == keys[0]

    def test_costs_and_workers_are_numbers_that_can_be_planned_with(self) -> None:
        for config in self.configs:
            for data in (None, self.recipe.load(config, self.data_root)):
                cost = self.recipe.cost(config, data, 1)
                assert cost.largest_pack >= 1
                assert cost.work > 0
                assert min(cost.per_replicate, cost.shared) >= 0
            assert all(1 <= self.recipe.num_workers(config, asked) <= asked for asked in (1, 2, 3))

    def test_its_data_are_accepted_and_have_one_digest(self) -> None:
        for config in self.configs:
            data = self.recipe.load(config, self.data_root)
            self.recipe.check(config, data, 1)
            assert self.recipe.load(config, self.data_root).digest == data.digest
            key = self.recipe.data_key(config)
            alike = [other for other in self.configs if self.recipe.data_key(other) == key]
            assert {self.recipe.load(other, self.data_root).digest for other in alike} == {data.digest}

    def test_a_run_gives_what_was_declared(self) -> None:
        for config in self.configs:
            replicate, reported = self.replicate(config), self.recipe.reported(config)
            (result,) = self.run([replicate])
            assert result.replicate == replicate
            assert result.outcome in (*MEASURED_OUTCOMES, Outcome.DIVERGED)
            assert reported.judged <= result.before.keys()
            if result.outcome in MEASURED_OUTCOMES:
                assert reported.at_end <= result.metrics.keys() <= reported.at_end | reported.sometimes
                assert all(map(math.isfinite, result.metrics.values()))
            names = {metric.name for metric in self.recipe.metrics}
            assert {point.metric for point in result.curves} <= names

    def test_the_same_seed_gives_the_same_numbers(self) -> None:
        replicate = self.replicate(self.configs[0])
        self.assert_same(self.run([replicate])[0], self.run([replicate])[0], 0.0)

    def test_a_member_of_a_pack_gives_what_it_gives_alone(self) -> None:
        first = self.configs[0]
        configs = [first, *(with_values(first, values) for values in self.alike)]
        assert len({self.recipe.together(config) for config in configs}) == 1
        pack = [self.replicate(config, seed) for seed, config in enumerate([*configs, first], start=101)]
        results = self.run(pack)
        assert [result.replicate.key for result in results] == [replicate.key for replicate in pack]
        for replicate, result in zip(pack, results, strict=True):
            self.assert_same(result, self.run([replicate])[0], self.tolerance)

    def test_a_run_that_was_cut_short_goes_on_to_the_same_numbers(self) -> None:
        replicate, store = self.replicate(self.configs[0]), MemoryCheckpoints()
        data = self.recipe.load(replicate.config, self.data_root)
        self.recipe.start([replicate], data, Context(checkpoints=store)).advance()
        resumed = self.run([replicate], Context(checkpoints=store))
        self.assert_same(resumed[0], self.run([replicate])[0], self.tolerance)

    def test_nothing_is_left_of_checkpoints_that_are_deleted(self) -> None:
        replicate, store = self.replicate(self.configs[0]), MemoryCheckpoints()
        data = self.recipe.load(replicate.config, self.data_root)
        run = self.recipe.start([replicate], data, Context(checkpoints=store))
        while not run.is_done:
            run.advance()
        run.delete_checkpoints()
        assert not store.states
