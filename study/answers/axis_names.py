"""What the crossings of an axis are called, and where the axis itself ends."""

from dataclasses import dataclass
from typing import Any

from study.designs.criterion import Criterion
from study.designs.space import Flank
from study.inference.statements import Crossing
from study.interface.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class AxisWords:
    """Names of the rising and the falling crossing (``rising`` is empty where it is none of the question)."""

    rising: str
    falling: str
    unit: str
    least: float
    most: float

    def describe(self, crossing: Crossing) -> str:
        """A crossing of the axis in one sentence."""
        return crossing.describe(self.unit, self.least, self.most)

    def sought(self, flank: Flank) -> str:
        """The name of the crossing that a study asks for."""
        return self.falling if flank == "falling" or not self.rising else self.rising


def axis_words(recipe: Recipe[Any], axis: str, criterion: Criterion, flank: Flank) -> AxisWords:
    """The words of an axis for the crossings of a criterion."""
    quantity = recipe.quantity(axis)
    unit, short = quantity.unit, quantity.short or quantity.unit
    rising, falling = quantity.rising or f"minimum {unit}", quantity.falling or f"maximum {unit}"
    metric = recipe.metric(criterion.metric)
    if metric.broken == "high":
        rising, falling = f"{metric.broken_word} from {short}", f"{metric.broken_word} up to {short}"
    elif flank == "falling" and quantity.works_at_once:
        rising = ""
    return AxisWords(rising=rising, falling=falling, unit=unit, least=quantity.least, most=quantity.most)
