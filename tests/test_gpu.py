"""A pack trains on a GPU and gives the numbers of the CPU; run by `make test-gpu` on a machine that has one."""

from collections.abc import Iterator

import pytest
import torch

from study.designs.values import Scalar, with_values
from study.interface.run import Replicate
from study.outcome import Outcome
from study.recipes.contrastive import components
from study.recipes.contrastive.config import ReplicateConfig
from study.recipes.contrastive.data.datasets import Dataset
from study.recipes.contrastive.recipe import CONTRASTIVE
from study.recipes.contrastive.trainers.loop import PackRun, train_pack
from tests.conftest import for_trainer

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
# Counting metrics jump by one row where two numbers nearly tie; these do not.
SMOOTH = ("train_loss", "mean_cosine", "effective_rank", "p", "s_j")


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Convolutions without TF32, whose rounding is coarser than the comparison."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(params=["digits", "clusters"])
def case(request: pytest.FixtureRequest) -> tuple[ReplicateConfig, Dataset]:
    return request.getfixturevalue(f"{request.param}_config"), request.getfixturevalue(request.param)


def pack_of(config: ReplicateConfig, values: dict[str, Scalar]) -> list[Replicate]:
    chosen = with_values(for_trainer(config, str(values["trainer"])), values)
    return [CONTRASTIVE.replicate(chosen, seed, "data") for seed in range(3)]


@pytest.mark.parametrize("trainer", components.METHODS)
def test_a_pack_gives_the_numbers_of_the_cpu(case: tuple[ReplicateConfig, Dataset], trainer: str) -> None:
    config, dataset = case
    pack = pack_of(config, {"trainer": trainer, "optimizer.name": "sgd", "optimizer.learning_rate": 0.01})
    on_cpu, on_gpu = train_pack(pack, dataset), train_pack(pack, dataset.to(CUDA))
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert gpu.outcome is cpu.outcome is Outcome.OK
        assert set(gpu.metrics) == set(cpu.metrics)
        for name in set(SMOOTH) & set(cpu.metrics):
            assert gpu.metrics[name] == pytest.approx(cpu.metrics[name], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("trainer", components.METHODS)
def test_a_pack_stays_on_the_gpu_and_learns(case: tuple[ReplicateConfig, Dataset], trainer: str) -> None:
    config, dataset = case
    values: dict[str, Scalar] = {
        "trainer": trainer,
        "batch.train": 64,
        "horizon.length": 60,
        "optimizer.learning_rate": 0.02,
        "evaluation.num_points": 6,
    }
    run = PackRun(pack_of(config, values), dataset.to(CUDA))
    assert {p.device.type for p in run.model.parameters()} == {"cuda"}
    while not run.is_done:
        run.advance()
    # The loss of one small batch wanders by 5 %: the pack is judged as a whole.
    losses = [[p.value for p in result.curves if p.metric == "train_loss"] for result in run.results([{}] * 3)]
    assert sum(curve[-1] for curve in losses) < 0.95 * sum(curve[0] for curve in losses)
