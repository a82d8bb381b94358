"""The smallest recipe: a closed-form rise of a score over a size, best at one rate, with noise by seed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from study.interface.metrics import Metric
from study.interface.recipe import Cost, Method, Recipe
from study.interface.run import CallRun, Context, Replicate, Run


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """The score rises through its half at size ``middle`` where the rate is 0.01."""

    size: int = 64
    rate: float = 0.01
    middle: float = 12.0
    noise: float = 0.01


class Toy(Recipe[ToyConfig]):
    address = "study.testing.toy:TOY"
    config_class = ToyConfig
    metrics = (Metric(name="score", meaning="from 0.1 before training to at most 0.9", chance=0.0),)

    def method(self, config: ToyConfig) -> Method:
        return Method(name="toy", numerics=1)

    def together(self, config: ToyConfig) -> str:
        return "packs of any size"

    def cost(self, config: ToyConfig, data: Any, num_workers: int) -> Cost:
        return Cost(largest_pack=1_000)

    def start(self, pack: Sequence[Replicate[ToyConfig]], data: Any, context: Context) -> Run:
        return CallRun(pack, self._score)

    def _score(self, replicate: Replicate[ToyConfig]) -> tuple[dict[str, float], dict[str, float]]:
        config, random_ = replicate.config, random.Random(replicate.seed)
        rise = 1 / (1 + (config.middle / config.size) ** 3) / (1 + abs(math.log(config.rate / 0.01)))
        return {"score": 0.1 + 0.8 * rise + config.noise * random_.gauss(0, 1)}, {"score": 0.1}


TOY = Toy()
