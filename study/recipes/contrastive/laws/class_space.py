"""Blocks in the class subspace: what trained weights keep of a view, simulated without the dimensions they drop.

Projected on the class centres, scaled so that a centred centre has norm 1, views have one noise parameter,
s = sigma sqrt(K / (d (1 - c))), and s / sqrt(K - 1) is its s.d. per coordinate (docs/theory.md, section 6.1). The last
coordinate is the direction of the centres' mean; rows of a class are adjacent.

Shape suffixes: R batches, N rows of a batch, K coordinates (K - 1 centred ones and the mean) or classes, n rows of a
class, L blocks.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from study.recipes.contrastive.laws.law import Array, Setting
from study.recipes.contrastive.laws.moments import chance_mass, shared_mass, success_of_jsd, success_of_mass

Single = NDArray[np.float32]
Float = TypeVar("Float", bound=np.floating)

# Rows over which success is averaged, and entries of affinities that large batches may cost. One block needs few
# evaluations and gets three times as much.
_NUM_ROWS = 3_600
_MOST_ENTRIES = 720_000
_SEED = 20_240_101
_LEAST = np.float32(1e-12)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What thresholds in s depend on, and how finely they are simulated.

    ``mean_norm``: norm of the centres' mean over that of a centred centre. ``thinning``: a rough search simulates so
    many times fewer batches.
    """

    num_classes: int
    rows: int
    num_blocks: int
    residual: bool
    mean_norm: float
    thinning: int = 1

    @property
    def num_batches(self) -> int:
        size, effort = self.num_classes * self.rows, 3 if self.num_blocks == 1 else 1
        least = 2 if self.thinning == 1 else 1
        return max(least, effort * min(_NUM_ROWS // size, _MOST_ENTRIES // size**2) // self.thinning)

    @property
    def chance(self) -> float:
        return float(chance_mass(self.num_classes * self.rows, self.num_classes))


class Success(NamedTuple):
    """P and S_J, means over rows."""

    p: float
    s_j: float


class Weights(NamedTuple):
    """Weights of each block, up to a scale that its affinity ignores.

    ``offset``: scores are z z' - offset h h', z the centred coordinates and h the mean one. A block returns
    cos(angle) x + sin(angle) A x, with one angle for z and one for h; those of the last block are not used.
    """

    offset_L: Array
    angle_L: Array
    mean_angle_L: Array


class Affinities(NamedTuple):
    """Affinities of every row, the keys and their norms, and the sums that the rows were divided by (dead: 1)."""

    a_RNN: Single
    keys_RNK: Single
    norms_RN: Single
    sums_RN: Single
    is_dead_RN: NDArray[np.bool_]


def projector(shape: Shape) -> Weights:
    """Every weight the projection on the centred centres: no offset, and values of gain 1."""
    zeros_L = np.zeros(shape.num_blocks)
    angle_L = np.full(shape.num_blocks, np.pi / 4 if shape.residual else np.pi / 2)
    return Weights(offset_L=zeros_L, angle_L=angle_L, mean_angle_L=angle_L)


@cache
def simplex(num_classes: int) -> Array:
    """K unit vectors of pairwise cosine -1/(K-1) in K - 1 dimensions: (K, K - 1)."""
    return np.asarray(helmert(num_classes).T * np.sqrt(num_classes / (num_classes - 1)))


@lru_cache(maxsize=8)
def _noise(num_classes: int, rows: int, num_batches: int) -> Single:
    """Standard Gaussians (R, N, K), the same at every s.

    Seen from its class centre the sample has mean 0 and covariance 1 exactly: what is left of the sampling error moves
    a threshold by a third of what independent rows do.
    """
    shape = (num_batches, num_classes, rows, num_classes)
    g = np.random.default_rng(_SEED).standard_normal((np.prod(shape[:-1]), num_classes))
    g -= g.mean(0)
    powers, axes = np.linalg.eigh(g.T @ g / len(g))
    g = (g @ (axes / np.sqrt(powers)) @ axes.T).reshape(shape)
    # The reflection that turns the first axis into the centre of the row's class.
    mirror_KK = np.eye(num_classes - 1)[0] - simplex(num_classes)
    z, mirrors = g[..., :-1], mirror_KK / np.maximum(np.linalg.norm(mirror_KK, axis=-1, keepdims=True), 1e-12)
    along = np.einsum("rkni,ki->rkn", z, mirrors)
    g[..., :-1] = z - 2 * along[..., None] * mirrors[:, None, :]
    return g.reshape(num_batches, -1, num_classes).astype(np.float32)


def views(shape: Shape, noise: float) -> Single:
    """Projected views at s = ``noise``: (R, N, K)."""
    centres_KK = np.pad(simplex(shape.num_classes), ((0, 0), (0, 1)), constant_values=shape.mean_norm)
    centres_NK = np.repeat(centres_KK, shape.rows, axis=0).astype(np.float32)
    scale = np.float32(noise / np.sqrt(shape.num_classes - 1))
    return np.asarray(centres_NK + scale * _noise(shape.num_classes, shape.rows, shape.num_batches))


def affinities(x_RNK: Single, offset: float) -> Affinities:
    """ReLU(z z' - offset h h') over the key's norm |z'|, diagonal 0, rows of sum 1; the query's norm drops out."""
    norms_RN = np.linalg.norm(x_RNK[..., :-1], axis=-1) + _LEAST
    keys_RNK = x_RNK / norms_RN[..., None]
    keys_RNK[..., -1] *= np.float32(-offset)
    a_RNN = x_RNK @ keys_RNK.transpose(0, 2, 1)
    np.maximum(a_RNN, 0, out=a_RNN)
    rows_N = np.arange(a_RNN.shape[-1])
    a_RNN[:, rows_N, rows_N] = 0
    sums_RN = a_RNN.sum(-1)
    is_dead_RN = sums_RN <= 0
    sums_RN[is_dead_RN] = 1
    a_RNN /= sums_RN[..., None]
    return Affinities(a_RNN, keys_RNK, norms_RN, sums_RN, is_dead_RN)


def split(num_coordinates: int, angle: float, mean_angle: float) -> tuple[Single, Single]:
    """What a block keeps of its input and what it adds of the weighted sum, by coordinate: (K,) each."""
    angles_K = np.full(num_coordinates, angle)
    angles_K[-1] = mean_angle
    return np.cos(angles_K).astype(np.float32), np.sin(angles_K).astype(np.float32)


def mixed(x_RNK: Single, ax_RNK: Single, angle: float, mean_angle: float) -> Single:
    """What a block returns of its input and of the weighted sum A x."""
    kept_K, added_K = split(x_RNK.shape[-1], angle, mean_angle)
    return np.asarray(kept_K * x_RNK + added_K * ax_RNK)


def within_class(a_RNN: NDArray[Float], rows: int) -> NDArray[Float]:
    """The affinities between rows of one class, (R, N / n, n, n): a view, to be written to as well."""
    blocks = a_RNN.reshape(len(a_RNN), -1, rows, a_RNN.shape[-1] // rows, rows)
    return np.einsum("rkikj->rkij", blocks)


def success_of_affinities(a_RNN: NDArray[np.floating], is_dead_RN: NDArray[np.bool_], rows: int) -> Success:
    """P and S_J of balanced batches whose rows of a class are adjacent; dead rows count as uniform."""
    own = within_class(np.asarray(a_RNN, np.float64), rows)
    num_rows = a_RNN.shape[-1]
    chance = float(chance_mass(num_rows, num_rows / rows))
    mass_RN = np.where(is_dead_RN, chance, own.sum(-1).reshape(is_dead_RN.shape))
    gain_RN = shared_mass((rows - 1) * own).sum(-1).reshape(is_dead_RN.shape) / (rows - 1)
    jsd_RN = np.log(2) - 0.5 * np.where(is_dead_RN, shared_mass(chance), gain_RN)
    return Success(
        p=float(success_of_mass(float(mass_RN.mean()), chance)), s_j=float(success_of_jsd(float(jsd_RN.mean()), chance))
    )


def success(shape: Shape, noise: float, weights: Weights) -> Success:
    """P and S_J of the last block's affinity at s = ``noise``."""
    x_RNK = views(shape, noise)
    for offset, angle, mean_angle in list(zip(*weights, strict=True))[:-1]:
        x_RNK = mixed(x_RNK, affinities(x_RNK, offset).a_RNN @ x_RNK, angle, mean_angle)
    last = affinities(x_RNK, weights.offset_L[-1])
    return success_of_affinities(last.a_RNN, last.is_dead_RN, shape.rows)


def scale(setting: Setting) -> float:
    """sigma / s = sqrt(d (1 - c) / K) (docs/theory.md, section 6.1)."""
    dim, num_classes = setting.given("dim", "num_classes")
    return float(np.sqrt(dim * (1 - setting.cosine) / num_classes))


def shapes(setting: Setting) -> tuple[tuple[Shape, float], ...]:
    """The shape of a setting; two with shares of sum 1, linear in 1 / n, where its rows of a class are not whole."""
    batch, num_classes, num_blocks = setting.given("batch", "num_classes", "num_blocks")
    per_class = batch / num_classes
    low, high = int(np.floor(per_class + 1e-9)), int(np.ceil(per_class - 1e-9))
    high_share = 1.0 if low == high else (1 / low - 1 / per_class) / (1 / low - 1 / high)
    # A simplex written with a rounded cosine has no mean either.
    power = (1 + (num_classes - 1) * setting.cosine) / ((1 - setting.cosine) * (num_classes - 1))
    return tuple(
        (
            Shape(
                num_classes=int(num_classes),
                rows=rows,
                num_blocks=int(num_blocks),
                residual=setting.residual or num_blocks == 1,
                mean_norm=float(np.sqrt(max(power, 0.0))),
            ),
            share,
        )
        for rows, share in ((low, 1 - high_share), (high, high_share))
        if share > 0
    )
