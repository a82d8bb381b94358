"""A contract that every law keeps: what it is, where it refuses, and that its number answers to its outcome."""

import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import study.recipes.contrastive.laws
from study.designs.assembly import make_design
from study.designs.catalogue import find_studies, load_space
from study.interface.theory import NotApplicableError
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Band, Law, Prediction, Setting

# A linear encoder that a first large step has collapsed.
FROZEN = Setting(
    dim=32,
    num_classes=5,
    cosine=-0.25,
    sigma=1.0,
    spread=0.5,
    mean_norm=3.0,
    num_views=2,
    temperature=0.5,
    optimizer="sgd",
    schedule="constant",
    learning_rate=100.0,
    first_step_norm=200.0,
    first_step_variance=0.005,
)
ONE = Setting(dim=64, num_classes=5, batch=60, num_blocks=1)
LEARNING = Setting(dim=128, num_classes=5, sigma=3.5, num_blocks=1)
FREE = Setting(train_batch=32, num_views=2, temperature=0.5, embedding_dim=16)
# A setting that each law says something about; a new law adds its own.
VALID: dict[str, Setting] = {
    **dict.fromkeys(("geometric", "extreme_value", "one_block", "one_block_jsd", "one_block_closed", "spectral"), ONE),
    "control_bbp_as_mass": ONE,
    "one_block_unbalanced": Setting(dim=64, class_sizes=(30, 20, 10, 10), num_blocks=1),
    "state_evolution": Setting(dim=64, num_classes=5, cosine=-0.25, batch=60, num_blocks=2),
    "state_evolution_batch": Setting(dim=64, num_classes=5, cosine=-0.25, sigma=2.1, num_blocks=2, residual=False),
    "spectral_batch": Setting(dim=64, num_classes=5, sigma=3.0),
    "depth": Setting(dim=256, num_classes=5, sigma=0.5, batch=100),
    "depth_state_evolution": Setting(dim=256, num_classes=5, sigma=0.5, batch=100),
    **dict.fromkeys(
        ("trained", "trained_jsd", "trained_plus", "trained_plus_jsd", "bayes_jsd", "control_bayes_as_mass"),
        Setting(dim=32, num_classes=5, batch=50, num_blocks=1),
    ),
    "coverage": Setting(num_classes=5),
    "n2t": dataclasses.replace(LEARNING, steps=48),
    "n2t_examples": dataclasses.replace(LEARNING, num_examples=600),
    "n2t_steps": dataclasses.replace(LEARNING, train_batch=20),
    "source_batch": Setting(dim=64, num_classes=2, sigma=4.0, spread=4.0, num_views=2, num_blocks=1),
    "free_escape": dataclasses.replace(FREE, learning_rate=2.0, first_step_variance=0.01),
    "alignment_rate": FREE,
    "frozen_escape": FROZEN,
    "frozen_rate": dataclasses.replace(FROZEN, steps=800),
    "oar_escape": dataclasses.replace(FROZEN, oar_weight=1.0),
    "class_mean_labels": Setting(dim=64, num_classes=5, spread=2.5),
    "labels_subspace": Setting(dim=64, num_classes=5, spread=6.0),
    "labels_trained": Setting(
        dim=128, num_classes=5, spread=3.0, sigma=1.0, optimizer="sgd", learning_rate=0.1, steps=20_000, oar_weight=1.0
    ),
    **dict.fromkeys(("label_coverage", "two_classes"), Setting(num_classes=5)),
}
# How the threshold moves when a field grows, other things equal: +1 up, -1 down.
MOVES: dict[str, dict[str, tuple[Any, int]]] = {
    "one_block": {"dim": (128, 1), "num_classes": (6, -1), "batch": (120, 1)},
    "one_block_jsd": {"dim": (128, 1), "num_classes": (6, -1)},
    "one_block_unbalanced": {"dim": (128, 1), "cosine": (0.1, -1)},
    "one_block_closed": {"dim": (128, 1), "num_classes": (6, -1)},
    "extreme_value": {"dim": (128, 1), "batch": (120, -1)},
    "geometric": {"cosine": (0.1, -1)},
    "state_evolution": {"dim": (128, 1), "batch": (120, 1)},
    "state_evolution_batch": {"sigma": (2.3, 1), "dim": (96, -1)},
    "spectral": {"dim": (128, 1), "batch": (120, 1), "num_classes": (6, -1)},
    "spectral_batch": {"sigma": (3.3, 1), "dim": (128, -1)},
    "depth": {"sigma": (0.8, -1), "dim": (512, 1)},
    "depth_state_evolution": {"sigma": (0.8, -1)},
    "control_bbp_as_mass": {"dim": (128, 1)},
    "trained": {"dim": (64, 1), "num_classes": (4, 1)},
    "trained_jsd": {"dim": (64, 1)},
    "trained_plus": {"dim": (64, 1), "num_classes": (4, 1)},
    "trained_plus_jsd": {"dim": (64, 1), "num_classes": (4, 1)},
    "bayes_jsd": {"dim": (64, 1)},
    "control_bayes_as_mass": {"dim": (64, 1)},
    "coverage": {"num_classes": (10, 1)},
    "n2t": {"steps": (24, 1), "sigma": (4.0, 1), "dim": (100, 1)},
    "n2t_examples": {"num_examples": (300, 1), "sigma": (4.0, 1)},
    "n2t_steps": {"train_batch": (40, -1), "sigma": (4.0, 1)},
    "source_batch": {"dim": (128, 1), "sigma": (5.0, -1)},
    "free_escape": {"learning_rate": (4.0, -1), "first_step_variance": (0.001, 1), "temperature": (1.0, 1)},
    "alignment_rate": {"train_batch": (64, 1)},
    "frozen_escape": {"first_step_norm": (400.0, 1), "learning_rate": (200.0, -1), "first_step_variance": (0.001, 1)},
    "frozen_rate": {"steps": (3200, 1), "first_step_norm": (400.0, -1)},
    "oar_escape": {"oar_weight": (5.0, -1), "first_step_norm": (400.0, 1)},
    "class_mean_labels": {"spread": (3.0, 1), "dim": (128, -1)},
    "labels_subspace": {"spread": (7.0, 1)},
    "labels_trained": {"spread": (3.3, 1)},
    "label_coverage": {"num_classes": (10, 1)},
    "two_classes": {"num_classes": (10, -1)},
}


@pytest.mark.parametrize("name", LAWS)
class TestEveryLaw:
    """What a new law inherits."""

    def test_it_goes_by_its_name_and_says_where_it_comes_from(self, name: str) -> None:
        law = LAWS[name]
        assert law.name == name
        assert law.source.startswith("derived in docs/theory.md, ")
        assert min(map(len, (law.says, law.assumptions, law.validity))) > 15
        assert law.says[0].islower() or law.says[0].isupper()
        assert not law.says.endswith(".")

    def test_its_prediction_lies_in_its_band(self, name: str) -> None:
        prediction = LAWS[name].predict(VALID[name])
        assert isinstance(prediction, Prediction)
        assert 0 < prediction.low <= prediction.value <= prediction.high
        band = prediction.band
        assert isinstance(band, Band)
        assert 0 <= band.median <= band.maximum
        assert band.num_settings >= 1

    def test_a_missing_input_is_named(self, name: str) -> None:
        law = LAWS[name]
        for field in law.inputs:
            if getattr(Setting(), field) is None:
                with pytest.raises(NotApplicableError, match=field):
                    law.predict(dataclasses.replace(VALID[name], **{field: None}))

    def test_it_refuses_beyond_what_was_verified(self, name: str) -> None:
        law = LAWS[name]
        for field, (low, high) in law.ranges.items():
            for value in (low - 1, high + 1):
                rows = value * (VALID[name].num_classes or 1)
                change = {"batch": rows} if field == "per_class" else {field: value}
                with pytest.raises(NotApplicableError):
                    law.predict(dataclasses.replace(VALID[name], **change))

    def test_arrays_give_what_a_loop_gives(self, name: str) -> None:
        law, setting = LAWS[name], VALID[name]
        field = next(f for f in law.inputs if isinstance(getattr(setting, f), int | float))
        values = np.array([getattr(setting, field)] * 2)
        expected = [law.threshold(setting)] * 2
        np.testing.assert_allclose(law.thresholds(setting, **{field: values}), expected)

    def test_its_outcome_crosses_the_level_at_its_threshold(self, name: str) -> None:
        law, setting = LAWS[name], VALID[name]
        if law.outcome is None or law.level is None:
            return
        value = law.threshold(setting)
        below, above = (
            law.outcome(dataclasses.replace(setting, **{law.quantity: factor * value})) for factor in (0.9, 1.1)
        )
        assert min(below, above) < law.level < max(below, above)

    def test_it_moves_as_theory_says(self, name: str) -> None:
        law, setting = LAWS[name], VALID[name]
        for field, (value, sign) in MOVES[name].items():
            moved = law.threshold(dataclasses.replace(setting, **{field: value}))
            assert np.sign(moved - law.threshold(setting)) == sign, field


def test_the_bands_in_the_theory_are_those_of_the_code() -> None:
    text = (Path(__file__).parent.parent / "docs" / "theory.md").read_text()
    table = text.partition("<!-- bands -->")[2].partition("<!-- /bands -->")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line]
    # Where a law has several cases, the first row is that of its setting here.
    rows = {name.strip("`"): numbers for name, *_, numbers in reversed([(c[0], c[1:]) for c in cells])}
    assert set(rows) == set(LAWS)
    for name, law in LAWS.items():
        band = law.band(VALID[name])
        errors = [f"{100 * x:.0f} %" if x >= 0.1 else f"{100 * x:.2g} %" for x in (band.median, band.maximum)]
        assert rows[name] == [law.criterion, rows[name][1], str(band.num_settings), *errors], name


def test_every_law_in_a_file_is_listed() -> None:
    found: set[str] = set()
    for info in pkgutil.iter_modules(study.recipes.contrastive.laws.__path__):
        module = importlib.import_module(f"study.recipes.contrastive.laws.{info.name}")
        found |= {value.name for value in vars(module).values() if isinstance(value, Law)}
    assert found == set(LAWS)


@pytest.mark.parametrize("study_name", find_studies())
def test_the_laws_that_studies_name_exist(study_name: str) -> None:
    space = load_space(study_name)
    for variant in space.variants:
        for dataset in space.variants[variant].datasets or space.datasets:
            assert set(make_design(space, variant=variant, dataset=dataset).laws) <= set(LAWS)
