"""Packs: what trains together, how much memory that takes, and what it asks of a machine."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile

from study.designs.values import Scalar, with_values
from study.execution.packs import (
    GPU_SHARES,
    PackLimits,
    available_memory,
    gpu_share,
    make_packs,
    memory_on_cpu,
    memory_on_gpu,
    packs_at_a_time,
    packs_in_memory,
)
from study.interface.run import Replicate
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.memory import encoder_rows, max_pack_size, memory_of, workers_for
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun, measure_untrained

GiB = 2**30
IMAGE = (1, 28, 28)
CLUSTERS: dict[str, Scalar] = {"data.name": "clusters", "model.encoder": "none"}
RESNET: dict[str, Scalar] = {"data.name": "cifar10", "model.encoder": "resnet18"}
ANYTHING = PackLimits(recipe=CONTRASTIVE)


def limits_of(**changes: Any) -> PackLimits:
    """Limits of packs of small grey images."""
    images = SimpleNamespace(input_shape=IMAGE)
    return PackLimits(recipe=CONTRASTIVE, data_of=lambda config: images, **changes)


def config_of(values: dict[str, Scalar]) -> ReplicateConfig:
    return with_values(ReplicateConfig(), values)


def replicates(values: dict[str, Scalar], num_seeds: int, rates: tuple[float, ...] = (1e-3,)) -> list[Replicate]:
    """Seed by seed, every rate: equal rates are never neighbours."""
    return [
        CONTRASTIVE.replicate(config_of({**values, "optimizer.learning_rate": rate}), seed, "data")
        for seed in range(num_seeds)
        for rate in rates
    ]


class TestMakePacks:
    def test_every_replicate_is_in_one_pack_and_a_pack_has_one_shape(self) -> None:
        asked = [*replicates({"batch.train": 16}, 5), *replicates({"batch.train": 64}, 7)]
        packs = make_packs(asked, ANYTHING)
        assert sorted(r.key for pack in packs for r in pack) == sorted(r.key for r in asked)
        assert all(len({CONTRASTIVE.together(r.config) for r in pack}) == 1 for pack in packs)

    def test_sizes_differ_by_one_at_most_and_stay_within_the_limit(self) -> None:
        packs = make_packs(replicates({"batch.train": 64}, 11), ANYTHING)
        sizes = sorted(len(pack) for pack in packs)
        assert sizes == [3, 4, 4]
        assert max(sizes) <= max_pack_size(config_of({}).model, 64)

    def test_the_most_work_comes_first(self) -> None:
        fixed: dict[str, Scalar] = {"horizon.unit": "steps", "horizon.length": 10}
        asked = [r for batch in (4, 64, 16) for r in replicates({**fixed, "batch.train": batch}, 2)]
        packs = make_packs(asked, ANYTHING)
        assert [pack[0].config.batch.train for pack in packs] == [64, 16, 4]

    def test_equal_learning_rates_are_neighbours_and_packs_are_cut_between_them(self) -> None:
        packs = make_packs(replicates({"batch.train": 64}, 4, rates=(1e-3, 1e-2, 3e-3)), ANYTHING)
        rates = [[r.config.optimizer.learning_rate for r in pack] for pack in packs]
        assert sorted(rates) == [[1e-3] * 4, [3e-3] * 4, [1e-2] * 4]

    def test_memory_bounds_a_pack_and_one_replicate_always_trains(self) -> None:
        asked = replicates({"batch.train": 16}, 8)
        need = memory_of(asked[0].config, IMAGE)
        for room, sizes in (
            (need.of_pack(8), [8]),
            (need.of_pack(4), [4, 4]),
            (need.of_pack(3), [2, 3, 3]),
            (1, [1] * 8),
        ):
            packs = make_packs(asked, limits_of(memory_bytes=room))
            assert sorted(len(pack) for pack in packs) == sizes

    def test_plenty_of_memory_changes_nothing(self) -> None:
        asked = replicates({"batch.train": 16}, 40)
        assert make_packs(asked, limits_of(memory_bytes=64 * GiB)) == make_packs(asked, ANYTHING)

    @pytest.mark.parametrize(
        ("values", "size"),
        [
            ({"batch.train": 64}, 4),
            ({"batch.train": 512}, 1),
            ({**CLUSTERS, "batch.train": 64}, 64),
            ({**CLUSTERS, "model.encoder": "mlp", "batch.train": 64}, 64),
            ({**RESNET, "batch.train": 4}, 1),
        ],
        ids=str,
    )
    def test_profit_bounds_the_joint_rows(self, values: dict[str, Scalar], size: int) -> None:
        config = config_of(values)
        assert max_pack_size(config.model, config.batch.train) == size


def peak_bytes(run: Callable[[], object]) -> int:
    """The most that the allocator of the CPU held at a time while ``run`` ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    assert recorded.profiler is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


MEASURED: dict[str, tuple[dict[str, Scalar], int]] = {
    "a pack of vectors": ({**CLUSTERS, "batch.train": 50, "batch.eval": 50}, 32),
    "an affinity that dominates": ({**CLUSTERS, "batch.train": 512, "batch.eval": 50}, 2),
    "an affinity in tiles": ({**CLUSTERS, "batch.train": 2048, "batch.eval": 50}, 1),
    "a pack of images": ({"data.name": "digits", "batch.train": 64, "batch.eval": 100, "model.width": 32}, 4),
    "a ResNet": ({"data.name": "digits", "model.encoder": "resnet18", "batch.train": 64, "batch.eval": 40}, 1),
}


class TestMemory:
    @pytest.mark.parametrize(("values", "size"), MEASURED.values(), ids=MEASURED)
    def test_the_estimate_is_within_a_factor_of_two_of_the_measured_peak(
        self, values: dict[str, Scalar], size: int
    ) -> None:
        short: dict[str, Scalar] = {"horizon.unit": "steps", "horizon.length": 2, "evaluation.num_points": 1}
        config = config_of({**short, "evaluation.knn_bank": 0, **values})
        dataset = load_dataset(config.data)
        pack = [CONTRASTIVE.replicate(config, seed, dataset.digest) for seed in range(size)]
        untrained = measure_untrained(pack, dataset)

        def train() -> None:
            run = PackRun(pack, dataset)
            while not run.is_done:
                run.advance()
            run.results(untrained)

        estimate = memory_of(config, dataset.input_shape).of_pack(size)
        assert 0.5 < estimate / peak_bytes(train) < 2

    def test_more_of_anything_takes_more(self) -> None:
        base = config_of({"batch.train": 64})
        least = memory_of(base, IMAGE)
        changes: list[dict[str, Scalar]] = [
            {"batch.train": 1024},
            {"batch.eval": 1200},
            {"model.width": 64},
            {"model.embedding_dim": 1024},
            {"model.num_blocks": 40},
            {"model.projection_dim": 2048},
            {"evaluation.knn_bank": 60_000},
            {"evaluation.linear_probe": True},
        ]
        for change in changes:
            more = memory_of(with_values(base, change), IMAGE)
            assert more.of_pack(1) > least.of_pack(1), change
        assert memory_of(base, (3, 32, 32)).of_pack(1) > least.of_pack(1)

    def test_an_affinity_in_tiles_grows_with_the_batch_and_not_with_its_square(self) -> None:
        small, large = (
            memory_of(config_of({**CLUSTERS, "batch.train": batch}), ()).per_replicate for batch in (8192, 16384)
        )
        assert 1.5 < large / small < 2.1

    def test_a_softmax_affinity_is_never_tiled(self) -> None:
        relu, softmax = (
            memory_of(config_of({**CLUSTERS, "batch.train": 4096, "loss.affinity": kind}), ()).of_pack(1)
            for kind in ("relu", "softmax")
        )
        assert softmax > 4 * 11 * 4096**2 > 4 * relu

    def test_workers_share_the_rows_and_not_the_weights(self) -> None:
        config = config_of({"batch.train": 512})
        one, four = (memory_of(config, IMAGE, workers).of_pack(1) for workers in (1, 4))
        assert one / 4 < four < one

    def test_a_machine_is_shared_by_the_packs_that_run_at_a_time(self) -> None:
        assert memory_on_cpu(16 * GiB, 1) > 2 * memory_on_cpu(16 * GiB, 2) > 0
        assert memory_on_cpu(GiB, 8) == 0

    def test_free_memory_is_read_where_the_system_says_it_and_bounded_by_the_container(self, tmp_path: Path) -> None:
        proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
        everything = available_memory(proc, cgroup)
        assert everything > 0
        proc.mkdir()
        (proc / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable: 2000 kB\n")
        assert available_memory(proc, cgroup) == 2000 * 1024
        cgroup.mkdir()
        (cgroup / "memory.max").write_text("max\n")
        assert available_memory(proc, cgroup) == 2000 * 1024
        (cgroup / "memory.max").write_text("1000000\n")
        assert available_memory(proc, cgroup) == 1_000_000


class TestGpuShares:
    @pytest.mark.parametrize(
        ("pack_bytes", "share"),
        [
            (0, 1 / 8),
            (1.0 * GiB, 1 / 8),
            (1.1 * GiB, 1 / 4),
            (2.7 * GiB, 1 / 4),
            (3 * GiB, 1 / 2),
            (7 * GiB, 1),
            (99 * GiB, 1),
        ],
    )
    def test_a_pack_takes_the_smallest_share_that_holds_it(self, pack_bytes: float, share: float) -> None:
        assert gpu_share(pack_bytes, 16 * GiB) == share

    def test_a_pack_that_was_bounded_by_a_share_gets_that_share(self) -> None:
        asked = replicates({"batch.train": 4}, 64)
        for share in GPU_SHARES:
            room = memory_on_gpu(8 * GiB, share)
            limits = limits_of(memory_bytes=room, gpu_bytes=8 * GiB)
            assert all(limits.share_of(pack) <= share for pack in make_packs(asked, limits))

    def test_workers_of_one_pack_get_a_whole_gpu_each(self) -> None:
        pack = replicates({"batch.train": 64}, 2)
        limits = limits_of(gpu_bytes=16 * GiB)
        assert limits.share_of(pack) == 1 / 8
        assert limits_of(gpu_bytes=16 * GiB, num_workers=2).share_of(pack) == 1

    def test_a_fixed_share_is_for_all_packs_and_a_cpu_has_none(self) -> None:
        pack = replicates({"batch.train": 64}, 2)
        assert limits_of(gpu_bytes=16 * GiB, gpu_share=0.5).share_of(pack) == 0.5
        assert limits_of().share_of(pack) == 0


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpus_per_pack", "gpus_per_pack", "expected"),
    [
        (8, 0, 1, 0, 8),
        (8, 0, 3, 0, 2),
        (1, 0, 2, 0, 1),
        (16, 1, 1, 1 / 8, 8),
        (4, 1, 1, 1 / 8, 4),
        (16, 2, 1, 1 / 2, 4),
        (16, 4, 2, 2.0, 2),
        (16, 0, 1, 1.0, 1),
    ],
)
def test_as_many_packs_run_at_a_time_as_find_cpus_and_gpus(
    cpus: int, gpus: int, cpus_per_pack: int, gpus_per_pack: float, expected: int
) -> None:
    assert packs_at_a_time(cpus, gpus, cpus_per_pack, gpus_per_pack) == expected


@pytest.mark.parametrize(
    ("batch", "views", "asked", "expected"), [(64, 1, 4, 4), (6, 1, 4, 3), (6, 2, 2, 1), (7, 1, 2, 1)]
)
def test_workers_share_the_images_of_a_batch_evenly(batch: int, views: int, asked: int, expected: int) -> None:
    assert workers_for(config_of({"batch.train": batch, "data.num_views": views}), asked) == expected


def test_a_resnet_holds_its_weights_their_gradient_and_two_moments() -> None:
    """Its kernels alone are 11 million numbers."""
    assert memory_of(config_of({**RESNET, "batch.train": 2}), (3, 32, 32)).per_replicate > 4 * 4 * 11e6


def test_a_batch_that_does_not_fit_passes_the_encoder_in_chunks_that_do() -> None:
    config = with_values(ReplicateConfig(), {"batch.train": 4096, "model.encoder": "resnet18"})
    whole = memory_of(config, IMAGE).of_pack(1)
    rows = encoder_rows(config, IMAGE, 1, whole / 2)
    assert rows is not None
    assert 1500 < rows < 2500
    assert encoder_rows(config, IMAGE, 1, 2 * whole) is None
    assert encoder_rows(config, IMAGE, 1, 1.0) == 32
    assert encoder_rows(config, IMAGE, 1, math.inf) is None
    control = with_values(config, {"model.norm": "batch"})
    assert encoder_rows(control, IMAGE, 1, whole / 2) is None


def test_a_labelled_batch_counts_as_rows() -> None:
    values = {"trainer": "oar", "data.num_views": 2, "batch.train": 128}
    plain = with_values(ReplicateConfig(), values)
    labelled = with_values(plain, {"batch.labelled": 1024})
    without, with_labels = (memory_of(config, (1, 28, 28)).per_replicate for config in (plain, labelled))
    assert with_labels > 3 * without
    assert ANYTHING.pack_size(labelled) == 1


def test_a_machine_with_little_memory_runs_fewer_workers_rather_than_starved_ones() -> None:
    assert packs_in_memory(16 * 2**30) == 15
    assert packs_in_memory(2**20) == 1
    for gigabytes in (2, 16, 128):
        assert memory_on_cpu(gigabytes * 2**30, packs_in_memory(gigabytes * 2**30)) > 100 * 2**20
