"""What a pack takes of a worker: estimated bytes, relative work, and how many replicates train together with profit."""

import math

from study.interface.recipe import Cost
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ModelConfig, ReplicateConfig

# An encoder pass of fewer rows is not worth its calls.
_LEAST_ENCODER_ROWS = 32

# Floats per unit, fitted to peaks that the allocator reports on a CPU (tests/test_packing.py repeats two of them).
_PER_PAIR_OF_LOSS, _PER_PAIR_OF_BLOCK, _PER_PAIR_JUDGED = 11.5, 3.0, 6.0
_PER_EMBEDDING_OF_LOSS, _PER_EMBEDDING_OF_BLOCK = 4.0, 7.0
# Score matrices beyond this size are worked off in tiles (tiling.py), whose buffers a pack needs once.
_LARGEST_WHOLE, _TILE_BUFFERS = 2**18, 12 * 2**20
# Rows of one pass of frozen encoders (trainers/base.py), and of the largest splits that are judged.
_FROZEN_ROWS, _TEST_ROWS, _ALL_ROWS = 1024, 10_000, 70_000
# What is drawn ahead of training (data/batches.py): a vector's noise, or the numbers behind a view of an image.
_STEPS_DRAWN, _NUMBERS_PER_VIEW = 64, 16


def cost_of(config: ReplicateConfig, input_shape: tuple[int, ...] | None, asked_workers: int) -> Cost:
    """Everything that packing asks of a configuration; without the shape of its inputs no bytes."""
    shared = per_replicate = 0.0
    if input_shape is not None:
        memory = memory_of(config, input_shape, asked_workers)
        shared, per_replicate = memory.shared, memory.per_replicate
    largest_pack = max_pack_size(config.model, _rows(config))
    return Cost(per_replicate=per_replicate, shared=shared, work=work(config), largest_pack=largest_pack)


def encoder_rows(
    config: ReplicateConfig, input_shape: tuple[int, ...], num_workers: int, memory_bytes: float
) -> int | None:
    """Local rows of one encoder pass where a single replicate's whole batch does not fit; None where it does."""
    if math.isinf(memory_bytes) or components.dataset(config.data.name).is_vector or config.model.norm == "batch":
        return None
    excess = memory_of(config, input_shape, num_workers).of_pack(1) - memory_bytes
    if excess <= 0:
        return None
    local_rows = _rows(config) // workers_for(config, num_workers)
    floats_per_row = components.encoder(config.model.encoder).floats(config.model, input_shape).floats_per_row
    return max(_LEAST_ENCODER_ROWS, local_rows - math.ceil(excess / (4 * floats_per_row)))


def max_pack_size(config: ModelConfig, rows_per_replicate: int) -> int:
    """How many replicates of a batch size share one tensor program with profit."""
    joint_rows = components.encoder(config.encoder).joint_rows
    return 1 if joint_rows is None else max(1, joint_rows // rows_per_replicate)


def memory_of(config: ReplicateConfig, image_shape: tuple[int, ...], asked_workers: int = 1) -> Cost:
    """Estimate the bytes that a pack of this shape takes in one worker at its peak, within a factor of two.

    A replicate holds its weights, gradient and two moments, its evaluation batches and what is drawn for the next
    steps, and needs what the larger of a training step and an evaluation needs. The pack passes frozen encoders in
    chunks, and tiles large score matrices.
    """
    is_vector = components.dataset(config.data.name).is_vector
    shape = (config.data.clusters.dim,) if is_vector else image_shape
    encoder = components.encoder(config.model.encoder).floats(config.model, shape)
    width = config.model.projection_dim or encoder.outputs
    parameters, per_row = encoder.parameters, encoder.floats_per_row
    if config.model.projection_dim:
        parameters += encoder.outputs * (encoder.outputs + width + 1) + width
        per_row += 3 * (encoder.outputs + width)
    method = components.method(config.trainer)
    blocks = method.num_blocks(config)
    parameters += method.head_parameters(config, width)
    per_row += (_PER_EMBEDDING_OF_LOSS + (blocks - 1) * _PER_EMBEDDING_OF_BLOCK) * width
    local_rows = config.batch.train // workers_for(config, asked_workers)
    pairs = local_rows * config.batch.train if method.has_pairs else 0
    is_tiled = pairs > _LARGEST_WHOLE and config.loss.affinity == "relu"
    per_pair = 0.0 if is_tiled else _PER_PAIR_OF_LOSS + (blocks - 1) * _PER_PAIR_OF_BLOCK
    evaluation_rows = config.evaluation.num_batches * config.batch.eval
    judged = _PER_PAIR_JUDGED * evaluation_rows * config.batch.eval + encoder.outputs * _frozen_rows(config)
    drawn = _STEPS_DRAWN * config.batch.train * (encoder.inputs if is_vector else _NUMBERS_PER_VIEW)
    held = 4 * parameters + 2 * evaluation_rows * encoder.inputs + drawn
    encoded_rows = _rows(config) // workers_for(config, asked_workers)
    step = encoded_rows * per_row + pairs * per_pair
    shared = encoder.floats + _FROZEN_ROWS * encoder.floats_per_frozen_row + (_TILE_BUFFERS if is_tiled else 0)
    return Cost(per_replicate=4 * (held + max(step, judged)), shared=4 * shared)


def _frozen_rows(config: ReplicateConfig) -> int:
    """Rows whose embeddings are held at once for nearest neighbours and probes."""
    evaluation = config.evaluation
    if not (evaluation.knn_bank or evaluation.linear_probe):
        return 0
    needs_all = evaluation.linear_probe or config.data.label_fraction < 1
    return _ALL_ROWS if needs_all else _TEST_ROWS + evaluation.knn_bank


def workers_for(config: ReplicateConfig, asked: int) -> int:
    """The largest number of workers, at most those asked for, that shares the images of a batch evenly."""
    sizes = (config.num_images, config.batch.labelled)
    return next(count for count in range(asked, 0, -1) if all(size % count == 0 for size in sizes))


def _rows(config: ReplicateConfig) -> int:
    """Rows that a replicate encodes in a step, over all workers."""
    return config.batch.train + config.batch.labelled


def work(config: ReplicateConfig) -> float:
    """Relative cost of a replicate: steps, each with a fixed part and one that grows with its rows."""
    return max(config.num_steps, 1) * (1 + config.batch.train / 20)
