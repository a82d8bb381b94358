"""An axis of a study: the values of one configuration path, and those that a search may measure between them."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from study.designs.values import Scalar, Values


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values of one configuration path; a geometric grid is extended by its own ratio.

    ``scale`` is the axis on which the flanks of a curve are taken to be symmetric.
    ``also`` gives further paths that go with a value, such as what only one of two trainers has.

    ``steps_per_octave`` above zero makes it an axis along which a limit is sought: ``values`` are then the points of
    stage one, and later rounds may measure :meth:`candidates` between them. These are whole multiples of
    ``multiple`` where it is given (always on a linear axis), else numbers of three significant digits.
    """

    path: str
    values: tuple[Scalar, ...]
    scale: Literal["log", "linear"] = "log"
    also: Mapping[Scalar, Values] = field(default_factory=dict)
    steps_per_octave: int = 0
    multiple: int = 0

    def __post_init__(self) -> None:
        assert len(set(self.values)) == len(self.values) >= 1
        assert set(self.also) <= set(self.values)
        if self.steps_per_octave:
            assert self.steps_per_octave > 0
            assert not self.also, f"{self.path}: candidates of an axis that is sought bring nothing with them"
            is_named = self.multiple > 0 or self.scale == "log"
            assert is_named, f"{self.path}: a linear or whole-number axis names its multiple"
            self.check_stage_one(self.values)

    def check_stage_one(self, values: tuple[Scalar, ...]) -> None:
        """Assert that values can be stage one of this axis."""
        assert 2 <= len(values) <= MAX_STAGE_ONE, f"{self.path}: stage one has at most {MAX_STAGE_ONE} values"
        if self.multiple:
            assert all(float(value) % self.multiple == 0 for value in values), f"{self.path}: not in multiples"

    @property
    def is_sought(self) -> bool:
        return self.steps_per_octave > 0

    def candidates(self, values: tuple[Scalar, ...] | None = None) -> tuple[Scalar, ...]:
        """What later rounds may measure, in order: stage one, and equal steps between its neighbours.

        ``values`` are another stage one, such as a series's own; an axis that is not sought has its values alone. On
        a log axis neighbours are divided into about ``steps_per_octave`` geometric steps, from its first positive
        value on: a control at zero belongs to no fit. On a linear axis all multiples between its ends are candidates.
        """
        chosen = self.values if values is None else values
        if not self.is_sought:
            return chosen
        given = {float(value): value for value in chosen if self.scale == "linear" or float(value) > 0}
        numbers = sorted(given)
        if self.scale == "linear":
            low, high = (round(end / self.multiple) for end in (numbers[0], numbers[-1]))
            found = {float(step * self.multiple) for step in range(low, high + 1)}
        else:
            found = set(numbers)
            for start, end in itertools.pairwise(numbers):
                num_steps = round(self.steps_per_octave * math.log2(end / start))
                found |= {self._rounded(start * (end / start) ** (step / num_steps)) for step in range(1, num_steps)}
        # A value of stage one keeps its own spelling, 1 or 1.0: it is part of the name of its cell.
        return tuple(given.get(value, int(value) if self.multiple else value) for value in sorted(found))

    def _rounded(self, value: float) -> float:
        return float(f"{value:.3g}") if not self.multiple else float(round(value / self.multiple) * self.multiple)

    @classmethod
    def read(cls, canonical: Sequence[Any]) -> "Axis":
        """The axis of a canonical form."""
        path, values, *details = canonical
        also = next((dict(pairs) for pairs in details if isinstance(pairs, list)), {})
        steps = next((given for given in details if isinstance(given, dict)), {})
        return cls(
            path=path, values=tuple(values), scale="linear" if "linear" in details else "log", also=also, **steps
        )

    def canonical(self) -> list[Any]:
        """What the study hash covers of an axis; :meth:`read` reads it."""
        return [
            self.path,
            list(self.values),
            *([sorted((v, dict(w)) for v, w in self.also.items())] if self.also else []),
            *([self.scale] if self.scale != "log" else []),
            *([{"steps_per_octave": self.steps_per_octave, "multiple": self.multiple}] if self.is_sought else []),
        ]

    def position(self, value: Scalar) -> float:
        """Where a value stands on the axis's own scale; a log axis begins at minus infinity with zero."""
        if self.scale == "linear":
            return float(value)
        return math.log2(float(value)) if float(value) > 0 else -math.inf

    @property
    def ratio(self) -> float:
        """The mean step of a geometric grid, as a factor."""
        numbers = [float(value) for value in self.values]
        return float((max(numbers) / min(numbers)) ** (1 / (len(numbers) - 1)))

    def beyond(self, side: Literal["low", "high"]) -> float:
        """The next value of a geometric grid outside its lowest or highest end."""
        numbers = sorted(float(value) for value in self.values)
        near, far = (numbers[0], numbers[1]) if side == "low" else (numbers[-1], numbers[-2])
        # Three digits keep 3e-5 from becoming 3.0000000000000004e-05 in keys and tables.
        return float(f"{near * near / far:.3g}")


# Points of stage one along an axis that is sought.
MAX_STAGE_ONE = 6
