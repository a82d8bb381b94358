"""The papers' downstream claim on Fashion-MNIST: kNN, linear and nearest-anchor accuracy of each method.

    python benchmarks/downstream.py --storage FOLDER            # trains what is missing, then prints the table

One configuration per method, fixed before the seeds below were run: the learning rate was chosen on seed 1 and the
validation split at 60,000 images. Every method trains for about the same time on one core; seeds 101 to 103; the test
split, last epoch. kNN: cosine, k = 20, the whole training split as bank. Each run is a row of the ledger ``single``.
"""

import argparse
from typing import Any

import numpy as np
import torch

from study.designs.values import Scalar, with_values
from study.execution.task_run import run_task
from study.execution.tasks import PackTask, TaskSettings
from study.ledger.ledger import Ledger
from study.ledger.provenance import collect
from study.ledger.store import Store
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.rows import before_column, metric_column

SEEDS = (101, 102, 103)
COMMON: dict[str, Scalar] = {
    "evaluation.knn_bank": 55_000,
    "evaluation.linear_probe": True,
    "data.strength": 0.3,
    "optimizer.learning_rate": 1e-3,
}
# Horizons in training images, for about three minutes of one core each.
METHODS: dict[str, dict[str, Scalar]] = {
    "TransFusion, class target": {"batch.train": 128, "model.init": "identity", "horizon.length": 900_000},
    "TransFusion, source target": {
        "batch.train": 128,
        "data.num_views": 2,
        "loss.target": "source",
        "model.init": "identity",
        "optimizer.learning_rate": 3e-4,
        "horizon.length": 450_000,
    },
    "InfoNCE (SimCLR)": {
        "trainer": "oar",
        "loss.oar_weight": 0.0,
        "data.num_views": 2,
        "batch.train": 256,
        "model.projection_dim": 64,
        "horizon.length": 350_000,
    },
    "InfoNCE + OAR, 10 % of the labels": {
        "trainer": "oar",
        "data.num_views": 2,
        "batch.train": 256,
        "batch.labelled": 64,
        "model.projection_dim": 64,
        "data.label_fraction": 0.1,
        "optimizer.learning_rate": 3e-3,
        "horizon.length": 300_000,
    },
    "cross-entropy, 10 % of the labels": {
        "trainer": "supervised",
        "data.label_fraction": 0.1,
        "batch.train": 64,
        "optimizer.learning_rate": 3e-3,
        "horizon.length": 900_000,
    },
    "cross-entropy, all labels": {
        "trainer": "supervised",
        "batch.train": 64,
        "optimizer.learning_rate": 3e-3,
        "horizon.length": 900_000,
    },
}
COLUMNS = ("knn_accuracy", "probe_full_accuracy", "knn_labelled_accuracy", "probe_accuracy", "accuracy_clean")


def rows_of(ledger: Ledger, config: ReplicateConfig, digest: str) -> list[dict[str, Any]]:
    """The settled rows of a method's seeds; what is missing is trained first."""
    settings = TaskSettings(ledger_uri=ledger.store.uri, recipe=CONTRASTIVE.address, provenance=collect())
    rows = []
    for seed in SEEDS:
        replicate = CONTRASTIVE.replicate(config, seed, digest)
        if replicate.key not in ledger.settled():
            run_task(PackTask(settings=settings, replicates=(replicate,), attempts=(1,)))
        rows.append(ledger.settled()[replicate.key])
    return rows


def cell(values: list[float | None]) -> str:
    """Mean and standard deviation over seeds."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f} ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else "--"


def main() -> None:
    """Train what is missing and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--only", help="method whose name contains this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger.open(Store(options.storage).uri, "single")
    base = with_values(ReplicateConfig(), COMMON)
    dataset = load_dataset(base.data)
    heads = ("method", "images", "kNN", "linear probe, all labels", "kNN, its labels", "probe, its labels")
    print(f"| {' | '.join((*heads, 'own decision', 'minutes'))} |")
    print("|---|---|---|---|---|---|---|---|")
    before: dict[str, list[float | None]] = {name: [] for name in COLUMNS}
    for method, values in METHODS.items():
        if options.only and options.only not in method:
            continue
        config = with_values(base, values)
        rows = rows_of(ledger, config, dataset.digest)
        if method.startswith("TransFusion, class"):
            before = {name: [row.get(before_column(name)) for row in rows] for name in COLUMNS}
        cells = [cell([row.get(metric_column(name)) for row in rows]) for name in COLUMNS]
        if method.startswith(("InfoNCE (", "TransFusion")):
            cells[2:] = ["--", "--", "--"]
        minutes = float(np.mean([row["seconds"] for row in rows])) / 60
        print(f"| {method} | {config.horizon.length:,} | {' | '.join(cells)} | {minutes:.1f} |", flush=True)
    print(f"| untrained encoder | 0 | {cell(before['knn_accuracy'])} | {cell(before['probe_full_accuracy'])} | | | | |")
    raw = {
        row["quantity"]: row["value"]
        for row in ledger.read("measurements").to_pylist()
        if row["quantity"].startswith("raw_") and '"evaluation.knn_bank": 55000' in row["settings"]
    }
    knn, probe = raw["raw_knn_accuracy"], raw["raw_probe_full_accuracy"]
    print(f"| raw pixels | 0 | {knn:.3f} | {probe:.3f} | | | | |")


if __name__ == "__main__":
    main()
