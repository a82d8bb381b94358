"""What a recipe declares: its metrics, what its axes are called, and what a replicate of a configuration reports."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a replicate reports.

    ``chance`` is its value where nothing was learned, or what gives that of a configuration; None: it has none.
    ``has_before``: it has a value before training. ``broken`` is the side on which the method has failed, which is then
    called ``broken_word``. ``label`` names it on the axis of a figure, ``unit`` is empty for a share or a score.
    """

    name: str
    meaning: str
    label: str = ""
    unit: str = ""
    chance: float | Callable[[Any], float] | None = None
    has_before: bool = True
    broken: Literal["low", "high"] = "low"
    broken_word: str = "broken"

    def chance_of(self, config: Any) -> float | None:
        """The chance level of a replicate with this configuration."""
        return self.chance(config) if callable(self.chance) else self.chance


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What an axis of a configuration path is called, and where it ends.

    ``rising`` and ``falling`` name the crossings on its two sides, such as "minimum batch" and "maximum useful batch".
    ``works_at_once``: a method works from its lowest value on, so that the rise before a falling limit is none of the
    question. ``least`` and ``most`` are what it can be at all.
    """

    label: str
    unit: str
    short: str = ""
    rising: str = ""
    falling: str = ""
    works_at_once: bool = False
    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Reported:
    """Names of the metrics of a configuration: ``judged`` before training and at the end, ``trained`` at the end alone.

    ``sometimes`` are those that a replicate may end without.
    """

    judged: frozenset[str]
    trained: frozenset[str] = frozenset()
    sometimes: frozenset[str] = frozenset()

    @property
    def at_end(self) -> frozenset[str]:
        """What every replicate with a result has."""
        return self.judged | self.trained
