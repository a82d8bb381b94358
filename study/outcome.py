"""How a replicate ended, and what follows from it."""

from enum import StrEnum


class Outcome(StrEnum):
    """The end of one attempt at a replicate.

    ``ok``, ``collapsed`` and ``diverged`` are final: they are findings about the recipe. The others say
    something about the machine or the code, and are tried again by the next command.
    """

    OK = "ok"
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    HUNG = "hung"
    INTERRUPTED = "interrupted"


MAX_ATTEMPTS = 3
FINAL_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED, Outcome.DIVERGED})
MEASURED_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED})


def is_final(outcomes: list[Outcome]) -> bool:
    """Whether a replicate with these attempts is settled: a finding, or ``MAX_ATTEMPTS`` failures.

    Interruptions do not count towards the failures: stopping a sweep by hand, or losing a spot node, says
    nothing about the replicate, and its checkpoint lets the next attempt go on where it stopped.
    """
    if any(outcome in FINAL_OUTCOMES for outcome in outcomes):
        return True
    return sum(outcome is not Outcome.INTERRUPTED for outcome in outcomes) >= MAX_ATTEMPTS
