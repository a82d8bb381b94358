"""How many replicates a plan takes."""

import math
from dataclasses import dataclass

from study.designs.design import Design

# The most settings that a new cell borrows from its neighbours: two of theirs, and one between.
NUM_BORROWED = 3


@dataclass(frozen=True, kw_only=True)
class PlanSize:
    """Least and greatest number of replicates of a plan without an appended round.

    ``num_sought`` are the most that are reported after stage one, ``num_sought_tuning`` the most that tune for them.
    """

    num_points: int
    num_tuning: int
    num_extension: int
    num_reported: int
    num_sought: int = 0
    num_sought_tuning: int = 0

    @property
    def least(self) -> int:
        return self.num_tuning + self.num_reported

    @property
    def greatest(self) -> int:
        return self.least + self.num_extension + self.num_sought + self.num_sought_tuning


def plan_size(design: Design, replicates: int) -> PlanSize:
    """Count the replicates of a design's plan."""
    num_points = len(design.points())
    settings = math.prod(len(axis.values) for axis in design.nuisance)
    tuned = bool(design.nuisance)
    slices = design.slices() if design.is_sought else ()
    further = [max(0, design.budget.max_replicates - len(part.points) * replicates) for part in slices]
    new_cells = [min(n, len(part.candidates) - len(part.points)) for n, part in zip(further, slices, strict=True)]
    per_cell = (NUM_BORROWED + len(design.nuisance)) * design.tuning_seeds if tuned else 0
    return PlanSize(
        num_points=num_points,
        num_tuning=num_points * settings * design.tuning_seeds if tuned else 0,
        num_extension=num_points * len(design.nuisance) * design.tuning_seeds,
        num_reported=num_points * replicates,
        num_sought=sum(further),
        num_sought_tuning=per_cell * sum(new_cells),
    )
