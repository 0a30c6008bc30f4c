"""How much processor time a call may take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_bridge import SmallBridge

from hybridbridge_vol.bridge.run.budget import CALL_SECONDS, LEAST_CALL_SECONDS, CallBudget
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import CallRolledBack


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


def test_a_call_that_slow_bridge_goes_on_with_keeps_to_what_the_answer_may_take(
    make: Callable[..., SmallBridge],
) -> None:
    """It may take longer than on FAST-BRIDGE, and had taken six times all that was left."""
    small = make({"spin": "ebfe jmp 0"})
    caller = Caller(small.bridge)
    caller.mark()
    allowance = small.bridge.allowance
    begun = allowance.begin(6.0, 1 << 30)
    with pytest.raises(CallRolledBack):
        caller.call(small.twin("spin"))
    assert caller.hybrid.statistics.total.traps == 1
    assert allowance.refusal()  # and not LimitReached: that much was not taken
    allowance.end(begun)
