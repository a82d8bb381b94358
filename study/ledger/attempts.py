"""Attempts at a replicate: which of them counts, which were its own fault, and when it is given up."""

from collections.abc import Iterable, Mapping, Sequence

from study.outcome import FINAL_OUTCOMES, Outcome
from study.rows import Row

MAX_ATTEMPTS = 3
_FAILURES = frozenset({Outcome.OUT_OF_MEMORY, Outcome.FAILED, Outcome.HUNG})


def is_own_failure(outcome: Outcome, pack_planned: int | None) -> bool:
    """Whether an attempt failed by the replicate itself.

    It was planned alone: in a pack, or in what is left of a pack of which a part failed, any member may be to blame.
    """
    return outcome in _FAILURES and (pack_planned or 1) == 1


def is_final(attempts: Iterable[tuple[Outcome, int | None]]) -> bool:
    """Whether a replicate is settled: by a finding, or by ``MAX_ATTEMPTS`` failures of its own.

    Args:
        attempts: outcome and planned size of the pack of every attempt.
    """
    tried = list(attempts)
    if any(outcome in FINAL_OUTCOMES for outcome, _ in tried):
        return True
    return sum(is_own_failure(outcome, pack_planned) for outcome, pack_planned in tried) >= MAX_ATTEMPTS


def settle(attempts: Mapping[str, list[Row]]) -> dict[str, Row]:
    """The row that counts of every settled key of ``attempts``."""
    rows = {}
    for key, tried in attempts.items():
        if is_final((Outcome(row["outcome"]), row["pack_planned"] or row["pack_size"]) for row in tried):
            findings = [row for row in tried if Outcome(row["outcome"]) in FINAL_OUTCOMES]
            rows[key] = findings[0] if findings else tried[-1]
    return rows


def failed_attempt(tried: Sequence[Row]) -> Row | None:
    """The last failed attempt of a replicate without a finding; None where it has one, or was only cut short."""
    if any(Outcome(row["outcome"]) in FINAL_OUTCOMES for row in tried):
        return None
    return next((row for row in reversed(tried) if Outcome(row["outcome"]) is not Outcome.INTERRUPTED), None)
