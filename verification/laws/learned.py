"""Trained blocks against their laws: thresholds, the batch in which rows have partners, and steps.

Shape suffixes: P strengths, batches or horizons, R seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from study.designs.values import Scalar, with_values
from study.interface.run import Result
from study.recipes.contrastive.laws.class_space import projector, scale, success
from study.recipes.contrastive.laws.coverage import COVERAGE
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.laws.learning_steps import N2T_STEPS
from study.recipes.contrastive.laws.trained import TRAINED, TRAINED_JSD, weighted
from study.recipes.contrastive.laws.trained_plus import TRAINED_PLUS, TRAINED_PLUS_JSD
from verification.laws import settings_trained as settings
from verification.laws.check import Family, Job, Row, Rows, Table, Target, predicted
from verification.laws.thresholds import Measured, grid_crossing
from verification.laws.train_blocks import fusion_config, run_pack, train_strengths

_NUM_BATCHES = 60
_NUM_SEEDS = 3
# Strengths in units of sqrt(d (1-c) / K), in which thresholds lie between 0.5 and 1.3.
_STRENGTHS = tuple(0.5 * 1.155**i for i in range(8))
_NUM_SEEDS_OF_BATCH = 4
_BATCHES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48)
_NUM_BATCHES_OF_CEILING = 3
_NUM_SEEDS_OF_STEPS = 4
# Horizons in units of the predicted one, and in steps.
_HORIZONS = (0.15, 0.3, 0.5, 0.75, 1.0, 1.4, 2.0, 3.5, 7.0)
_HORIZONS_ON_AXES = (8, 16, 32, 64, 128, 256, 512)


def _trained(job: Job) -> Rows:
    setting = job.setting
    rows, steps = setting.given("batch", "steps")
    config = fusion_config(setting, num_rows=int(rows), num_batches=_NUM_BATCHES)
    sigmas = [scale(setting) * strength for strength in _STRENGTHS]
    results = train_strengths(with_values(config, {"horizon.length": int(steps)}), sigmas, job.seeds(_NUM_SEEDS))
    return {
        name: Row(
            setting=setting,
            measured=grid_crossing(sigmas, _values(results, metric)),
            predictions={"with offset": predicted(setting, plus), "projection": predicted(setting, plain)},
        )
        for name, metric, plus, plain in (
            ("trained_jsd", "s_j", TRAINED_PLUS_JSD, TRAINED_JSD),
            ("trained_mass", "p", TRAINED_PLUS, TRAINED),
        )
    }


def _values(results: list[list[Result]], metric: str) -> torch.Tensor:
    """A metric at the end of training, (P, R); NaN where a run diverged."""
    return torch.tensor([[result.metrics.get(metric, math.nan) for result in row] for row in results])


def _train(job: Job, seeds: list[int], train_batch: float, changes: dict[str, Scalar]) -> list[Result]:
    rows, sigma = job.setting.given("batch", "sigma")
    setting = replace(job.setting, train_batch=train_batch)
    config = fusion_config(setting, num_rows=int(rows), num_batches=_NUM_BATCHES)
    return run_pack([with_values(config, {"data.strength": sigma} | changes)] * len(seeds), seeds)


def _coverage(job: Job) -> Rows:
    """N at 90 % of the rise from the untrained P to the mean of the highest ones, at a fixed number of examples."""
    (num_examples,) = job.setting.given("num_examples")
    seeds = job.seeds(_NUM_SEEDS_OF_BATCH)
    horizon: dict[str, Scalar] = {"horizon.unit": "examples", "horizon.length": int(num_examples)}
    results = [_train(job, seeds, batch, horizon) for batch in _BATCHES]
    p_PR = _values(results, "p")
    floor = sum(result.before["p"] for result in results[0]) / len(seeds)
    ceiling = float(p_PR.mean(1).topk(_NUM_BATCHES_OF_CEILING).values.mean())
    level = floor + 0.9 * (ceiling - floor)
    found = grid_crossing(_BATCHES, p_PR, level=level, rising=True)
    return {"coverage": Row(setting=job.setting, measured=found, predictions={"law": predicted(job.setting, COVERAGE)})}


def projected_mass(setting: Setting) -> float:
    """P of a block that projects on the class subspace, at a setting's sigma and batch."""
    (sigma,) = setting.given("sigma")
    return weighted(setting, lambda shape: success(shape, sigma / scale(setting), projector(shape)).p)


def _half_rise(job: Job, horizons: Sequence[int]) -> Measured:
    """T half-way from the untrained P to that of the projection; every horizon is a run of its own."""
    (train_batch,) = job.setting.given("train_batch")
    seeds = job.seeds(_NUM_SEEDS_OF_STEPS)
    results = [_train(job, seeds, train_batch, {"horizon.length": horizon}) for horizon in horizons]
    floor = sum(result.before["p"] for result in results[0]) / len(seeds)
    level = (floor + projected_mass(job.setting)) / 2
    return grid_crossing(horizons, _values(results, "p"), level=level, rising=True)


def _steps(job: Job) -> Rows:
    law = predicted(job.setting, N2T_STEPS)
    measured = _half_rise(job, sorted({max(round(law * factor), 1) for factor in _HORIZONS}))
    return {"steps": Row(setting=job.setting, measured=measured, predictions={"law": law})}


def _steps_on_axes(job: Job) -> Rows:
    laws = {"law in a random basis": predicted(replace(job.setting, basis="random"), N2T_STEPS)}
    measured = _half_rise(job, _HORIZONS_ON_AXES)
    return {"steps_on_axes": Row(setting=job.setting, measured=measured, predictions=laws)}


_JUDGED = ("dim", "num_classes", "cosine", "batch", "num_blocks")

FAMILIES = (
    Family(
        name="trained",
        draws=settings.trained,
        measure=_trained,
        seconds=30.0,
        tables={
            "trained_jsd": Table(
                title="Trained blocks: sigma at S_J = 1/2",
                text="The largest sigma with S_J = 1/2 after training; a line between strengths 15 % apart.",
                fields=_JUDGED,
                measured="sigma at S_J = 1/2",
                predicted=("with offset", "projection"),
                target=Target(median=0.03, maximum=0.08),
            ),
            "trained_mass": Table(
                title="Trained blocks: sigma_max",
                text="The largest sigma with P = 1/2 after training, from the same runs.",
                fields=_JUDGED,
                measured="sigma_max",
                predicted=("with offset", "projection"),
            ),
        },
    ),
    Family(
        name="coverage",
        draws=settings.coverage,
        measure=_coverage,
        seconds=25.0,
        tables={
            "coverage": Table(
                title="The batch in which rows have partners",
                text="The smallest training batch with 90 % of the rise of P, classes drawn independently; the rise is "
                f"that from the untrained block to the mean of the best {_NUM_BATCHES_OF_CEILING} batches.",
                fields=("dim", "num_classes", "sigma", "num_examples"),
                measured="N",
                predicted=("law",),
            )
        },
    ),
    Family(
        name="steps",
        draws=settings.steps,
        measure=_steps,
        seconds=10.0,
        tables={
            "steps": Table(
                title="Steps to learn the projection",
                text="T half-way from the untrained P to that of the projection, N^2 T = C K^3 sigma^4 / d, with "
                "centres in a random basis. As a batch at given steps the error is half as large.",
                fields=("dim", "num_classes", "train_batch", "sigma", "learning_rate", "schedule"),
                measured="T",
                predicted=("law",),
            )
        },
    ),
    Family(
        name="steps_on_axes",
        draws=settings.steps_on_axes,
        measure=_steps_on_axes,
        seconds=12.0,
        tables={
            "steps_on_axes": Table(
                title="Steps to learn the projection, centres along the axes",
                text="The same where the centres lie on coordinate axes, which the law does not cover: Adam moves "
                "every weight by about its rate, so it is not the same in all coordinates.",
                fields=("dim", "num_classes", "train_batch", "sigma", "learning_rate", "schedule"),
                measured="T",
                predicted=("law in a random basis",),
            )
        },
    ),
)
