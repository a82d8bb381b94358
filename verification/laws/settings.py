"""The settings at which each law is verified: drawn by a seeded generator, fixed before the run.

A family's draws depend on the seed and the family's name alone. Nothing measured or predicted enters and no draw is
repeated; where a strength has to fit the other values, a formula here says so. Discrete choices (blocks, residual,
cosine) go in turn so that all occur, everything else is drawn, sizes evenly in the logarithm. Unless a family says
otherwise K is 3 to 10, a batch has at least 3 rows of a class and at most 300, centres are orthonormal or a simplex.
"""

import itertools
import random
from dataclasses import replace

from study.recipes.contrastive.laws.law import Setting

SEED = 20_261_125
NUM_DRAWS = 12
MOST_ROWS = 300

Draws = tuple[Setting, ...]

# Rows of a class that a simplex stack needs, roughly, per row of the spectral batch K^2 sigma^4 / (d (1-c)^2), by
# (residual, blocks). It places sigma where N_min is near the drawn number of rows; nothing else uses it.
_ROWS_PER_SPECTRAL = {
    (False, 2): 1.4, (False, 3): 3.5, (False, 4): 4.6, (False, 5): 6.0,
    (True, 2): 1.6, (True, 3): 1.4, (True, 4): 1.7, (True, 5): 2.2,
}  # fmt: skip


class Draw(random.Random):
    """The random numbers of one family."""

    def __init__(self, seed: int, family: str) -> None:
        super().__init__(f"{seed}/{family}")

    def even(self, low: float, high: float) -> float:
        """Evenly between two values, to four digits: a table shows all of it."""
        return float(f"{low + (high - low) * self.random():.4g}")

    def ratio(self, low: float, high: float) -> float:
        """Evenly in the logarithm, to four digits."""
        return float(f"{low * (high / low) ** self.random():.4g}")

    def size(self, low: int, high: int) -> int:
        """A whole number, evenly in the logarithm."""
        return round(low * (high / low) ** self.random())

    def stack(self, *, dims: tuple[int, int], is_simplex: bool, rows: tuple[int, int] = (3, 30)) -> Setting:
        """Classes, dimensions and a balanced batch with so many rows of a class, for identity weights."""
        num_classes = 3 + int(8 * self.random())
        least, most = rows
        return Setting(
            dim=self.size(*dims),
            num_classes=num_classes,
            cosine=-1 / (num_classes - 1) if is_simplex else 0.0,
            batch=num_classes * self.size(least, min(most, MOST_ROWS // num_classes)),
            num_blocks=1,
            weights="identity",
        )


def spectral_sigma(setting: Setting) -> float:
    """(N d (1-c)^2 / K^2)^(1/4), the spectral limit; spelled out here so that no change of a law moves a setting."""
    assert setting.dim is not None
    assert setting.num_classes is not None
    assert setting.batch is not None
    return float((setting.batch * setting.dim * (1 - setting.cosine) ** 2 / setting.num_classes**2) ** 0.25)


def one_block(seed: int) -> Draws:
    """d 32..512; c = 0 and simplex in turn."""
    draw = Draw(seed, "one_block")
    return tuple(draw.stack(dims=(32, 512), is_simplex=i % 2 == 1) for i in range(NUM_DRAWS))


def unequal_classes(seed: int) -> Draws:
    """One block, d 32..256, K 3..10 classes whose sizes grow evenly in the logarithm; c = 0 and simplex in turn.

    The least has 3 to 10 rows, the largest 2 to 10 times as many, at most 300 in all.
    """
    draw, settings = Draw(seed, "unequal_classes"), []
    for index in range(NUM_DRAWS):
        stack = draw.stack(dims=(32, 256), is_simplex=index % 2 == 1)
        assert stack.num_classes is not None
        least, imbalance = draw.ratio(3, 10), draw.ratio(2, 10)
        shape = [imbalance ** (k / (stack.num_classes - 1)) for k in range(stack.num_classes)]
        least = max(3.0, min(least, MOST_ROWS / sum(shape)))
        sizes = tuple(round(least * size) for size in shape)
        settings.append(replace(stack, num_classes=None, batch=None, class_sizes=sizes))
    return tuple(settings)


def extreme_value(seed: int) -> Draws:
    """d 64..1024, up to 20 rows of a class; c = 0 and simplex in turn."""
    draw = Draw(seed, "extreme_value")
    return tuple(draw.stack(dims=(64, 1024), is_simplex=i % 2 == 1, rows=(3, 20)) for i in range(NUM_DRAWS))


def state_evolution(seed: int) -> Draws:
    """d 32..256; 2 to 5 blocks, each with c = 0 (and residual), simplex and residual, simplex without.

    A threshold always exists, for P is 1 without noise.
    """
    draw, kinds = Draw(seed, "state_evolution"), ((False, True), (True, True), (True, False))
    return tuple(
        replace(draw.stack(dims=(32, 256), is_simplex=is_simplex), num_blocks=num_blocks, residual=residual)
        for num_blocks, (is_simplex, residual) in itertools.product((2, 3, 4, 5), kinds)
    )


def _batch_limit(seed: int, family: str, residual: bool) -> Draws:
    draw, settings = Draw(seed, family), []
    for index in range(NUM_DRAWS):
        num_blocks = 2 + index % 4
        stack = draw.stack(dims=(32, 256), is_simplex=True)
        spectral_batch = draw.ratio(4, 16) / _ROWS_PER_SPECTRAL[residual, num_blocks]
        sigma = float(f"{spectral_sigma(replace(stack, batch=spectral_batch)):.3g}")
        settings.append(replace(stack, num_blocks=num_blocks, residual=residual, sigma=sigma, batch=None))
    return tuple(settings)


def batch_limit_plain(seed: int) -> Draws:
    """Simplex, d 32..256, 2 to 5 blocks in turn, no residual; sigma where N_min is roughly 4 to 16 rows of a class."""
    return _batch_limit(seed, "batch_limit_plain", residual=False)


def batch_limit_residual(seed: int) -> Draws:
    """The same with the residual."""
    return _batch_limit(seed, "batch_limit_residual", residual=True)


def centred(seed: int) -> Draws:
    """c = 0, d 32..256; 2 to 5 blocks that take off the batch mean, with and without residual, and 4 times 1 block."""
    draw = Draw(seed, "centred")
    kinds = [*itertools.product((2, 3, 4, 5), (True, False)), *[(1, True)] * 4]
    return tuple(
        replace(draw.stack(dims=(32, 256), is_simplex=False), num_blocks=num_blocks, residual=residual, centred=True)
        for num_blocks, residual in kinds
    )


def depth(seed: int) -> Draws:
    """c = 0, d 256..1024, 10 to 20 rows of a class, sigma 0.3..1; with and without residual in turn."""
    draw = Draw(seed, "depth")
    return tuple(
        replace(
            draw.stack(dims=(256, 1024), is_simplex=False, rows=(10, 20)),
            num_blocks=None,
            residual=index % 2 == 0,
            sigma=draw.even(0.3, 1.0),
        )
        for index in range(NUM_DRAWS)
    )


def spectral(seed: int) -> Draws:
    """d 64..400, 10 to 60 rows of a class, sigma 0.4 to 0.7 of the spectral limit; c = 0 and simplex in turn."""
    draw, settings = Draw(seed, "spectral"), []
    for index in range(NUM_DRAWS):
        stack = draw.stack(dims=(64, 400), is_simplex=index % 2 == 1, rows=(10, 60))
        sigma = float(f"{draw.even(0.4, 0.7) * spectral_sigma(stack):.4g}")
        settings.append(replace(stack, num_blocks=None, sigma=sigma))
    return tuple(settings)
