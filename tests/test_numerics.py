"""Pins each trainer's numbers at a fixed configuration and seed, under its version of numerics.

A change on purpose bumps ``numerics`` of the method (methods/NAME.py), so that no finished replicate is taken for
a new one, and renews the numbers here. Losses and gradients are taken in float64, from views made in float64.
"""

from typing import NamedTuple

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.batches import BatchStream
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.data.views import apply_views
from study.recipes.contrastive.models.packed import identity_gather
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import TrainBatch, evaluation_set

SEED = 11
DIGITS: dict[str, Scalar] = {"data.name": "digits", "data.strength": 0.7, "batch.train": 32, "batch.eval": 20}
CLUSTERS: dict[str, Scalar] = {
    "data.name": "clusters",
    "data.clusters.spread": 0.3,
    "data.clusters.num_sources": 500,
    "batch.train": 32,
    "batch.eval": 20,
    "model.encoder": "none",
}

# What a trainer needs beside that.
FURTHER: dict[tuple[str, str], dict[str, Scalar]] = {
    ("oar", "digits"): {"data.num_views": 2},
    ("oar", "clusters"): {"data.num_views": 2, "model.encoder": "mlp", "model.projection_dim": 8},
}


class Golden(NamedTuple):
    """Numbers of the first batch; the evaluation's checksum is the mean cube of its first three views."""

    version: int
    indices: list[int]
    parameters: float
    loss: float
    gradient: float
    evaluation: float


# Images draw uniforms, which are exact everywhere; a vectorised normal may differ in its last float32 bit by CPU.
TOLERANCE = {"digits": 1e-9, "clusters": 1e-6}
DIGITS_INDICES = [544, 851, 408, 318, 549, 1207]
CLUSTERS_INDICES = [453, 87, 195, 94, 442, 303]
GOLDEN = {
    ("transfusion", "digits"): Golden(
        1, DIGITS_INDICES, 0.30043341455716405, 0.5755227114392941, 1.94744742148489, 0.12810233842525118
    ),
    ("transfusion", "clusters"): Golden(
        1, CLUSTERS_INDICES, 0.9480659919279627, 0.586126594339665, 1.337669370976663, 0.01229212761141797
    ),
    ("supervised", "digits"): Golden(
        1, DIGITS_INDICES, 0.30043341455716405, 2.3223387305243337, 0.8621505104348527, 0.12810233842525118
    ),
    ("supervised", "clusters"): Golden(
        1, CLUSTERS_INDICES, 0.9480659919279627, 1.578760679067042, 0.3906410676985855, 0.01229212761141797
    ),
    ("oar", "digits"): Golden(
        1, DIGITS_INDICES, 0.30043341455716405, 3.3710255702145044, 2.192464875204725, 0.14956803588577913
    ),
    ("oar", "clusters"): Golden(
        1, CLUSTERS_INDICES, 0.9480659919279627, 2.9137382535713012, 68.54442958399993, 0.01173894943752657
    ),
}


def first_numbers(config: ReplicateConfig) -> Golden:
    dataset = load_dataset(config.data)
    draws = BatchStream(dataset, config, SEED).draws(0)
    rows = draws.indices.repeat_interleave(config.data.num_views)
    strengths = torch.full((len(rows),), config.data.strength, dtype=torch.float64)
    viewed = apply_views(dataset.train.inputs[rows], draws.parameters, strengths, False)
    labels, sources = dataset.train.labels[rows][None], rows[None]
    batch = TrainBatch(
        inputs=viewed[None],
        labels_RB=labels,
        all_labels_RN=labels,
        sources_RB=sources,
        all_sources_RN=sources,
        labelled_RB=torch.ones_like(labels, dtype=torch.bool),
        all_labelled_RN=torch.ones_like(labels, dtype=torch.bool),
        row_offset=0,
        step=0,
    )
    trainer = components.method(config.trainer).trainer()
    model = trainer.build(config, dataset, [stream(SEED, "initialisation")]).double()
    loss, _ = trainer.loss(model, batch, config, identity_gather)
    loss.sum().backward()
    squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    evaluation = evaluation_set(dataset, [CONTRASTIVE.replicate(config, SEED, dataset.digest)])
    return Golden(
        version=components.method(config.trainer).numerics,
        indices=draws.indices[:6].tolist(),
        parameters=draws.parameters.double().square().mean().item(),
        loss=loss.item(),
        gradient=torch.stack(squares).sum().sqrt().item(),
        evaluation=evaluation.viewed[0, 0].double().flatten(1)[:3].pow(3).mean().item(),
    )


@pytest.mark.parametrize(("trainer", "data"), GOLDEN)
def test_numbers_are_those_of_this_numerics_version(trainer: str, data: str) -> None:
    values = {"trainer": trainer} | (DIGITS if data == "digits" else CLUSTERS) | FURTHER.get((trainer, data), {})
    measured, expected = first_numbers(with_values(ReplicateConfig(), values)), GOLDEN[trainer, data]
    advice = (
        f"the numbers of {trainer} on {data} moved: if on purpose, bump its numerics in "
        f"study/recipes/contrastive/methods/{trainer}.py and pin {measured} here"
    )
    assert (measured.version, measured.indices) == (expected.version, expected.indices), advice
    for name in ("parameters", "loss", "gradient"):
        assert getattr(measured, name) == pytest.approx(getattr(expected, name), rel=TOLERANCE[data]), advice
    # Views of the evaluation are made in float32.
    assert measured.evaluation == pytest.approx(expected.evaluation, rel=1e-5), advice


@pytest.mark.parametrize("trainer", components.METHODS)
def test_every_trainer_is_pinned(trainer: str) -> None:
    assert {data for name, data in GOLDEN if name == trainer} == set(TOLERANCE)
