"""How a replicate ended, and what follows from it."""

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


FINAL_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED, Outcome.DIVERGED})
MEASURED_OUTCOMES = frozenset({Outcome.OK, Outcome.COLLAPSED})
