"""How well the limit of a slice is known, and which points would narrow it most: what a plan asks of the inference."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.designs.design import Design, DesignSlice
from study.designs.values import Scalar
from study.formatting import count
from study.inference.seeking import NOTHING_LEFT, NextPoints, propose, propose_success
from study.inference.seeking_plane import NextInPlane, propose_boundary

# As many seeds share the points that are measured once.
SEEDS_IN_TURN = 5


@dataclass(frozen=True, kw_only=True, order=True)
class Measurement:
    """A reported replicate with a finding: its values of the sought axes, seed, outcome, and what it rose from."""

    position: tuple[float, ...]
    seed: int
    outcome: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class SliceState:
    """What is known of the limit in a slice: its half-width in octaves (None: open or censored), and what is next.

    ``points`` are the cells of the next replicates, repeated for several in one cell; none where the limit is settled
    or the budget of ``num_planned`` reported replicates is spent.
    """

    slice: DesignSlice
    num_planned: int
    half_width: float | None
    is_settled: bool
    reason: str
    points: tuple[dict[str, Scalar], ...] = ()


def slice_state(
    design: Design,
    slice_: DesignSlice,
    measurements: Sequence[Measurement],
    num_planned: int,
    hopeless: Collection[tuple[float, ...]] = (),
) -> SliceState:
    """Ask the inference about a slice; the order of the measurements does not matter.

    ``hopeless`` are positions that rather fail than give results: they are not asked for again.
    """
    used = sorted(m for m in measurements if design.scientific[0].scale == "linear" or m.position[0] > 0)
    positions = sorted({m.position for m in used})
    is_thin = design.plane and len({position[1] for position in positions}) < 2
    if len({position[0] for position in positions}) < 3 or is_thin:
        wanted_points = "3 measured values of one axis and 2 of the other" if design.plane else "3 measured points"
        reason = f"a limit needs {wanted_points}, and {count(len(positions), 'point')} gave a result"
        return SliceState(slice=slice_, num_planned=num_planned, half_width=None, is_settled=False, reason=reason)
    budget = design.budget
    num_next = min(budget.round_replicates, budget.max_replicates - num_planned)
    proposal = _ask(design, slice_, used, hopeless, max(num_next, 1))
    wanted: Sequence[float | tuple[float, float]] = proposal.points if num_next > 0 else ()
    # The inference hands back candidates; a value keeps the spelling that names its cell.
    by_value = {tuple(map(float, candidate)): candidate for candidate in slice_.candidates}
    values = [point if isinstance(point, tuple) else (point,) for point in wanted]
    return SliceState(
        slice=slice_,
        num_planned=num_planned,
        half_width=proposal.half_width,
        is_settled=proposal.is_settled,
        reason=proposal.reason,
        points=tuple(slice_.point(by_value[value]) for value in values),
    )


def _ask(
    design: Design,
    slice_: DesignSlice,
    used: Sequence[Measurement],
    hopeless: Collection[tuple[float, ...]],
    round_replicates: int,
) -> NextPoints | NextInPlane:
    axes = list(zip(*(m.position for m in used), strict=True))
    outcome, seeds, floor = [m.outcome for m in used], [m.seed for m in used], [m.floor for m in used]
    # Beyond what was measured nothing is known: an end may have failed in every seed.
    candidates = [
        values
        for values in (tuple(map(float, candidate)) for candidate in slice_.candidates)
        if all(min(axis) <= value <= max(axis) for value, axis in zip(values, axes, strict=True))
        and values not in hopeless
    ]
    criterion, precision = design.criterion, design.budget.precision
    if design.plane:
        if not candidates:
            return NextInPlane(points=(), half_width=None, is_settled=False, reason=NOTHING_LEFT)
        x, y = axes
        return propose_boundary(
            x,
            y,
            outcome,
            seeds,
            floor,
            fraction=criterion.fraction,
            level=criterion.level,
            flank=design.flank,
            candidates=candidates,
            precision=precision,
            round_replicates=round_replicates,
        )
    wanted: dict[str, Any] = {
        "flank": design.flank,
        "scale": design.scientific[0].scale,
        "candidates": [value for (value,) in candidates],
        "precision": precision,
        "round_replicates": round_replicates,
        "hopeless": sorted(value for (value,) in hopeless),
    }
    if criterion.share is not None:
        return propose_success(axes[0], outcome, seeds, level=criterion.share, **wanted)
    return propose(axes[0], outcome, seeds, floor, fraction=criterion.fraction, level=criterion.level, **wanted)


def next_seed(used: Collection[int], counts: Mapping[int, int], first: int) -> int:
    """The seed of one more replicate at a point: of the first few seeds, the one least used so far that it lacks.

    ``used`` are the point's own seeds, ``counts`` the replicates of every seed in the slice, ``first`` the lowest seed.
    Most points of a search are measured once. With the same seed at all of them its shift could not be told from the
    curve; in turns, it is one of several shifts around the mean that is sought.
    """
    free = [seed for seed in range(first, first + SEEDS_IN_TURN) if seed not in used]
    if not free:
        return next(seed for seed in itertools.count(first + SEEDS_IN_TURN) if seed not in used)
    return min(free, key=lambda seed: (counts.get(seed, 0), seed))


def opposite(position: Sequence[float], others: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of the nearest of ``others`` and of the nearest on the other side of ``position``, where there is one.

    Positions are on the axes' own scales. In a plane the other side is the half beyond ``position`` as seen from the
    nearest one.
    """
    offsets = [[b - a for a, b in zip(position, other, strict=True)] for other in others]
    order = sorted(range(len(others)), key=lambda index: (math.hypot(*offsets[index]), others[index]))
    found = order[:1]
    for index in order[1:]:
        if sum(a * b for a, b in zip(offsets[found[0]], offsets[index], strict=True)) < 0:
            return [*found, index]
    return found
