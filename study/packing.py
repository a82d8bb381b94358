"""Which replicates train together: packs by shape, by profit and by memory, and what a pack asks of the machine.

Pure functions of configurations and of what the machine offers; nothing here is part of a replicate's key.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.config import VECTOR_DATASETS, ModelConfig, Replicate, ReplicateConfig, pack_shape

GPU_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
# What a driver assumes of GPUs that it cannot see: the smallest that clouds still rent for training (T4, A4000).
UNSEEN_GPU_BYTES = 16 * 2**30

_MiB = 2**20
# Interpreter, libraries and data set of a worker on a CPU; context, kernels and data set of one on a GPU.
_WORKER_BYTES = 600 * _MiB
_GPU_CONTEXT_BYTES = 800 * _MiB
# The rest is for the driver, Ray and whoever else uses the machine; on a GPU, for fragmentation.
_USABLE_OF_CPU, _USABLE_OF_GPU = 0.8, 0.9
# Less room than this for tensors is not worth a worker, nor is an encoder pass of fewer rows worth its calls.
_LEAST_ROOM, _LEAST_ENCODER_ROWS = 256 * _MiB, 32

# Joint rows of a pack up to which it trains faster than its members one after another (docs/performance.md). Past about
# 256 rows of the small encoder a grouped convolution loses on a CPU. Nothing was measured on a GPU.
_JOINT_ROWS = {"none": 4096, "linear": 4096, "mlp": 4096, "small": 256}

# Floats per unit, fitted to peaks that the allocator reports on a CPU (tests/test_packing.py repeats two of them).
_PER_PAIR_OF_LOSS, _PER_PAIR_OF_BLOCK, _PER_PAIR_JUDGED = 11.5, 3.0, 6.0
_PER_EMBEDDING_OF_LOSS, _PER_EMBEDDING_OF_BLOCK = 4.0, 7.0
_RESNET_PER_PIXEL, _RESNET_PER_PIXEL_FORWARD = 1500, 340
_RESNET_PARAMETERS, _RESNET_FEATURES = 11_170_000, 512
# Score matrices beyond this size are worked off in tiles (study/tiling.py), whose buffers a pack needs once.
_LARGEST_WHOLE, _TILE_BUFFERS = 2**18, 12 * 2**20
# Rows of one pass of frozen encoders (study/trainers/base.py), and of the largest splits that are judged.
_FROZEN_ROWS, _TEST_ROWS, _ALL_ROWS = 1024, 10_000, 70_000
_SMALL_MULTIPLES = (1, 2, 4)
# What is drawn ahead of training (study/data/batches.py): a vector's noise, or the numbers behind a view of an image.
_STEPS_DRAWN, _NUMBERS_PER_VIEW = 64, 16


@dataclass(frozen=True, kw_only=True)
class PackLimits:
    """What bounds the packs of a sweep.

    ``memory_bytes`` is what one worker's tensors may take; ``image_shape`` (C, H, W) is needed where it is finite and
    the data are images. ``gpu_bytes`` is the memory of one GPU, 0 on CPUs; ``gpu_share`` the share of a GPU that every
    worker gets, None where each pack's own estimate decides.
    """

    image_shape: tuple[int, ...] = ()
    num_workers: int = 1
    memory_bytes: float = math.inf
    gpu_bytes: float = 0.0
    gpu_share: float | None = None

    def pack_size(self, config: ReplicateConfig) -> int:
        """The largest pack of this shape: within profit and memory, and at least one replicate."""
        limit = max_pack_size(config.model, _rows(config))
        if math.isinf(self.memory_bytes):
            return limit
        need = memory_of(config, self.image_shape, self.num_workers)
        return max(1, min(limit, int((self.memory_bytes - need.shared) // need.per_replicate)))

    def encoder_rows(self, config: ReplicateConfig) -> int | None:
        """Local rows of one encoder pass where a single replicate's whole batch does not fit; None where it does."""
        is_vector = config.data.name in VECTOR_DATASETS
        if math.isinf(self.memory_bytes) or is_vector or config.model.norm == "batch":
            return None
        excess = memory_of(config, self.image_shape, self.num_workers).of_pack(1) - self.memory_bytes
        if excess <= 0:
            return None
        local_rows = _rows(config) // num_workers(config, self.num_workers)
        return max(
            _LEAST_ENCODER_ROWS,
            local_rows - math.ceil(excess / (4 * _encoder(config.model, self.image_shape).floats_per_row)),
        )

    def share_of(self, pack: Sequence[Replicate]) -> float:
        """The share of a GPU that each worker of a pack asks for; 0 on CPUs."""
        if self.gpu_share is not None:
            return self.gpu_share
        if not self.gpu_bytes:
            return 0.0
        if num_workers(pack[0].config, self.num_workers) > 1:
            # NCCL refuses two ranks on one device.
            return 1.0
        need = memory_of(pack[0].config, self.image_shape, self.num_workers)
        return gpu_share(need.of_pack(len(pack)), self.gpu_bytes)


@dataclass(frozen=True, kw_only=True)
class PackMemory:
    """Estimated bytes of one worker: of each replicate, and once of the pack."""

    per_replicate: float
    shared: float

    def of_pack(self, num_replicates: int) -> float:
        return self.shared + num_replicates * self.per_replicate


def make_packs(replicates: Sequence[Replicate], limits: PackLimits | None = None) -> list[tuple[Replicate, ...]]:
    """Group replicates of one shape into packs of nearly equal size, the most work first.

    Equal learning rates are neighbours, so that the optimiser updates them together.
    """
    limits = PackLimits() if limits is None else limits
    groups: dict[str, list[Replicate]] = {}
    for replicate in replicates:
        groups.setdefault(pack_shape(replicate.config), []).append(replicate)
    packs = []
    for group in groups.values():
        group.sort(key=lambda replicate: replicate.config.optimizer.learning_rate)
        num_packs = -(-len(group) // limits.pack_size(group[0].config))
        cuts = [len(group) * index // num_packs for index in range(num_packs + 1)]
        packs += [tuple(group[start:stop]) for start, stop in itertools.pairwise(cuts)]
    return sorted(packs, key=lambda pack: -sum(work(r.config) for r in pack))


def work(config: ReplicateConfig) -> float:
    """Relative cost of a replicate: steps, each with a fixed part and one that grows with its rows."""
    return max(config.num_steps, 1) * (1 + config.batch.train / 20)


def num_workers(config: ReplicateConfig, asked: int) -> int:
    """The largest number of workers, at most those asked for, that shares the images of a batch evenly."""
    sizes = (config.num_images, config.batch.labelled)
    return next(count for count in range(asked, 0, -1) if all(size % count == 0 for size in sizes))


def _rows(config: ReplicateConfig) -> int:
    """Rows that a replicate encodes in a step, over all workers."""
    return config.batch.train + config.batch.labelled


def max_pack_size(config: ModelConfig, rows_per_replicate: int) -> int:
    """How many replicates of a batch size share one tensor program with profit; ResNets train alone."""
    if config.encoder == "resnet18":
        return 1
    return max(1, _JOINT_ROWS[config.encoder] // rows_per_replicate)


def memory_of(config: ReplicateConfig, image_shape: tuple[int, ...], asked_workers: int = 1) -> PackMemory:
    """Estimate the bytes that a pack of this shape takes in one worker at its peak, within a factor of two.

    A replicate holds its weights, gradient and two moments, its evaluation batches and what is drawn for the next
    steps, and needs what the larger of a training step and an evaluation needs. The pack passes frozen encoders in
    chunks, and tiles large score matrices.
    """
    is_vector = config.data.name in VECTOR_DATASETS
    encoder = _encoder(config.model, (config.data.clusters.dim,) if is_vector else image_shape)
    width = config.model.projection_dim or encoder.outputs
    parameters, per_row = encoder.parameters, encoder.floats_per_row
    if config.model.projection_dim:
        parameters += encoder.outputs * (encoder.outputs + width + 1) + width
        per_row += 3 * (encoder.outputs + width)
    blocks = config.model.num_blocks if config.trainer == "transfusion" else 1
    if config.trainer == "transfusion":
        parameters += (3 * blocks - 1) * width**2
    per_row += (_PER_EMBEDDING_OF_LOSS + (blocks - 1) * _PER_EMBEDDING_OF_BLOCK) * width
    local_rows = config.batch.train // num_workers(config, asked_workers)
    pairs = local_rows * config.batch.train if config.trainer != "supervised" else 0
    is_tiled = pairs > _LARGEST_WHOLE and config.loss.affinity == "relu"
    per_pair = 0.0 if is_tiled else _PER_PAIR_OF_LOSS + (blocks - 1) * _PER_PAIR_OF_BLOCK
    evaluation_rows = config.evaluation.num_batches * config.batch.eval
    judged = _PER_PAIR_JUDGED * evaluation_rows * config.batch.eval + encoder.outputs * _frozen_rows(config)
    drawn = _STEPS_DRAWN * config.batch.train * (encoder.inputs if is_vector else _NUMBERS_PER_VIEW)
    held = 4 * parameters + 2 * evaluation_rows * encoder.inputs + drawn
    encoded_rows = _rows(config) // num_workers(config, asked_workers)
    step = encoded_rows * per_row + pairs * per_pair
    shared = encoder.floats + _FROZEN_ROWS * encoder.floats_per_frozen_row + (_TILE_BUFFERS if is_tiled else 0)
    return PackMemory(per_replicate=4 * (held + max(step, judged)), shared=4 * shared)


@dataclass(frozen=True, kw_only=True)
class _Encoder:
    """Numbers of floats: of one row's input and output, of weights, and of activations with and without a graph."""

    inputs: int
    outputs: int
    parameters: float = 0
    floats_per_row: float = 0
    floats_per_frozen_row: float = 0
    floats: float = 0


def _encoder(model: ModelConfig, input_shape: tuple[int, ...]) -> _Encoder:
    inputs = math.prod(input_shape)
    if model.encoder == "none":
        return _Encoder(inputs=inputs, outputs=inputs, floats_per_frozen_row=inputs)
    outputs = model.embedding_dim
    if model.encoder in ("linear", "mlp"):
        hidden = 4 * model.width if model.encoder == "mlp" else 0
        weights = hidden * (inputs + outputs) if hidden else inputs * outputs
        size = hidden + outputs
        return _Encoder(
            inputs=inputs, outputs=outputs, parameters=weights, floats_per_row=3 * size, floats_per_frozen_row=2 * size
        )
    channels, height, width = input_shape
    if model.encoder == "resnet18":
        return _Encoder(
            inputs=inputs,
            outputs=outputs,
            parameters=_RESNET_PARAMETERS + _RESNET_FEATURES * outputs,
            floats_per_row=_RESNET_PER_PIXEL * height * width,
            floats_per_frozen_row=_RESNET_PER_PIXEL_FORWARD * height * width,
            # The largest kernel in the order that the convolution wants.
            floats=9 * _RESNET_FEATURES**2,
        )
    parameters, layers = 0, []
    for multiple in _SMALL_MULTIPLES:
        height, width = (height + 1) // 2, (width + 1) // 2
        parameters += 9 * channels * model.width * multiple
        channels = model.width * multiple
        layers.append(channels * height * width)
    return _Encoder(
        inputs=inputs,
        outputs=outputs,
        parameters=parameters + layers[-1] * outputs,
        floats_per_row=3 * sum(layers) + 2 * inputs,
        floats_per_frozen_row=2.5 * max(layers) + inputs,
    )


def _frozen_rows(config: ReplicateConfig) -> int:
    """Rows whose embeddings are held at once for nearest neighbours and probes."""
    evaluation = config.evaluation
    if not (evaluation.knn_bank or evaluation.linear_probe):
        return 0
    needs_all = evaluation.linear_probe or config.data.label_fraction < 1
    return _ALL_ROWS if needs_all else _TEST_ROWS + evaluation.knn_bank


def packs_in_memory(available_bytes: float) -> int:
    """How many workers a machine has memory for, each with room for a small pack; at least one."""
    return max(1, int(_USABLE_OF_CPU * available_bytes // (_WORKER_BYTES + _LEAST_ROOM)))


def memory_on_cpu(available_bytes: float, num_packs: int) -> float:
    """What the tensors of one of ``num_packs`` workers on a machine may take."""
    return max(_USABLE_OF_CPU * available_bytes / num_packs - _WORKER_BYTES, 0.0)


def memory_on_gpu(gpu_bytes: float, share: float) -> float:
    """What a worker's tensors may take of a share of a GPU."""
    return max(_USABLE_OF_GPU * share * gpu_bytes - _GPU_CONTEXT_BYTES, 0.0)


def gpu_share(pack_bytes: float, gpu_bytes: float) -> float:
    """The smallest share of a GPU that holds a pack; a whole one where none does."""
    return next((share for share in GPU_SHARES if pack_bytes <= memory_on_gpu(gpu_bytes, share)), 1.0)


def packs_at_a_time(num_cpus: float, num_gpus: float, cpus_per_pack: int, gpus_per_pack: float) -> int:
    """How many packs find their CPUs and, where they ask for any, their GPUs; at least one."""
    width = int(num_cpus // cpus_per_pack)
    if gpus_per_pack:
        width = min(width, int(num_gpus / gpus_per_pack))
    return max(1, width)


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of this machine that are free for new work, all of them where the system does not say, at most what a
    container may have."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError):
        lines = (proc / "meminfo").read_text().splitlines()
        found = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), found)
    with contextlib.suppress(OSError, ValueError):
        # "max" where there is no limit.
        found = min(found, int((cgroup / "memory.max").read_text()))
    return found
