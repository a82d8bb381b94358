"""Which replicates train together: packs by kind, by profit and by memory, and what a pack asks of the machine.

Pure functions of what a recipe says of its configurations and of what the machine offers; nothing here is part of a
replicate's key.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.interface.recipe import Cost, Recipe
from study.interface.run import Replicate

GPU_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
# What a driver assumes of GPUs that it cannot see: the smallest that clouds still rent for training (T4, A4000).
UNSEEN_GPU_BYTES = 16 * 2**30

_MiB = 2**20
# Interpreter, libraries and data set of a worker on a CPU; context, kernels and data set of one on a GPU.
_WORKER_BYTES = 600 * _MiB
_GPU_CONTEXT_BYTES = 800 * _MiB
# The rest is for the driver, Ray and whoever else uses the machine; on a GPU, for fragmentation.
_USABLE_OF_CPU, _USABLE_OF_GPU = 0.8, 0.9
# Less room than this for tensors is not worth a worker.
_LEAST_ROOM = 256 * _MiB


@dataclass(frozen=True, kw_only=True)
class PackLimits:
    """What bounds the packs of a sweep.

    ``data_of`` gives the data of a configuration, which its cost depends on where ``memory_bytes``, what one worker's
    tensors may take, is finite. ``gpu_bytes`` is the memory of one GPU, 0 on CPUs; ``gpu_share`` the share of a GPU
    that every worker gets, None where each pack's own estimate decides.
    """

    recipe: Recipe[Any]
    data_of: Callable[[Any], Any] = lambda config: None
    num_workers: int = 1
    memory_bytes: float = math.inf
    gpu_bytes: float = 0.0
    gpu_share: float | None = None

    def cost(self, config: Any) -> Cost:
        """What a pack of this configuration takes of a worker."""
        return self.recipe.cost(config, self.data_of(config), self.num_workers)

    def pack_size(self, config: Any) -> int:
        """The largest pack of this kind: within profit and memory, and at least one replicate."""
        cost = self.cost(config)
        if math.isinf(self.memory_bytes) or not cost.per_replicate:
            return cost.largest_pack
        return max(1, min(cost.largest_pack, int((self.memory_bytes - cost.shared) // cost.per_replicate)))

    def share_of(self, pack: Sequence[Replicate[Any]]) -> float:
        """The share of a GPU that each worker of a pack asks for; 0 on CPUs."""
        if self.gpu_share is not None:
            return self.gpu_share
        if not self.gpu_bytes:
            return 0.0
        if self.recipe.num_workers(pack[0].config, self.num_workers) > 1:
            # NCCL refuses two ranks on one device.
            return 1.0
        return gpu_share(self.cost(pack[0].config).of_pack(len(pack)), self.gpu_bytes)


def make_packs(replicates: Sequence[Replicate[Any]], limits: PackLimits) -> list[tuple[Replicate[Any], ...]]:
    """Group replicates of one kind into packs of nearly equal size, the most work first.

    Neighbours in the recipe's order go into one pack.
    """
    recipe = limits.recipe
    groups: dict[str, list[Replicate[Any]]] = {}
    for replicate in replicates:
        groups.setdefault(recipe.together(replicate.config), []).append(replicate)
    packs = []
    for group in groups.values():
        group.sort(key=lambda replicate: recipe.order(replicate.config))
        num_packs = -(-len(group) // limits.pack_size(group[0].config))
        cuts = [len(group) * index // num_packs for index in range(num_packs + 1)]
        packs += [tuple(group[start:stop]) for start, stop in itertools.pairwise(cuts)]
    return sorted(packs, key=lambda pack: -sum(limits.cost(member.config).work for member in pack))


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
