"""What the crossings of an axis are called, and where the axis itself ends."""

import math
from dataclasses import dataclass

from analysis.laws import HIGH_IS_BROKEN
from study.inference.threshold import Crossing
from study.space import Criterion, Flank

_UNITS = {
    "batch.train": "batch",
    "batch.eval": "batch",
    "data.strength": "strength",
    "data.label_fraction": "label share",
    "optimizer.learning_rate": "learning rate",
    "model.num_blocks": "depth",
}
_SHORT = {"optimizer.learning_rate": "rate"}
_MAXIMA = {"batch.train": "maximum useful batch"}
# A method works from their lowest value on: of a falling limit the rise before it is none of the question.
_WORKS_AT_ONCE = ("data.strength", "model.num_blocks")
# The least and the most that a quantity can be at all (study/config.py).
_ENDS = {
    "batch.train": (2.0, math.inf),
    "batch.eval": (4.0, math.inf),
    "data.label_fraction": (0.0, 1.0),
    "model.num_blocks": (1.0, math.inf),
    "model.embedding_dim": (2.0, math.inf),
}


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


def axis_words(axis: str, criterion: Criterion, flank: Flank) -> AxisWords:
    """The words of an axis for the crossings of a criterion."""
    unit = _UNITS.get(axis, axis)
    short = _SHORT.get(axis, unit)
    rising, falling = f"minimum {unit}", _MAXIMA.get(axis, f"maximum {unit}")
    if criterion.metric in HIGH_IS_BROKEN:
        rising, falling = f"fused from {short}", f"fused up to {short}"
    elif flank == "falling" and axis in _WORKS_AT_ONCE:
        rising = ""
    least, most = _ENDS.get(axis, (-math.inf, math.inf))
    return AxisWords(rising=rising, falling=falling, unit=unit, least=least, most=most)
