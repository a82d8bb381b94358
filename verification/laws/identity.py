"""Untrained stacks against their laws: one block, state evolution, centred stacks, the batch limit, over-fusion."""

from dataclasses import replace

from study.recipes.contrastive.laws.depth import DEPTH, DEPTH_STATE_EVOLUTION, MOST_BLOCKS
from study.recipes.contrastive.laws.one_block import ONE_BLOCK, ONE_BLOCK_CLOSED, ONE_BLOCK_JSD
from study.recipes.contrastive.laws.state_evolution import STATE_EVOLUTION, STATE_EVOLUTION_BATCH
from verification.laws import settings
from verification.laws.check import Family, Job, Row, Rows, Table, Target, predicted
from verification.laws.simulate import draw_batches, identity_stack, success, success_by_depth
from verification.laws.thresholds import Measured, grid_crossing, largest_crossing, size_crossing

# Rows of all replicates of a setting together.
_ROWS_FOR_SIGMA = 60_000
_ROWS_FOR_DEPTH = 8_000
_BATCHES_FOR_SIZE = 192
# Rows of a class at which a batch limit is sought, up to batches of a size.
_PER_CLASS = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 160, 200, 250, 320)
_MOST_ROWS = 1_000
_STACK = ("dim", "num_classes", "cosine", "batch", "num_blocks", "residual")


def _sigma_max(job: Job, metric: str = "p") -> Measured:
    rows, num_blocks = job.setting.given("batch", "num_blocks")
    batches = draw_batches(job.setting, job.replicates(_ROWS_FOR_SIGMA / rows, most=800), job.generator())
    few, fusion = batches.first(num_batches=2), identity_stack(job.setting, int(num_blocks))
    return largest_crossing(
        lambda sigma: success(fusion, batches, sigma, metric), lambda sigma: success(fusion, few, sigma, metric)
    )


def _one_block(job: Job) -> Rows:
    mass = {"mean field": predicted(job.setting, ONE_BLOCK), "closed form": predicted(job.setting, ONE_BLOCK_CLOSED)}
    jsd = {"mean field": predicted(job.setting, ONE_BLOCK_JSD)}
    return {
        "one_block": Row(setting=job.setting, measured=_sigma_max(job), predictions=mass),
        "one_block_jsd": Row(setting=job.setting, measured=_sigma_max(job, "s_j"), predictions=jsd),
    }


def _stack(job: Job) -> Rows:
    found = {"state evolution": predicted(job.setting, STATE_EVOLUTION, ONE_BLOCK)}
    return {job.family: Row(setting=job.setting, measured=_sigma_max(job), predictions=found)}


def _batch_limit(job: Job) -> Rows:
    """N_min in rows: smaller batches are parts of larger ones, all classes growing together."""
    num_classes, num_blocks, sigma = job.setting.given("num_classes", "num_blocks", "sigma")
    k, fusion = int(num_classes), identity_stack(job.setting, int(num_blocks))
    num_batches = job.replicates(_BATCHES_FOR_SIZE)
    batches = draw_batches(job.setting, num_batches, job.generator(), num_rows=int(1.25 * _MOST_ROWS))
    sizes = [size for size in _PER_CLASS if size * k <= _MOST_ROWS]
    found = size_crossing(lambda size: success(fusion, batches.first(num_rows=size * k), sigma), sizes)
    rows = Measured(value=k * found.value, standard_error=k * found.standard_error, note=found.note)
    laws = {"state evolution": predicted(job.setting, STATE_EVOLUTION_BATCH)}
    return {job.family: Row(setting=job.setting, measured=rows, predictions=laws)}


def _depth(job: Job) -> Rows:
    rows, sigma = job.setting.given("batch", "sigma")
    batches = draw_batches(job.setting, job.replicates(_ROWS_FOR_DEPTH / rows), job.generator())
    success_LR = success_by_depth(identity_stack(job.setting, MOST_BLOCKS), batches, sigma)
    laws = {
        "depth map": predicted(job.setting, DEPTH),
        "state evolution": predicted(job.setting, DEPTH_STATE_EVOLUTION),
    }
    measured = grid_crossing(range(1, MOST_BLOCKS + 1), success_LR, log=False)
    return {"depth": Row(setting=job.setting, measured=measured, predictions=laws)}


_BATCH_LIMIT = Table(
    title="N_min without residual",
    text="The smallest balanced batch with P = 1/2, a simplex, identity weights: the batch at which the calibrated "
    "sigma of state evolution is the given one.",
    fields=("dim", "num_classes", "num_blocks", "sigma"),
    measured="N_min",
    predicted=("state evolution",),
    target=Target(maximum=0.15),
)

FAMILIES = (
    Family(
        name="one_block",
        draws=settings.one_block,
        measure=_one_block,
        seconds=4.0,
        tables={
            "one_block": Table(
                title="One block: sigma_max",
                text="The largest sigma with P = 1/2, identity weights. The closed form holds for c = 0 and n >= 10.",
                fields=("dim", "num_classes", "cosine", "batch"),
                measured="sigma_max",
                predicted=("mean field", "closed form"),
                target=Target(maximum=0.06),
            ),
            "one_block_jsd": Table(
                title="One block: sigma at S_J = 1/2",
                text="The largest sigma with S_J = 1/2, identity weights.",
                fields=("dim", "num_classes", "cosine", "batch"),
                measured="sigma at S_J = 1/2",
                predicted=("mean field",),
            ),
        },
    ),
    Family(
        name="state_evolution",
        draws=settings.state_evolution,
        measure=_stack,
        seconds=3.0,
        tables={
            "state_evolution": Table(
                title="State evolution: sigma_max of 2 to 5 blocks",
                text="The largest sigma with P = 1/2, identity weights.",
                fields=_STACK,
                measured="sigma_max",
                predicted=("state evolution",),
                target=Target(median=0.06, maximum=0.15),
            )
        },
    ),
    Family(
        name="centred",
        draws=settings.centred,
        measure=_stack,
        seconds=2.0,
        tables={
            "centred": Table(
                title="Centred stacks: sigma_max",
                text="Every block takes the batch mean off its queries, keys and values: a simplex at a larger sigma.",
                fields=_STACK,
                measured="sigma_max",
                predicted=("state evolution",),
            )
        },
    ),
    Family(
        name="batch_limit_plain",
        draws=settings.batch_limit_plain,
        measure=_batch_limit,
        seconds=2.0,
        tables={"batch_limit_plain": _BATCH_LIMIT},
    ),
    Family(
        name="batch_limit_residual",
        draws=settings.batch_limit_residual,
        measure=_batch_limit,
        seconds=4.0,
        tables={
            "batch_limit_residual": replace(_BATCH_LIMIT, title="N_min with residual", target=Target()),
        },
    ),
    Family(
        name="depth",
        draws=settings.depth,
        measure=_depth,
        seconds=1.0,
        tables={
            "depth": Table(
                title="Over-fusion: the depth with P = 1/2",
                text="Orthonormal centres: every block adds to what all rows have in common. Linear between blocks.",
                fields=("dim", "num_classes", "batch", "sigma", "residual"),
                measured="depth",
                predicted=("depth map", "state evolution"),
                target=Target(maximum=0.08),
                held=("depth map", "state evolution"),
            )
        },
    ),
)
