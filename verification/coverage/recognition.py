"""Are curves recognised that have no threshold inside the range, or two, or only a fall?"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from study.inference.statements import CEILING_FLAG, Crossing, CrossingStatus
from verification.coverage.designs import Statement
from verification.coverage.sets import Kind
from verification.coverage.tables import with_error

KINDS: Mapping[Kind, str] = {
    "falling": "falls inside the range, high at the smallest x",
    "peaked": "rises and falls inside the range",
    "below": "threshold at least an octave below the range",
    "above": "level reached at least an octave above the range",
    "flat": "no threshold at all",
    "ceiling": "still climbing at the largest x",
}


def is_recognised(kind: Kind, statement: Statement) -> bool:
    """Whether the statement says what kind of curve it was, in words that are true; no number where there is none."""
    rising, falling = _status(statement.rising), _status(statement.falling)
    found, below, above, none = CrossingStatus
    if kind == "falling":
        return rising in (below, None) and falling is found
    if kind == "peaked":
        return rising is found and falling is found
    if kind == "below":
        return rising is below
    if kind == "above":
        return rising in (above, none)
    if kind == "flat":
        return rising is none if statement.truth.level is None else rising in (above, none)
    assert kind == "ceiling"
    open_above = rising is found and statement.rising is not None and statement.rising.high is None
    return CEILING_FLAG in statement.flags and (open_above or rising is above)


def _status(crossing: Crossing | None) -> CrossingStatus | None:
    return None if crossing is None else crossing.status


def recognition_table(found: Mapping[Kind, Sequence[Statement]]) -> Iterable[str]:
    """Yield the lines of a Markdown table, a row per kind; what was said instead is counted by status."""
    yield "| the curve | sets | recognised | said otherwise (rising/falling) | replicates |"
    yield "|---|---|---|---|---|"
    for kind, statements in found.items():
        wrong = [s for s in statements if not (s.converged and is_recognised(kind, s))]
        share = 1 - len(wrong) / len(statements)
        said = [f"{_status(s.rising)}/{_status(s.falling)}" for s in wrong]
        names = ", ".join(f"{name} {said.count(name)}" for name in sorted(set(said), key=said.count, reverse=True)[:3])
        median = f"{np.median([s.num_replicates for s in statements]):.0f}"
        cells = [KINDS[kind], str(len(statements)), with_error(share, len(statements)), names or "--", median]
        yield "| " + " | ".join(cells) + " |"
