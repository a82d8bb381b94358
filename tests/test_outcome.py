"""When a replicate is settled: by a finding, or by three failures of its own; what the environment did never counts."""

import pytest

from study.ledger.attempts import MAX_ATTEMPTS, is_final
from study.outcome import FINAL_OUTCOMES, MEASURED_OUTCOMES, Outcome

FAILURES = [Outcome.FAILED, Outcome.HUNG, Outcome.OUT_OF_MEMORY]


def is_final_alone(outcomes: list[Outcome]) -> bool:
    """Of attempts in packs of one."""
    return is_final((outcome, 1) for outcome in outcomes)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.COLLAPSED, Outcome.DIVERGED])
def test_a_finding_is_final_at_once(outcome: Outcome) -> None:
    assert is_final_alone([outcome])
    assert is_final_alone([Outcome.INTERRUPTED, Outcome.FAILED, outcome])


@pytest.mark.parametrize("outcome", [*FAILURES, Outcome.INTERRUPTED])
def test_one_failed_attempt_is_not_final(outcome: Outcome) -> None:
    assert not is_final_alone([outcome])


def test_no_attempt_is_not_final() -> None:
    assert not is_final_alone([])


@pytest.mark.parametrize("outcome", FAILURES)
def test_the_third_failure_is_final_alone(outcome: Outcome) -> None:
    assert not is_final_alone([outcome] * (MAX_ATTEMPTS - 1))
    assert is_final_alone([outcome] * MAX_ATTEMPTS)


def test_failures_of_different_kinds_add_up() -> None:
    assert is_final_alone(FAILURES)


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.ENVIRONMENT])
def test_what_is_not_the_replicates_fault_does_not_count(outcome: Outcome) -> None:
    assert not is_final_alone([outcome] * 20)


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_failure_in_a_pack_may_be_anothers_and_does_not_count(outcome: Outcome) -> None:
    assert not is_final((outcome, 5) for _ in range(20))
    assert is_final([*((outcome, 5),) * 2, *((outcome, 1),) * MAX_ATTEMPTS])


def test_interruptions_between_failures_do_not_count() -> None:
    assert not is_final_alone([Outcome.FAILED, Outcome.INTERRUPTED, Outcome.FAILED, Outcome.INTERRUPTED])


def test_a_diverged_replicate_is_a_finding_without_measurements() -> None:
    assert Outcome.DIVERGED in FINAL_OUTCOMES
    assert Outcome.DIVERGED not in MEASURED_OUTCOMES
    assert MEASURED_OUTCOMES < FINAL_OUTCOMES


def test_outcomes_are_their_own_words_in_the_ledger() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "ok", "collapsed", "diverged", "out_of_memory", "failed", "hung", "interrupted",
        "environment",
    ]  # fmt: skip
