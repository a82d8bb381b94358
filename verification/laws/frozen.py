"""A linear encoder that its first step collapsed, against the laws of its escape: InfoNCE alone, and with OAR.

Shape suffix: R runs.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.laws.frozen_collapse import FROZEN_ESCAPE, OAR_ESCAPE
from study.recipes.contrastive.laws.law import Law, Setting
from verification.laws import settings_trained as settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.thresholds import Measured, mean_of, nothing
from verification.laws.train_blocks import run_pack

_NUM_RUNS = 6
# Horizon of a run that waits for an escape, in units of the predicted step.
_PATIENCE = 1.3


def encoder_config(setting: Setting) -> ReplicateConfig:
    """A linear encoder trained by InfoNCE, and by OAR from the second step on, watched for its escape."""
    values: dict[str, Scalar] = {
        "trainer": "oar",
        "data.name": "clusters",
        "data.clusters.num_sources": 1_000,
        "model.encoder": "linear",
        "loss.oar_weight": setting.oar_weight or 0.0,
        "loss.oar_from_step": 1,
        "optimizer.momentum": 0.0,
        "horizon.unit": "steps",
        "evaluation.num_batches": 1,
        "evaluation.num_points": 1,
        "evaluation.knn_bank": 0,
        "evaluation.escape": True,
    }
    (num_classes,) = setting.given("num_classes")
    per_class = round(200 / (num_classes * setting.num_views))
    for path, value in {
        "data.num_views": setting.num_views,
        "data.strength": setting.sigma,
        "data.clusters.dim": setting.dim,
        "data.clusters.num_classes": setting.num_classes,
        "data.clusters.cosine": setting.cosine,
        "data.clusters.spread": setting.spread,
        "data.clusters.mean_norm": setting.mean_norm,
        "batch.train": setting.train_batch,
        "batch.labelled": setting.train_batch if setting.oar_weight else 0,
        "batch.eval": int(num_classes) * setting.num_views * per_class,
        "model.embedding_dim": setting.embedding_dim,
        "loss.temperature": setting.temperature,
        "optimizer.name": setting.optimizer,
        "optimizer.schedule": setting.schedule,
        "optimizer.learning_rate": setting.learning_rate,
    }.items():
        assert value is not None, path
        values[path] = value
    return with_values(ReplicateConfig(), values)


def _watched(setting: Setting, horizon: float, seeds: list[int]) -> list[Mapping[str, float]]:
    config = with_values(encoder_config(setting), {"horizon.length": math.ceil(horizon)})
    return [dict(result.metrics) for result in run_pack([config] * len(seeds), seeds)]


def _encoder_escape(job: Job, law: Law) -> Rows:
    """Geometric means, over the runs that the law covers, of the steps and of the law for each run's R_1 and v_0."""
    seeds = job.seeds(_NUM_RUNS)
    first = [
        replace(job.setting, first_step_norm=run["first_step_norm"], first_step_variance=run["first_step_variance"])
        for run in _watched(job.setting, 1, seeds)
    ]
    law_R = torch.tensor([predicted(setting, law) for setting in first])
    is_covered_R = ~law_R.isnan()
    covered = f"{int(is_covered_R.sum())} of {len(seeds)} runs"
    if is_covered_R.sum() < 2:
        row = Row(setting=job.setting, measured=nothing(f"covers {covered}"), predictions={"law": math.nan})
        return {job.family: row}
    # The law says how long it is worth to wait for a run; one that takes longer is waited for all the same.
    seeds = [seed for seed, is_covered in zip(seeds, is_covered_R.tolist(), strict=True) if is_covered]
    horizon = _PATIENCE * float(law_R[is_covered_R].max())
    runs = _watched(job.setting, horizon, seeds)
    while not all("escape_step" in run for run in runs):
        horizon *= 3
        runs = _watched(job.setting, horizon, seeds)
    log_R = torch.tensor([run["escape_step"] for run in runs]).log()
    steps, prediction = math.exp(float(log_R.mean())), math.exp(float(law_R[is_covered_R].log().mean()))
    # Runs differ by their R_1, which the law is told: only the spread of the ratio is noise.
    error = mean_of(log_R - law_R[is_covered_R].log()).standard_error
    measured = Measured(value=steps, standard_error=steps * error, note=covered)
    return {job.family: Row(setting=job.setting, measured=measured, predictions={"law": prediction})}


def _frozen_escape(job: Job) -> Rows:
    return _encoder_escape(job, FROZEN_ESCAPE)


def _oar_escape(job: Job) -> Rows:
    return _encoder_escape(job, OAR_ESCAPE)


_ENCODER = (
    "dim", "num_classes", "spread", "mean_norm", "sigma", "train_batch", "embedding_dim", "temperature", "learning_rate"
)  # fmt: skip

FAMILIES = (
    Family(
        name="frozen_escape",
        draws=settings.frozen_escape,
        measure=_frozen_escape,
        seconds=4.5,
        tables={
            "frozen_escape": Table(
                title="Steps out of a frozen collapse: InfoNCE",
                text="A linear encoder that its first step collapsed. Geometric means over runs, the law's with each "
                "run's R_1 and v_0; the standard error is that of the ratio of the two.",
                fields=_ENCODER,
                measured="steps",
                predicted=("law",),
            )
        },
    ),
    Family(
        name="oar_escape",
        draws=settings.oar_escape,
        measure=_oar_escape,
        seconds=1.5,
        tables={
            "oar_escape": Table(
                title="Steps out of a frozen collapse: InfoNCE and OAR",
                text="The same with OAR from the second step on, a labelled batch as large as the other.",
                fields=(*_ENCODER, "oar_weight"),
                measured="steps",
                predicted=("law",),
            )
        },
    ),
)
