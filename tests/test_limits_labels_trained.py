"""What training to the end makes of few labels is ridge regression of the anchors, and its accuracy that of the law."""

import dataclasses
import math

import numpy as np
import pytest

from study.interface.theory import NotApplicableError
from study.recipes.contrastive.laws.labels import class_mean_accuracy
from study.recipes.contrastive.laws.labels_trained import (
    LABELS_TRAINED,
    start_decay,
    trained_accuracy,
    wishart_resolvent,
)
from study.recipes.contrastive.laws.law import Array, Setting

DIM, NUM_CLASSES, SPREAD = 64, 5, 4.0
SETTING = Setting(
    dim=128, num_classes=8, spread=3.0, sigma=1.0, optimizer="sgd", learning_rate=0.5, steps=2_000, num_views=1
)


def sources(num: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sources of orthonormal centres and one-hot labels, equally many of each class."""
    labels_NK = np.eye(NUM_CLASSES)[np.arange(num) % NUM_CLASSES]
    noise_ND = SPREAD * rng.standard_normal((num, DIM)) / math.sqrt(DIM)
    return labels_NK @ np.eye(NUM_CLASSES, DIM) + noise_ND, labels_NK


def accuracy(weight_KD: Array, rng: np.random.Generator) -> float:
    x_ND, labels_NK = sources(2_000, rng)
    return float(((x_ND @ weight_KD.T).argmax(1) == labels_NK.argmax(1)).mean())


@pytest.mark.parametrize(("num_rows", "ridge"), [(60, 0.3), (260, 0.1), (400, 1.0)])
def test_the_resolvent_is_that_of_a_random_matrix(num_rows: int, ridge: float) -> None:
    noise = np.random.default_rng(0).standard_normal((num_rows, 200)) * math.sqrt(0.01)
    values = np.linalg.eigvalsh(noise @ noise.T).clip(0) + ridge
    law = wishart_resolvent(num_rows, 200, 0.01, ridge)
    assert law.first == pytest.approx((1 / values).mean(), rel=0.02)
    assert law.second == pytest.approx((1 / values**2).mean(), rel=0.03)


@pytest.mark.parametrize("num_labels", [5, 20, 60, 200])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_the_accuracy_is_that_of_ridge_regression(num_labels: int, sigma: float) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        x_ND, labels_NK = sources(num_labels, rng)
        gram_NN = x_ND @ x_ND.T + num_labels * sigma**2 / DIM * np.eye(num_labels)
        found.append(accuracy(labels_NK.T @ np.linalg.solve(gram_NN, x_ND), rng))
    law = trained_accuracy(num_labels, NUM_CLASSES, DIM, SPREAD, sigma)
    assert law == pytest.approx(np.mean(found), rel=0.04)


def test_a_large_ridge_gives_the_class_means() -> None:
    for num_labels in (5, 40, 400):
        expected = class_mean_accuracy(num_labels, NUM_CLASSES, DIM, SPREAD)
        assert trained_accuracy(num_labels, NUM_CLASSES, DIM, SPREAD, 100.0) == pytest.approx(expected, rel=0.02)


def test_more_labels_can_hurt_where_they_become_as_many_as_dimensions() -> None:
    few, critical, many = (trained_accuracy(n, NUM_CLASSES, DIM, SPREAD, 0.3) for n in (20, 60, 400))
    assert critical < few < many


def test_training_by_anchor_regression_ends_at_the_law_and_not_at_class_means() -> None:
    num_labels, sigma = 80, 1.0
    rng = np.random.default_rng(3)
    found = []
    for _ in range(12):
        x_ND, anchors_NK = sources(num_labels, rng)
        weight_KD = rng.uniform(-1, 1, (NUM_CLASSES, DIM)) / math.sqrt(DIM)
        for _ in range(500):
            views_ND = x_ND + sigma * rng.standard_normal(x_ND.shape) / math.sqrt(DIM)
            z_NK = views_ND @ weight_KD.T
            norm_N1 = np.linalg.norm(z_NK, axis=1, keepdims=True)
            unit_NK = z_NK / norm_N1
            across_NK = anchors_NK - (anchors_NK * unit_NK).sum(1, keepdims=True) * unit_NK
            weight_KD = weight_KD + 0.5 * (across_NK / norm_N1).T @ views_ND / num_labels
        found.append(accuracy(weight_KD, rng))
    law = trained_accuracy(num_labels, NUM_CLASSES, DIM, SPREAD, sigma)
    assert law == pytest.approx(np.mean(found), rel=0.06)
    assert class_mean_accuracy(num_labels, NUM_CLASSES, DIM, SPREAD) > 1.2 * np.mean(found)


def test_at_the_threshold_the_accuracy_is_half_way() -> None:
    assert LABELS_TRAINED.outcome is not None
    labels = LABELS_TRAINED.predict(SETTING).value
    there = LABELS_TRAINED.outcome(dataclasses.replace(SETTING, num_labels=labels))
    ceiling = class_mean_accuracy(math.inf, 8, 128, 3.0)
    assert there == pytest.approx((1 / 8 + ceiling) / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cosine": 0.2}, "orthonormal centres"),
        ({"spread": 0.0}, "one label of each class tells all"),
        ({"spread": 1.0}, "already more than half-way"),
        ({"temperature": 0.5}, "beside a contrast"),
        ({"steps": 50}, "until the start is forgotten"),
        ({"optimizer": "adam", "learning_rate": 3e-3, "steps": 600}, "until the start is forgotten"),
        ({"dim": 48, "num_classes": 4, "sigma": 0.7}, "no sharp threshold"),
        ({"sigma": None}, "needs sigma"),
    ],
)
def test_the_law_says_where_it_does_not_apply(change: dict[str, object], words: str) -> None:
    with pytest.raises(NotApplicableError, match=words):
        LABELS_TRAINED.predict(dataclasses.replace(SETTING, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_start_decays_with_steps_and_half_as_far_on_a_cosine_schedule(optimizer: str) -> None:
    setting = dataclasses.replace(SETTING, optimizer=optimizer)  # type: ignore[arg-type]
    decay = start_decay(setting)
    assert start_decay(dataclasses.replace(setting, steps=4_000)) == pytest.approx(2 * decay)
    assert start_decay(dataclasses.replace(setting, schedule="cosine")) == pytest.approx(decay / 2)
    assert start_decay(dataclasses.replace(setting, sigma=0.5)) < decay
