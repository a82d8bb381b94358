"""A contract that every law keeps: what it is, where it refuses, and that its number answers to its outcome."""

import dataclasses
import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest

import study.limits
from study.design import find_studies, load_space, make_design
from study.limits import LAWS
from study.limits.law import Band, Law, NotApplicableError, Prediction, Setting

# A setting that each law says something about; a new law adds its own.
VALID: dict[str, Setting] = {
    **dict.fromkeys(
        ("geometric", "one_block_closed", "control_bbp_as_mass", "spectral"),
        Setting(dim=64, num_classes=5, batch=60, num_blocks=1),
    ),
    **dict.fromkeys(("extreme_value", "one_block", "one_block_jsd"), Setting(dim=64, num_classes=5, batch=60, num_blocks=1)),
    "state_evolution": Setting(dim=64, num_classes=5, cosine=-0.25, batch=60, num_blocks=2),
    "state_evolution_batch": Setting(dim=64, num_classes=5, cosine=-0.25, sigma=2.1, num_blocks=2, residual=False),
    "spectral_batch": Setting(dim=64, num_classes=5, sigma=2.1),
    "depth": Setting(dim=256, num_classes=5, sigma=0.5, batch=100),
    "depth_state_evolution": Setting(dim=256, num_classes=5, sigma=0.5, batch=100),
}
# How the threshold moves when a field grows, other things equal: +1 up, -1 down.
MOVES: dict[str, dict[str, tuple[Any, int]]] = {
    "one_block": {"dim": (128, 1), "num_classes": (6, -1), "batch": (120, 1)},
    "one_block_jsd": {"dim": (128, 1), "num_classes": (6, -1)},
    "one_block_closed": {"dim": (128, 1), "num_classes": (6, -1)},
    "extreme_value": {"dim": (128, 1), "batch": (120, -1)},
    "geometric": {"cosine": (0.1, -1)},
    "state_evolution": {"dim": (128, 1), "batch": (120, 1)},
    "state_evolution_batch": {"sigma": (2.3, 1), "dim": (96, -1)},
    "spectral": {"dim": (128, 1), "batch": (120, 1), "num_classes": (6, -1)},
    "spectral_batch": {"sigma": (2.3, 1), "dim": (128, -1)},
    "depth": {"sigma": (0.8, -1), "dim": (512, 1)},
    "depth_state_evolution": {"sigma": (0.8, -1)},
    "control_bbp_as_mass": {"dim": (128, 1)},
}


@pytest.mark.parametrize("name", LAWS)
class TestEveryLaw:
    """What a new law inherits."""

    def test_it_goes_by_its_name_and_says_where_it_comes_from(self, name: str) -> None:
        law = LAWS[name]
        assert law.name == name
        assert law.source.startswith("derived in docs/theory.md, ")
        assert min(map(len, (law.says, law.assumptions, law.validity))) > 20
        assert law.says[0].islower() or law.says[0].isupper()
        assert not law.says.endswith(".")

    def test_its_prediction_lies_in_its_band(self, name: str) -> None:
        prediction = LAWS[name].predict(VALID[name])
        assert isinstance(prediction, Prediction)
        assert 0 < prediction.low < prediction.value < prediction.high
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


def test_every_law_in_a_file_is_listed() -> None:
    found: set[str] = set()
    for info in pkgutil.iter_modules(study.limits.__path__):
        module = importlib.import_module(f"study.limits.{info.name}")
        found |= {value.name for value in vars(module).values() if isinstance(value, Law)}
    assert found == set(LAWS)


@pytest.mark.parametrize("study_name", find_studies())
def test_the_laws_that_studies_name_exist(study_name: str) -> None:
    space = load_space(study_name)
    for variant in space.variants:
        for dataset in space.variants[variant].datasets or space.datasets:
            assert set(make_design(space, variant=variant, dataset=dataset).laws) <= set(LAWS)
