"""InfoNCE's collapse is the saddle of the law, gradient descent leaves it on time, and labels count as derived."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad

from study.interface.theory import NotApplicableError
from study.recipes.contrastive.laws.collapse import ALIGNMENT_RATE, FREE_ESCAPE, alignment_rate, collapse_hessian
from study.recipes.contrastive.laws.frozen_collapse import (
    FROZEN_ESCAPE,
    FROZEN_RATE,
    OAR_ESCAPE,
    FrozenFlow,
    InputGeometry,
    input_geometry,
)
from study.recipes.contrastive.laws.labels import (
    CLASS_MEAN_LABELS,
    LABEL_COVERAGE,
    LABELS_SUBSPACE,
    TWO_CLASSES,
    best_of_classes,
    class_mean_accuracy,
    coverage_labels,
    coverage_probability,
    two_class_probability,
)
from study.recipes.contrastive.laws.law import Array, Law, Setting


def info_nce_loss(z_ND: Array, num_views: int, temperature: float) -> float:
    """Row by row, view by view: rows i and j are of one source where i = j modulo the number of sources."""
    num_rows = len(z_ND)
    num_sources = num_rows // num_views
    total = 0.0
    for i in range(num_rows):
        scores = [z_ND[i] @ z_ND[j] / temperature for j in range(num_rows)]
        others = math.log(sum(math.exp(scores[j]) for j in range(num_rows) if j != i))
        positives = [scores[j] for j in range(num_rows) if j != i and (i - j) % num_sources == 0]
        total += others - sum(positives) / len(positives)
    return total / num_rows


def hessian(function: Callable[[Array], float], size: int, step: float = 1e-3) -> Array:
    """Second differences of a function at 0."""
    out = np.empty((size, size))
    axes = step * np.eye(size)
    for i in range(size):
        for j in range(i, size):
            ends = [function(a * axes[i] + b * axes[j]) * a * b for a in (1, -1) for b in (1, -1)]
            out[i, j] = out[j, i] = sum(ends) / (4 * step**2)
    return out


@pytest.mark.parametrize(("batch", "num_views", "temperature"), [(8, 2, 0.5), (9, 3, 0.5), (8, 2, 0.2)])
def test_the_collapse_has_the_hessian_of_the_law(batch: int, num_views: int, temperature: float) -> None:
    tangent = 2

    def loss(flat: Array) -> float:
        u_NT = flat.reshape(batch, tangent)
        first_N = np.sqrt(1 - (u_NT**2).sum(1))
        return info_nce_loss(np.column_stack([first_N, u_NT]), num_views, temperature)

    law = collapse_hessian(batch, temperature, tangent + 1, num_views)
    expected = [law.between] * law.num_between + [0.0] * law.num_rotations + [law.within] * law.num_within
    found = np.linalg.eigvalsh(hessian(loss, batch * tangent))
    np.testing.assert_allclose(found, sorted(expected), atol=1e-5)
    assert law.between < 0 < law.within, "a strict saddle"


def mean_cosine(z_ND: Array) -> float:
    total = z_ND.sum(0)
    return float((total @ total - len(z_ND)) / (len(z_ND) * (len(z_ND) - 1)))


def descend(z_ND: Array, temperature: float, learning_rate: float, num_steps: int, until_escape: bool) -> int:
    """Gradient descent of two-view InfoNCE on the sphere, in place; the number of steps made."""
    num_rows = len(z_ND)
    positive_N = (np.arange(num_rows) + num_rows // 2) % num_rows
    for step in range(num_steps):
        if until_escape and mean_cosine(z_ND) < 0.5:
            return step
        weights_NN = np.exp(z_ND @ z_ND.T / temperature)
        np.fill_diagonal(weights_NN, 0)
        weights_NN /= weights_NN.sum(1, keepdims=True)
        weights_NN[np.arange(num_rows), positive_N] -= 1
        gradient_ND = (weights_NN + weights_NN.T) @ z_ND / (num_rows * temperature)
        gradient_ND -= (gradient_ND * z_ND).sum(1, keepdims=True) * z_ND
        z_ND -= learning_rate * gradient_ND
        z_ND /= np.linalg.norm(z_ND, axis=1, keepdims=True)
    return num_steps


def near_one_point(num_sources: int, dim: int, size: float) -> Array:
    """Two equal views of sources around one point."""
    z_MD = size * np.random.default_rng(5).standard_normal((num_sources, dim))
    z_MD[:, 0] += 1
    return np.tile(z_MD / np.linalg.norm(z_MD, axis=1, keepdims=True), (2, 1))


FREE = Setting(num_views=2, optimizer="sgd", train_batch=32, temperature=0.5, embedding_dim=16, learning_rate=1.0)


@pytest.mark.parametrize(("temperature", "learning_rate"), [(0.5, 1.0), (0.15, 0.3)])
def test_gradient_descent_leaves_the_collapse_when_the_law_says(temperature: float, learning_rate: float) -> None:
    z_ND = near_one_point(16, 16, 0.01)
    setting = dataclasses.replace(
        FREE, temperature=temperature, learning_rate=learning_rate, first_step_variance=1 - mean_cosine(z_ND)
    )
    steps = descend(z_ND, temperature, learning_rate, 1_000, until_escape=True)
    assert FREE_ESCAPE.predict(setting).value == pytest.approx(steps, rel=FREE_ESCAPE.band(setting).maximum)


def test_the_escape_of_small_displacements_is_that_of_the_eigenvalue() -> None:
    """Where the start is tiny, log(u1 / u0) / log(1 - eta h) is all there is but for a constant."""
    times = [FREE_ESCAPE.threshold(dataclasses.replace(FREE, first_step_variance=v)) for v in (1e-12, 1e-16)]
    growth = math.log1p(-1.0 * collapse_hessian(32, 0.5, 16).between)
    assert times[1] - times[0] == pytest.approx(math.log(1e4) / 2 / growth, rel=1e-3)


@pytest.mark.parametrize("law", [FREE_ESCAPE, FROZEN_ESCAPE, OAR_ESCAPE])
def test_at_the_predicted_step_the_mean_cosine_is_one_half(law: Law) -> None:
    base = dataclasses.replace(FREE, first_step_variance=1e-4) if law is FREE_ESCAPE else FROZEN
    setting = dataclasses.replace(base, oar_weight=2.0 if law is OAR_ESCAPE else None)
    assert law.outcome is not None
    steps = law.threshold(setting)
    before, here, after = (law.outcome(dataclasses.replace(setting, steps=f * steps)) for f in (0.7, 1.0, 1.2))
    assert here == pytest.approx(0.5, abs=2e-3)
    assert before > 0.8
    assert after < 0.3


def test_above_the_alignment_rate_views_of_a_source_stay_apart_but_do_not_collapse() -> None:
    critical = alignment_rate(32, 0.5, 16)
    for factor, is_aligned in ((0.8, True), (1.3, False)):
        z_ND = np.random.default_rng(0).standard_normal((32, 16))
        z_ND /= np.linalg.norm(z_ND, axis=1, keepdims=True)
        descend(z_ND, 0.5, factor * critical, 400, until_escape=False)
        assert (((z_ND[:16] - z_ND[16:]) ** 2).sum(1).mean() < 0.04) == is_aligned
        assert mean_cosine(z_ND) < 0.1


FROZEN = Setting(
    dim=32,
    num_classes=5,
    cosine=-0.25,
    spread=0.5,
    mean_norm=3.0,
    sigma=1.0,
    num_views=2,
    optimizer="sgd",
    temperature=0.5,
    learning_rate=100.0,
    first_step_norm=60.0,
    first_step_variance=0.008,
)


def test_the_between_source_covariance_is_that_of_the_data_model() -> None:
    rng = np.random.default_rng(1)
    dim, num_classes, spread, mean_norm = 24, 4, 0.7, 1.5
    centres_KD = np.eye(num_classes, dim)
    shared_D = np.where(np.arange(dim) < num_classes, 0.0, mean_norm / math.sqrt(dim - num_classes))
    labels_M = np.arange(40_000) % num_classes
    x_MD = centres_KD[labels_M] + shared_D + spread * rng.standard_normal((40_000, dim)) / math.sqrt(dim)
    geometry = input_geometry(dim, num_classes, 0.0, spread, mean_norm)
    assert geometry.mean == pytest.approx((x_MD.mean(0) ** 2).sum(), rel=0.01)
    assert geometry.norm == pytest.approx((x_MD**2).sum(1).mean(), rel=0.01)
    assert geometry.between == pytest.approx(np.linalg.eigvalsh(np.cov(x_MD.T))[-1], rel=0.02)


@pytest.mark.parametrize("variance", [1e-3, 0.1])
def test_without_oar_the_flow_takes_the_time_of_its_closed_integral(variance: float) -> None:
    """dT/dw = t (1 + w)^2 (1 - v) (lambda + s^2 w0) / (4 f w (lambda + s^2 w)^2), w the squared tangent."""
    geometry = InputGeometry(mean=9.0, norm=10.25, between=0.26, classes=0.25)
    start = variance / (1 - variance)

    def integrand(w: float) -> float:
        share = 1 / (0.8 + 0.2 * math.exp(w / (1 + w) * 1.25 / 0.5))
        return (1 + w) ** 2 / (share * w * (0.26 + 9 * w) ** 2)

    expected = 0.5 / 4 * (1 - variance) * (0.26 + 9 * start) * quad(integrand, start, 1.0)[0]
    flow = FrozenFlow(geometry=geometry, num_classes=5, temperature=0.5, variance=variance)
    assert flow.escape_time() == pytest.approx(expected, rel=1e-4)


def test_the_flow_of_finite_steps_follows_the_steps() -> None:
    flow = FrozenFlow(
        geometry=InputGeometry(mean=9.0, norm=10.25, between=0.26, classes=0.25),
        num_classes=5,
        temperature=0.5,
        variance=0.01,
        oar_weight=2.0,
        step=0.01,
    )
    z = np.array([0.0, math.sqrt(0.99), 0.0, 0.1])
    num_steps = 0
    while (z[:2] @ z[:2]) / (z @ z) > 0.5:
        z = z + 0.01 * flow.velocity(z)
        num_steps += 1
    plain = dataclasses.replace(flow, step=0.0).escape_time()
    assert flow.escape_time() == pytest.approx(0.01 * num_steps, abs=0.01)
    assert plain < 0.01 * (num_steps - 1), "without the correction the flow runs ahead"


def linear_encoder_escape(setting: Setting, seed: int) -> tuple[int, Setting]:
    """Escape step of a linear encoder on the data model, and the setting with R_1 and v_0 of that run."""
    assert setting.dim is not None
    assert setting.num_classes is not None
    assert setting.learning_rate is not None
    assert setting.temperature is not None
    oar_weight, temperature = setting.oar_weight or 0.0, setting.temperature
    rng = np.random.default_rng(seed)
    dim, num_classes, num_images = setting.dim, setting.num_classes, 64
    simplex_KK = (np.eye(num_classes) - 1 / num_classes) / math.sqrt(1 - 1 / num_classes)
    centres_KD = np.column_stack([simplex_KK, np.zeros((num_classes, dim - num_classes))])
    centres_KD[:, num_classes:] += setting.mean_norm / math.sqrt(dim - num_classes)
    anchors_KE = np.eye(num_classes, 16)

    def sources(labels_M: NDArray[np.int64]) -> Array:
        noise_MD = rng.standard_normal((len(labels_M), dim)) / math.sqrt(dim)
        return np.asarray(centres_KD[labels_M] + setting.spread * noise_MD)

    def views(sources_MD: Array) -> Array:
        x_MD = sources_MD + (setting.sigma or 0.0) * rng.standard_normal(sources_MD.shape) / math.sqrt(dim)
        return np.asarray(x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True))

    judged_MD = sources(np.arange(200, dtype=np.int64) % num_classes)
    judged_MD /= np.linalg.norm(judged_MD, axis=1, keepdims=True)
    weight_ED = rng.uniform(-1, 1, (16, dim)) / math.sqrt(dim)
    for step in range(2_000):
        z_ME = judged_MD @ weight_ED.T
        norm_M = np.linalg.norm(z_ME, axis=1)
        cosine = mean_cosine(z_ME / norm_M[:, None])
        if step == 1:
            setting = dataclasses.replace(setting, first_step_norm=float(norm_M.mean()), first_step_variance=1 - cosine)
        if step and cosine < 0.5:
            return step, setting
        images_MD = sources(rng.integers(0, num_classes, num_images))
        x_ND = views(np.concatenate([images_MD, images_MD]))
        z_NE = x_ND @ weight_ED.T
        scale_N1 = np.linalg.norm(z_NE, axis=1, keepdims=True)
        unit_NE = z_NE / scale_N1
        pull_NN = np.exp(unit_NE @ unit_NE.T / temperature)
        np.fill_diagonal(pull_NN, 0)
        pull_NN /= pull_NN.sum(1, keepdims=True)
        rows = np.arange(2 * num_images)
        pull_NN[rows, (rows + num_images) % (2 * num_images)] -= 1
        gradient_NE = (pull_NN + pull_NN.T) @ unit_NE / (len(rows) * temperature)
        gradient_ED = (gradient_NE - (gradient_NE * unit_NE).sum(1, keepdims=True) * unit_NE).T @ (x_ND / scale_N1)
        if step and oar_weight:
            labels_M = rng.integers(0, num_classes, num_images)
            x_MD = views(sources(labels_M))
            z_ME = x_MD @ weight_ED.T
            scale_M1 = np.linalg.norm(z_ME, axis=1, keepdims=True)
            unit_ME, anchor_ME = z_ME / scale_M1, anchors_KE[labels_M]
            across_ME = anchor_ME - (anchor_ME * unit_ME).sum(1, keepdims=True) * unit_ME
            gradient_ED = gradient_ED - oar_weight * across_ME.T @ (x_MD / scale_M1) / num_images
        weight_ED = weight_ED - setting.learning_rate * gradient_ED
    raise AssertionError("no escape")


@pytest.mark.parametrize("oar_weight", [None, 1.0, 5.0])
def test_a_linear_encoder_leaves_the_frozen_collapse_when_the_law_says(oar_weight: float | None) -> None:
    law = OAR_ESCAPE if oar_weight else FROZEN_ESCAPE
    for seed in (0, 1):
        steps, setting = linear_encoder_escape(dataclasses.replace(FROZEN, oar_weight=oar_weight), seed)
        assert law.predict(setting).value == pytest.approx(steps, rel=law.band(setting).maximum)


def test_the_critical_rate_is_where_the_escape_takes_all_steps_and_grows_in_proportion_to_them() -> None:
    rates = {steps: FROZEN_RATE.threshold(dataclasses.replace(FROZEN, steps=steps)) for steps in (200, 3200)}
    assert rates[3200] / rates[200] == pytest.approx(16, rel=0.03)
    norm = FROZEN.first_step_norm
    assert norm is not None
    there = dataclasses.replace(FROZEN, learning_rate=rates[200], first_step_norm=norm * rates[200] / 100)
    assert FROZEN_ESCAPE.threshold(there) == pytest.approx(200, rel=1e-6)


def test_the_critical_rate_needs_the_rate_of_its_probe() -> None:
    setting = dataclasses.replace(FROZEN, learning_rate=None, steps=200)
    assert FROZEN_RATE.why_not(setting) == "needs learning_rate: the one at which first_step_norm was measured"


@pytest.mark.parametrize(
    ("law", "change", "words"),
    [
        (FROZEN_ESCAPE, {"optimizer": "adam"}, "not adam"),
        (FROZEN_ESCAPE, {"mean_norm": 0.0}, "without one nothing collapses"),
        (FROZEN_ESCAPE, {"oar_weight": 1.0}, "see oar_escape"),
        (FROZEN_ESCAPE, {"schedule": "cosine"}, "constant learning rate"),
        (FROZEN_ESCAPE, {"first_step_norm": 10.0}, "not small"),
        (FROZEN_ESCAPE, {"first_step_variance": 0.6}, "must have collapsed"),
        (FROZEN_ESCAPE, {"num_views": 1}, "has no positive"),
        (FROZEN_ESCAPE, {"sigma": 3.0}, "sigma and spread up to 1.5"),
        (OAR_ESCAPE, {"oar_weight": 0.0}, "see frozen_escape"),
        (OAR_ESCAPE, {"oar_weight": 20.0}, "oar_weight up to 5"),
        (FREE_ESCAPE, {"first_step_variance": 0.9}, "near one point"),
        (FREE_ESCAPE, {"train_batch": 2, "first_step_variance": 0.01}, "the collapse is the minimum"),
        (ALIGNMENT_RATE, {"temperature": 0.1}, "temperature from 0.3"),
        (ALIGNMENT_RATE, {"num_views": 3}, "num_views = 2"),
    ],
)
def test_a_law_says_why_it_does_not_apply(law: Law, change: dict[str, object], words: str) -> None:
    base = FREE if law in (FREE_ESCAPE, ALIGNMENT_RATE) else FROZEN
    with pytest.raises(NotApplicableError, match=words):
        law.predict(dataclasses.replace(base, **change))  # type: ignore[arg-type]


def test_best_of_classes_is_chance_without_a_lead_and_the_known_value_for_two() -> None:
    assert best_of_classes(0.0, 7) == pytest.approx(1 / 7)
    assert best_of_classes(1.3, 2) == pytest.approx((1 + math.erf(1.3 / 2)) / 2)
    assert best_of_classes(30.0, 10) == pytest.approx(1.0)


@pytest.mark.parametrize(("cosine", "in_subspace"), [(0.0, False), (0.3, False), (-0.25, False), (0.0, True)])
def test_class_means_classify_as_the_law_says(cosine: float, in_subspace: bool) -> None:
    rng = np.random.default_rng(2)
    dim, num_classes, spread, per_class = 64, 5, 4.0, 3
    gram_KK = (1 - cosine) * np.eye(num_classes) + cosine
    values, vectors = np.linalg.eigh(gram_KK)
    centres_KD = np.zeros((num_classes, dim))
    centres_KD[:, :num_classes] = vectors * np.sqrt(np.clip(values, 0, None))
    labels_M = np.arange(200) % num_classes
    right = []
    for _ in range(100):
        noise = rng.standard_normal((num_classes, per_class, dim)) / math.sqrt(dim)
        means_KD = (centres_KD[:, None] + spread * noise).mean(1)
        means_KD[:, num_classes:] *= not in_subspace
        x_MD = centres_KD[labels_M] + spread * rng.standard_normal((200, dim)) / math.sqrt(dim)
        right.append(((x_MD @ means_KD.T).argmax(1) == labels_M).mean())
    law = class_mean_accuracy(15, num_classes, dim, spread, cosine, in_subspace=in_subspace)
    assert law == pytest.approx(np.mean(right), rel=0.04)


LABELS = Setting(dim=128, num_classes=10, spread=3.0)


def test_the_threshold_is_half_way_from_chance_to_all_labels() -> None:
    labels = CLASS_MEAN_LABELS.predict(LABELS).value
    assert CLASS_MEAN_LABELS.outcome is not None
    accuracy = {n: CLASS_MEAN_LABELS.outcome(dataclasses.replace(LABELS, num_labels=n)) for n in (labels, 1e9)}
    assert accuracy[labels] == pytest.approx((0.1 + accuracy[1e9]) / 2, rel=1e-6)


def test_a_known_subspace_saves_labels_and_spread_costs_them() -> None:
    wide = dataclasses.replace(LABELS, spread=5.0, num_classes=20)
    assert LABELS_SUBSPACE.predict(wide).value < CLASS_MEAN_LABELS.predict(wide).value
    assert CLASS_MEAN_LABELS.predict(LABELS).value < CLASS_MEAN_LABELS.threshold(
        dataclasses.replace(LABELS, spread=4.0)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spread": 0.0}, "one label of each class tells all"),
        ({"spread": 0.5}, "already more than half-way"),
        ({"optimizer": "adam"}, "needs more labels"),
    ],
)
def test_class_means_say_where_they_do_not_apply(change: dict[str, object], words: str) -> None:
    with pytest.raises(NotApplicableError, match=words):
        CLASS_MEAN_LABELS.predict(dataclasses.replace(LABELS, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("num_classes", [2, 3, 4])
@pytest.mark.parametrize("num_labels", [2, 4, 6])
def test_coverage_counts_the_draws_that_cover(num_classes: int, num_labels: int) -> None:
    draws = np.stack(np.unravel_index(np.arange(num_classes**num_labels), (num_classes,) * num_labels))
    distinct = np.array([len(set(draw)) for draw in draws.T.tolist()])
    assert coverage_probability(num_labels, num_classes) == pytest.approx((distinct == num_classes).mean(), abs=1e-12)
    assert two_class_probability(num_labels, num_classes) == pytest.approx((distinct >= 2).mean())


@pytest.mark.parametrize("num_classes", [2, 5, 20, 100])
def test_coverage_asks_for_just_enough_labels(num_classes: int) -> None:
    labels = coverage_labels(num_classes)
    assert coverage_probability(math.ceil(labels), num_classes) >= 0.9
    assert coverage_probability(math.floor(0.97 * labels), num_classes) < 0.9
    assert labels < num_classes * math.log(num_classes / 0.1)


@pytest.mark.parametrize("law", [LABEL_COVERAGE, TWO_CLASSES])
def test_random_labels_reach_the_level_of_their_criterion(law: Law) -> None:
    setting = Setting(num_classes=10)
    assert law.outcome is not None
    at_threshold = law.outcome(dataclasses.replace(setting, num_labels=law.predict(setting).value))
    assert at_threshold == pytest.approx(law.level, abs=0.003)
