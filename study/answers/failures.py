"""Replicates of a design that were tried and gave no result: where, how often and why."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from study.formatting import count
from study.ledger.attempts import failed_attempt
from study.ledger.ledger import Ledger

_MOST_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Replicates of one cell that failed alike: their outcome and error are those of the last attempt not cut short."""

    point: dict[str, Any]
    outcome: str
    error: str
    num_replicates: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """Where, how many, and why."""
        place = ", ".join(f"{path} = {value}" for path, value in self.point.items())
        return f"{count(self.num_replicates, 'replicate')} at {place} ({self.outcome}): {self.error}"


def failures(ledger: Ledger, study_hash: str) -> tuple[Failure, ...]:
    """The failures of a design by cell and cause, most replicates first."""
    attempts = ledger.attempts()
    cells: dict[str, str] = {row["key"]: row["cell"] for row in ledger.planned(study_hash)}
    groups: dict[tuple[str, str, str], int] = defaultdict(int)
    for key, cell in cells.items():
        failed = failed_attempt(attempts.get(key, []))
        if failed is not None:
            groups[cell, failed["outcome"], failed["error"] or ""] += 1
    found = [
        Failure(point=json.loads(cell), outcome=outcome, error=error, num_replicates=number)
        for (cell, outcome, error), number in sorted(groups.items())
    ]
    return tuple(sorted(found, key=lambda failure: -failure.num_replicates))


def word_failures(found: Sequence[Failure]) -> list[str]:
    """Lines of an answer; none where nothing failed."""
    if not found:
        return []
    total = sum(failure.num_replicates for failure in found)
    lines = [
        f"{count(total, 'replicate')} failed and {'is' if total == 1 else 'are'} missing: a limit near "
        f"{'it' if total == 1 else 'them'} may be biased"
    ]
    lines += [f"    {failure.sentence}" for failure in found[:_MOST_SHOWN]]
    more = len(found) - _MOST_SHOWN
    return lines + ([f"    and {count(more, 'further cause')}"] if more > 0 else [])
