"""How much processor time a call may take."""

from __future__ import annotations

from hybridbridge_vol.bridge.run.budget import CALL_SECONDS, LEAST_CALL_SECONDS, CallBudget


def test_after_each_call_that_timed_out_the_next_has_half_the_time() -> None:
    budget = CallBudget()
    assert budget.seconds == CALL_SECONDS
    budget.timed_out()
    assert budget.seconds == CALL_SECONDS / 2


def test_no_call_has_less_than_the_least_time() -> None:
    budget = CallBudget()
    for _ in range(100):
        budget.timed_out()
    assert budget.seconds == LEAST_CALL_SECONDS
