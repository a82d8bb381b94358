"""What a study calls success: a metric at a level, or at a share of its rise."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from study.formatting import percent


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """The outcome that must hold: a metric at an absolute ``level``, or at a ``fraction`` of its rise.

    The rise goes from the floor to the ceiling (the fitted plateau). The floor is the same model before training,
    chance for accuracies of labels that are learned from nothing, or zero where training starts above the level.

    With ``share`` a replicate succeeds or fails, by whether it reaches the level, and the limit is where that share of
    seeds succeeds: for metrics that end in one of two states, whose mean over seeds is a state of none of them.
    """

    metric: str
    fraction: float | None = None
    level: float | None = None
    floor: Literal["before", "chance", "zero"] = "before"
    share: float | None = None

    def __post_init__(self) -> None:
        assert (self.fraction is None) != (self.level is None), "a criterion is a fraction or a level"
        assert self.share is None or self.level is not None, "success is to reach a level"
        assert self.share is None or 0 < self.share < 1, "a share of seeds lies between 0 and 1"

    def outcome(self, value: float) -> float:
        """What a replicate's metric counts as: itself, or 1 where it succeeds and 0 where it fails."""
        if self.share is None:
            return value
        assert self.level is not None, "success is to reach a level"
        return float(value >= self.level)

    def quantity(self, metric: str) -> str:
        """What the fitted curve shows, with the metric's name as it is written there."""
        return metric if self.share is None else f"share of seeds with {metric} ≥ {self.level:g}"

    @property
    def sentence(self) -> str:
        if self.share is not None:
            return f"{self.metric} ≥ {self.level:g} in {percent(self.share)} of seeds"
        if self.level is not None:
            return f"{self.metric} = {self.level:g}"
        assert self.fraction is not None, "a criterion is a fraction or a level"
        share = "half" if self.fraction == 0.5 else percent(self.fraction)
        return f"{share} rise of {self.metric}" + (" from chance" if self.floor == "chance" else "")

    def canonical(self) -> dict[str, Any]:
        """What the study hash covers of a criterion."""
        left_out = {name for name, value in (("floor", "before"), ("share", None)) if getattr(self, name) == value}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}


def criteria_of(canonical: Mapping[str, Any]) -> tuple[Criterion, ...]:
    """The criteria of a design in its canonical form, the first one first."""
    return tuple(Criterion(**values) for values in (canonical["criterion"], *canonical.get("further_criteria", ())))
