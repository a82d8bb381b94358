"""A boundary in the plane is recovered with its band, says where it is unknown, and is sought with few replicates."""

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from study.inference import plane
from study.inference.boundary import BoundaryFit, fit_boundary
from study.inference.particles import tempered_particles
from study.inference.plane_data import PlaneData, Scales, low_columns
from study.inference.seeking_plane import NextInPlane, propose_boundary
from study.inference.statements import MISFIT_FLAG, CrossingStatus

Array = NDArray[np.float64]
Replicates = tuple[Array, Array, Array, NDArray[np.intp], Array]

X, Y = np.exp2(np.linspace(0, 5, 6)), np.exp2(np.linspace(0, 3, 4))


def surface(x: Array, y: Array, *, start: float, slope: float = 0.6, sign: float = 1.0) -> Array:
    """An outcome from 0.05 to 0.75 that is half-way at log2 x = start + slope * log2 y, 10-90 % over 1.5 octaves."""
    octaves = sign * (np.log2(x) - start - slope * np.log2(y))
    return np.asarray(0.05 + 0.7 / (1 + 9.0 ** (-2 * octaves / 1.5)))


def replicates(
    *, start: float = 1.5, slope: float = 0.6, sign: float = 1.0, num_seeds: int = 2, noise: float = 0.02
) -> Replicates:
    rng = np.random.default_rng(11)
    x, y = (np.repeat(a.ravel(), num_seeds) for a in np.meshgrid(X, Y))
    seeds = np.tile(np.arange(num_seeds), len(X) * len(Y))
    outcome = surface(x, y, start=start, slope=slope, sign=sign) + noise * rng.standard_normal(len(x))
    return x, y, outcome, seeds, np.full(len(x), 0.05)


@functools.cache
def rising() -> BoundaryFit:
    return fit_boundary(*replicates(), fraction=None, level=0.4)


def same(a: BoundaryFit, b: BoundaryFit, factor: float = 1.0) -> bool:
    pairs = ((a.median, b.median), (a.low, b.low), (a.high, b.high))
    return all(np.allclose(p * factor, q, rtol=1e-6, equal_nan=True) for p, q in pairs)


class TestRecovery:
    def test_the_band_holds_the_boundary(self) -> None:
        fit = rising()
        truth = np.exp2(1.5 + 0.6 * np.log2(fit.grid_y))
        inside = (fit.low <= truth) & (truth <= fit.high)
        assert inside.mean() > 0.9
        assert np.allclose(np.log2(fit.median / truth), 0, atol=0.2)
        assert fit.half_width is not None
        assert fit.half_width < 0.2
        assert fit.converged
        assert fit.flags == ()

    def test_a_slice_is_a_crossing_and_its_draws_agree(self) -> None:
        fit = rising()
        crossing = fit.crossing_at(2.0)
        assert crossing.status is CrossingStatus.FOUND
        low, median, high = np.quantile(fit.draws_at(2.0), [0.025, 0.5, 0.975])
        assert (crossing.low, crossing.estimate, crossing.high) == pytest.approx((low, median, high), rel=0.01)
        assert crossing.describe("batch").startswith("4.")

    def test_a_falling_flank_and_a_fraction(self) -> None:
        fit = fit_boundary(*replicates(start=2.0, slope=0.3, sign=-1), fraction=0.5, flank="falling")
        crossing = fit.crossing_at(4.0)
        assert crossing.low is not None
        assert crossing.high is not None
        assert crossing.low < 2**2.6 < crossing.high
        assert crossing.high / crossing.low < 1.5

    def test_the_two_criteria_agree_where_the_ceiling_is_reached(self) -> None:
        half = fit_boundary(*replicates(), fraction=0.5).crossing_at(1.0)
        level = rising().crossing_at(1.0)
        assert half.estimate == pytest.approx(level.estimate, rel=0.1)

    def test_replicates_may_lie_anywhere(self) -> None:
        rng = np.random.default_rng(3)
        x, y = np.exp2(rng.uniform(0, 5, 60)), np.exp2(rng.uniform(0, 3, 60))
        outcome = surface(x, y, start=1.5) + 0.02 * rng.standard_normal(60)
        fit = fit_boundary(x, y, outcome, np.arange(60), np.full(60, 0.05), fraction=None, level=0.4)
        crossing = fit.crossing_at(3.0)
        assert crossing.estimate == pytest.approx(2 ** (1.5 + 0.6 * np.log2(3)), rel=0.15)

    def test_noise_is_not_needed(self) -> None:
        fit = fit_boundary(*replicates(noise=0.0), fraction=None, level=0.4)
        assert fit.crossing_at(2.0).estimate == pytest.approx(2**2.1, rel=0.05)


class TestWhatIsNotKnown:
    def test_the_band_is_open_where_the_boundary_leaves_the_range(self) -> None:
        fit = fit_boundary(*replicates(start=-1.5, slope=2.0), fraction=None, level=0.4)
        assert fit.median[0] == fit.low[0] == -np.inf
        assert fit.crossing_at(1.0).status is CrossingStatus.BELOW_RANGE
        assert fit.crossing_at(1.0).estimate is None
        assert np.isneginf(fit.draws_at(1.0)).mean() > 0.9
        assert fit.crossing_at(8.0).status is CrossingStatus.FOUND

    def test_a_boundary_above_the_range_is_no_number(self) -> None:
        fit = fit_boundary(*replicates(start=1.5, slope=2.0), fraction=None, level=0.4)
        assert fit.median[-1] == fit.high[-1] == np.inf
        assert fit.crossing_at(8.0).status is CrossingStatus.ABOVE_RANGE

    def test_no_rise_is_no_crossing(self) -> None:
        x, y, outcome, seeds, floor = replicates()
        flat = outcome - surface(x, y, start=1.5) + 0.05
        fit = fit_boundary(x, y, flat, seeds, floor, fraction=0.5)
        assert np.isnan(fit.median).all()
        assert fit.half_width is None
        assert fit.crossing_at(2.0).status is CrossingStatus.NO_CROSSING

    @pytest.mark.parametrize("middle", [3.5, -1.0], ids=["a peak along x", "a fall"])
    def test_a_surface_of_another_kind_is_flagged_and_not_settled_without_saying_so(self, middle: float) -> None:
        x, y, outcome, seeds, floor = replicates(num_seeds=3)
        rise = 1 / (1 + np.exp(-5 * (np.log2(x) - 1.5))) if middle > 0 else 1.0
        noise = outcome - surface(x, y, start=1.5)
        other = 0.05 + 0.8 * rise / (1 + np.exp(5 * (np.log2(x) - abs(middle) - 1.5 * (middle < 0)))) + noise
        fit = fit_boundary(x, y, other, seeds, floor, fraction=None, level=0.4)
        assert MISFIT_FLAG in fit.flags
        proposal = propose((x, y, other, seeds, floor), 0.25)
        assert not proposal.is_settled or "the residuals reject the surface" in proposal.reason

    def test_outside_the_measured_range_there_is_no_answer(self) -> None:
        with pytest.raises(ValueError, match="from 1 to 8, not at 16"):
            rising().crossing_at(16.0)


class TestWhatMustNotMatter:
    def test_row_order(self) -> None:
        order = np.random.default_rng(0).permutation(len(X) * len(Y) * 2)
        x, y, outcome, seeds, floor = (a[order] for a in replicates())
        assert same(rising(), fit_boundary(x, y, outcome, seeds, floor, fraction=None, level=0.4))

    def test_units(self) -> None:
        x, y, outcome, seeds, floor = replicates()
        other = fit_boundary(4 * x, 2 * y, 8 * outcome, seeds, 8 * floor, fraction=None, level=3.2)
        assert same(rising(), other, factor=4.0)

    def test_names_of_seeds(self) -> None:
        x, y, outcome, seeds, floor = replicates()
        assert same(rising(), fit_boundary(x, y, outcome, seeds + 70, floor, fraction=None, level=0.4))
        # Another order of the names draws other particles: the band moves by the error of sampling.
        swapped = fit_boundary(x, y, outcome, 1 - seeds, floor, fraction=None, level=0.4)
        for end in ("median", "low", "high"):
            assert np.allclose(np.log2(getattr(rising(), end) / getattr(swapped, end)), 0, atol=0.1)


class TestErrors:
    def test_each_says_what_to_change(self) -> None:
        x, y, outcome, seeds, floor = replicates()
        with pytest.raises(ValueError, match="exactly one criterion"):
            fit_boundary(x, y, outcome, seeds, floor, fraction=0.5, level=0.4)
        with pytest.raises(ValueError, match="'rising' or 'falling'"):
            fit_boundary(x, y, outcome, seeds, floor, flank="both")
        with pytest.raises(ValueError, match="1 entries of outcome are not finite"):
            fit_boundary(x, y, np.where(np.arange(len(x)) == 3, np.nan, outcome), seeds, floor)
        with pytest.raises(ValueError, match="must be positive"):
            fit_boundary(x - 1, y, outcome, seeds, floor)
        with pytest.raises(ValueError, match="2 distinct y, and there are 6 and 1"):
            fit_boundary(x, np.ones_like(y), outcome, seeds, floor)


CANDIDATES = np.array([(x, y) for x in np.exp2(np.linspace(0, 5, 21)) for y in np.exp2(np.linspace(0, 3, 7))])


def propose(data: Replicates, precision: float, num: int = 8) -> NextInPlane:
    return propose_boundary(
        *data, fraction=None, level=0.4, candidates=CANDIDATES, precision=precision, round_replicates=num
    )


@functools.cache
def narrowest() -> NextInPlane:
    return propose(replicates(), 0.01)


class TestSeeking:
    def test_points_lie_on_the_flank_and_along_the_boundary(self) -> None:
        proposal = narrowest()
        points = np.array(proposal.points)
        distance = np.abs(np.log2(points[:, 0]) - 1.5 - 0.6 * np.log2(points[:, 1]))
        assert len(points) == 8
        assert not proposal.is_settled
        assert distance.max() < 1.5
        assert len(np.unique(points[:, 1])) >= 3

    def test_a_narrow_band_is_settled(self) -> None:
        proposal = propose(replicates(), 0.5)
        assert proposal.is_settled
        assert proposal.points == ()
        assert proposal.half_width is not None
        assert proposal.half_width <= 0.5

    def test_a_round_ends_where_the_forecast_is_precise_enough(self) -> None:
        half_width = narrowest().half_width
        assert half_width is not None
        assert 0 < len(propose(replicates(), 0.97 * half_width).points) < 8

    def test_row_order_does_not_matter(self) -> None:
        data = replicates()
        order = np.random.default_rng(5).permutation(len(data[0]))
        shuffled = data[0][order], data[1][order], data[2][order], data[3][order], data[4][order]
        assert propose(shuffled, 0.01) == narrowest()

    def test_without_repeats_a_precise_band_asks_for_repeats(self) -> None:
        data = replicates(num_seeds=1)
        proposal = propose(data, 5.0)
        assert not proposal.is_settled
        assert len(proposal.points) >= 3
        assert len(set(proposal.points)) == 1
        assert proposal.points[0] in set(zip(data[0], data[1], strict=True))

    def test_a_boundary_firmly_outside_is_settled(self) -> None:
        proposal = propose(replicates(start=9.0, slope=0.0), 0.1)
        assert proposal.is_settled
        assert proposal.half_width is None
        assert "outside" in proposal.reason

    def test_candidates_must_lie_in_the_measured_range(self) -> None:
        with pytest.raises(ValueError, match="measure the corners first"):
            propose_boundary(*replicates(), candidates=[(64.0, 2.0)], precision=0.01, round_replicates=2)


class TestMathematics:
    @staticmethod
    def data() -> PlaneData:
        """Nine replicates at six points; seed 2 is at a single point, where it is noise."""
        rng = np.random.default_rng(2)
        point = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])
        return PlaneData(
            u_P=rng.random(6), v_P=rng.random(6), outcome_N=rng.standard_normal(9), point_N=point,
            seed_N=np.array([0, 1, 0, 0, 0, 1, 2, 1, 1]), floor_2=np.zeros(2), floor_22=np.diag([0.01, 0.02]), unit=1.0,
            sign=1.0, scales=Scales(x_low=0.0, x_high=1.0, y_low=0.0, y_high=1.0),
        )  # fmt: skip

    def test_the_likelihood_is_that_of_the_literal_covariance(self) -> None:
        """Differences between parameters, against a dense Gaussian over replicates."""
        rng, data = np.random.default_rng(3), self.data()
        point = data.point_N
        likelihood = plane.PlaneLikelihood(data, rng)
        theta = 0.5 * rng.standard_normal((5, plane.NUM_PARAMETERS))
        noise, between, departure = plane.variances(theta)
        g_DP = plane.flank(theta, data.u_P, data.v_P, 1.0)
        shared = np.equal.outer(data.seed_N, data.seed_N) & (data.seed_N != 2)
        expected = []
        for d in range(5):
            rise = (g_DP[d][:, None] * plane.rise_columns(data.v_P))[point]
            low = ((1 - g_DP[d])[:, None] * low_columns(data.v_P))[point]
            covariance = rise @ np.diag(plane.HEIGHT_SD**2) @ rise.T
            covariance += low @ (np.diag(plane.LOW_SD**2) + data.floor_22) @ low.T
            covariance += noise[d] * np.diag(likelihood.pattern_P[point]) + between[d] * shared
            covariance += departure[d] * plane.discrepancy_kernel(data.u_P, data.v_P)[np.ix_(point, point)]
            fit = data.outcome_N @ np.linalg.solve(covariance, data.outcome_N)
            expected.append(-0.5 * fit - 0.5 * np.linalg.slogdet(covariance)[1])
        assert np.diff(likelihood(theta)) == pytest.approx(np.diff(expected), abs=1e-6)

    def test_the_discrepancy_is_drawn_from_its_dense_posterior(self) -> None:
        rng, data = np.random.default_rng(5), self.data()
        likelihood = plane.PlaneLikelihood(data, rng)
        one = 0.3 * rng.standard_normal(plane.NUM_PARAMETERS)
        one[plane.DISCREPANCY] = 4.0  # a large one
        theta = np.repeat(one[None], 20_000, 0)
        linear = np.repeat(0.2 * rng.standard_normal((1, 7)), len(theta), 0)
        drawn = likelihood.draw_discrepancy(theta, linear, rng)

        u, v = np.append(data.u_P, 0.4), np.append(data.v_P, 0.6)
        noise, _, variance = (float(a[0]) for a in plane.variances(theta[:1]))
        count_P = np.bincount(data.point_N)
        share = np.zeros((6, 2))
        np.add.at(share, (data.point_N[data.seed_N < 2], data.seed_N[data.seed_N < 2]), 1)
        g_P = plane.flank(theta[:1], data.u_P, data.v_P, 1.0)[0]
        fitted = g_P * (plane.rise_columns(data.v_P) @ linear[0, :3]) + low_columns(data.v_P) @ linear[0, 3:5]
        rest = np.bincount(data.point_N, data.outcome_N) / count_P - fitted - (share / count_P[:, None]) @ linear[0, 5:]
        kernel = variance * plane.discrepancy_kernel(u, v)
        gain = kernel[:, :6] @ np.linalg.inv(kernel[:6, :6] + np.diag(noise * likelihood.pattern_P / count_P))
        field = drawn @ plane.basis(u, v).T
        assert field.mean(0) == pytest.approx(gain @ rest, abs=0.02 * np.sqrt(variance))
        assert np.cov(field.T) == pytest.approx(kernel - gain @ kernel[:6], abs=0.05 * variance)

    def test_the_basis_has_the_correlation_of_the_discrepancy(self) -> None:
        u, v = np.random.default_rng(1).random((2, 40))
        basis = plane.basis(u, v)
        assert basis @ basis.T == pytest.approx(plane.discrepancy_kernel(u, v), abs=0.02)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_a_crossing_lies_where_the_surface_with_its_discrepancy_is_at_the_target(self, sign: float) -> None:
        rng = np.random.default_rng(4)
        surfaces = plane.Surfaces(
            theta_DK=rng.standard_normal((50, plane.NUM_PARAMETERS)), linear_D5=np.tile([0.8, 0.1, 0, 0, 0], (50, 1)),
            discrepancy_DM=0.02 * rng.standard_normal((50, len(plane.NODES_U))), floor_D2=np.zeros((50, 2)), sign=sign,
            log_bayes_factor=0.0, acceptance=1.0,
        )  # fmt: skip
        v = np.array([0.15, 0.8])
        ends = np.stack([surfaces(0.0, v), surfaces(1.0, v)])
        target = ends.mean(0)
        u = surfaces.crossings(target, v)
        rises = sign * (ends[1] - ends[0]) > 0.1
        assert rises.sum() > 50
        for draw, place in np.argwhere(rises):
            there = surfaces(u[draw, place], v)[draw, place]
            assert there == pytest.approx(target[draw, place], abs=0.01)

    def test_half_the_flank_is_at_the_boundary_and_its_width_is_its_width(self) -> None:
        theta = np.random.default_rng(4).standard_normal((50, plane.NUM_PARAMETERS))
        v = np.array([0.5])
        middle = plane.boundary_middle(theta, v)
        width = plane.WIDTH * np.exp(plane.WIDTH_LOG_SD * theta[:, plane.LOG_WIDTH, None])
        assert plane.flank(theta, middle, v, 1.0) == pytest.approx(np.full((50, 1), 0.5))
        shares = np.linspace(-6, 6, 2001)
        for k in range(50):
            curve = plane.flank(theta[[k]], middle[k] + width[k] * shares[:, None], v, 1.0)[:, 0]
            low, high = np.interp([0.1, 0.9], curve, shares)
            assert high - low == pytest.approx(1.0, abs=1e-3)

    def test_the_sampler_finds_two_modes_and_their_evidence(self) -> None:
        def log_like(theta_DK: Array) -> Array:
            modes = [-0.5 * np.sum((theta_DK - at) ** 2, 1) / 0.2**2 for at in (-1.0, 1.0)]
            return np.asarray(np.logaddexp(*modes))

        drawn = tempered_particles(
            lambda num, rng: rng.standard_normal((num, 2)),
            lambda theta_DK: -0.5 * np.sum(theta_DK**2, 1),
            log_like,
            np.random.default_rng(1),
        )
        per_axis = np.log(0.2 / np.hypot(1, 0.2)) - 0.5 / (1 + 0.2**2)
        assert drawn.log_evidence == pytest.approx(np.log(2) + 2 * per_axis, abs=0.3)
        assert np.mean(drawn.theta_DK[:, 0] > 0) == pytest.approx(0.5, abs=0.15)
        assert np.abs(drawn.theta_DK).mean() == pytest.approx(1 / 1.04, abs=0.05)
