"""InfoNCE near its collapse against the laws: the Hessian there, and the way of free embeddings out of it.

Shape suffixes: R runs, N rows of a batch, M sources, P embedding dimensions.
"""

import math
from dataclasses import replace

import torch

from study.recipes.contrastive.affinity import unit
from study.recipes.contrastive.evaluation import alignment, mean_cosine
from study.recipes.contrastive.laws.collapse import ALIGNMENT_RATE, FREE_ESCAPE, collapse_hessian
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.losses.info_nce import info_nce
from verification.laws import settings_trained as settings
from verification.laws.check import Family, Job, Row, Rows, Table, predicted
from verification.laws.thresholds import Measured, grid_crossing, mean_of, nothing

_ESCAPED = 0.5
_NUM_RUNS = 6
_MOST_FREE_STEPS = 3_000
# Learning rates around which two views stop to align, in units of temperature times rows, and steps per run.
_RATES = (0.25, 6.0)
_NUM_RATES = 80
_ALIGNMENT_STEPS = 400
_ALIGNED = 0.04


def _sources(setting: Setting) -> torch.Tensor:
    """The source of each row, (N,)."""
    (rows,) = setting.given("train_batch")
    return torch.arange(int(rows)) // setting.num_views


def _hessian(job: Job) -> Rows:
    rows, dims, temperature = job.setting.given("train_batch", "embedding_dim", "temperature")
    sources_N, num_rows, num_tangents = _sources(job.setting), int(rows), int(dims) - 1

    def loss(tangent: torch.Tensor) -> torch.Tensor:
        tangent_NP = tangent.view(num_rows, num_tangents)
        first_N1 = (1 - tangent_NP.square().sum(-1, keepdim=True)).sqrt()
        z_NP = torch.cat([first_N1, tangent_NP], -1)
        return info_nce(z_NP, z_NP, sources_N, sources_N, temperature=temperature, tiled=False)

    hessian = torch.autograd.functional.hessian(loss, torch.zeros(num_rows * num_tangents, dtype=torch.float64))
    found = torch.linalg.eigvalsh(hessian)
    law = collapse_hessian(num_rows, temperature, int(dims), job.setting.num_views)
    counts = f"{int((found < -1e-9).sum())} negative (law: {law.num_between})"
    between = Measured(value=float(found[0]), standard_error=0.0, note=counts)
    within = Measured(value=float(found[-1]), standard_error=0.0)
    return {
        "hessian_between": Row(setting=job.setting, measured=between, predictions={"law": law.between}),
        "hessian_within": Row(setting=job.setting, measured=within, predictions={"law": law.within}),
    }


def _descend(z_RNP: torch.Tensor, setting: Setting, rates_R: torch.Tensor) -> torch.Tensor:
    """One step of gradient descent on unit embeddings at a rate per run."""
    (temperature,) = setting.given("temperature")
    sources_RN = _sources(setting).expand(z_RNP.shape[:-1])
    z_RNP = z_RNP.detach().requires_grad_()
    loss = info_nce(z_RNP, z_RNP, sources_RN, sources_RN, temperature=temperature, tiled=False)
    (grad,) = torch.autograd.grad(loss.sum(), z_RNP)
    return unit(z_RNP.detach() - rates_R[:, None, None] * grad)


def near_one_point(setting: Setting, num_runs: int, generator: torch.Generator) -> torch.Tensor:
    """Embeddings whose sources are an isotropic cloud with about the setting's variance, views together, (R, N, P)."""
    rows, dims, variance = setting.given("train_batch", "embedding_dim", "first_step_variance")
    num_sources = int(rows) // setting.num_views
    cloud_RMP = torch.randn(num_runs, num_sources, int(dims), generator=generator, dtype=torch.float64)
    cloud_RMP[..., 0] = 0
    tangent = math.sqrt(variance / (1 - variance) / (dims - 1))
    cloud_RMP = tangent * cloud_RMP
    cloud_RMP[..., 0] = 1
    return unit(cloud_RMP).repeat_interleave(setting.num_views, dim=1)


def _free_escape(job: Job) -> Rows:
    (rate,) = job.setting.given("learning_rate")
    z_RNP = near_one_point(job.setting, job.replicates(_NUM_RUNS, least=2), job.generator())
    starts = (1 - mean_cosine(z_RNP)).tolist()
    steps_R = torch.full((len(z_RNP),), math.nan)
    for step in range(1, _MOST_FREE_STEPS + 1):
        z_RNP = _descend(z_RNP, job.setting, torch.full((len(z_RNP),), rate))
        steps_R[steps_R.isnan() & (mean_cosine(z_RNP) < _ESCAPED)] = step
        if not steps_R.isnan().any():
            break
    laws = [predicted(replace(job.setting, first_step_variance=start), FREE_ESCAPE) for start in starts]
    found = mean_of(steps_R) if not steps_R.isnan().any() else nothing(f"not within {_MOST_FREE_STEPS} steps")
    return {"free_escape": Row(setting=job.setting, measured=found, predictions={"law": sum(laws) / len(laws)})}


def _alignment_rate(job: Job) -> Rows:
    """All learning rates of a grid at once; a run starts from random unit embeddings, the same at every rate."""
    rows, dims, temperature = job.setting.given("train_batch", "embedding_dim", "temperature")
    low, high = (temperature * rows * end for end in _RATES)
    num_rates = job.replicates(_NUM_RATES, least=30, most=_NUM_RATES)
    rates = [low * (high / low) ** (i / (num_rates - 1)) for i in range(num_rates)]
    num_runs = job.replicates(3, least=2)
    start = unit(torch.randn(num_runs, int(rows), int(dims), generator=job.generator()))
    z, rates_R = start.repeat(len(rates), 1, 1), torch.tensor(rates).repeat_interleave(num_runs)
    for _ in range(_ALIGNMENT_STEPS):
        z = _descend(z, job.setting, rates_R)
    apart = alignment(z[:, None], _sources(job.setting))[:, 0].view(len(rates), num_runs)
    found = grid_crossing(rates, apart, level=_ALIGNED, rising=True)
    laws = {"law": predicted(job.setting, ALIGNMENT_RATE)}
    return {"alignment_rate": Row(setting=job.setting, measured=found, predictions=laws)}


_FREE = ("train_batch", "num_views", "embedding_dim", "temperature")

FAMILIES = (
    Family(
        name="hessian",
        draws=settings.hessian,
        measure=_hessian,
        seconds=0.1,
        tables={
            "hessian_between": Table(
                title="InfoNCE at one point: the eigenvalue between sources",
                text="The smallest eigenvalue of the Hessian by automatic differentiation. It is negative: a saddle.",
                fields=_FREE,
                measured="eigenvalue",
                predicted=("law",),
            ),
            "hessian_within": Table(
                title="InfoNCE at one point: the eigenvalue within sources",
                text="The largest eigenvalue.",
                fields=_FREE,
                measured="eigenvalue",
                predicted=("law",),
            ),
        },
    ),
    Family(
        name="free_escape",
        draws=settings.free_escape,
        measure=_free_escape,
        seconds=0.1,
        tables={
            "free_escape": Table(
                title="Steps out of a collapse, free embeddings",
                text="Steps until the mean cosine of free unit embeddings is below 1/2; means over runs, the law's "
                "with each run's variance at the start.",
                fields=(*_FREE, "learning_rate", "first_step_variance"),
                measured="steps",
                predicted=("law",),
            )
        },
    ),
    Family(
        name="alignment_rate",
        draws=settings.alignment_rate,
        measure=_alignment_rate,
        seconds=3.0,
        tables={
            "alignment_rate": Table(
                title="The learning rate that breaks alignment, free embeddings",
                text=f"The smallest rate at which two views of a source are apart by a mean squared distance of "
                f"{_ALIGNED:g} after {_ALIGNMENT_STEPS} steps.",
                fields=_FREE,
                measured="learning rate",
                predicted=("law",),
            )
        },
    ),
)
