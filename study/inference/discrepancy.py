"""The discrepancy: how far the true curve lies from the fitted flanks, drawn given the replicates.

    d(u) = sd * basis(u) . w,    w ~ N(0, I)

is a Gaussian process over the axis (Kennedy and O'Hagan 2001, "Bayesian calibration of computer models") in the
coordinates of a few nodes. Given flanks, height, floor and noise it is Gaussian in closed form. The crossing that is
reported is one of the curve with its discrepancy: replicates next to the threshold then say where the outcome crosses
the level, whatever the flanks do elsewhere.

Shapes: D draws, H noise draws, P points, M nodes, G positions of the grid.
"""

import numpy as np
from numpy.typing import NDArray

from study.inference.noise import Array, PointMeans, discrepancy_kernel

NODES_M = np.linspace(0, 1, 17)
GRID_G = np.linspace(0, 1, 129)
_FACTOR_MM = np.linalg.cholesky(discrepancy_kernel(NODES_M, NODES_M) + 1e-6 * np.eye(len(NODES_M)))


def basis(u_X: Array) -> Array:
    """Return functions at positions (X,) whose standard normal combinations have the process's covariance, (X, M)."""
    result: Array = np.linalg.solve(_FACTOR_MM, discrepancy_kernel(NODES_M, u_X)).T
    return result


def draw_discrepancy(
    means: PointMeans, residual_DP: Array, noise_D: NDArray[np.intp], rng: np.random.Generator
) -> Array:
    """Draw it on GRID_G, (D, G), given what each draw's curve leaves of the point means under its noise draw."""
    basis_HPM = means.discrepancy_H[:, None, None] * basis(means.u_P)
    noise_HPP = means.noise_HPP + 1e-9 * np.eye(len(means.u_P))
    pulled_HPM = np.linalg.solve(noise_HPP, basis_HPM)
    covariance_HMM = np.linalg.inv(np.swapaxes(basis_HPM, 1, 2) @ pulled_HPM + np.eye(len(NODES_M)))
    factor_HMM = np.linalg.cholesky(covariance_HMM)
    gain_HMP = covariance_HMM @ np.swapaxes(pulled_HPM, 1, 2)
    weight_DM = rng.standard_normal((len(noise_D), len(NODES_M)))
    for index in np.unique(noise_D):
        mine = noise_D == index
        weight_DM[mine] = residual_DP[mine] @ gain_HMP[index].T + weight_DM[mine] @ factor_HMM[index].T
    drawn_DG: Array = means.discrepancy_H[noise_D][:, None] * (weight_DM @ basis(GRID_G).T)
    return drawn_DG


def discrepancy_at(drawn_DG: Array, u_D: Array) -> Array:
    """Return each draw's discrepancy at its own positions in [0, 1], (D,) or (D, K), between those of its even grid."""
    last = drawn_DG.shape[1] - 1
    position_DK = u_D.reshape(len(drawn_DG), -1) * last
    left_DK = np.clip(position_DK.astype(np.intp), 0, last - 1)
    share_DK = np.clip(position_DK - left_DK, 0, 1)
    start_DK, end_DK = (np.take_along_axis(drawn_DG, left_DK + step, 1) for step in (0, 1))
    value_DK: Array = start_DK + share_DK * (end_DK - start_DK)
    return value_DK.reshape(u_D.shape)
