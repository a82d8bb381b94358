"""The posterior of a curve agrees with slow literal versions, and knows little where little was measured."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from study.inference.curve import curve_posterior
from study.inference.flanks import log_shape, peak_position
from study.inference.noise import PointMeans, point_means
from study.inference.posterior import HEIGHT_SD, Curves, Likelihood, draw_prior, log_prior, sample
from study.inference.threshold import fit_curve

Array = NDArray[np.float64]

POINTS = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])
SEEDS = np.array([0, 1, 2, 0, 1, 0, 0, 1, 2, 3])
U = np.array([0.0, 0.4, 0.5, 1.0])


def rise(u: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-(u - 0.45) / 0.05)))


def unbalanced_means() -> tuple[Array, PointMeans]:
    """Ten replicates of four points that share some of four seeds."""
    rng = np.random.default_rng(5)
    y = rise(U)[POINTS] + 0.05 * rng.standard_normal(4)[SEEDS] + 0.05 * rng.standard_normal(len(POINTS))
    return y, point_means(U, y, POINTS, SEEDS, np.array([0.01, -0.01, 0.0, 0.0]), np.random.default_rng(0))


class TestNoise:
    def test_point_means_are_generalised_least_squares(self) -> None:
        y, means = unbalanced_means()
        points_NP, seeds_NS = np.eye(4)[POINTS], np.eye(4)[SEEDS]
        for h in (0, 7, 20):
            covariance_NN = means.seed_H[h] * seeds_NS @ seeds_NS.T + np.diag(means.point_HP[h, POINTS])
            precision_NN = np.linalg.inv(covariance_NN)
            covariance_PP = np.linalg.inv(points_NP.T @ precision_NN @ points_NP)
            assert means.noise_HPP[h] == pytest.approx(covariance_PP)
            assert means.mean_HP[h] == pytest.approx(covariance_PP @ points_NP.T @ precision_NN @ y)

    @pytest.mark.parametrize(("noise", "between"), [(0.03, 0.1), (0.1, 0.0)])
    def test_many_replicates_tell_noise_from_seeds(self, noise: float, between: float) -> None:
        rng = np.random.default_rng(3)
        points, seeds = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
        u = np.linspace(0, 1, 10)
        shift_S = between * rng.standard_normal(20)
        y = rise(u)[points] + shift_S[seeds] + noise * rng.standard_normal(200)
        means = point_means(u, y, points, seeds, np.zeros(20), rng)
        assert np.sqrt(np.median(means.point_HP, 0)) == pytest.approx(noise, rel=0.45)
        assert np.median(np.sqrt(means.seed_H)) == pytest.approx(shift_S.std(), abs=0.03)

    def test_without_a_second_replicate_the_noise_is_its_prior(self) -> None:
        def spread(x: Array, outcome: Array) -> Array:
            posterior = curve_posterior(x, outcome, np.zeros(len(x)), np.full(len(x), 0.05))
            return np.sqrt(np.quantile(posterior.means.point_HP, [0.1, 0.5, 0.9]))

        x = 2.0 ** np.arange(6)
        low, middle, high = spread(x, 0.05 + 0.7 * rise(np.linspace(0, 1, 6)))
        assert 0.04 < middle < 0.25
        assert high > 5 * low


class TestShape:
    def test_the_peak_is_where_a_fine_grid_has_it(self) -> None:
        theta = draw_prior(500, np.random.default_rng(1))
        grid_DG = np.broadcast_to(np.linspace(0, 1, 2001), (500, 2001))
        found = np.exp(log_shape(theta, peak_position(theta)) - log_shape(theta, grid_DG).max(1))
        assert found.min() > 0.99
        assert np.quantile(found, 0.05) > 0.9999

    @pytest.mark.parametrize("skew", [-2.0, 0.0, 2.0])
    def test_the_half_way_point_and_the_width_mean_the_same_for_every_skew(self, skew: float) -> None:
        scale = 0.05
        theta = np.array([[0.4, np.log(scale), 1.9, np.log(scale), skew, 0.0]])
        u = np.linspace(0, 1, 100_001)
        value = np.exp(log_shape(theta, u[None]))[0]
        at_10, at_50, at_90 = (float(np.interp(share, value, u)) for share in (0.1, 0.5, 0.9))
        assert at_50 == pytest.approx(0.4, abs=1e-4)
        assert at_90 - at_10 == pytest.approx(2 * np.log(9) * scale, abs=1e-4)

    def test_skewed_and_plain_parameters_agree_where_there_is_no_skew(self) -> None:
        theta = np.array([[0.3, -3.0, 0.8, -2.0, 0.0, 0.0]])
        u = np.linspace(0, 1, 11)[None]
        assert log_shape(theta, u) == pytest.approx(log_shape(theta[:, :4], u))


class TestSampler:
    def test_the_height_is_integrated_over_its_prior(self) -> None:
        _, means = unbalanced_means()
        likelihood = Likelihood(means)
        theta = np.array([[0.45, np.log(0.05), 1.9, -2.0, 0.0, 0.0]])
        shape_1P = likelihood.shape(theta)
        ratios = []
        for h in (2, 11):
            normal = multivariate_normal(means.mean_HP[h], means.total_HPP[h])

            def joint(height: float, normal: object = normal) -> float:
                return float(2 * norm.pdf(height / HEIGHT_SD) / HEIGHT_SD * normal.pdf(height * shape_1P[0]))  # type: ignore[attr-defined]

            value = likelihood(shape_1P, np.array([h]))[0]
            ratios.append(value - np.log(quad(joint, 0, 4, points=[0.8, 1.0, 1.2])[0]))
        # Constants are left out.
        assert ratios[0] == pytest.approx(ratios[1], abs=1e-4)

    def test_it_agrees_with_importance_sampling_from_the_prior(self) -> None:
        _, means = unbalanced_means()
        likelihood, rng = Likelihood(means), np.random.default_rng(2)
        theta = draw_prior(40_000, rng)
        shape, num_noise = likelihood.shape(theta), len(means.seed_H)
        each_DH = np.column_stack([likelihood(shape, np.full(len(theta), h)) for h in range(num_noise)])
        weight = np.exp(each_DH - each_DH.max()).mean(1)
        order = np.argsort(theta[:, 0])
        below = np.cumsum(weight[order]) / weight.sum()
        exact = np.interp([0.05, 0.5, 0.95], below, theta[order, 0])
        curves = sample(means, rng, 4000)
        assert np.quantile(curves.theta_DK[:, 0], [0.05, 0.5, 0.95]) == pytest.approx(exact, abs=0.03)
        log_evidence = np.log(weight.mean()) + each_DH.max()
        assert curves.log_bayes_factor == pytest.approx(log_evidence - likelihood.log_null, abs=0.25)

    def test_draws_of_the_prior_are_allowed_by_it(self) -> None:
        assert np.isfinite(log_prior(draw_prior(2000, np.random.default_rng(0)))).all()

    def test_particles_that_stand_still_are_not_trusted(self) -> None:
        one = np.zeros(1)
        stuck = Curves(theta_DK=np.zeros((1, 6)), height_D=one, floor_D=one, log_bayes_factor=0.0, acceptance=0.0)
        assert not stuck.converged


class TestPosterior:
    x = 2.0 ** np.arange(0, 11, 2)
    outcome = 0.05 + 0.7 * rise(np.linspace(0, 1, 6))

    def test_one_seed_per_point_is_enough_to_plan_with(self) -> None:
        posterior = curve_posterior(self.x, self.outcome, np.zeros(6), np.full(6, 0.05))
        rising_D, falling_D = posterior.crossings(fraction=0.5)
        low, high = np.quantile(rising_D, [0.025, 0.975])
        assert 2 < low < 4.5 < high < 6.5
        assert rising_D.shape == falling_D.shape
        assert posterior.predict([2.0, 8.0, 32.0]).shape == (len(rising_D), 3)
        assert (posterior.noise_variance([2.0, 8.0, 32.0]) > 0).all()

    def test_crossings_are_where_the_predicted_curve_meets_the_level(self) -> None:
        posterior = curve_posterior(self.x, self.outcome, np.zeros(6), np.full(6, 0.05), num_draws=60)
        rising_D, _ = posterior.crossings(level=0.3)
        for draw in np.flatnonzero(np.isfinite(rising_D))[:20]:
            assert posterior.predict([2.0 ** rising_D[draw]])[draw, 0] == pytest.approx(0.3, abs=2e-3)

    def test_more_draws_tell_the_same(self) -> None:
        few, many = (
            curve_posterior(self.x, self.outcome, np.zeros(6), np.full(6, 0.05), num_draws=n).crossings(fraction=0.5)[0]
            for n in (400, 3000)
        )
        assert np.quantile(few, [0.05, 0.5, 0.95]) == pytest.approx(np.quantile(many, [0.05, 0.5, 0.95]), abs=0.35)

    def test_a_linear_axis_is_in_units_of_x(self) -> None:
        x = np.linspace(0, 1.5, 6)
        posterior = curve_posterior(x, self.outcome, np.zeros(6), np.full(6, 0.05), scale="linear")
        assert np.median(posterior.crossings(fraction=0.5)[0]) == pytest.approx(0.45 * 1.5, abs=0.12)

    def test_outcomes_without_any_noise_are_fitted(self) -> None:
        x, seeds = np.repeat(2.0 ** np.arange(11), 3), np.tile(np.arange(3), 11)
        fit = fit_curve(x, 0.05 + 0.7 * rise(np.log2(x) / 10), seeds, np.full(33, 0.05))
        assert fit.rising.estimate == pytest.approx(2**4.5, rel=0.03)
        assert fit.rising.low is not None
        assert fit.rising.high is not None
        assert fit.rising.high < 1.15 * fit.rising.low
        assert fit.converged
