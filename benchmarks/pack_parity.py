"""How far the same replicates end from each other in another pack, or with another number of threads.

Command: python benchmarks/pack_parity.py [BATCH ...]

``batch_limit`` on Fashion-MNIST to its full horizon (20,000 images, learning rate 1e-4), five seeds at a small, a
middle and a large batch. Each seed is trained alone with one thread, and compared with the same seed trained alone once
more (the first of them), in one pack with the four others, and alone with two threads. Nothing else differs: order,
views and initialisation are those of the seed. What does differ is the rounding of batched and of split products, which
training amplifies. The standard deviation over seeds stands beside it: a root-mean-square difference of 1.4 times that
is as large as one between two seeds.
"""

import math
import statistics
import sys
from collections.abc import Sequence

import torch

from study.designs.assembly import make_design
from study.designs.catalogue import load_space
from study.designs.values import with_values
from study.interface.run import Replicate, Result
from study.recipes.contrastive.data.datasets import Dataset, load_dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import train_pack

_BATCHES = (8, 32, 128)
_SEEDS = range(1, 6)
_METRICS = ("p", "knn_accuracy", "train_loss")


def train(packs: Sequence[Sequence[Replicate]], dataset: Dataset, num_threads: int) -> list[Result]:
    """The results of all members, pack after pack."""
    torch.set_num_threads(num_threads)
    return [result for pack in packs for result in train_pack(pack, dataset)]


def differences(results: Sequence[Result], others: Sequence[Result], metric: str) -> tuple[float, float]:
    """Largest and root-mean-square difference of a metric at the end of the same replicates."""
    assert [result.replicate.key for result in results] == [other.replicate.key for other in others]
    gaps = [abs(a.metrics[metric] - b.metrics[metric]) for a, b in zip(results, others, strict=True)]
    return max(gaps), math.sqrt(sum(gap**2 for gap in gaps) / len(gaps))


def print_row(batch: int, name: str, cells: Sequence[str], note: str) -> None:
    print(f"| {batch} | {name} | {' | '.join(cells)} | {note} |", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Print a Markdown table of the batches given, or of the three."""
    config = with_values(make_design(load_space("batch_limit")).config, {"optimizer.learning_rate": 1e-4})
    dataset = load_dataset(config.data)
    print(f"{config.horizon.length:,} images, seeds {_SEEDS.start} to {_SEEDS.stop - 1}; largest (rms) difference\n")
    print(f"| batch | compared with alone, one thread | {' | '.join(_METRICS)} | same outcomes |")
    print("|---|---|---|---|---|---|")
    for batch in map(int, arguments) if arguments else _BATCHES:
        shaped = with_values(config, {"batch.train": batch})
        pack = [CONTRASTIVE.replicate(shaped, seed, dataset.digest) for seed in _SEEDS]
        alone = [[member] for member in pack]
        reference = train(alone, dataset, 1)
        spreads = [statistics.stdev(result.metrics[metric] for result in reference) for metric in _METRICS]
        print_row(batch, "s.d. over seeds", [f"{spread:.4f}" for spread in spreads], "")
        for name, packs, num_threads in (
            ("the same again", alone[:1], 1),
            (f"one pack of {len(pack)}", [pack], 1),
            ("alone, two threads", alone, 2),
        ):
            results = train(packs, dataset, num_threads)
            expected = reference[: len(results)]
            gaps = [differences(results, expected, metric) for metric in _METRICS]
            same = [result.outcome for result in results] == [result.outcome for result in expected]
            cells = [f"{largest:.4f} ({rms:.4f})" for largest, rms in gaps]
            print_row(batch, name, cells, "yes" if same else "no")


if __name__ == "__main__":
    main(sys.argv[1:])
