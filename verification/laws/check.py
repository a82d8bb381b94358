"""What a check is: a family of settings, how each is measured, and which laws the measurements are held against."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from study.recipes.contrastive.data.streams import stream
from study.recipes.contrastive.laws.law import Law, Setting
from verification.laws.settings import Draws
from verification.laws.thresholds import Measured


@dataclass(frozen=True, kw_only=True)
class Job:
    """One drawn setting to measure; ``effort`` scales the number of replicates (1 in the tables)."""

    family: str
    index: int
    setting: Setting
    seed: int
    effort: float = 1.0

    def generator(self, purpose: str = "noise") -> torch.Generator:
        return stream(self.seed, f"laws/{self.family}/{purpose}", self.index)

    def seeds(self, count: int) -> list[int]:
        """Seeds of training runs, at least two of them."""
        count = max(round(count * self.effort), 2)
        return torch.randint(2**31, (count,), generator=self.generator("seeds")).tolist()

    def replicates(self, work: float, *, least: int = 8, most: int = 400) -> int:
        """How many replicates ``work`` pays for."""
        return max(min(round(work * self.effort), most), least)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison: what was measured, and predictions by column (NaN where a law says nothing)."""

    setting: Setting
    measured: Measured
    predictions: Mapping[str, float]

    def error(self, column: str) -> float:
        """(predicted - measured) / measured; NaN where either is missing."""
        return self.predictions[column] / self.measured.value - 1


Rows = dict[str, Row]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The largest absolute relative errors asked for; None: not asked for."""

    median: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of the document.

    ``fields`` of the settings are shown, ``measured`` names the measured quantity, ``predicted`` the columns of
    predictions, of which the first is held against the target, or those of ``held``.
    """

    title: str
    text: str
    fields: tuple[str, ...]
    measured: str
    predicted: tuple[str, ...]
    target: Target = field(default_factory=Target)
    held: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """Settings that are drawn together and measured by one function, which gives a row of each table.

    ``law`` is the one whose validity the draws must respect. ``seconds`` is the measured cost of a draw on one core.
    """

    name: str
    draws: Callable[[int], Draws]
    measure: Callable[[Job], Rows]
    tables: Mapping[str, Table]
    seconds: float

    def jobs(self, seed: int, effort: float = 1.0) -> list[Job]:
        return [
            Job(family=self.name, index=index, setting=setting, seed=seed, effort=effort)
            for index, setting in enumerate(self.draws(seed))
        ]


def predicted(setting: Setting, *laws: Law) -> float:
    """The threshold of the first of the laws that covers a setting; NaN where none does or none is crossed."""
    for law in laws:
        if law.why_not(setting) is None:
            return float(law.threshold(setting))
    return math.nan
