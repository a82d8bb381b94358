"""InfoNCE by tiles against lightly and pytorch-metric-learning, and TransFusion with its divergence, in one run.

Command: python benchmarks/losses.py

Forward and backward in float32 at 128 dimensions, temperature 0.5, two threads. Every measurement has a process of its
own: extra memory is the peak of the resident set during the first call over what it was just before; seconds are the
best of a few calls. The share of the matmul rate credits three products of all pairs (scores and two gradients; six for
a fusion block and three for its divergence), nothing for recomputing a tile nor for leaving out half of a symmetric
matrix, and divides by the best rate of tiled products in the same process.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from study.recipes.contrastive.losses.affinity_jsd import affinity_jsd
from study.recipes.contrastive.losses.info_nce import info_nce
from study.recipes.contrastive.models.fusion import TransFusion

DIM, TEMPERATURE, NUM_CLASSES = 128, 0.5, 10
PAIRS = (256, 1024, 4096, 8192, 16384)
PAIRS_ALONE = 32768
ROWS_OF_FUSION = 16384
LIBRARIES = ("ours", "lightly", "pytorch-metric-learning")
_SECONDS_PER_CASE = 12.0
_MOST_CALLS = 10
_MIB = 2**20

Call = Callable[[], torch.Tensor]


def contrastive_call(library: str, num_pairs: int) -> Call:
    """NT-Xent of raw embeddings of two views, and its gradient."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(num_pairs, DIM, generator=generator, requires_grad=True) for _ in range(2)]
    ids_N = torch.arange(num_pairs).repeat(2)
    if library == "lightly":
        from lightly.loss import NTXentLoss

        lightly_loss = NTXentLoss(temperature=TEMPERATURE)
        return lambda: lightly_loss(*views)
    if library == "pytorch-metric-learning":
        from pytorch_metric_learning.losses import NTXentLoss as MetricLearningLoss

        metric_loss = MetricLearningLoss(temperature=TEMPERATURE)
        return lambda: metric_loss(torch.cat(views), ids_N)

    def ours() -> torch.Tensor:
        rows_ND = torch.cat(views)
        return info_nce(rows_ND, rows_ND, ids_N, ids_N, temperature=TEMPERATURE)

    return ours


def fusion_call(num_rows: int) -> Call:
    """TransFusion of two blocks (one mixes values, the last is cut to its affinity) with its divergence to classes."""
    generator = torch.Generator().manual_seed(0)
    model = TransFusion(DIM, [generator], num_blocks=2)
    x_RND = torch.randn(1, num_rows, DIM, generator=generator, requires_grad=True)
    ids_RN = (torch.arange(num_rows) % NUM_CLASSES)[None]

    def ours() -> torch.Tensor:
        q_RND, k_RND = model(x_RND)
        return affinity_jsd(q_RND, k_RND, ids_RN, ids_RN).sum()

    return ours


def matmul_rate() -> float:
    """Best FLOP per second of products of tiles with tiles, at this number of threads."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, out = torch.randn(size, DIM), torch.empty(size, size)
        for _ in range(30):
            start = time.perf_counter()
            torch.mm(a, a.T, out=out)
            best = max(best, 2 * size**2 * DIM / (time.perf_counter() - start))
    return best


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(library: str, size: int) -> dict[str, float]:
    """Seconds, extra bytes, loss and matmul rate of one case; to be called in a fresh process."""
    torch.set_num_threads(2)
    make = fusion_call if library == "fusion" else lambda pairs: contrastive_call(library, pairs)
    make(64)().backward()
    rate, call = matmul_rate(), make(size)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    seconds: list[float] = []
    extra = 0
    while not seconds or (sum(seconds) < _SECONDS_PER_CASE and len(seconds) < _MOST_CALLS):
        start = time.perf_counter()
        loss = call()
        loss.backward()
        seconds.append(time.perf_counter() - start)
        extra = extra or resident_bytes("VmHWM") - before
    return {"seconds": min(seconds), "extra": extra, "loss": loss.item(), "rate": max(rate, matmul_rate())}


def measure_in_process(library: str, size: int) -> dict[str, float] | None:
    """``measure`` in a process that may use most of the free memory; None if that did not suffice."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    limit = next(int(line.split()[1]) * 1024 * 85 // 100 for line in lines if line.startswith("MemAvailable"))
    done = subprocess.run(
        [sys.executable, __file__, library, str(size)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "allocate memory" in done.stderr or "MemoryError" in done.stderr or done.returncode < 0:
        return None
    raise RuntimeError(done.stderr)


def print_row(
    name: str, size: int, products: int, num_rows: int, found: dict[str, float], ours: dict[str, float]
) -> None:
    share = products * 2 * num_rows**2 * DIM / found["seconds"] / found["rate"]
    print(
        f"| {name} | {size:,} | {found['seconds']:.3f} | {found['extra'] / _MIB:,.0f} "
        f"| {found['seconds'] / ours['seconds']:.1f} | {found['extra'] / ours['extra']:.1f} "
        f"| {100 * share:.0f} % | {found['rate'] / 1e9:.0f} | {found['loss']:.5f} |",
        flush=True,
    )


def main() -> None:
    """Print a Markdown table."""
    print("| loss | pairs | seconds | extra MiB | seconds / ours | memory / ours | share | matmul GFLOP/s | value |")
    print("|---|---|---|---|---|---|---|---|---|")
    for num_pairs in (*PAIRS, PAIRS_ALONE):
        ours: dict[str, float] = {}
        for library in LIBRARIES if num_pairs != PAIRS_ALONE else LIBRARIES[:1]:
            found = measure_in_process(library, num_pairs)
            if found is None:
                print(f"| {library} | {num_pairs:,} | out of memory | | | | | | |", flush=True)
                continue
            ours = ours or found
            print_row(library, num_pairs, 3, 2 * num_pairs, found, ours)
    found = measure_in_process("fusion", ROWS_OF_FUSION)
    assert found is not None
    print_row("TransFusion, two blocks, JSD (rows)", ROWS_OF_FUSION, 9, ROWS_OF_FUSION, found, found)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
