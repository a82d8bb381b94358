"""Laws of trained blocks and of training batches agree with literal loops, with training, and refuse the rest.

Shape suffixes: R batches, N rows, K classes or coordinates, D dimensions, L blocks.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from study.interface.theory import NotApplicableError
from study.recipes.contrastive.affinity import affinity, unit
from study.recipes.contrastive.evaluation import affinity_success
from study.recipes.contrastive.laws.class_space import (
    Shape,
    Success,
    Weights,
    projector,
    scale,
    simplex,
    success,
    success_of_affinities,
    views,
)
from study.recipes.contrastive.laws.coverage import COVERAGE, MISSED, partner_share
from study.recipes.contrastive.laws.law import Law, Setting
from study.recipes.contrastive.laws.learning_steps import N2T, N2T_EXAMPLES, N2T_STEPS, PAIR_CONSTANTS
from study.recipes.contrastive.laws.source_mass import SOURCE_BATCH, isolated_cosines, masses, source_cosines
from study.recipes.contrastive.laws.trained import (
    BAYES_JSD,
    CONTROL_BAYES_AS_MASS,
    TRAINED,
    TRAINED_JSD,
    bayes_success,
    projected_threshold,
)
from study.recipes.contrastive.laws.trained_plus import TRAINED_PLUS, TRAINED_PLUS_JSD, tuned_threshold
from study.recipes.contrastive.laws.tuned_weights import divergence, widely_tuned
from study.recipes.contrastive.losses.affinity_jsd import affinity_jsd
from study.recipes.contrastive.models.fusion import TransFusion

Array = NDArray[np.float64]

TRAINING = Setting(dim=64, num_classes=5, batch=50, num_blocks=1, weights="trained")
LEARNING = Setting(
    dim=128, num_classes=5, sigma=3.5, num_blocks=1, train_batch=20, steps=23, num_examples=460, weights="trained"
)
SOURCES = Setting(dim=64, num_classes=2, spread=4.0, sigma=4.0, num_views=2, num_blocks=1)


def changed(setting: Setting, **values: Any) -> Setting:
    return dataclasses.replace(setting, **values)


def shape_of(num_classes: int = 4, rows: int = 5, num_blocks: int = 2, **values: Any) -> Shape:
    """Orthonormal centres with the residual unless told otherwise."""
    defaults = {"residual": True, "mean_norm": (num_classes - 1) ** -0.5}
    return Shape(num_classes=num_classes, rows=rows, num_blocks=num_blocks, **(defaults | values))


def some_weights(num_blocks: int) -> Weights:
    rng = np.random.default_rng(3)
    return Weights(*(0.7 + 0.3 * rng.standard_normal(num_blocks) for _ in range(3)))


def literal_affinity(x_NK: Array, offset: float) -> Array:
    a_NN = np.zeros((len(x_NK), len(x_NK)))
    for i, query_K in enumerate(x_NK):
        for j, key_K in enumerate(x_NK):
            score = (query_K[:-1] @ key_K[:-1] - offset * query_K[-1] * key_K[-1]) / np.linalg.norm(key_K[:-1])
            a_NN[i, j] = max(score, 0) * (i != j)
    sums_N = a_NN.sum(1, keepdims=True)
    return np.divide(a_NN, sums_N, out=np.zeros_like(a_NN), where=sums_N > 0)


def judged(a_RNN: Array | torch.Tensor, num_classes: int) -> Success:
    """Success as the project's evaluation sees it; rows of a class are adjacent."""
    a = torch.as_tensor(a_RNN)
    metrics = affinity_success(a, torch.arange(a.shape[-1]) // (a.shape[-1] // num_classes))
    return Success(p=float(metrics["p"].mean()), s_j=float(metrics["s_j"].mean()))


@pytest.mark.parametrize("residual", [True, False])
def test_success_is_that_of_a_literal_loop(residual: bool) -> None:
    shape, weights = shape_of(thinning=60, residual=residual), some_weights(2)
    if not residual:
        weights = weights._replace(angle_L=np.full(2, np.pi / 2), mean_angle_L=np.full(2, np.pi / 2))
    angles_K = np.append(np.full(shape.num_classes - 1, weights.angle_L[0]), weights.mean_angle_L[0])
    affinities = []
    for x_NK in views(shape, 0.7).astype(np.float64):
        mixed_NK = np.cos(angles_K) * x_NK + np.sin(angles_K) * (literal_affinity(x_NK, weights.offset_L[0]) @ x_NK)
        affinities.append(literal_affinity(mixed_NK, weights.offset_L[1]))
    assert tuple(success(shape, 0.7, weights)) == pytest.approx(tuple(judged(np.array(affinities), 4)), abs=1e-5)


def test_success_of_affinities_is_that_of_the_evaluation() -> None:
    a_RNN = np.random.default_rng(0).exponential(size=(3, 12, 12)) * (1 - np.eye(12))
    a_RNN /= a_RNN.sum(-1, keepdims=True)
    a_RNN[0, 4] = 0
    found = success_of_affinities(a_RNN, (a_RNN == 0).all(-1), 4)
    assert tuple(found) == pytest.approx(tuple(judged(a_RNN, 3)))


def test_dead_rows_count_as_chance() -> None:
    shape = shape_of(num_blocks=1, mean_norm=50.0)
    dead = Weights(np.array([1e3]), np.zeros(1), np.zeros(1))
    assert tuple(success(shape, 0.3, dead)) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("num_classes", [3, 7, 20])
def test_centres_are_a_simplex_and_noise_is_standard_as_seen_from_them(num_classes: int) -> None:
    centres_KK = simplex(num_classes)
    expected = np.full((num_classes, num_classes), -1 / (num_classes - 1))
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(centres_KK @ centres_KK.T, expected, atol=1e-12)
    shape = shape_of(num_classes, 6, mean_norm=0.0)
    noise_RNK = (views(shape, 1.0) - views(shape, 0.0)).astype(np.float64) * np.sqrt(num_classes - 1)
    along_RN = (noise_RNK[..., :-1] * np.repeat(centres_KK, 6, axis=0)).sum(-1)
    np.testing.assert_allclose([along_RN.mean(), along_RN.var()], [0, 1], atol=1e-4)
    np.testing.assert_allclose((noise_RNK**2).mean(), 1, atol=1e-4)


@pytest.mark.parametrize(("num_blocks", "residual"), [(1, True), (2, True), (2, False), (3, True)])
def test_the_gradient_is_that_of_finite_differences(num_blocks: int, residual: bool) -> None:
    shape, weights, step = shape_of(num_blocks=num_blocks, residual=residual), some_weights(num_blocks), 3e-3
    value, slopes = divergence(shape, 0.7, weights)
    assert value == pytest.approx(1 - success(shape, 0.7, weights).s_j, abs=1e-5)
    for kind, slope_L in zip(Weights._fields, slopes, strict=True):
        for block in range(num_blocks):
            nudge_L = step * (np.arange(num_blocks) == block)
            above, below = (
                divergence(shape, 0.7, weights._replace(**{kind: getattr(weights, kind) + sign * nudge_L}))[0]
                for sign in (1, -1)
            )
            assert slope_L[block] == pytest.approx((above - below) / (2 * step), abs=2e-3), (kind, block)


def test_projection_leaves_one_noise_parameter() -> None:
    """Views in 40 dimensions, projected literally, succeed as views in class space do."""
    rng, num_classes, rows, dim, noise = np.random.default_rng(1), 4, 5, 40, 0.8
    sigma = noise * scale(Setting(dim=dim, num_classes=num_classes))
    centred_KD = np.eye(num_classes, dim) - np.eye(num_classes, dim).mean(0)
    basis_DK = np.linalg.svd(centred_KD)[2][: num_classes - 1].T
    noise_RND = rng.standard_normal((2_000, num_classes * rows, dim))
    x_RND = np.repeat(np.eye(num_classes, dim), rows, axis=0) + sigma / np.sqrt(dim) * noise_RND
    q_RNK = unit(torch.from_numpy(x_RND @ basis_DK))
    shape = shape_of(num_classes, rows, num_blocks=1)
    literal = judged(affinity(q_RNK, q_RNK), num_classes)
    assert tuple(success(shape, noise, projector(shape))) == pytest.approx(tuple(literal), abs=0.012)


class TestTunedWeights:
    """Offsets and gains that minimise the divergence."""

    @pytest.mark.parametrize("num_blocks", [1, 2])
    def test_they_beat_the_projection_and_the_identity(self, num_blocks: int) -> None:
        shape = shape_of(10, 5, num_blocks, thinning=4)
        plain = projector(shape)
        best = success(shape, 0.8, widely_tuned(shape, 0.8)).s_j
        for weights in (plain, plain._replace(offset_L=np.full(num_blocks, -1.0))):
            assert best > success(shape, 0.8, weights).s_j + 0.02

    def test_a_simplex_has_no_offset(self) -> None:
        shape = shape_of(6, 8, 1, mean_norm=0.0)
        (offset,) = widely_tuned(shape, 0.8).offset_L
        assert abs(offset) < 0.1
        assert tuned_threshold(shape, "s_j").noise == pytest.approx(projected_threshold(shape, "s_j"), rel=5e-3)

    @pytest.mark.parametrize(
        ("num_classes", "rows", "num_blocks", "s_j", "p"),
        [(5, 10, 1, 0.873, 0.820), (5, 10, 2, 0.912, 0.929), (10, 10, 2, 1.047, 1.030), (20, 10, 1, 0.848, 0.691)],
    )
    def test_they_break_where_training_did(
        self, num_classes: int, rows: int, num_blocks: int, s_j: float, p: float
    ) -> None:
        """Thresholds of blocks trained with Adam at 0.01 over 1,500 to 3,000 steps, d = 32 and 40."""
        shape = shape_of(num_classes, rows, num_blocks)
        assert tuned_threshold(shape, "s_j").noise == pytest.approx(s_j, rel=0.02)
        assert tuned_threshold(shape, "p").noise == pytest.approx(p, rel=0.02)


def test_a_block_trained_at_the_threshold_stands_on_it() -> None:
    setting = Setting(dim=16, num_classes=4, batch=32, num_blocks=1)
    sigma, generator = TRAINED_PLUS_JSD.threshold(setting), torch.Generator().manual_seed(5)
    model = TransFusion(16, [generator] * 3, num_blocks=1, identity_init=True)
    basis_DD = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    optimizer, labels_N = torch.optim.Adam(model.parameters(), 0.03), torch.arange(32) // 8
    ids_RN = labels_N.expand(3, -1)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        noise_RND = sigma / 4 * torch.randn(3, 32, 16, generator=generator)
        queries, keys = model(basis_DD[labels_N] + noise_RND)
        assert isinstance(queries, torch.Tensor)
        assert isinstance(keys, torch.Tensor)
        return queries, keys

    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / 300)
        optimizer.zero_grad()
        affinity_jsd(*draw(), ids_RN, ids_RN).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = [judged(affinity(*draw()), 4).s_j for _ in range(40)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("law", [TRAINED, TRAINED_JSD, TRAINED_PLUS, TRAINED_PLUS_JSD, BAYES_JSD])
class TestTrainedLaws:
    """What the laws of trained blocks share."""

    def test_sigma_grows_with_the_root_of_dimensions_and_of_distance(self, law: Law) -> None:
        value = law.threshold(TRAINING)
        assert law.threshold(changed(TRAINING, dim=256)) == pytest.approx(2 * value)
        simplex_value = law.threshold(changed(TRAINING, cosine=-0.25))
        if law in (TRAINED, TRAINED_JSD, BAYES_JSD):
            assert simplex_value == pytest.approx(np.sqrt(1.25) * value)

    def test_the_outcome_crosses_the_level_at_the_threshold(self, law: Law) -> None:
        value = law.threshold(TRAINING)
        assert law.outcome is not None
        outcomes = [law.outcome(changed(TRAINING, sigma=factor * value)) for factor in (0.1, 0.5, 1.0, 2.0)]
        assert outcomes[2] == pytest.approx(0.5, abs=5e-3)
        assert outcomes == sorted(outcomes, reverse=True)
        assert outcomes[0] == pytest.approx(1, abs=1e-3)

    def test_rows_of_a_class_need_not_be_whole(self, law: Law) -> None:
        low, middle, high = (law.threshold(changed(TRAINING, batch=batch)) for batch in (25, 27, 30))
        assert low < middle < high or law is BAYES_JSD
        assert min(low, high) <= middle <= max(low, high)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"weights": "identity"}, "about training"),
            ({"layer_norm": True}, "layer normalisation"),
            ({"centred": True}, "batch mean is kept"),
            ({"spread": 1.0}, "spread of 1"),
            ({"mean_norm": 2.0}, "common mean"),
            ({"num_classes": 2}, "3 to"),
            ({"num_classes": 60, "batch": 300}, "3 to"),
            ({"dim": 8}, "at least 16 dimensions"),
            ({"cosine": -0.5}, "cosine of centres from -0.25"),
            ({"cosine": 1.0}, r"below 1|up to 0"),
            ({"batch": 10}, "at least 3 rows"),
            ({"batch": 5_000}, "up to"),
            ({"sigma": 0.0}, "positive sigma"),
        ],
    )
    def test_it_refuses_what_it_was_not_made_for(self, law: Law, values: dict[str, Any], reason: str) -> None:
        with pytest.raises(NotApplicableError, match=reason):
            law.predict(changed(TRAINING, **values))

    def test_it_covers_trained_weights_and_what_is_not_said(self, law: Law) -> None:
        assert law.why_not(TRAINING) is None
        assert law.why_not(changed(TRAINING, weights=None, num_blocks=1)) is None


@pytest.mark.parametrize(
    ("law", "values", "reason"),
    [
        (TRAINED, {"num_blocks": 3}, "1 to 2 blocks"),
        (TRAINED, {"num_classes": 6, "batch": 60}, "3 to 5 classes"),
        (TRAINED, {"cosine": 0.5}, "up to 0"),
        (TRAINED_PLUS, {"num_blocks": 1.5}, "1 to 3 blocks"),
        (TRAINED_PLUS, {"num_blocks": 4}, "1 to 3 blocks"),
        (TRAINED_PLUS, {"num_blocks": 2, "residual": False}, "with the residual only"),
        (CONTROL_BAYES_AS_MASS, {"num_classes": 4}, "from 5 classes on"),
        (CONTROL_BAYES_AS_MASS, {"num_blocks": 2}, "one block"),
    ],
)
def test_each_law_keeps_to_where_it_was_verified(law: Law, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotApplicableError, match=reason):
        law.predict(changed(TRAINING, **values))


def test_one_block_has_no_use_for_a_residual() -> None:
    without = changed(TRAINING, residual=False)
    assert TRAINED_PLUS.predict(without).value == TRAINED_PLUS.predict(TRAINING).value


def test_bayes_affinities_are_products_of_posteriors() -> None:
    shape, noise = shape_of(thinning=60, num_blocks=1, mean_norm=0.0), 0.8
    centres_KK, variance, affinities = simplex(4), 0.8**2 / 3, []
    for x_NK in views(shape, noise).astype(np.float64):
        a_NN = np.zeros((20, 20))
        likelihood_NK = np.exp(-((x_NK[:, None, :-1] - centres_KK) ** 2).sum(-1) / (2 * variance))
        posterior_NK = likelihood_NK / likelihood_NK.sum(1, keepdims=True)
        for i in range(20):
            for j in range(20):
                a_NN[i, j] = (i != j) * sum(posterior_NK[i, k] * posterior_NK[j, k] for k in range(4))
        affinities.append(a_NN / a_NN.sum(1, keepdims=True))
    assert tuple(bayes_success(shape, noise)) == pytest.approx(tuple(judged(np.array(affinities), 4)), abs=1e-6)


def test_the_bayes_control_is_far_from_the_law_it_stands_beside() -> None:
    for num_classes in (5, 8):
        setting = changed(TRAINING, num_classes=num_classes, batch=8 * num_classes)
        assert np.log2(CONTROL_BAYES_AS_MASS.threshold(setting) / TRAINED_PLUS.threshold(setting)) > 0.3


class TestCoverage:
    """Partners in batches of independent classes."""

    @pytest.mark.parametrize("num_classes", [2, 5, 100])
    def test_the_covering_batch_misses_the_share_it_may(self, num_classes: int) -> None:
        batch = COVERAGE.threshold(Setting(num_classes=num_classes))
        assert partner_share(batch, num_classes) == pytest.approx(1 - MISSED)

    def test_the_share_is_that_of_draws(self) -> None:
        labels = np.random.default_rng(0).integers(0, 5, (20_000, 8))
        assert partner_share(8, 5) == pytest.approx((labels[:, 1:] == labels[:, :1]).any(1).mean(), abs=0.01)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"weights": "identity"}, "training"),
            ({"num_views": 2}, "one view"),
            ({"num_classes": 2}, "num_classes 3 to 10"),
            ({"optimizer": "sgd"}, "adam"),
        ],
    )
    def test_it_refuses(self, values: dict[str, Any], reason: str) -> None:
        with pytest.raises(NotApplicableError, match=reason):
            COVERAGE.predict(changed(Setting(num_classes=5), **values))


class TestLearningSteps:
    """N^2 T = C K d s^4."""

    def test_the_three_forms_agree(self) -> None:
        rows = N2T.threshold(LEARNING)
        assert N2T_STEPS.threshold(changed(LEARNING, train_batch=rows)) == pytest.approx(LEARNING.steps)
        at_examples = changed(LEARNING, num_examples=23 * rows)
        assert N2T_EXAMPLES.threshold(at_examples) == pytest.approx(rows)

    def test_it_is_the_formula(self) -> None:
        expected = 3.5**2 * np.sqrt(60 * 5**3 / (128 * 23))
        assert N2T.threshold(LEARNING) == pytest.approx(expected)
        assert N2T.threshold(changed(LEARNING, cosine=-0.25)) == pytest.approx(expected / 1.25)

    @pytest.mark.parametrize("schedule", PAIR_CONSTANTS)
    @pytest.mark.parametrize("rate", [0.003, 0.01, 0.03, 0.1])
    def test_each_rate_has_its_constant(self, schedule: str, rate: float) -> None:
        setting = changed(LEARNING, schedule=schedule, learning_rate=rate, optimizer="adam", init="identity")
        ratio = N2T_STEPS.threshold(setting) / N2T_STEPS.threshold(LEARNING)
        assert ratio == pytest.approx(PAIR_CONSTANTS[schedule][rate] / 60)

    @pytest.mark.parametrize("law", [N2T, N2T_EXAMPLES, N2T_STEPS])
    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"optimizer": "sgd"}, "adam only, but the optimiser is sgd"),
            ({"learning_rate": 0.02}, "0.003, 0.01, 0.03, 0.1"),
            ({"is_tuned": True}, "one learning rate"),
            ({"init": "default"}, "identity weights"),
            ({"weights": "identity"}, "about training"),
            ({"num_blocks": 2}, "one block"),
            ({"layer_norm": True}, "layer normalisation"),
            ({"cosine": 0.3}, "cosines of centres"),
            ({"spread": 1.0}, "spread"),
            ({"mean_norm": 1.0}, "common mean"),
            ({"dim": 16, "sigma": 1.2}, "32 dimensions"),
            ({"num_classes": 20}, "3 to 10 classes"),
            ({"sigma": 9.0}, "verified for sigma"),
            ({"steps": 2e4, "num_examples": 1e6, "train_batch": 5}, "below 10 rows"),
        ],
    )
    def test_it_refuses(self, law: Law, values: dict[str, Any], reason: str) -> None:
        with pytest.raises(NotApplicableError, match=reason):
            law.predict(changed(LEARNING, **values))


class TestSourceMass:
    """Views of one source against all others."""

    @pytest.mark.parametrize(("num_sources", "num_views", "spread", "sigma"), [(8, 2, 4.0, 3.0), (20, 4, 1.0, 1.0)])
    def test_masses_are_those_of_a_simulation(
        self, num_sources: int, num_views: int, spread: float, sigma: float
    ) -> None:
        rng, num_classes, dim = np.random.default_rng(2), 2, 64
        sources_N = np.repeat(np.arange(num_sources), num_views)
        source_RSD = np.eye(num_classes, dim)[np.arange(num_sources) % num_classes]
        source_RSD = source_RSD + spread / 8 * rng.standard_normal((200, num_sources, dim))
        x_RND = source_RSD[:, sources_N] + sigma / 8 * rng.standard_normal((200, len(sources_N), dim))
        x_RND /= np.linalg.norm(x_RND, axis=-1, keepdims=True)
        a_RNN = np.maximum(x_RND @ x_RND.transpose(0, 2, 1), 0) * (1 - np.eye(len(sources_N)))
        a_RNN /= a_RNN.sum(-1, keepdims=True)
        found = masses(source_cosines(sigma, dim, spread), len(sources_N), num_views, num_classes)
        classes_N = sources_N % num_classes
        for value, ids_N in ((found.source, sources_N), (found.same_class, classes_N)):
            measured = (a_RNN * (ids_N[:, None] == ids_N)).sum(-1).mean()
            assert value == pytest.approx(measured, rel=0.025)

    def test_it_falls_through_one_half_at_its_threshold(self) -> None:
        batch = SOURCE_BATCH.threshold(SOURCES)
        assert SOURCE_BATCH.outcome is not None
        below, at, above = (SOURCE_BATCH.outcome(changed(SOURCES, batch=f * batch)) for f in (0.8, 1, 1.25))
        assert below > 0.53 > 0.47 > above
        assert at == pytest.approx(0.5, abs=1e-6)

    def test_isolated_sources_follow_the_ratio_of_means(self) -> None:
        """N_max = V + (V - 1) f_in / f_out, up to the spread of rows."""
        setting = Setting(dim=256, sigma=1.0, num_views=8)
        cosines = isolated_cosines(1.0, 256)
        ratio = float(cosines.source.rectified.mean / cosines.across.rectified.mean)
        assert SOURCE_BATCH.threshold(setting) == pytest.approx(8 + 7 * ratio, rel=0.03)

    def test_sources_far_apart_in_a_class_are_isolated(self) -> None:
        spread = changed(SOURCES, spread=1e3, sigma=1e3)
        assert SOURCE_BATCH.threshold(spread) == pytest.approx(
            SOURCE_BATCH.threshold(Setting(dim=64, sigma=1.0, num_views=2)), rel=0.01
        )

    def test_without_other_sources_all_mass_is_right(self) -> None:
        assert masses(source_cosines(1.0, 64, 1.0), 2, 2, 5).source == 1

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"num_views": 1}, "two views"),
            ({"weights": "trained"}, "identity weights"),
            ({"num_blocks": 2}, "one block"),
            ({"cosine": -1.0}, "orthonormal"),
            ({"dim": 8}, "16 dimensions"),
            ({"num_classes": None}, "needs num_classes"),
            ({"mean_norm": 1.0}, "common mean"),
            ({"centred": True}, "batch mean"),
        ],
    )
    def test_it_refuses(self, values: dict[str, Any], reason: str) -> None:
        with pytest.raises(NotApplicableError, match=reason):
            SOURCE_BATCH.predict(changed(SOURCES, **values))
