"""How a replicate ended, and what follows from it."""

from collections.abc import Iterable
from enum import StrEnum


class Outcome(StrEnum):
    """The end of one attempt at a replicate.

    ``ok``, ``collapsed`` and ``diverged`` are final: they are findings about the recipe. ``out_of_memory``, ``failed``
    and ``hung`` are the replicate's own failures where it was alone in its pack. ``interrupted`` (stopped, or its node
    left) and ``environment`` (a killed worker, missing data, a full disk) say nothing about the replicate.
    """

    OK = "ok"
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    HUNG = "hung"
    INTERRUPTED = "interrupted"
    ENVIRONMENT = "environment"


MAX_ATTEMPTS = 3
FINAL_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED, Outcome.DIVERGED})
MEASURED_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED})
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
