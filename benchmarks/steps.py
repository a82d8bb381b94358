"""A SimCLR step of ours against lightly's views and loss in a plain loop, side by side in one run.

Command: python benchmarks/steps.py (needs lightly, which the project itself does not)

Both train the same small encoder (width 16, embedding and projection of 64 dimensions) on Fashion-MNIST with Adam and
temperature 0.5 on one thread: 128 images a step, two views each by crop, flip, brightness and contrast. Ours is the
training loop's own step with trainer=oar and loss.oar_weight=0. Theirs are lightly's SimCLRTransform on PIL images in
memory, torch's DataLoader without workers, lightly's NTXentLoss and torch's Adam. The rivals take turns; values are
medians over the turns. Seconds are CPU seconds of the process: on one thread the wall clock of an idle machine. Shares
are those of a step taken apart: the loss with the gradient of its inputs, the model forward and backward, and the rest,
which is the update.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from study.designs.values import with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data import datasets
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.losses.info_nce import info_nce
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import PackBatches
from study.recipes.contrastive.trainers.loop import PackRun
from study.recipes.contrastive.trainers.oar import OarTrainer

_NUM_IMAGES = 128
_NUM_VIEWS = 2
_TEMPERATURE = 0.5
_NUM_TURNS = 7
_STEPS_PER_TURN = 8
_CONFIG = with_values(
    ReplicateConfig(),
    {
        "trainer": "oar",
        "loss.oar_weight": 0.0,
        "loss.temperature": _TEMPERATURE,
        "data.strength": 1.0,
        "data.num_views": _NUM_VIEWS,
        "data.views.rotation": 0.0,
        "batch.train": _NUM_IMAGES * _NUM_VIEWS,
        "model.width": 16,
        "model.embedding_dim": 64,
        "model.projection_dim": 64,
        "optimizer.schedule": "constant",
    },
)
# The same transforms, with the ranges that ours have at strength 1. The encoder normalises.
_TRANSFORM: dict[str, Any] = {
    "input_size": 28,
    "cj_strength": 0.5,
    "cj_hue": 0.0,
    "cj_sat": 0.0,
    "gaussian_blur": 0.0,
    "random_gray_scale": 0.0,
    "rr_prob": 0.0,
    "normalize": None,
}

Parts = dict[str, float]
Step = Callable[[], Parts]


class _Clock:
    """CPU seconds of the parts of a step."""

    def __init__(self) -> None:
        self.parts: Parts = {}
        self._last = time.process_time()

    def end(self, part: str) -> None:
        """Count what has passed since the last call as time of ``part``."""
        now = time.process_time()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now


class _Images(Dataset):
    """PIL images in memory with their transform."""

    def __init__(self, images_MCHW: torch.Tensor) -> None:
        self._images = [Image.fromarray(image[0].numpy()) for image in images_MCHW]
        self._transform = SimCLRTransform(**_TRANSFORM)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> list[Any]:
        return self._transform(self._images[index])


def _whole_step(run: PackRun) -> Step:
    """A step of the training loop."""
    steps = itertools.count()

    def step() -> Parts:
        clock = _Clock()
        run.optimizer.zero_grad()
        run.loss_and_gradient(next(steps))
        run.optimizer.step(0, 1)
        clock.end("whole")
        return clock.parts

    return step


def _step_in_parts(run: PackRun, batches: PackBatches) -> Step:
    """The same, taken apart."""
    steps = itertools.count()

    def step() -> Parts:
        clock = _Clock()
        run.optimizer.zero_grad()
        clock.end("rest")
        batch = batches.batch(next(steps))
        clock.end("views")
        z_RND, _ = run.model(batch.inputs)
        clock.end("model")
        leaf_RND = z_RND.detach().requires_grad_()
        ids_RN, all_ids_RN = batch.ids("source")
        info_nce(leaf_RND, leaf_RND, ids_RN, all_ids_RN, temperature=_TEMPERATURE).sum().backward()
        clock.end("loss")
        z_RND.backward(leaf_RND.grad)
        clock.end("model")
        run.optimizer.step(0, 1)
        clock.end("rest")
        return clock.parts

    return step


def _lightly_step(dataset: datasets.Dataset) -> Step:
    """A step of a plain loop around lightly's views and loss."""
    model = OarTrainer().build(_CONFIG, dataset, [stream(0, "initialisation")])
    optimizer = torch.optim.Adam(model.parameters(), lr=_CONFIG.optimizer.learning_rate)
    criterion = NTXentLoss(temperature=_TEMPERATURE)
    images = _Images(dataset.train.inputs)
    loader = DataLoader(images, batch_size=_NUM_IMAGES, shuffle=True, drop_last=True, num_workers=0)

    def batches() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    views_of_batches = batches()

    def step() -> Parts:
        clock = _Clock()
        views = next(views_of_batches)
        clock.end("views")
        optimizer.zero_grad()
        clock.end("rest")
        z_ND = model.project(model.embed(torch.cat(views)[None]))[0]
        clock.end("model")
        leaf_ND = z_ND.detach().requires_grad_()
        criterion(*leaf_ND.chunk(_NUM_VIEWS)).backward()
        clock.end("loss")
        z_ND.backward(leaf_ND.grad)
        clock.end("model")
        optimizer.step()
        clock.end("rest")
        return clock.parts

    return step


def _turn(step: Step) -> Parts:
    """Mean seconds per step of each part, over the steps of a turn."""
    found = [step() for _ in range(_STEPS_PER_TURN)]
    return {part: sum(parts[part] for parts in found) / len(found) for part in found[0]}


def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    dataset = datasets.load_dataset(_CONFIG.data)
    pack = [CONTRASTIVE.replicate(_CONFIG, 0, dataset.digest)]
    run = PackRun(pack, dataset)
    steps = {
        "whole": _whole_step(run),
        "ours": _step_in_parts(run, PackBatches(dataset, pack, rank=0, world_size=1)),
        "lightly": _lightly_step(dataset),
    }
    turns: dict[str, list[Parts]] = {name: [] for name in steps}
    for index in range(_NUM_TURNS + 1):
        for name, step in steps.items():
            parts = _turn(step)
            # The first turn warms up.
            if index:
                turns[name].append(parts)
    medians = {name: {part: median(t[part] for t in found) for part in found[0]} for name, found in turns.items()}
    seconds = {"ours": medians["whole"]["whole"], "lightly": sum(medians["lightly"].values())}
    print("| step | ms per step | images per second | ratio | views | loss | model | rest |")
    print("|---|---|---|---|---|---|---|---|")
    for name, label in (("lightly", "lightly's views and loss, torch's loop and Adam"), ("ours", "ours")):
        whole = sum(medians[name].values())
        shares = " | ".join(f"{100 * medians[name][part] / whole:.0f} %" for part in ("views", "loss", "model", "rest"))
        print(
            f"| {label} | {1000 * seconds[name]:.1f} | {_NUM_IMAGES / seconds[name]:,.0f} "
            f"| {seconds['lightly'] / seconds[name]:.1f} | {shares} |"
        )


if __name__ == "__main__":
    main()
