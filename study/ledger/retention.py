"""Which final models stay: those at the thresholds of finished designs; the rest, and old checkpoints, may go.

A model is kept at artifacts/KEY/model.pt for every reported replicate, until the study's answer says which points
matter. Rows, curves and error texts are never removed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.designs.values import Scalar, Values
from study.formatting import count, plain_value
from study.ledger.journal import Kind
from study.ledger.ledger import Ledger

_MODEL, _CHECKPOINT = "model.pt", "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """Files to keep and to remove with their bytes, and the points and designs that the decision rests on.

    ``untouched`` are designs with open replicates or without an answer: nothing that they hold is removed.
    """

    kept: dict[str, int]
    removed: dict[str, int]
    points: tuple[dict[str, Scalar], ...]
    untouched: tuple[str, ...]


def ends(tried: Sequence[float], status: str, estimate: float | None) -> list[float]:
    """The tried values at a crossing of the criterion.

    Args:
        tried: values of the axis with a result, in any order.
        status: a ``CrossingStatus``; the two neighbours of a found ``estimate``, the end of the range that a censored
            statement names, nothing where there is no crossing.
    """
    if status == "below_range":
        return [min(tried)]
    if status == "above_range":
        return [max(tried)]
    if status == "no_crossing":
        return []
    assert status == "found"
    assert estimate is not None
    # An estimate at an end of the range may lie outside it by rounding.
    below, above = [x for x in tried if x <= estimate], [x for x in tried if x >= estimate]
    return sorted({max(below, default=min(tried)), min(above, default=max(tried))})


def plan_cleaning(ledger: Ledger, points: Mapping[str, Sequence[Values] | None]) -> Cleaning:
    """Decide over the artifacts of a study.

    Args:
        points: the points to keep of every design by its hash; None for a design without an answer.
    """
    settled = ledger.settled()
    wanted, known, held, untouched = set(), set(), set(), []
    for design, keep in points.items():
        entries = ledger.planned(design)
        keys = {entry["key"] for entry in entries}
        known |= keys
        if keep is None or not keys <= settled.keys():
            untouched.append(design)
            held |= keys
        else:
            is_kept = [entry for entry in entries if entry["role"] == "reported" and json.loads(entry["cell"]) in keep]
            wanted |= {entry["key"] for entry in is_kept}
    kept, removed = {}, {}
    for path, size in ledger.store.sizes("artifacts").items():
        _, key, *_, name = path.split("/")
        if name == _MODEL and (key in wanted | held or key not in known):
            kept[path] = size
        elif key in known - held and name in (_MODEL, _CHECKPOINT):
            removed[path] = size
    return Cleaning(kept=kept, removed=removed, points=_distinct(points), untouched=tuple(untouched))


def _distinct(points: Mapping[str, Sequence[Values] | None]) -> tuple[dict[str, Scalar], ...]:
    found = {json.dumps(dict(point), sort_keys=True): dict(point) for keep in points.values() for point in keep or ()}
    # Words and numbers have no common order.
    return tuple(sorted(found.values(), key=lambda point: [(p, isinstance(v, str), v) for p, v in point.items()]))


def clean(ledger: Ledger, cleaning: Cleaning) -> None:
    """Remove what was decided to be removed."""
    if cleaning.removed:
        ledger.journal.append(Kind.FORGOTTEN, files=sorted(cleaning.removed))
    for path in cleaning.removed:
        ledger.store.delete(path)


def sentence(study: str, cleaning: Cleaning, *, is_dry_run: bool) -> str:
    """One line about what is kept and freed."""
    places = "; ".join(
        ", ".join(f"{p}={plain_value(value)}" for p, value in point.items()) for point in cleaning.points
    )
    verb = "would free" if is_dry_run else "frees"
    left = f"; left alone (open, or without an answer): design {', '.join(cleaning.untouched)}"
    return (
        f"{study}: keeps {_amount(cleaning.kept, 'model')}"
        + (f" (thresholds at {places})" if places else "")
        + f", {verb} {_amount(cleaning.removed, 'file')}"
        + (left if cleaning.untouched else "")
    )


def _amount(sizes: Mapping[str, int], noun: str) -> str:
    return f"{count(len(sizes), noun)} ({_size(sizes.values())})"


def _size(sizes: Iterable[int]) -> str:
    total = float(sum(sizes))
    for unit in ("B", "kB", "MB"):
        if total < 1000:
            return f"{total:.3g} {unit}"
        total /= 1000
    return f"{total:.3g} GB"
