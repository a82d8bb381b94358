"""Pools of real replicates on `clusters`: run once in this process by the platform's own training code, and kept.

The recipes are those of search_spaces/augmentation_limit.py: three fuse with identity weights, three are trained first
(for fewer steps than in the study). Replicates are judged on two evaluation batches, where a study takes twenty. Each
recipe has a range of ten octaves of sigma with its limit at another place.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from search_spaces.augmentation_limit import SPACE
from study.designs.values import Scalar, with_values
from study.inference.threshold import fit_curve
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import train_pack
from verification.coverage.parallel import spread
from verification.economy.problem import LEVEL, NUM_OCTAVES, Problem

SPACING_OCTAVES = 1 / 4
PACK_SIZE = 64
NUM_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class PoolSetting:
    """A recipe of the study, how many octaves of the range lie below about its limit, seeds, and training steps."""

    recipe: str
    limit: float
    below: float
    num_seeds: int
    steps: int | None = None

    @property
    def sigmas(self) -> list[float]:
        """The candidates."""
        octaves = np.arange(0, NUM_OCTAVES + SPACING_OCTAVES / 2, SPACING_OCTAVES)
        return [float(f"{sigma:.4g}") for sigma in self.limit * 2.0 ** (octaves - self.below)]

    def config(self, sigma: float) -> ReplicateConfig:
        """What a replicate at `sigma` runs."""
        variant = SPACE.variants["laws"]
        recipe = next(recipe for recipe in variant.series or () if recipe.name == self.recipe)
        steps: dict[str, Scalar] = {} if self.steps is None else {"horizon.length": self.steps}
        judged: dict[str, Scalar] = {"evaluation.num_batches": NUM_BATCHES, "data.strength": sigma}
        return with_values(
            SPACE.config, {"data.name": "clusters", **variant.values, **recipe.values, **steps, **judged}
        )


SETTINGS = (
    PoolSetting(recipe="identity d=64 K=5 N=50 L=1", limit=1.5, below=5.0, num_seeds=16),
    PoolSetting(recipe="identity d=128 K=10 N=100 L=1", limit=1.25, below=3.2, num_seeds=16),
    PoolSetting(recipe="identity d=64 K=5 N=50 L=3 simplex no residual", limit=2.0, below=6.9, num_seeds=16),
    PoolSetting(recipe="trained d=32 K=5 N=50 L=1", limit=2.0, below=4.1, num_seeds=12, steps=500),
    PoolSetting(recipe="trained d=64 K=5 N=50 L=1", limit=2.8, below=7.7, num_seeds=12, steps=500),
    PoolSetting(recipe="trained d=32 K=10 N=100 L=1", limit=1.3, below=2.4, num_seeds=12, steps=300),
)


def measure(setting: PoolSetting, seed: int) -> tuple[pd.DataFrame, float]:
    """Run every candidate of a setting with its seeds, those of the run `seed`.

    Returns rows of recipe, sigma, seed and P, and the seconds.
    """
    start, first_seed = time.monotonic(), _first_seed(seed)
    torch.set_num_threads(1)
    dataset = load_dataset(setting.config(1.0).data)
    replicates = [
        (sigma, CONTRASTIVE.replicate(setting.config(sigma), first_seed + index, dataset.digest))
        for index in range(setting.num_seeds)
        for sigma in setting.sigmas
    ]
    rows = []
    for first in range(0, len(replicates), PACK_SIZE):
        pack = replicates[first : first + PACK_SIZE]
        results = train_pack([replicate for _, replicate in pack], dataset)
        for (sigma, replicate), result in zip(pack, results, strict=True):
            rows.append(
                {"recipe": setting.recipe, "sigma": sigma, "seed": replicate.seed, "p": result.metrics.get("p")}
            )
    return pd.DataFrame(rows), time.monotonic() - start


def _first_seed(seed: int) -> int:
    return 1_000 * (1 + seed % 1_000)


def load_or_measure(path: Path, seed: int, processes: int = 1) -> pd.DataFrame:
    """The rows of all settings, from a Parquet file where there is one; else they are run, and the file is written."""
    if path.exists():
        found = pd.read_parquet(path)
        if found["seed"].min() != _first_seed(seed):
            raise ValueError(f"{path} holds the pools of another --seed: name another file")
        return found
    measured = spread(partial(_measure_setting, seed), len(SETTINGS), processes)
    for setting, (frame, seconds) in zip(SETTINGS, measured, strict=True):
        print(f"{setting.recipe}: {len(frame)} replicates in {seconds:.0f} s", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = pd.concat([frame for frame, _ in measured], ignore_index=True)
    found.to_parquet(path, index=False)
    return found


def _measure_setting(seed: int, index: int) -> tuple[pd.DataFrame, float]:
    return measure(SETTINGS[index], seed)


def problem(setting: PoolSetting, frame: pd.DataFrame) -> Problem:
    """The pool of one setting as a problem: P falls through one half; the floor is zero."""
    rows = frame[frame["recipe"] == setting.recipe]
    table = rows.pivot(index="sigma", columns="seed", values="p").sort_index()
    x_C = table.index.to_numpy(dtype=np.float64)
    outcome_CR = table.to_numpy(dtype=np.float64)
    num_seeds = outcome_CR.shape[1]
    fit = fit_curve(
        np.repeat(x_C, num_seeds), outcome_CR.ravel(), np.tile(np.arange(num_seeds), len(x_C)),
        np.zeros(outcome_CR.size), fraction=None, level=LEVEL,
    )  # fmt: skip
    assert fit.falling.estimate is not None, f"{setting.recipe} has no limit inside the range"
    return Problem(
        octaves_C=np.log2(x_C), outcome_CR=outcome_CR, floor=0.0, flank="falling",
        truth=float(np.log2(fit.falling.estimate)),
    )  # fmt: skip
