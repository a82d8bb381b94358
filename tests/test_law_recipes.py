"""No law answers as if nothing were different where a run differs from what the law is about.

Every path of a configuration is changed, from a run that a law covers. Its answer must then change, or it must refuse,
or the path stands in tests/law_runs.py with a reason.
"""

import functools
import math
import typing
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from study.designs.values import Scalar, field_types, flatten, from_json, to_json, with_values
from study.errors import ConfigError
from study.interface.theory import NotApplicableError
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.laws import LAWS
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.theory import PATHS, setting_along
from study.recipes.contrastive.trainers.loop import PackRun
from tests.law_runs import ANCHORED, CASES, COLLAPSED, OF_NO_RUN, TRAINED, UNTRAINED, Kind, Values

# What must go with a change so that the configuration is one: the first that makes it valid is taken.
_AS_OAR: Values = {"trainer": "oar", "model.encoder": "linear", "data.num_views": 2}
_AS_IMAGES: Values = {"data.name": "digits", "data.strength": 1.0, "model.encoder": "small"}
COMPANIONS: tuple[Values, ...] = (
    {},
    {"data.num_views": 2},
    {"data.label_fraction": 1.0, "batch.labelled": 0},
    {"trainer": "supervised"},
    _AS_OAR,
    {"model.projection_dim": 8},
    {"data.strength": 1.0, "model.encoder": "small"},
    _AS_IMAGES,
    {"loss.contrast": "supcon"},
    {"loss.contrast": "info_nce", "data.num_views": 2},
    {"loss.oar_weight": 1.0, "loss.oar_from_step": 0},
)
# What laws judge, and what they take as measured.
_JUDGED = ("p", "s_j", "pair_auc", "source_mass", "mean_cosine", "accuracy_clean", "first_step_norm", "escape_step")


NAMES = (components.DATASETS, components.ENCODERS, components.METHODS)


def other_values(hint: Any, value: Scalar) -> list[Scalar]:
    """Values of a path besides its own: all words, a flag's other side, numbers on both sides."""
    if typing.get_origin(hint) is Literal:
        return [word for word in typing.get_args(hint) if word != value]
    if hint is str:
        names = next(names for names in NAMES if value in names)
        return [name for name in names if name != value]
    if hint is bool:
        return [not value]
    assert isinstance(value, int | float)
    if hint is int:
        return [2 * value, value // 2, value - 1] if value else [1, 32]
    return [2 * value, value / 2] if value else [0.05, 1.0]


def perturbed(config: ReplicateConfig, path: str) -> Iterator[tuple[ReplicateConfig, Values]]:
    """Valid configurations that differ at a path, each with what had to go with the change."""
    for value in other_values(field_types(ReplicateConfig)[path], flatten(config)[path]):
        for companions in COMPANIONS:
            if path in companions:
                continue
            try:
                yield with_values(config, {**companions, path: value}), companions
            except ConfigError:
                continue
            break


def answer_of(name: str, config: ReplicateConfig) -> float | None:
    """A law's threshold for runs like this one, in units of the axis along which it would be sought; None: refused."""
    axis = PATHS[LAWS[name].quantity]
    value = threshold(name, setting_along(config, axis, CASES[name].measured, is_tuned=False))
    return None if value is None else value * CONTRASTIVE.theory.units(config, axis)


@functools.cache
def threshold(name: str, setting: Setting) -> float | None:
    try:
        return LAWS[name].predict(setting).value
    except NotApplicableError:
        return None


def is_silent(name: str, path: str) -> bool:
    """Whether some change of a path leaves a law's answer as it is."""
    config = CASES[name].config
    expected = answer_of(name, config)
    changed = [answer_of(name, other) for other, _ in perturbed(config, path)]
    assert changed, f"{path} has no other valid value"
    return any(answer is not None and math.isclose(answer, expected or 0, rel_tol=1e-9) for answer in changed)


@pytest.mark.parametrize("name", CASES)
def test_a_law_leaves_nothing_out_of_account_without_a_reason(name: str) -> None:
    assert answer_of(name, CASES[name].config) is not None
    own = PATHS[LAWS[name].quantity]
    silent = {path for path in field_types(ReplicateConfig) if path != own and is_silent(name, path)}
    assert silent == set(CASES[name].left_out) - {own}


@pytest.mark.parametrize("name", OF_NO_RUN)
def test_a_law_about_no_run_refuses_every_run(name: str) -> None:
    for case in CASES.values():
        setting = setting_along(case.config, PATHS[LAWS[name].quantity], case.measured, is_tuned=False)
        assert LAWS[name].why_not(setting)


@pytest.mark.parametrize("name", LAWS)
def test_no_law_of_vectors_answers_for_images(name: str) -> None:
    images = with_values(ReplicateConfig(), {"horizon.length": 0, "model.init": "identity", "model.encoder": "none"})
    assert LAWS[name].why_not(setting_along(images, PATHS[LAWS[name].quantity], {}, is_tuned=False))


@functools.cache
def judged(config_text: str) -> dict[str, float]:
    """What a run of three steps at most is judged by."""
    config = from_json(ReplicateConfig, config_text)
    most = 3 if config.horizon.unit == "steps" else 3 * config.num_images
    config = with_values(config, {"horizon.length": min(config.horizon.length, most)})
    dataset = load_dataset(config.data)
    run = PackRun([CONTRASTIVE.replicate(config, 1, dataset.digest)], dataset)
    while not run.is_done:
        run.advance()
    (result,) = run.results([{}])
    return {name: value for name, value in result.metrics.items() if name in _JUDGED}


@pytest.mark.parametrize(
    ("kind", "path"),
    [(kind, path) for kind in (UNTRAINED, TRAINED, COLLAPSED, ANCHORED) for path in kind.untouched],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_said_to_leave_a_run_untouched_leaves_its_numbers_equal(kind: Kind, path: str) -> None:
    of_kind = [(other, more) for other, more in perturbed(kind.config, path) if other.trainer == kind.config.trainer]
    config, companions = of_kind[0]
    found, expected = judged(to_json(config)), judged(to_json(with_values(kind.config, companions)))
    shared = found.keys() & expected.keys()
    assert len(shared) >= 2
    assert {name: found[name] for name in shared} == {name: expected[name] for name in shared}


@pytest.mark.parametrize(
    ("changes", "words", "low", "high"),
    [
        ({"optimizer.momentum": 0.9, "horizon.length": 1_000}, "without momentum, but it is 0.9", 8, 14),
        (
            {"optimizer.weight_decay": 3e-5, "optimizer.learning_rate": 900.0, "horizon.length": 150},
            "without weight decay, but it is 3e-05",
            0.01,
            0.2,
        ),
    ],
)
def test_what_is_refused_of_a_collapsed_encoder_would_have_been_said_wrongly(
    changes: Values, words: str, low: float, high: float
) -> None:
    watched: Values = {"evaluation.escape": True, "evaluation.num_batches": 1, "batch.train": 64}
    config = with_values(COLLAPSED.config, {**watched, **changes})
    dataset = load_dataset(config.data)
    run = PackRun([CONTRASTIVE.replicate(config, 3, dataset.digest)], dataset)
    while not run.is_done:
        run.advance()
    (result,) = run.results([{}])
    measured = {name: result.metrics[name] for name in ("first_step_norm", "first_step_variance")}
    law, setting = LAWS["frozen_escape"], setting_along(config, PATHS["steps"], measured, is_tuned=False)
    assert words in (law.why_not(setting) or "")
    assert low < result.metrics["escape_step"] / law.threshold(setting) < high
