"""Search spaces: a contract that every file of search_spaces/ keeps, and how designs are resolved and hashed."""

import dataclasses
import importlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import ClassVar

import pytest

from study.designs.assembly import make_design
from study.designs.axis import Axis
from study.designs.catalogue import find_studies, load_space
from study.designs.cost import plan_size
from study.designs.criterion import Criterion
from study.designs.space import SERIES, Budget, SearchSpace, Series, Variant
from study.designs.values import field_types, flatten
from study.errors import ConfigError
from study.interface.metrics import Quantity
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.metrics.declared import reported
from study.recipes.contrastive.recipe import Contrastive
from tests.synthetic import BATCHES, RATES, STRENGTHS, known_design, search_space

STUDIES = find_studies()
ODD = Series(name="odd", values={}, grids={"batch.train": (3, 9)})
SOUGHT = Axis(path="batch.train", values=(4, 16, 64), steps_per_octave=2, multiple=2)


class OtherWords(Contrastive):
    """The same runs along axes that are called otherwise."""

    address = f"{__name__}:OTHER_WORDS"
    quantities: ClassVar = {BATCHES.path: Quantity(label="other words", unit="other words")}


OTHER_WORDS = OtherWords()


def combinations(space: SearchSpace) -> Iterator[tuple[str, str, str]]:
    return (
        (name, profile, dataset)
        for name, variant in space.variants.items()
        for profile in space.profiles
        for dataset in variant.datasets or space.datasets
    )


@pytest.mark.parametrize("name", STUDIES)
class TestEverySearchSpace:
    """What a new file of search_spaces/ inherits."""

    def test_it_loads_under_the_name_of_its_file(self, name: str) -> None:
        assert load_space(name).name == name

    def test_its_docstring_opens_with_its_question_and_gives_command_size_and_cost(self, name: str) -> None:
        text = importlib.import_module(f"search_spaces.{name}").__doc__
        assert text is not None
        question, blank, *rest = text.splitlines()
        assert "?" in question, question
        assert blank == ""
        assert load_space(name).question.startswith(question[: question.index("?") + 1])
        head = "\n".join(rest[:3])
        assert re.search(rf"^Command: +python -m study\.sweep {name}$", head, re.MULTILINE)
        assert re.search(r"^Cost: +\S", head, re.MULTILINE)
        size = re.search(r"^Size: +(\d+) to (\d+) replicates", head, re.MULTILINE)
        assert size is not None
        design = make_design(load_space(name))
        planned = plan_size(design, load_space(name).budget.replicates)
        assert (int(size[1]), int(size[2])) == (planned.least, planned.greatest)

    def test_every_combination_resolves_at_every_point_or_says_why_not(self, name: str) -> None:
        space = load_space(name)
        resolved, refused = 0, []
        for variant, profile, dataset in combinations(space):
            try:
                design = make_design(space, variant=variant, profile=profile, dataset=dataset)
                grid = itertools.product(*([(axis.path, value) for value in axis.values] for axis in design.nuisance))
                for point, setting, role in itertools.product(design.points(), map(dict, grid), ("tuning", "reported")):
                    assert isinstance(design.resolve(point, setting, role), ReplicateConfig)
                    resolved += 1
            except ConfigError as error:
                refused.append(str(error))
        assert resolved
        assert all(len(sentence) > 20 and "\n" not in sentence for sentence in refused)

    def test_its_default_design_resolves(self, name: str) -> None:
        design = make_design(load_space(name))
        assert design.variant == load_space(name).default_variant()
        assert design.resolve(design.points()[0], {}, "reported").data.name in load_space(name).datasets

    def test_combinations_that_differ_in_their_configuration_differ_in_their_hash(self, name: str) -> None:
        space = load_space(name)
        designs = [make_design(space, variant=v, profile=p, dataset=d) for v, p, d in combinations(space)]
        identities = {(d.variant, json.dumps(flatten(d.config))) for d in designs}
        assert len({d.hash for d in designs}) == len(identities)

    def test_its_hash_ignores_the_order_in_which_dictionaries_are_written(self, name: str) -> None:
        space = load_space(name)

        def turned(values: object) -> object:
            assert isinstance(values, dict)
            items = [(key, turned(value) if isinstance(value, dict) else value) for key, value in values.items()]
            return dict(reversed(items))

        fields = ("tuning", "variants", "profiles", "datasets")
        other = dataclasses.replace(space, **{name: turned(getattr(space, name)) for name in fields})
        variant = space.default_variant()
        assert make_design(other, variant=variant).hash == make_design(space, variant=variant).hash

    def test_its_hash_ignores_the_number_of_replicates(self, name: str) -> None:
        space = load_space(name)
        more = dataclasses.replace(space, budget=dataclasses.replace(space.budget, replicates=99))
        assert make_design(more).hash == make_design(space).hash

    def test_its_hash_depends_on_an_override(self, name: str) -> None:
        space = load_space(name)
        changed = make_design(space, overrides={"optimizer.weight_decay": 0.123})
        assert changed.hash != make_design(space).hash
        assert changed.is_exploratory
        assert not make_design(space).is_exploratory

    def test_its_axes_are_configuration_paths(self, name: str) -> None:
        space = load_space(name)
        for variant in space.variants:
            design = make_design(space, variant=variant)
            assert {axis.path for axis in (*design.scientific, *design.nuisance)} <= set(field_types(ReplicateConfig))

    def test_every_combination_is_a_design_whose_replicates_report_what_they_are_judged_by(self, name: str) -> None:
        space = load_space(name)
        for variant, profile, dataset in combinations(space):
            design = make_design(space, variant=variant, profile=profile, dataset=dataset)
            configs = [design.resolve(point, {}, "reported") for point in design.points()]
            for criterion in (design.criterion, *design.further_criteria):
                assert all(criterion.metric in reported(config).at_end for config in configs)
                # The floor of a diverged replicate.
                assert criterion.floor != "before" or all(criterion.metric in reported(c).judged for c in configs)


class TestDesign:
    def test_profile_data_set_variant_and_set_are_applied_in_this_order(self) -> None:
        space = search_space(
            profiles={
                "laptop": {"model.width": 8, "batch.eval": 20, "evaluation.num_batches": 3, "loss.target": "class"}
            },
            datasets={"digits": {"batch.eval": 60, "evaluation.num_batches": 4}},
            variants={"learning": Variant(values={"evaluation.num_batches": 5, "horizon.length": 10})},
        )
        config = make_design(space, overrides={"horizon.length": 11}).config
        assert (config.model.width, config.batch.eval) == (8, 60)
        assert (config.evaluation.num_batches, config.horizon.length) == (5, 11)

    @pytest.mark.parametrize(
        "changes",
        [
            {"criterion": Criterion(metric="p", fraction=0.9)},
            {"criterion": Criterion(metric="s_j", fraction=0.5)},
            {"scientific": (Axis(path=BATCHES.path, values=(4, 16, 128)),)},
            {"scientific": (BATCHES, STRENGTHS)},
            {"nuisance": ()},
            {"tuning": {"evaluation.split": "validation"}},
            {"budget": Budget(tuning_seeds=3, replicates=5)},
            {"laws": {"digits": ("n2t",)}},
            {"margin_octaves": 0.25},
            {"flank": "falling"},
            {"scientific": (BATCHES, STRENGTHS), "plane": True},
            {"scientific": (SOUGHT,)},
            {"scientific": (dataclasses.replace(SOUGHT, steps_per_octave=4),)},
            {"scientific": (dataclasses.replace(SOUGHT, multiple=4),)},
            {"name": "other"},
        ],
    )
    def test_the_hash_depends_on_everything_that_was_designed(self, changes: dict[str, object]) -> None:
        assert known_design(**changes).hash != known_design().hash

    @pytest.mark.parametrize(
        "changes",
        [
            {"budget": Budget(tuning_seeds=2, replicates=50)},
            {"budget": Budget(tuning_seeds=2, precision=0.1, max_replicates=9, round_replicates=2)},
            {"question": "Is it the words?"},
            {"recipe": OTHER_WORDS},
            {"profiles": {"laptop": {}, "cluster": {"model.width": 32}}},
        ],
    )
    def test_the_hash_ignores_budget_and_words(self, changes: dict[str, object]) -> None:
        assert known_design(**changes).hash == known_design().hash

    def test_the_hash_depends_on_variant_and_data_set(self) -> None:
        space = search_space()
        hashes = {make_design(space, variant=v, dataset=d).hash for v, _, d in combinations(space)}
        assert len(hashes) == 4

    def test_a_value_set_to_what_it_is_already_changes_the_label_but_not_the_hash(self) -> None:
        same = make_design(search_space(), overrides={"horizon.length": 600})
        assert same.hash == known_design().hash
        assert same.is_exploratory

    def test_whole_and_decimal_spellings_of_a_number_are_one_design(self) -> None:
        space = search_space()
        whole = make_design(space, overrides={"data.strength": 1})
        assert whole.hash == make_design(space, overrides={"data.strength": 1.0}).hash

    def test_points_are_the_product_of_the_scientific_axes(self) -> None:
        points = known_design(scientific=(BATCHES, STRENGTHS)).points()
        assert [(p[BATCHES.path], p[STRENGTHS.path]) for p in points] == [
            (4, 0.1), (4, 0.2), (16, 0.1), (16, 0.2), (64, 0.1), (64, 0.2),
        ]  # fmt: skip

    @pytest.mark.parametrize("path", [BATCHES.path, RATES.path])
    def test_an_axis_cannot_be_fixed(self, path: str) -> None:
        with pytest.raises(ConfigError, match=f"{path} is an axis of known"):
            make_design(search_space(), overrides={path: 4})

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"variant": "lerning"}, "unknown variant of known 'lerning': did you mean 'learning'?"),
            ({"profile": "laptops"}, "unknown profile of known 'laptops': did you mean 'laptop'?"),
            ({"dataset": "digit"}, "unknown data set of known 'digit': did you mean 'digits'?"),
            ({"overrides": {"horizon.lenght": 3}}, "did you mean 'horizon.length'?"),
            ({"overrides": {"horizon.length": -1}}, "horizon.length must not be negative"),
            ({"overrides": {"horizon.length": 1.5}}, "horizon.length takes a value of type int, not 1.5"),
            ({"overrides": {"loss.target": "clas"}}, "loss.target takes one of class, source, not 'clas'"),
        ],
    )
    def test_what_a_user_gets_wrong_is_named(self, wrong: dict[str, object], words: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(words)):
            make_design(search_space(), **wrong)  # type: ignore[arg-type]

    def test_an_unknown_study_suggests_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"unknown study 'batchlimit': did you mean 'batch_limit'\?"):
            load_space("batchlimit")


class TestDeclaration:
    @pytest.mark.parametrize(
        "changes",
        [
            {"tuning": {"evaluation.splt": "validation"}},
            {"variants": {"learning": Variant(values={"trainr": "supervised"})}},
            {"profiles": {"laptop": {"model.widht": 3}}},
            {"datasets": {"digits": {"batch.evaluation": 3}}},
        ],
    )
    def test_a_path_that_is_none_is_found_at_import(self, changes: dict[str, object]) -> None:
        with pytest.raises(AssertionError, match="is no configuration path"):
            search_space(**changes)

    def test_an_axis_over_no_configuration_path_is_found_at_import(self) -> None:
        with pytest.raises(AssertionError, match="is no configuration path"):
            search_space(scientific=(Axis(path="optimizer.rate", values=(1.0, 2.0)),))

    def test_a_value_given_twice_is_found_at_import(self) -> None:
        with pytest.raises(AssertionError):
            Axis(path=RATES.path, values=(1e-3, 1e-3))

    def test_a_nuisance_has_at_least_three_values_per_cell(self) -> None:
        with pytest.raises(AssertionError, match="at least 3 values"):
            search_space(nuisance=(Axis(path=RATES.path, values=(1e-3, 1e-2)),))

    def test_a_criterion_is_a_fraction_or_a_level(self) -> None:
        with pytest.raises(AssertionError):
            Criterion(metric="p")
        with pytest.raises(AssertionError):
            Criterion(metric="p", fraction=0.5, level=0.5)
        with pytest.raises(AssertionError, match="success is to reach a level"):
            Criterion(metric="p", fraction=0.5, share=0.5)
        with pytest.raises(AssertionError, match="between 0 and 1"):
            Criterion(metric="p", level=0.5, share=1.0)

    def test_a_share_of_seeds_turns_outcomes_into_success_and_failure(self) -> None:
        fused = Criterion(metric="mean_cosine", level=0.5, share=0.5)
        assert [fused.outcome(value) for value in (-1.0, 0.49, 0.5, 0.99)] == [0, 0, 1, 1]
        assert fused.sentence == "mean_cosine ≥ 0.5 in 50% of seeds"
        plain = Criterion(metric="mean_cosine", level=0.5)
        assert plain.outcome(0.49) == 0.49
        assert "share" not in plain.canonical()
        assert fused.canonical() == plain.canonical() | {"share": 0.5}

    def test_a_criterion_reads_as_words(self) -> None:
        assert Criterion(metric="p", fraction=0.5).sentence == "half rise of p"
        assert Criterion(metric="p", fraction=0.9).sentence == "90% rise of p"
        assert Criterion(metric="p", level=0.5).sentence == "p = 0.5"


class TestAxis:
    @pytest.mark.parametrize(
        ("values", "low", "high"),
        [((1e-4, 3e-4, 1e-3), 3.33e-5, 3.33e-3), ((1, 2, 4), 0.5, 8.0), ((3e-3, 1e-3, 1e-2), 3.33e-4, 3.33e-2)],
    )
    def test_a_geometric_grid_goes_on_by_its_own_ratio(
        self, values: tuple[float, ...], low: float, high: float
    ) -> None:
        axis = Axis(path=RATES.path, values=values)
        assert (axis.beyond("low"), axis.beyond("high")) == (low, high)


class TestCandidates:
    def test_an_axis_that_is_not_sought_has_its_values_alone(self) -> None:
        assert BATCHES.candidates() == BATCHES.values
        assert BATCHES.candidates((8, 32)) == (8, 32)

    def test_stage_one_and_geometric_steps_between_its_neighbours_in_multiples(self) -> None:
        assert SOUGHT.candidates() == (4, 6, 8, 12, 16, 22, 32, 46, 64)
        assert all(isinstance(value, int) for value in SOUGHT.candidates())

    def test_small_multiples_give_each_value_once(self) -> None:
        axis = dataclasses.replace(SOUGHT, values=(4, 8, 16), steps_per_octave=8)
        assert axis.candidates() == (4, 6, 8, 10, 12, 14, 16)

    def test_without_a_multiple_they_have_three_digits_and_stage_one_keeps_its_spelling(self) -> None:
        axis = Axis(path="data.strength", values=(0.25, 1, 1.5), steps_per_octave=2)
        assert axis.candidates() == (0.25, 0.354, 0.5, 0.707, 1, 1.5)
        assert [type(value) for value in axis.candidates()][-2:] == [int, float]

    def test_a_control_at_zero_is_none_of_them(self) -> None:
        axis = Axis(path="data.strength", values=(0.0, 0.5, 1.0), steps_per_octave=1)
        assert axis.candidates() == (0.5, 1.0)

    def test_a_linear_axis_has_all_multiples_within_its_range(self) -> None:
        axis = Axis(path="model.num_blocks", values=(1, 4, 9), scale="linear", steps_per_octave=1, multiple=1)
        assert axis.candidates() == (1, 2, 3, 4, 5, 6, 7, 8, 9)

    def test_a_series_has_candidates_of_its_own_grid(self) -> None:
        design = known_design(scientific=(SOUGHT,), series=(dataclasses.replace(NARROW), WIDE))
        found = {part.others[SERIES]: [x for (x,) in part.candidates] for part in design.slices()}
        assert found == {"narrow": [8, 12, 16, 22, 32], "wide": list(SOUGHT.candidates())}

    def test_every_candidate_is_a_configuration(self) -> None:
        for name, (variant, profile, dataset) in ((n, c) for n in STUDIES for c in combinations(load_space(n))):
            try:
                design = make_design(load_space(name), variant=variant, profile=profile, dataset=dataset)
            except ConfigError:
                continue
            for part in design.slices() if design.is_sought else ():
                for candidate in part.candidates:
                    assert isinstance(design.resolve(part.point(candidate), {}, "reported"), ReplicateConfig)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"values": (4, 6, 8, 10, 12, 14, 16)}, "at most 6 values"),
            ({"values": (4, 9)}, "not in multiples"),
            ({"multiple": 0}, "names its multiple"),
            ({"values": (4, 8), "also": {4: {"batch.eval": 40}}}, "bring nothing with them"),
        ],
    )
    def test_what_cannot_be_sought_is_found_at_import(self, changes: dict[str, object], words: str) -> None:
        with pytest.raises(AssertionError, match=words):
            search_space(scientific=(dataclasses.replace(SOUGHT, **changes),))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"scientific": (STRENGTHS, SOUGHT)}, "along the first axis"),
            ({"scientific": (STRENGTHS, SOUGHT), "plane": True}, "that of its first axis"),
            ({"scientific": (SOUGHT,), "plane": True}, "has two axes"),
            ({"scientific": (SOUGHT, STRENGTHS), "plane": True, "flank": "both"}, "has one flank"),
            (
                {"scientific": (SOUGHT,), "series": (Series(name="odd", values={}, grids={"batch.train": (3, 9)}),)},
                "multiples",
            ),
        ],
    )
    def test_a_design_that_cannot_seek_is_found_when_it_is_made(self, changes: dict[str, object], words: str) -> None:
        with pytest.raises(ConfigError, match=rf"search_spaces/known\.py makes no design: .*{words}"):
            known_design(**changes)


class TestPlanSize:
    def test_a_sought_limit_costs_stage_one_at_least_and_its_budget_with_tuned_new_points_at_most(self) -> None:
        budget = Budget(tuning_seeds=2, replicates=1, max_replicates=7)
        size = plan_size(known_design(scientific=(SOUGHT, STRENGTHS), budget=budget), 1)
        # Two slices of three points; four further replicates each, in a new cell each, of four settings and two seeds.
        assert (size.least, size.num_sought, size.num_sought_tuning) == (36 + 6, 2 * 4, 2 * 4 * 4 * 2)
        assert size.greatest == size.least + 12 + 8 + 64

    def test_there_are_no_more_new_cells_than_candidates(self) -> None:
        budget = Budget(tuning_seeds=2, replicates=1, max_replicates=99)
        size = plan_size(known_design(scientific=(SOUGHT,), budget=budget), 1)
        assert (size.num_sought, size.num_sought_tuning) == (96, 6 * 4 * 2)

    def test_more_seeds_in_stage_one_than_the_budget_leave_nothing_to_seek(self) -> None:
        size = plan_size(known_design(scientific=(SOUGHT,), nuisance=(), budget=Budget(max_replicates=7)), 5)
        assert (size.least, size.greatest) == (15, 15)

    def test_it_counts_tuning_extension_and_reported_replicates(self) -> None:
        size = plan_size(known_design(scientific=(BATCHES, STRENGTHS)), 5)
        assert (size.num_points, size.num_tuning, size.num_extension, size.num_reported) == (6, 36, 12, 30)
        assert (size.least, size.greatest) == (66, 78)

    def test_a_study_without_nuisances_has_only_reported_replicates(self) -> None:
        size = plan_size(known_design(nuisance=()), 5)
        assert (size.least, size.greatest) == (15, 15)


def test_what_goes_with_a_value_of_an_axis_is_set_there_and_nowhere_else() -> None:
    methods = Axis(path="trainer", values=("transfusion", "supervised"), also={"supervised": {"batch.train": 8}})
    widths = Axis(path="model.width", values=(8, 16))
    rank = Criterion(metric="effective_rank", fraction=0.5)
    space = search_space(scientific=(widths, methods), nuisance=(), criterion=rank)
    design = make_design(space)
    sizes = {point["trainer"]: design.resolve(point, {}, "reported").batch.train for point in design.points()}
    assert sizes == {"transfusion": space.config.batch.train, "supervised": 8}
    with pytest.raises(ConfigError, match=r"batch\.train goes with an axis or series of known"):
        make_design(space, overrides={"batch.train": 16})
    plain = dataclasses.replace(space, scientific=(widths, dataclasses.replace(methods, also={})))
    assert make_design(plain).hash != design.hash


def test_a_data_set_can_have_a_grid_of_its_own() -> None:
    space = search_space(grids={"cifar10": {"batch.train": (32, 128)}})
    assert make_design(space, dataset="cifar10").scientific[0].values == (32, 128)
    assert make_design(space).scientific[0].values == BATCHES.values


NARROW = Series(name="narrow", values={"model.width": 8}, grids={"batch.train": (8, 32)})
WIDE = Series(name="wide", values={"model.width": 32})


class TestSeries:
    def test_the_whole_question_is_asked_of_every_series_on_its_own_grid(self) -> None:
        design = make_design(search_space(series=(NARROW, WIDE)))
        batches = {"narrow": NARROW.grids["batch.train"], "wide": BATCHES.values}
        points = [{"batch.train": batch, SERIES: name} for name, grid in batches.items() for batch in grid]
        assert design.points() == points
        assert plan_size(design, 5).num_points == len(points)

    def test_its_values_hold_in_its_cells_alone(self) -> None:
        design = make_design(search_space(series=(NARROW, WIDE)))
        widths = {point[SERIES]: design.resolve(point, {}, "reported").model.width for point in design.points()}
        assert widths == {"narrow": 8, "wide": 32}

    def test_what_a_series_fixes_cannot_be_overridden(self) -> None:
        with pytest.raises(ConfigError, match=r"model\.width goes with an axis or series of known"):
            make_design(search_space(series=(NARROW, WIDE)), overrides={"model.width": 4})

    @pytest.mark.parametrize(
        "other",
        [(WIDE, NARROW), (NARROW,), (dataclasses.replace(NARROW, grids={}), WIDE)],
        ids=["order", "number", "grid"],
    )
    def test_the_hash_covers_series(self, other: tuple[Series, ...]) -> None:
        first = make_design(search_space(series=(NARROW, WIDE)))
        assert make_design(search_space(series=other)).hash != first.hash

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ((NARROW, dataclasses.replace(WIDE, name="narrow")), "two series of one name"),
            ((dataclasses.replace(WIDE, values={"model.widht": 3}),), "is no configuration path"),
        ],
    )
    def test_a_mistake_in_a_variant_is_found_at_import_too(self, wrong: tuple[Series, ...], words: str) -> None:
        for changes in ({"series": wrong}, {"variants": {"learning": Variant(series=wrong)}}):
            with pytest.raises(AssertionError, match=words):
                search_space(**changes)

    def test_a_grid_that_names_no_axis_is_found_at_import(self) -> None:
        with pytest.raises(AssertionError, match="a grid of odd names no axis"):
            search_space(series=(Series(name="odd", values={}, grids={"data.strength": (0.1, 0.2)}),))


class TestVariant:
    def test_it_can_ask_along_another_axis_by_another_criterion(self) -> None:
        strict = Criterion(metric="s_j", level=0.5, floor="zero")
        other = Variant(scientific=(STRENGTHS,), nuisance=(), criterion=strict, budget=Budget(replicates=9))
        grids = {"digits": {"batch.train": (2, 4)}}
        space = search_space(variants={"learning": Variant(), "other": other}, grids=grids)
        design = make_design(space, variant="other")
        assert (design.scientific, design.nuisance, design.criterion) == ((STRENGTHS,), (), strict)
        assert design.replicates == 9
        assert make_design(space).scientific[0].values == (2, 4)
        own = search_space(variants={"learning": Variant(scientific=(BATCHES,))}, grids=grids)
        assert make_design(own).scientific[0].values == BATCHES.values

    def test_one_that_changes_nothing_is_the_space_itself(self) -> None:
        assert Variant().applied(search_space()) == search_space()

    def test_a_data_set_without_a_variant_takes_the_first_one_made_for_it(self) -> None:
        variants = {"on_digits": Variant(datasets=("digits",)), "on_cifar": Variant(datasets=("cifar10",))}
        space = search_space(variants=variants)
        assert make_design(space).variant == "on_digits"
        assert make_design(space, dataset="cifar10").variant == "on_cifar"
        assert make_design(space, variant="on_cifar").config.data.name == "cifar10"

    def test_a_data_set_that_it_is_not_made_for_is_refused_with_those_that_it_is(self) -> None:
        space = search_space(variants={"on_digits": Variant(datasets=("digits",))})
        with pytest.raises(ConfigError, match="variant on_digits of known takes --dataset digits, not cifar10"):
            make_design(space, variant="on_digits", dataset="cifar10")


def test_further_criteria_change_the_hash_and_none_leaves_it() -> None:
    jsd = Criterion(metric="s_j", level=0.5)
    assert make_design(search_space(further_criteria=(jsd,))).hash != make_design(search_space()).hash
    assert "further_criteria" not in make_design(search_space()).canonical()


def test_laws_are_those_of_the_data_set() -> None:
    space = search_space(laws={"digits": ("n2t",)})
    assert make_design(space).laws == ("n2t",)
    assert make_design(space, dataset="cifar10").laws == ()
