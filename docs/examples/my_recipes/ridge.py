"""How well ridge regression finds a linear signal in noise: a recipe that needs numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from study.errors import ConfigError
from study.interface.metrics import Metric, Quantity
from study.interface.recipe import Cost, Method, Recipe
from study.interface.run import CallRun, Context, Replicate, Run

QUANTITIES = {"rows": Quantity(label="training rows", unit="rows", rising="fewest rows", least=1)}


@dataclass(frozen=True, kw_only=True)
class RidgeConfig:
    """``rows`` to learn from, ``columns`` of the signal, and the ``penalty`` on large coefficients."""

    rows: int = 64
    columns: int = 20
    penalty: float = 1.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1 or min(self.penalty, self.noise) < 0:
            raise ConfigError("rows and columns must be at least 1, penalty and noise at least 0")


class Ridge(Recipe[RidgeConfig]):
    address = "my_recipes.ridge:RIDGE"
    config_class = RidgeConfig
    metrics = (Metric(name="explained", meaning="share of a fresh signal that is explained, 1 at most", chance=0.0),)
    quantities = QUANTITIES

    def method(self, config: RidgeConfig) -> Method:
        return Method(name="ridge", numerics=1)

    def together(self, config: RidgeConfig) -> str:
        return "all that are asked for"

    def cost(self, config: RidgeConfig, data: Any, num_workers: int) -> Cost:
        return Cost(largest_pack=100)

    def start(self, pack: Sequence[Replicate[RidgeConfig]], data: Any, context: Context) -> Run:
        return CallRun(pack, self._fit)

    def _fit(self, replicate: Replicate[RidgeConfig]) -> tuple[dict[str, float], dict[str, float]]:
        config, draw = replicate.config, np.random.default_rng(replicate.seed)
        signal = draw.normal(size=config.columns) / np.sqrt(config.columns)
        inputs, fresh = (draw.normal(size=(rows, config.columns)) for rows in (config.rows, 1_000))
        targets = inputs @ signal + config.noise * draw.normal(size=config.rows)
        found = np.linalg.solve(inputs.T @ inputs + config.penalty * np.eye(config.columns), inputs.T @ targets)
        explained = 1 - np.mean((fresh @ (found - signal)) ** 2) / np.mean((fresh @ signal) ** 2)
        return {"explained": float(explained)}, {"explained": 0.0}


RIDGE = Ridge()
