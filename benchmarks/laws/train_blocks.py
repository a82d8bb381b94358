"""Training of fusion blocks with the project's own loop, packs of strengths and seeds, and no executor."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from study.config import Replicate, ReplicateConfig, Scalar, with_values
from study.data.datasets import Dataset, load_dataset
from study.data.streams import stream
from study.limits.law import Setting
from study.trainers.loop import PackRun, ReplicateResult


def fusion_config(setting: Setting, *, num_rows: int, num_batches: int) -> ReplicateConfig:
    """Blocks on vectors from identity weights, as a setting has them, judged on fresh batches of ``num_rows``.

    The horizon and the strength are left at their defaults.
    """
    values: dict[str, Scalar] = {
        "data.name": "clusters",
        "data.clusters.cosine": setting.cosine,
        "batch.eval": num_rows,
        "model.encoder": "none",
        "model.init": "identity",
        "model.residual": setting.residual,
        "horizon.unit": "steps",
        "evaluation.num_batches": num_batches,
        "evaluation.num_points": 1,
        "evaluation.knn_bank": 0,
    }
    for path, value in {
        "data.clusters.dim": setting.dim,
        "data.clusters.num_classes": setting.num_classes,
        "batch.train": setting.train_batch,
        "model.num_blocks": setting.num_blocks,
        "optimizer.name": setting.optimizer,
        "optimizer.schedule": setting.schedule,
        "optimizer.learning_rate": setting.learning_rate,
    }.items():
        assert value is not None, path
        values[path] = value
    return with_values(ReplicateConfig(), values)


def in_general_position(dataset: Dataset) -> Dataset:
    """The same vectors in other coordinates: a fixed random rotation turns the centres away from the axes.

    Adam moves every weight by about its rate, whatever the gradient, so it tells axes from other directions.
    """
    (dim,) = dataset.input_shape
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=stream(0, "laws/rotation")).double()).Q.float()
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    return replace(dataset, **{name: replace(split, inputs=split.inputs @ rotation) for name, split in splits.items()})


def run_pack(
    configs: Sequence[ReplicateConfig], seeds: Sequence[int], *, general_position: bool = False
) -> list[ReplicateResult]:
    """Train one replicate per configuration and seed as one pack; configurations may differ in strength only.

    The centres lie along the axes unless they are put ``in_general_position``.
    """
    dataset = load_dataset(configs[0].data)
    if general_position:
        dataset = in_general_position(dataset)
    pack = [Replicate.of(config, seed, dataset.digest) for config, seed in zip(configs, seeds, strict=True)]
    run = PackRun(pack, dataset)
    while not run.is_done:
        run.advance()
    return run.results([{}] * len(pack))


def train_strengths(
    config: ReplicateConfig, strengths: Sequence[float], seeds: Sequence[int]
) -> list[list[ReplicateResult]]:
    """Results by strength and seed; seeds repeat at every strength, so that curves share their noise."""
    configs = [with_values(config, {"data.strength": strength}) for strength in strengths for _ in seeds]
    results = run_pack(configs, list(seeds) * len(strengths))
    return [results[start : start + len(seeds)] for start in range(0, len(results), len(seeds))]
