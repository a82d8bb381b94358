"""Untrained blocks on a self-supervised target: partners are the views of one source, and every other source leaks.

Three groups of cosines decide: views of one source, of one class, of two classes (docs/theory.md, section 8). As
sources compete with each other the batch has a largest size, not a smallest one.

Shape suffix: Q quantiles of a sum of rectified cosines.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv

from study.recipes.contrastive.laws.kinds import fusion
from study.recipes.contrastive.laws.law import Array, Law, Setting, frozen
from study.recipes.contrastive.laws.moments import SQRT_2PI, RectifiedGaussian, crossing, rectified_gaussian
from study.recipes.contrastive.laws.untrained import LEAST_DIM, first_reason, outside_blocks, outside_sigma

_QUANTILES_Q = (np.arange(64) + 0.5) / 64
_MOST_ROWS = 1e5


class Cosine(NamedTuple):
    """Mean and s.d. of a cosine, and its correlation with that of the same row and another view of the source."""

    mean: float
    sd: float
    twin: float

    @property
    def rectified(self) -> RectifiedGaussian:
        return rectified_gaussian(self.mean, self.sd)

    def sum_moments(self, num_views: float, num_rows: float) -> tuple[float, float]:
        """Mean and variance of the rectified cosines of ``num_rows`` rows in sources of ``num_views``."""
        moments = self.rectified
        score = self.mean / self.sd
        density = np.exp(-0.5 * score**2) / SQRT_2PI
        # The Hermite expansion of a rectifier to second order.
        shared = self.sd**2 * (self.twin * moments.positive**2 + 0.5 * (self.twin * density) ** 2)
        variance = moments.variance + (num_views - 1) * shared
        return float(num_rows * moments.mean), float(num_rows * variance)


class SourceCosines(NamedTuple):
    """Cosines of two views of one source, of two sources of one class, and of sources of two classes."""

    source: Cosine
    within: Cosine
    across: Cosine


class Masses(NamedTuple):
    """Mean mass of a row on views of its source, and on rows of its class, which include them."""

    source: float
    same_class: float


def source_cosines(sigma: float, dim: float, spread: float) -> SourceCosines:
    """Cosines of views of sources with a spread in classes of orthonormal centres (docs/theory.md, section 8.1)."""
    power, noise, wide = 1 + spread**2 + sigma**2, sigma**2, spread**2 + sigma**2
    kept, shared = (1 + spread**2) / power, 1 / power
    fluctuating = noise**2 * (4 * spread**2 + 2 * spread**4) / power**2
    source = 2 * noise * (1 + spread**2) * (1 - kept) ** 2 + noise**2 * (1 + kept**2) + fluctuating
    within = 2 * wide * (1 - shared) ** 2 + wide**2 * (1 + shared**2)
    across = 2 * wide + wide**2
    scale = np.sqrt(dim) * power
    # Two views of another source share its centre and its spread, not their noise.
    twin = 1 - noise * (1 + wide) / across
    return SourceCosines(
        source=Cosine(kept, float(np.sqrt(source) / scale), 0.0),
        within=Cosine(shared, float(np.sqrt(within) / scale), twin),
        across=Cosine(0.0, float(np.sqrt(across) / scale), twin),
    )


def isolated_cosines(sigma: float, dim: float) -> SourceCosines:
    """The same for sources that are random directions, each its own class (docs/theory.md, section 8.2)."""
    kept, noise = 1 / (1 + sigma**2), sigma**2
    source = kept * np.sqrt((2 * noise * (1 - kept) ** 2 + noise**2 * (1 + kept**2)) / dim)
    other = Cosine(0.0, float(dim**-0.5), kept)
    return SourceCosines(source=Cosine(kept, float(source), 0.0), within=other, across=other)


def expected_share(part: tuple[float, float], rest: tuple[float, float]) -> float:
    """E a / (a + b) for two positive sums of these means and variances, taken as independent gamma variables."""
    if rest[0] <= 0:
        return 1.0
    a_Q, b_Q = (_gamma_quantiles(*moments) for moments in (part, rest))
    return float(np.mean(a_Q[:, None] / (a_Q[:, None] + b_Q)))


def _gamma_quantiles(mean: float, variance: float) -> Array:
    shape = mean**2 / variance
    return np.asarray(gammaincinv(shape, _QUANTILES_Q) * (variance / mean))


def masses(cosines: SourceCosines, batch: float, num_views: float, num_classes: float) -> Masses:
    """What a row of ``batch`` rows in balanced classes puts on its source and on its class, averaged over rows.

    Without other sources in a class (batch / num_classes at most ``num_views``) all competitors are strangers.
    """
    own = cosines.source.sum_moments(1, num_views - 1)
    class_rows = max(batch / num_classes, num_views)
    within = cosines.within.sum_moments(num_views, class_rows - num_views)
    across = cosines.across.sum_moments(num_views, max(batch - class_rows, 0.0))
    return Masses(
        source=expected_share(own, _plus(within, across)), same_class=expected_share(_plus(own, within), across)
    )


def _plus(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def _source_mass(setting: Setting, batch: float) -> float:
    dim, sigma, num_views = setting.given("dim", "sigma", "num_views")
    if setting.num_classes is None:
        return masses(isolated_cosines(sigma, dim), batch, num_views, np.inf).source
    cosines = source_cosines(sigma, dim, setting.spread)
    return masses(cosines, batch, num_views, setting.num_classes).source


def _outside(setting: Setting) -> str | None:
    dim, num_views = setting.given("dim", "num_views")
    if setting.weights == "trained" or setting.init == "default":
        return "assumes identity weights: training moves the limit, random weights erase it"
    if setting.layer_norm or setting.centred:
        return "assumes a block without layer normalisation that keeps the batch mean"
    if num_views < 2:
        return "needs at least two views of each source: one view has no partner"
    if dim < LEAST_DIM:
        return f"needs at least {LEAST_DIM} dimensions for cosines to be Gaussian, but there are {dim:g}"
    if setting.cosine != 0:
        return f"assumes orthonormal centres, but their cosine is {setting.cosine:.3g}"
    if setting.mean_norm > 0:
        return f"assumes inputs without a common mean, but theirs has norm {setting.mean_norm:g}"
    if setting.num_classes is None and setting.spread > 0:
        return "needs num_classes where sources have a spread within classes"
    return first_reason(outside_blocks(setting, 1, 1), outside_sigma(setting))


def _threshold(setting: Setting) -> float:
    def falls(batches: Array) -> Array:
        return np.array([_source_mass(setting, batch) for batch in batches])

    return crossing(falls, setting.num_views + 1, _MOST_ROWS)


SOURCE_BATCH = Law(
    name="source_batch",
    says="the largest batch in which views of a source hold half of a row's mass: V - 1 partners against a leak that "
    "grows with N",
    quantity="batch",
    direction="largest",
    metric="source_mass",
    level=0.5,
    inputs=("dim", "sigma", "num_views"),
    assumptions="identity weights, one block, Gaussian cosines, balanced orthonormal classes (without num_classes "
    "every source is a random direction of its own)",
    validity="d 64 to 256, 2 to 8 views, spread 2 to 4 or isolated sources",
    kind=fusion,
    outside=_outside,
    threshold=_threshold,
    outcome=lambda setting: _source_mass(setting, *setting.given("batch")),
    band=frozen(0.0091, 0.033, 12),
    ranges={"dim": (64, 256), "num_views": (2, 8), "spread": (0, 4)},
    section="section 8.2",
)

LAWS = (SOURCE_BATCH,)
