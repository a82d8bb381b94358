"""The optimiser of a pack is torch's own for each replicate, at that replicate's rate."""

import math

import pytest
import torch
from torch import nn

from study.recipes.contrastive.config import OptimizerConfig
from study.recipes.contrastive.trainers.optimizer import PackOptimizer, runs_of_equal, schedule_factor

SHAPES = [(4, 2), (1, 5), (3,)]
RATES = [1e-3, 1e-2, 0.3]
# One group over all members, neighbours that share one, equal rates that are no neighbours.
SHARED_RATES = [[1e-2, 1e-2, 1e-2], [1e-3, 0.3, 0.3], [0.3, 1e-3, 0.3]]
NUM_STEPS = 7
CONFIGS = {
    "adam": OptimizerConfig(name="adam", schedule="constant"),
    "adam, decay, cosine": OptimizerConfig(name="adam", weight_decay=0.1, schedule="cosine"),
    "sgd": OptimizerConfig(name="sgd", schedule="constant"),
    "sgd, decay, cosine": OptimizerConfig(name="sgd", momentum=0.5, weight_decay=0.1, schedule="cosine"),
    "sgd without momentum": OptimizerConfig(name="sgd", momentum=0.0, schedule="cosine"),
}


def pack_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(len(RATES), *shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(len(RATES), *shape, generator=generator) for shape in SHAPES]


def give(parameters: list[nn.Parameter], grads: list[torch.Tensor]) -> None:
    """Accumulate gradients as autograd does."""
    sum((p * g).sum() for p, g in zip(parameters, grads, strict=True)).backward()


def steps(optimizer: PackOptimizer, parameters: list[nn.Parameter], first: int, last: int) -> None:
    for step in range(first, last):
        optimizer.zero_grad()
        give(parameters, gradients(step))
        optimizer.step(step, NUM_STEPS)


def reference(config: OptimizerConfig, replicate: int, rate: float | None = None) -> list[torch.Tensor]:
    """torch's optimiser on one replicate alone."""
    parameters = [nn.Parameter(p[replicate].detach().clone()) for p in pack_parameters()]
    rate = rate or RATES[replicate]
    optimizer: torch.optim.Optimizer
    if config.name == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=config.weight_decay)
    for step in range(NUM_STEPS):
        factor = 0.5 * (1 + math.cos(math.pi * step / NUM_STEPS)) if config.schedule == "cosine" else 1
        optimizer.param_groups[0]["lr"] = rate * factor
        for p, g in zip(parameters, gradients(step), strict=True):
            p.grad = g[replicate].clone()
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("rates", [RATES, *SHARED_RATES], ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_each_replicate_moves_as_it_would_alone(config: OptimizerConfig, rates: list[float]) -> None:
    parameters = pack_parameters()
    steps(PackOptimizer(parameters, rates, config), parameters, 0, NUM_STEPS)
    for replicate, rate in enumerate(rates):
        for p, expected in zip(parameters, reference(config, replicate, rate), strict=True):
            torch.testing.assert_close(p[replicate].detach(), expected, atol=1e-6, rtol=1e-5)
    for p, start in zip(parameters, pack_parameters(), strict=True):
        assert not torch.allclose(p, start, atol=1e-3)


@pytest.mark.parametrize("rates", [RATES, *SHARED_RATES], ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_state_round_trip_continues_exactly(config: OptimizerConfig, rates: list[float]) -> None:
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, rates, config)
    steps(optimizer, parameters, 0, 3)
    saved = [optimizer.replicate_state(r) for r in range(len(rates))]
    steps(optimizer, parameters, 3, NUM_STEPS)

    resumed = pack_parameters()
    fresh = PackOptimizer(resumed, rates, config)
    for replicate, state in enumerate(saved):
        fresh.load_replicate_state(replicate, state)
    steps(fresh, resumed, 3, NUM_STEPS)
    for p, expected in zip(resumed, parameters, strict=True):
        assert torch.equal(p, expected)


def test_a_member_may_change_its_place_in_the_pack() -> None:
    config = CONFIGS["adam, decay, cosine"]
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, RATES, config)
    steps(optimizer, parameters, 0, 3)
    alone = [nn.Parameter(torch.zeros(1, *shape)) for shape in SHAPES]
    single = PackOptimizer(alone, RATES[2:], config)
    single.load_replicate_state(0, optimizer.replicate_state(2))
    for step in range(3, NUM_STEPS):
        single.zero_grad()
        give(alone, [g[2:] for g in gradients(step)])
        single.step(step, NUM_STEPS)
    for p, expected in zip(alone, reference(config, 2), strict=True):
        torch.testing.assert_close(p[0].detach(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_member_of_a_group_may_go_on_alone_and_join_another(config: OptimizerConfig) -> None:
    """Members of one rate share a step count and tensors; a checkpoint of one knows nothing of the others."""
    rates = [0.3, 0.3, 0.3]
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, rates, config)
    steps(optimizer, parameters, 0, 3)
    alone = [nn.Parameter(torch.zeros(1, *shape)) for shape in SHAPES]
    single = PackOptimizer(alone, rates[1:2], config)
    single.load_replicate_state(0, optimizer.replicate_state(1))
    for step in range(3, 5):
        single.zero_grad()
        give(alone, [g[1:2] for g in gradients(step)])
        single.step(step, NUM_STEPS)
    steps(optimizer, parameters, 3, 5)
    joined = [nn.Parameter(torch.zeros(len(rates), *shape)) for shape in SHAPES]
    again = PackOptimizer(joined, rates, config)
    for place, state in enumerate(
        (optimizer.replicate_state(0), single.replicate_state(0), optimizer.replicate_state(2))
    ):
        again.load_replicate_state(place, state)
    steps(again, joined, 5, NUM_STEPS)
    for replicate in range(len(rates)):
        for p, expected in zip(joined, reference(config, replicate, 0.3), strict=True):
            torch.testing.assert_close(p[replicate].detach(), expected, atol=1e-6, rtol=1e-5)


def test_kept_parameters_are_those_of_the_member_in_the_models_order() -> None:
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, SHARED_RATES[1], CONFIGS["adam"])
    for replicate in range(len(RATES)):
        kept = optimizer.replicate_parameters(replicate)
        assert all(torch.equal(k, p[replicate].flatten()) for k, p in zip(kept, parameters, strict=True))


@pytest.mark.parametrize(
    ("values", "runs"),
    [
        ([0.1], [range(1)]),
        ([0.1, 0.1, 0.1], [range(3)]),
        ([0.1, 0.2, 0.2, 0.1], [range(1), range(1, 3), range(3, 4)]),
    ],
)
def test_neighbours_of_one_rate_are_one_run(values: list[float], runs: list[range]) -> None:
    assert runs_of_equal(values) == runs


def test_saved_state_does_not_move_with_the_parameters() -> None:
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, RATES, CONFIGS["adam"])
    steps(optimizer, parameters, 0, 2)
    state = optimizer.replicate_state(0)
    before = [p.clone() for p in state["parameters"]], [m["exp_avg"].clone() for m in state["moments"]]
    steps(optimizer, parameters, 2, 4)
    for kept, seen in zip(before[0], state["parameters"], strict=True):
        assert torch.equal(kept, seen)
    for kept, seen in zip(before[1], [m["exp_avg"] for m in state["moments"]], strict=True):
        assert torch.equal(kept, seen)


def test_gradient_norms_are_per_replicate() -> None:
    parameters = pack_parameters()
    optimizer = PackOptimizer(parameters, RATES, CONFIGS["sgd"])
    give(parameters, gradients(0))
    expected = [math.sqrt(sum(float(g[r].square().sum()) for g in gradients(0))) for r in range(len(RATES))]
    assert optimizer.gradient_norms().tolist() == pytest.approx(expected, rel=1e-5)
    optimizer.zero_grad()
    assert optimizer.gradient_norms().tolist() == [0.0] * len(RATES)


def test_schedule_starts_at_one_and_cosine_ends_near_zero() -> None:
    assert [schedule_factor("constant", step, 10) for step in (0, 5, 9)] == [1, 1, 1]
    assert schedule_factor("cosine", 0, 10) == 1
    assert schedule_factor("cosine", 5, 10) == pytest.approx(0.5)
    assert schedule_factor("cosine", 10, 10) == pytest.approx(0)
