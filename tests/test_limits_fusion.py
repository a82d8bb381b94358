"""Laws of untrained fusion agree with literal simulations, with each other in their limits, and refuse the rest.

Shape suffixes: N rows, D dimensions, K classes, L blocks.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from study.interface.theory import NotApplicableError
from study.recipes.contrastive.laws import (
    depth,
    extreme_value,
    geometric,
    one_block,
    spectral,
    state_evolution,
    unbalanced,
)
from study.recipes.contrastive.laws.fusion_state import marchenko_pastur, success_by_block
from study.recipes.contrastive.laws.law import Law, Setting
from study.recipes.contrastive.laws.moments import (
    chance_mass,
    cosine_moments,
    crossing,
    jsd_of_mass,
    jsd_of_uneven_mass,
    rectified_gaussian,
    rectified_mean,
    success_of_jsd,
    success_of_mass,
)

Array = NDArray[np.float64]


def simplex(num_classes: int) -> float:
    return -1 / (num_classes - 1)


def centres(num_classes: int, dim: int, cosine: float) -> Array:
    values, vectors = np.linalg.eigh(np.full((num_classes, num_classes), cosine) + (1 - cosine) * np.eye(num_classes))
    out_KD = np.zeros((num_classes, dim))
    out_KD[:, :num_classes] = vectors * np.sqrt(np.clip(values, 0, None))
    return out_KD


def views(rng: np.random.Generator, labels_N: NDArray[np.intp], dim: int, sigma: float, cosine: float) -> Array:
    x_ND = centres(int(labels_N.max()) + 1, dim, cosine)[labels_N]
    x_ND = x_ND + sigma * rng.standard_normal(x_ND.shape) / np.sqrt(dim)
    return np.asarray(x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True))


def affinity(x_ND: Array) -> Array:
    x_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    a_NN = np.maximum(x_ND @ x_ND.T, 0)
    np.fill_diagonal(a_NN, 0)
    return np.asarray(a_NN / a_NN.sum(1, keepdims=True))


def stack(x_ND: Array, num_blocks: int, residual: bool = True, centred: bool = False) -> Array:
    """The affinity of the last of some identity blocks, literally."""
    for _ in range(num_blocks - 1):
        value_ND = x_ND - x_ND.mean(0) if centred else x_ND
        x_ND = affinity(value_ND) @ value_ND + residual * x_ND
    return affinity(x_ND - x_ND.mean(0) if centred else x_ND)


def measured(a_NN: Array, labels_N: NDArray[np.intp]) -> tuple[float, float]:
    """P and S_J of an affinity, row by row."""
    num_rows = len(labels_N)
    p_in, chance, jsd, jsd_of_chance = [], [], [], []
    for row, label in enumerate(labels_N):
        is_partner = labels_N == label
        is_partner[row] = False
        target = is_partner / is_partner.sum()
        middle = (a_NN[row] + target) / 2
        p_in.append(a_NN[row][is_partner].sum())
        chance.append(is_partner.sum() / (num_rows - 1))
        halves = [(q[q > 0] * np.log(q[q > 0] / middle[q > 0])).sum() for q in (a_NN[row], target)]
        jsd.append(sum(halves) / 2)
        jsd_of_chance.append(jsd_of_mass(chance[-1]))
    p = (np.mean(p_in) - np.mean(chance)) / (1 - np.mean(chance))
    return float(p), float(1 - np.mean(jsd) / np.mean(jsd_of_chance))


def simulated(
    sigma: float,
    labels_N: NDArray[np.intp],
    dim: int,
    cosine: float,
    num_blocks: int = 1,
    reps: int = 10,
    **options: Any,
) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    values = [
        measured(stack(views(rng, labels_N, dim, sigma, cosine), num_blocks, **options), labels_N) for _ in range(reps)
    ]
    p, s_j = np.mean(values, axis=0)
    return float(p), float(s_j)


def balanced(batch: int, num_classes: int) -> NDArray[np.intp]:
    return np.arange(batch) % num_classes


class TestMoments:
    def test_rectified_moments_are_the_integrals(self) -> None:
        z = np.linspace(-12, 12, 400_001)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        for mean, sd in [(0.3, 0.1), (-0.2, 0.2), (0.0, 1.0)]:
            positive = np.maximum(mean + sd * z, 0)
            moments = rectified_gaussian(mean, sd)
            assert moments.mean == pytest.approx(np.trapezoid(positive * density, z), rel=1e-6)
            assert moments.second == pytest.approx(np.trapezoid(positive**2 * density, z), rel=1e-6)
            assert moments.positive == pytest.approx(np.trapezoid((positive > 0) * density, z), abs=1e-4)
            assert moments.variance == moments.second - moments.mean**2

    def test_without_spread_the_mean_is_rectified(self) -> None:
        assert rectified_mean(np.array([-0.4, 0.0, 0.7]), 0.0) == pytest.approx([0, 0, 0.7], abs=1e-11)

    def test_far_below_zero_nothing_is_negative(self) -> None:
        assert (rectified_mean(np.linspace(-60, 0, 500), 1.0) >= 0).all()

    @pytest.mark.parametrize("cosine", [0.0, -0.25, 0.4])
    def test_cosines_of_views_have_these_moments(self, cosine: float) -> None:
        labels_N = balanced(2000, 5)
        x_ND = views(np.random.default_rng(1), labels_N, 128, 1.3, cosine)
        cosines_NN = x_ND @ x_ND.T
        moments = cosine_moments(1.3, 128, cosine)
        same_NN = labels_N[:, None] == labels_N
        np.fill_diagonal(same_NN, False)
        within, across = cosines_NN[same_NN], cosines_NN[labels_N[:, None] != labels_N]
        assert within.mean() == pytest.approx(moments.within_mean, abs=0.006)
        assert across.mean() == pytest.approx(moments.across_mean, abs=0.006)
        assert within.std() == pytest.approx(moments.within_sd, rel=0.03)
        assert across.std() == pytest.approx(moments.across_sd, rel=0.03)

    def test_success_runs_from_chance_to_perfect(self) -> None:
        chance = chance_mass(np.array([20.0, 200.0]), 5)
        assert chance == pytest.approx([3 / 19, 39 / 199])
        assert success_of_mass(chance, chance) == pytest.approx([0, 0])
        assert success_of_jsd(jsd_of_mass(chance), chance) == pytest.approx([0, 0])
        assert jsd_of_mass(np.array([0.0, 1.0])) == pytest.approx([np.log(2), 0])

    def test_uneven_weights_only_add_divergence(self) -> None:
        mass = np.array([0.2, 0.9])
        assert jsd_of_uneven_mass(mass, np.full((2, 7), 3.0)) == pytest.approx(jsd_of_mass(mass))
        assert (jsd_of_uneven_mass(mass, np.array([0.0, 1.0, 5.0])) > jsd_of_mass(mass)).all()

    def test_a_missing_share_is_partners_without_weight(self) -> None:
        whole = jsd_of_uneven_mass(0.6, np.array([0.0, 1.0, 2.0]))
        assert jsd_of_uneven_mass(0.6, np.array([1.0, 2.0]), np.array([1 / 3, 1 / 3])) == pytest.approx(whole)

    def test_crossings_are_the_last_fall_and_the_first_rise(self) -> None:
        def wave(x: Array) -> Array:
            return np.asarray(np.sin(np.log(x)))

        assert crossing(wave, 0.5, 1e4, level=0.0) == pytest.approx(np.exp(np.pi))
        assert crossing(wave, 0.5, 1e4, level=0.0, direction="smallest") == pytest.approx(1.0)
        assert np.isnan(crossing(wave, 0.5, 1e4, level=2.0))


class TestOneBlock:
    @pytest.mark.parametrize(("cosine", "centred"), [(0.0, False), (simplex(5), False), (0.0, True)])
    def test_simulation_agrees(self, cosine: float, centred: bool) -> None:
        setting = Setting(dim=128, num_classes=5, batch=60, num_blocks=1, cosine=cosine, centred=centred, sigma=1.8)
        p, s_j = simulated(1.8, balanced(60, 5), 128, cosine, centred=centred)
        assert one_block.ONE_BLOCK.outcome is not None
        assert one_block.ONE_BLOCK_JSD.outcome is not None
        assert one_block.ONE_BLOCK.outcome(setting) == pytest.approx(p, abs=0.015)
        assert one_block.ONE_BLOCK_JSD.outcome(setting) == pytest.approx(s_j, abs=0.015)

    def test_measured_moments_give_the_measured_success(self) -> None:
        labels_N = balanced(200, 4)
        x_ND = views(np.random.default_rng(3), labels_N, 64, 1.0, 0.3)
        cosines_NN = x_ND @ x_ND.T
        same_NN = labels_N[:, None] == labels_N
        np.fill_diagonal(same_NN, False)
        within, across = cosines_NN[same_NN], cosines_NN[labels_N[:, None] != labels_N]
        law = one_block.success_from_moments(within.mean(), within.std(), across.mean(), across.std(), 200, 4)
        p, s_j = measured(affinity(x_ND), labels_N)
        assert law.p == pytest.approx(p, abs=0.01)
        assert law.s_j == pytest.approx(s_j, abs=0.01)
        auc = np.mean(within[:3000, None] > across[None, :3000])
        moments = cosine_moments(1.0, 64, 0.3)
        assert one_block.pair_auc_from_moments(moments) == pytest.approx(auc, abs=0.03)

    def test_the_threshold_is_where_a_class_outweighs_the_leak(self) -> None:
        setting = Setting(dim=64, num_classes=5, batch=15, num_blocks=1)
        moments = cosine_moments(one_block.ONE_BLOCK.predict(setting).value, 64)
        within = rectified_mean(moments.within_mean, moments.within_sd)
        across = rectified_mean(moments.across_mean, moments.across_sd)
        assert within / across == pytest.approx(5 + 1 + (5 - 1) / (3 - 1))

    def test_the_closed_form_is_the_limit_of_many_dimensions_and_rows(self) -> None:
        setting = Setting(dim=10**7, num_classes=6, batch=6e6, num_blocks=1)
        closed = one_block.ONE_BLOCK_CLOSED.threshold(setting)
        assert closed == pytest.approx(one_block.ONE_BLOCK.threshold(setting), rel=2e-3)

    def test_it_falls_with_classes_and_grows_with_dimensions_and_rows(self) -> None:
        setting = Setting(dim=128, num_classes=5, batch=100, num_blocks=1)
        for law in (one_block.ONE_BLOCK, one_block.ONE_BLOCK_JSD):
            assert (np.diff(law.thresholds(setting, dim=[32, 64, 256, 1024])) > 0).all()
            assert (np.diff(law.thresholds(setting, batch=[15, 20, 100, 200])) > 0).all()
        classes = one_block.ONE_BLOCK.thresholds(setting, num_classes=[3, 5, 10, 19], batch=[30, 50, 100, 190])
        assert (np.diff(classes) < 0).all()

    def test_without_noise_a_simplex_is_perfect(self) -> None:
        success = one_block.success_from_moments(*cosine_moments(1e-4, 64, simplex(4)), 40, 4)
        assert success.p == pytest.approx(1, abs=1e-6)
        assert success.s_j == pytest.approx(1, abs=1e-6)

    def test_without_noise_overlap_has_a_limit_of_its_own(self) -> None:
        limit = float(geometric.most_overlap(5))
        assert geometric.noise_free_success(5, limit) == pytest.approx(0.5)
        success = one_block.success_from_moments(*cosine_moments(1e-4, 64, limit), 1e7, 5)
        assert success.p == pytest.approx(0.5, abs=1e-5)

    def test_arrays_equal_a_loop(self) -> None:
        sigmas, batches = np.array([0.5, 1.0, 3.0]), np.array([15.0, 50.0, 500.0])
        together = one_block.success_from_moments(*cosine_moments(sigmas, 64), batches, 5)
        for index, (sigma, batch) in enumerate(zip(sigmas, batches, strict=True)):
            alone = one_block.success_from_moments(*cosine_moments(sigma, 64), batch, 5)
            assert together.p[index] == pytest.approx(float(alone.p), rel=1e-12)
            assert together.s_j[index] == pytest.approx(float(alone.s_j), rel=1e-12)


class TestUnequalClasses:
    SIZES_K = np.array([60, 30, 14, 6])

    def test_simulation_agrees(self) -> None:
        p, _ = simulated(1.5, np.repeat(np.arange(4), self.SIZES_K), 128, 0.0)
        assert unbalanced.success_of_sizes(1.5, 128, self.SIZES_K) == pytest.approx(p, abs=0.03)

    def test_equal_sizes_are_the_balanced_law(self) -> None:
        setting = Setting(dim=64, num_classes=4, batch=48, num_blocks=1)
        balanced_sigma = one_block.ONE_BLOCK.predict(setting).value
        assert unbalanced.sigma_max_of_sizes(64, np.full(4, 12)) == pytest.approx(balanced_sigma, rel=1e-6)

    def test_the_order_of_classes_does_not_matter(self) -> None:
        sigmas = np.array([0.5, 1.0, 2.0])
        forward = unbalanced.success_of_sizes(sigmas, 64, self.SIZES_K, -0.2)
        assert forward == pytest.approx(unbalanced.success_of_sizes(sigmas, 64, self.SIZES_K[::-1], -0.2))
        assert forward[1] == pytest.approx(float(unbalanced.success_of_sizes(1.0, 64, self.SIZES_K, -0.2)))


class TestStateEvolution:
    @pytest.mark.parametrize(
        ("num_blocks", "cosine", "residual"), [(2, 0.0, True), (2, simplex(5), False), (3, simplex(5), True)]
    )
    def test_simulation_agrees(self, num_blocks: int, cosine: float, residual: bool) -> None:
        sigmas = np.array([1.2, 1.8])
        law = success_by_block(sigmas, 100, 128, 5, num_blocks, cosine, residual=residual)[-1]
        for sigma, predicted in zip(sigmas, law, strict=True):
            p, _ = simulated(sigma, balanced(100, 5), 128, cosine, num_blocks, reps=4, residual=residual)
            assert predicted == pytest.approx(p, abs=0.06)

    def test_a_grid_equals_a_loop_and_shallow_stacks_are_prefixes(self) -> None:
        sigmas, batches = np.array([0.8, 1.5, 2.5]), np.array([25.0, 60.0, 400.0])
        together = success_by_block(sigmas, batches, 64, 5, 4, simplex(5))
        for index, (sigma, batch) in enumerate(zip(sigmas, batches, strict=True)):
            alone = success_by_block(sigma, batch, 64, 5, 2, simplex(5))
            assert together[:2, index] == pytest.approx(alone[:, 0], rel=1e-10)

    def test_the_noise_spectrum_is_that_of_a_random_matrix(self) -> None:
        nodes, weights = marchenko_pastur(np.array([0.1, 0.7, 1.0]))
        assert (weights * nodes).sum(0) == pytest.approx([1, 1, 1], abs=1e-6)
        assert (weights * nodes**2).sum(0) == pytest.approx([1.1, 1.7, 2.0], abs=1e-6)
        eigenvalues = np.linalg.svd(np.random.default_rng(0).standard_normal((700, 1000)), compute_uv=False) ** 2 / 1000
        assert (weights[:, 1] * nodes[:, 1] ** 4).sum() == pytest.approx((eigenvalues**4).mean(), rel=0.02)

    def test_without_noise_it_is_the_noise_free_map(self) -> None:
        for residual in (True, False):
            start = float(geometric.noise_free_success(5, 0.02))
            noise_free = depth.success_by_depth(start, start, residual=residual, num_blocks=5)
            state = success_by_block(1e-3, 5e6, 2000, 5, 5, 0.02, residual=residual)[:, 0]
            assert state == pytest.approx(noise_free, abs=2e-4)

    def test_sigma_grows_with_rows_and_dimensions_and_falls_with_classes(self) -> None:
        law = state_evolution.STATE_EVOLUTION
        setting = Setting(dim=128, num_classes=5, batch=100, num_blocks=3, centred=True)
        assert (np.diff(law.thresholds(setting, batch=[15, 60, 150, 250])) > 0).all()
        assert (np.diff(law.thresholds(setting, dim=[32, 64, 128, 256])) > 0).all()
        assert (np.diff(law.thresholds(setting, num_classes=[3, 5, 10])) < 0).all()

    def test_the_batch_law_inverts_the_sigma_law(self) -> None:
        setting = Setting(dim=64, num_classes=5, num_blocks=2, sigma=2.2, cosine=simplex(5), residual=False)
        batch = state_evolution.STATE_EVOLUTION_BATCH.predict(setting).value
        sigma = state_evolution.STATE_EVOLUTION.predict(dataclasses.replace(setting, batch=batch, sigma=None)).value
        assert sigma == pytest.approx(2.2, rel=1e-6)

    def test_more_noise_needs_a_larger_batch(self) -> None:
        setting = Setting(dim=64, num_classes=5, num_blocks=3, cosine=simplex(5))
        batches = state_evolution.STATE_EVOLUTION_BATCH.thresholds(setting, sigma=[2.0, 2.3, 2.6])
        assert (np.diff(batches) > 0).all()

    def test_a_rounded_simplex_is_a_simplex(self) -> None:
        exact = success_by_block(2.0, 60, 64, 4, 3, simplex(4))
        assert success_by_block(2.0, 60, 64, 4, 3, -0.333) == pytest.approx(exact, abs=1e-3)
        assert success_by_block(2.0, 60, 64, 4, 3, -0.334) == pytest.approx(exact, abs=1e-3)

    def test_a_centred_first_block_is_the_one_block_law(self) -> None:
        setting = Setting(dim=256, num_classes=5, batch=100, num_blocks=1, centred=True, sigma=2.0)
        assert one_block.ONE_BLOCK.outcome is not None
        first = success_by_block(2.0, 100, 256, 5, 1, centred=True)[0, 0]
        assert first == pytest.approx(one_block.ONE_BLOCK.outcome(setting), abs=0.01)


class TestDepth:
    def test_without_noise_the_maps_are_the_known_ones(self) -> None:
        assert depth.success_by_depth(0.9, 0.9, residual=True, num_blocks=2)[1] == pytest.approx(0.9 * 1.9**2 / 4)
        assert depth.success_by_depth(0.9, 0.9, residual=False, num_blocks=2)[1] == pytest.approx(0.9**3)
        assert depth.success_by_depth(1.0, residual=True) == pytest.approx(np.ones(depth.MOST_BLOCKS))

    @pytest.mark.parametrize("residual", [True, False])
    def test_simulation_agrees(self, residual: bool) -> None:
        setting = Setting(dim=256, num_classes=5, batch=50, sigma=0.8, residual=residual)
        labels_N = balanced(50, 5)
        success_L = [simulated(0.8, labels_N, 256, 0.0, blocks, 12, residual=residual)[0] for blocks in range(1, 6)]
        measured_depth = depth.depth_at(np.array(success_L))
        for law in (depth.DEPTH, depth.DEPTH_STATE_EVOLUTION):
            assert law.predict(setting).value == pytest.approx(measured_depth, rel=0.12)

    def test_the_residual_and_dimensions_delay_it_and_overlap_hastens_it(self) -> None:
        setting = Setting(dim=256, num_classes=5, batch=100, sigma=0.5)
        for law in (depth.DEPTH, depth.DEPTH_STATE_EVOLUTION):
            with_residual, without = (
                law.thresholds(dataclasses.replace(setting, residual=residual), dim=[64, 256, 1024])
                for residual in (True, False)
            )
            assert (with_residual > without).all()
            assert (np.diff(with_residual) > 0).all()
            assert (np.diff(law.thresholds(setting, cosine=[0.0, 0.03, 0.08])) < 0).all()

    def test_a_depth_between_blocks_is_interpolated(self) -> None:
        assert depth.depth_at(np.array([0.9, 0.7, 0.3, 0.1])) == pytest.approx(2.5)
        assert np.isnan(depth.depth_at(np.array([0.9, 0.8])))
        assert np.isnan(depth.depth_at(np.array([0.4, 0.3])))


class TestGeometry:
    def test_below_a_quarter_of_the_angle_no_arrangement_misorders_a_pair(self) -> None:
        centre_angle = np.pi / 2
        limit = float(geometric.angle_of_ordered_pairs(centre_angle))
        # The worst arrangement: all in one plane, two views of a class apart, two of different classes towards another.
        for angle, is_ordered in ((0.99 * limit, True), (1.01 * limit, False)):
            assert (np.cos(2 * angle) > np.cos(centre_angle - 2 * angle)) == is_ordered

    def test_only_obtuse_centres_can_be_free_of_leak(self) -> None:
        assert geometric.angle_of_no_leak(np.array([np.pi / 3, np.pi / 2])) == pytest.approx([0, 0])
        angle = float(geometric.angle_of_no_leak(np.arccos(simplex(3))))
        assert np.cos(np.arccos(simplex(3)) - 2 * angle) == pytest.approx(0)

    def test_half_of_the_batches_are_ordered_at_the_extreme_value_threshold(self) -> None:
        setting = Setting(dim=64, num_classes=5, batch=25)
        threshold = extreme_value.EXTREME_VALUE.predict(setting).value
        labels_N = balanced(25, 5)
        is_other_NN = labels_N[:, None] != labels_N
        is_partner_NN = ~is_other_NN & ~np.eye(25, dtype=bool)

        def share(sigma: float) -> float:
            rng = np.random.default_rng(0)
            cosines = [x_ND @ x_ND.T for x_ND in (views(rng, labels_N, 64, sigma, 0.0) for _ in range(200))]
            return float(np.mean([c_NN[is_partner_NN].min() > c_NN[is_other_NN].max() for c_NN in cosines]))

        assert share(0.9 * threshold) > 0.5 > share(1.1 * threshold)

    def test_it_falls_with_rows_and_stays_above_the_guarantee(self) -> None:
        setting = Setting(dim=256, num_classes=5, batch=50)
        typical = extreme_value.EXTREME_VALUE.thresholds(setting, batch=[15, 50, 150, 300])
        assert (np.diff(typical) < 0).all()
        assert (typical > geometric.GEOMETRIC.predict(setting).value).all()


class TestSpectral:
    def test_sigma_and_batch_are_one_limit(self) -> None:
        sigma = spectral.bbp_sigma(120, 64, 5, -0.1)
        assert spectral.bbp_batch(sigma, 64, 5, -0.1) == pytest.approx(120)
        assert spectral.subspace_overlap(sigma, 120, 64, 5, -0.1) == pytest.approx(0, abs=1e-12)
        assert spectral.bbp_batch(2.0, 64, 5, simplex(5)) == pytest.approx((5 - 1) ** 2 * 2.0**4 / 64)

    def test_principal_axes_overlap_with_the_classes_as_predicted(self) -> None:
        sigma = 0.7 * float(spectral.bbp_sigma(300, 200, 4))
        centres_KD = centres(4, 200, 0.0)
        subspace = np.linalg.svd(centres_KD - centres_KD.mean(0), full_matrices=False)[2][:3]
        rng, overlaps = np.random.default_rng(0), []
        for _ in range(10):
            x_ND = centres_KD[balanced(300, 4)] + sigma * rng.standard_normal((300, 200)) / np.sqrt(200)
            axes = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)[2][:3]
            overlaps.append(((axes @ subspace.T) ** 2).sum() / 3)
        assert np.mean(overlaps) == pytest.approx(spectral.subspace_overlap(sigma, 300, 200, 4), abs=0.04)

    def test_read_as_a_threshold_of_mass_it_is_a_control_that_fails(self) -> None:
        control = spectral.CONTROL_BBP_AS_MASS
        assert control.is_control
        setting = Setting(dim=64, num_classes=5, batch=50, num_blocks=1)
        assert control.predict(setting).value > 2 * one_block.ONE_BLOCK.predict(setting).value


ONE = Setting(dim=64, num_classes=5, batch=50, num_blocks=1, weights="identity")
STACK = Setting(dim=64, num_classes=5, batch=50, num_blocks=2, weights="identity", cosine=simplex(5), sigma=2.3)
DEEP = Setting(dim=256, num_classes=5, batch=50, sigma=0.5, weights="identity")
CASES = [
    (one_block.ONE_BLOCK, ONE),
    (one_block.ONE_BLOCK, dataclasses.replace(ONE, centred=True)),
    (one_block.ONE_BLOCK_JSD, ONE),
    (one_block.ONE_BLOCK_CLOSED, ONE),
    (state_evolution.STATE_EVOLUTION, STACK),
    (state_evolution.STATE_EVOLUTION, dataclasses.replace(STACK, cosine=0.0, centred=True)),
    (state_evolution.STATE_EVOLUTION_BATCH, STACK),
    (depth.DEPTH, DEEP),
    (depth.DEPTH_STATE_EVOLUTION, DEEP),
    (geometric.GEOMETRIC, ONE),
    (extreme_value.EXTREME_VALUE, ONE),
    (spectral.SPECTRAL, STACK),
    (spectral.SPECTRAL_BATCH, STACK),
    (spectral.CONTROL_BBP_AS_MASS, STACK),
]


@pytest.mark.parametrize(("law", "setting"), CASES, ids=lambda value: value.name if isinstance(value, Law) else "")
class TestEveryLaw:
    def test_the_outcome_at_the_threshold_is_the_level(self, law: Law, setting: Setting) -> None:
        prediction = law.predict(setting)
        assert prediction.low < prediction.value < prediction.high
        if law.outcome is not None:
            changes: dict[str, Any] = {law.quantity: prediction.value}
            at_threshold = dataclasses.replace(setting, **changes)
            assert law.outcome(at_threshold) == pytest.approx(law.level, abs=1e-6)

    def test_weights_that_are_not_said_are_not_refused(self, law: Law, setting: Setting) -> None:
        silent = dataclasses.replace(setting, weights=None)
        assert law.predict(silent) == law.predict(setting)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"weights": "trained"}, "assumes identity weights"),
            ({"init": "default"}, "assumes identity weights"),
            ({"layer_norm": True}, "without layer normalisation"),
            ({"spread": 0.5}, "spread of 0.5"),
            ({"mean_norm": 1.0}, "without a common mean"),
            ({"dim": 8}, "at least 16 dimensions"),
            ({"num_classes": 60, "batch": 6000}, "was verified for 2 to"),
            ({"dim": 18, "num_classes": 18, "cosine": 0.0, "batch": 600}, "more dimensions than classes"),
        ],
    )
    def test_other_settings_are_refused_in_a_sentence(
        self, law: Law, setting: Setting, change: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(NotApplicableError, match=sentence):
            law.predict(dataclasses.replace(setting, **change))


@pytest.mark.parametrize(
    ("law", "setting", "change", "sentence"),
    [
        (one_block.ONE_BLOCK, ONE, {"num_blocks": 2}, "covers one block"),
        (one_block.ONE_BLOCK, ONE, {"batch": 9}, "at least 2 rows of each of 5 classes"),
        (one_block.ONE_BLOCK, ONE, {"cosine": -0.3}, "a cosine of centres from -0.25"),
        (one_block.ONE_BLOCK, ONE, {"cosine": 1.0}, "to below 1"),
        (one_block.ONE_BLOCK, ONE, {"cosine": 0.5}, "is not crossed"),
        (one_block.ONE_BLOCK_CLOSED, ONE, {"cosine": 0.1}, "orthonormal centres"),
        (one_block.ONE_BLOCK_CLOSED, ONE, {"centred": True}, "batch mean is kept"),
        (state_evolution.STATE_EVOLUTION, STACK, {"num_blocks": 1}, "covers 2 to 5 blocks"),
        (state_evolution.STATE_EVOLUTION, STACK, {"num_blocks": 6}, "covers 2 to 5 blocks"),
        (state_evolution.STATE_EVOLUTION, STACK, {"num_blocks": 2.5}, "covers 2 to 5 blocks"),
        (state_evolution.STATE_EVOLUTION, STACK, {"batch": 12}, "at least 3 rows"),
        (state_evolution.STATE_EVOLUTION_BATCH, STACK, {"centred": True}, "batch mean kept"),
        (state_evolution.STATE_EVOLUTION_BATCH, STACK, {"sigma": 0.0}, "positive sigma"),
        (state_evolution.STATE_EVOLUTION_BATCH, STACK, {"sigma": 0.3}, "is not crossed"),
        (depth.DEPTH, DEEP, {"centred": True}, "common component"),
        (depth.DEPTH, DEEP, {"cosine": -0.1}, "a cosine of centres from 0"),
        (depth.DEPTH, DEEP, {"sigma": 3.0}, "was verified for sigma 0.3 to 1"),
        (geometric.GEOMETRIC, ONE, {"num_blocks": 3}, "covers one block"),
        (extreme_value.EXTREME_VALUE, ONE, {"centred": True}, "batch mean is kept"),
        (spectral.SPECTRAL, STACK, {"batch": 10}, "at least 3 rows"),
    ],
)
def test_a_law_says_why_it_does_not_apply(law: Law, setting: Setting, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotApplicableError, match=sentence):
        law.predict(dataclasses.replace(setting, **change))
