"""Two or three gloo processes on different shards of the global batch equal one process on the whole of it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from study.designs.values import Scalar, with_values
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import load_dataset
from study.recipes.contrastive.distributed import process_group_context
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.batch import PackBatches
from study.recipes.contrastive.trainers.context import RunContext
from study.recipes.contrastive.trainers.loop import PackRun

COMMON: dict[str, Scalar] = {
    "batch.train": 12,
    "batch.eval": 40,
    "model.init": "identity",
    "model.width": 4,
    "model.embedding_dim": 8,
    "horizon.unit": "steps",
    "horizon.length": 5,
    "evaluation.num_batches": 2,
    "evaluation.num_points": 2,
    "evaluation.knn_bank": 100,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
}
CASES: dict[str, dict[str, Scalar]] = {
    "transfusion": {"data.name": "digits", "model.num_blocks": 3, "model.layer_norm": True},
    "transfusion with sources as target": {
        "data.name": "clusters",
        "data.num_views": 2,
        "data.clusters.num_sources": 400,
        "model.encoder": "none",
        "model.init": "default",
        "loss.target": "source",
        "batch.train": 24,
        "optimizer.name": "adam",
        "optimizer.learning_rate": 1e-3,
    },
    "supervised": {"data.name": "digits", "trainer": "supervised", "data.label_fraction": 0.5},
    "oar": {
        "data.name": "digits",
        "trainer": "oar",
        "data.num_views": 2,
        "data.label_fraction": 0.5,
        "model.projection_dim": 12,
    },
    "oar with a labelled batch": {
        "data.name": "clusters",
        "trainer": "oar",
        "data.num_views": 2,
        "data.label_fraction": 0.1,
        "data.clusters.num_sources": 400,
        "batch.labelled": 6,
        "model.encoder": "linear",
        "model.init": "default",
    },
    "supcon": {
        "data.name": "clusters",
        "trainer": "oar",
        "data.label_fraction": 0.5,
        "data.clusters.num_sources": 400,
        "model.encoder": "mlp",
        "loss.contrast": "supcon",
        "loss.oar_weight": 0.0,
    },
}
SEEDS = (0, 1)
NUM_STEPS = 2


class InDouble(nn.Module):
    """A model and its inputs in float64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def forward(self, inputs: torch.Tensor, *rest: Any) -> Any:
        return self.model(inputs.double(), *rest)


def config_of(case: str) -> ReplicateConfig:
    return with_values(ReplicateConfig(), COMMON | CASES[case])


def losses_and_gradients(run: PackRun) -> dict[str, torch.Tensor]:
    """The loss of each of the first steps at the initial weights, and the sum of their gradients."""
    found = {f"loss {step}": run.loss_and_gradient(step) for step in range(NUM_STEPS)}
    return found | {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}


def measure(case: str, context: RunContext) -> dict[str, Any]:
    """Everything that must not depend on the number of processes, as seen by one of them."""
    config = config_of(case)
    dataset = load_dataset(config.data)
    pack = [CONTRASTIVE.replicate(config, seed, dataset.digest) for seed in SEEDS]
    in_double = dataclasses.replace(context, wrap=lambda model: context.wrap(InDouble(model)))
    run = PackRun(pack, dataset, context)
    while not run.is_done:
        run.advance()
    return {
        "sources": PackBatches(dataset, pack, context.rank, context.world_size).batch(0).sources_RB,
        "float64": losses_and_gradients(PackRun(pack, dataset, in_double)),
        "float32": losses_and_gradients(PackRun(pack, dataset, context)),
        "weights": {name: p.detach().clone() for name, p in run.model.named_parameters()},
        "metrics": [result.metrics for result in run.results([{}, {}])] if context.rank == 0 else [],
    }


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    context = process_group_context(None, torch.device("cpu"))
    torch.save({case: measure(case, context) for case in CASES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


Measured = dict[str, dict[str, Any]]


def work_in_ray(config: dict[str, Any]) -> None:
    """The same in a worker of Ray Train, which has set up the process group."""
    torch.set_num_threads(1)
    context = process_group_context(None, torch.device("cpu"))
    torch.save({case: measure(case, context) for case in CASES}, f"{config['folder']}/{context.rank}.pt")


def train_in_ray(num_workers: int, folder: Path) -> None:
    """Ray Train on this machine; workers ask for a third of a CPU, so that three fit on one."""
    import ray
    import ray.train.torch

    here = Path(__file__).resolve().parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", f"{here.parent}:{here}")
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", num_cpus=2)
        try:
            ray.train.torch.TorchTrainer(
                work_in_ray,
                train_loop_config={"folder": str(folder)},
                scaling_config=ray.train.ScalingConfig(num_workers=num_workers, resources_per_worker={"CPU": 0.3}),
                run_config=ray.train.RunConfig(name="exact", storage_path=str(folder)),
            ).fit()
        finally:
            ray.shutdown()


LAUNCHES = [
    pytest.param("processes", 2, id="two processes"),
    pytest.param("processes", 3, id="three processes"),
    pytest.param("ray", 2, id="two workers of Ray Train", marks=pytest.mark.slow),
    pytest.param("ray", 3, id="three workers of Ray Train", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def workers(how: str, num_workers: int, tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    """What each of the processes measured, of every case."""
    folder = tmp_path_factory.mktemp("gloo")
    if how == "ray":
        train_in_ray(num_workers, folder)
    else:
        mp.spawn(work, args=(num_workers, str(folder)), nprocs=num_workers)
    return [torch.load(folder / f"{rank}.pt") for rank in range(num_workers)]


@pytest.fixture(scope="module")
def alone() -> Measured:
    return {case: measure(case, RunContext()) for case in CASES}


@pytest.mark.parametrize(("how", "num_workers"), LAUNCHES, scope="module")
@pytest.mark.parametrize("case", CASES)
def test_workers_have_different_shards_of_one_batch(workers: list[Measured], alone: Measured, case: str) -> None:
    shards = [worker[case]["sources"] for worker in workers]
    assert all(not torch.equal(shards[0], other) for other in shards[1:])
    assert torch.equal(torch.cat(shards, dim=1), alone[case]["sources"])


@pytest.mark.parametrize(("how", "num_workers"), LAUNCHES, scope="module")
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_one_process_in_double(workers: list[Measured], alone: Measured, case: str) -> None:
    for worker in workers:
        assert set(worker[case]["float64"]) == set(alone[case]["float64"])
        for name, expected in alone[case]["float64"].items():
            assert expected.dtype == torch.float64
            assert (expected != 0).any()
            torch.testing.assert_close(worker[case]["float64"][name], expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("how", "num_workers"), LAUNCHES, scope="module")
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_one_process_in_single(workers: list[Measured], alone: Measured, case: str) -> None:
    for worker in workers:
        for name, expected in alone[case]["float32"].items():
            measured = worker[case]["float32"][name]
            if name.startswith("loss"):
                torch.testing.assert_close(measured, expected, atol=1e-6, rtol=1e-6)
            else:
                assert float((measured - expected).norm()) < 1e-5 * float(expected.norm())


@pytest.mark.parametrize(("how", "num_workers"), LAUNCHES, scope="module")
@pytest.mark.parametrize("case", CASES)
def test_trained_weights_and_metrics_equal_one_process(workers: list[Measured], alone: Measured, case: str) -> None:
    for name, expected in alone[case]["weights"].items():
        assert torch.equal(workers[0][case]["weights"][name], workers[1][case]["weights"][name])
        torch.testing.assert_close(workers[0][case]["weights"][name], expected, atol=2e-5, rtol=1e-4)
    for measured, expected in zip(workers[0][case]["metrics"], alone[case]["metrics"], strict=True):
        assert measured == pytest.approx(expected, abs=1e-4, rel=1e-4)
    assert len(alone[case]["metrics"]) == len(SEEDS)
