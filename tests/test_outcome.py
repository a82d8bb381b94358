"""When a replicate is settled: by a finding, or by three failures; interruptions do not count."""

import pytest

from study.outcome import FINAL_OUTCOMES, MAX_ATTEMPTS, MEASURED_OUTCOMES, Outcome, is_final

FAILURES = [Outcome.FAILED, Outcome.HUNG, Outcome.OUT_OF_MEMORY]


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.COLLAPSED, Outcome.DIVERGED])
def test_a_finding_is_final_at_once(outcome: Outcome) -> None:
    assert is_final([outcome])
    assert is_final([Outcome.INTERRUPTED, Outcome.FAILED, outcome])


@pytest.mark.parametrize("outcome", [*FAILURES, Outcome.INTERRUPTED])
def test_one_failed_attempt_is_not_final(outcome: Outcome) -> None:
    assert not is_final([outcome])


def test_no_attempt_is_not_final() -> None:
    assert not is_final([])


@pytest.mark.parametrize("outcome", FAILURES)
def test_the_third_failure_is_final(outcome: Outcome) -> None:
    assert not is_final([outcome] * (MAX_ATTEMPTS - 1))
    assert is_final([outcome] * MAX_ATTEMPTS)


def test_failures_of_different_kinds_add_up() -> None:
    assert is_final(FAILURES)


def test_interruptions_do_not_count_as_failures() -> None:
    assert not is_final([Outcome.INTERRUPTED] * 20)
    assert not is_final([Outcome.FAILED, Outcome.INTERRUPTED, Outcome.FAILED, Outcome.INTERRUPTED])


def test_a_diverged_replicate_is_a_finding_without_measurements() -> None:
    assert Outcome.DIVERGED in FINAL_OUTCOMES
    assert Outcome.DIVERGED not in MEASURED_OUTCOMES
    assert MEASURED_OUTCOMES < FINAL_OUTCOMES


def test_outcomes_are_their_own_words_in_the_ledger() -> None:
    assert [str(outcome) for outcome in Outcome] == [
        "ok", "collapsed", "diverged", "out_of_memory", "failed", "hung", "interrupted",
    ]  # fmt: skip
