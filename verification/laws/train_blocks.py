"""Training of fusion blocks with the project's own loop, packs of strengths and seeds, and no executor."""

from collections.abc import Sequence

from study.designs.values import Scalar, with_values
from study.interface.run import Result
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.laws.law import Setting
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun


def fusion_config(setting: Setting, *, num_rows: int, num_batches: int) -> ReplicateConfig:
    """Blocks on vectors from identity weights, as a setting has them, judged on fresh batches of ``num_rows``.

    The horizon and the strength are left at their defaults.
    """
    values: dict[str, Scalar] = {
        "data.name": "clusters",
        "data.clusters.cosine": setting.cosine,
        "data.clusters.basis": setting.basis or "axes",
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


def run_pack(configs: Sequence[ReplicateConfig], seeds: Sequence[int]) -> list[Result]:
    """Train one replicate per configuration and seed as one pack; configurations may differ in strength only."""
    dataset = load_dataset(configs[0].data)
    pack = [CONTRASTIVE.replicate(config, seed, dataset.digest) for config, seed in zip(configs, seeds, strict=True)]
    run = PackRun(pack, dataset)
    while not run.is_done:
        run.advance()
    return run.results([{}] * len(pack))


def train_strengths(config: ReplicateConfig, strengths: Sequence[float], seeds: Sequence[int]) -> list[list[Result]]:
    """Results by strength and seed; seeds repeat at every strength, so that curves share their noise."""
    configs = [with_values(config, {"data.strength": strength}) for strength in strengths for _ in seeds]
    results = run_pack(configs, list(seeds) * len(strengths))
    return [results[start : start + len(seeds)] for start in range(0, len(results), len(seeds))]
