"""A page of the image with an address of the trusted side: only SLOW-BRIDGE reads it, and that is no trap."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_bridge import SmallBridge
from small_snapshot import DATA, HOME_VADDR, KERNEL_SIZE, TEXT_VADDR, word

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.units import PAGE_SIZE

Make = Callable[..., SmallBridge]
ELSEWHERE = DATA + 0x100
NUMBER = ELSEWHERE + PAGE_SIZE
TRUSTED = HOME_VADDR + KERNEL_SIZE // 2


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.FAST])
def test_slow_bridge_reads_it_each_time_though_all_code_is_proven(make: Make, mode: Mode) -> None:
    small = make(
        {"load": "488b07 mov rax, qword ptr [rdi]\nc3 ret"},
        statics={ELSEWHERE: word(7), NUMBER: word(5), NUMBER + 8: word(TRUSTED)},
    )
    caller = Caller(small.bridge)
    caller.mark()
    assert caller.call(small.twin("load"), TEXT_VADDR + ELSEWHERE) == 7
    assert caller.hybrid.statistics.total.traps == 1
    caller.hybrid.mode = mode
    for times in (1, 2):
        assert caller.call(small.twin("load"), TEXT_VADDR + NUMBER) == 5
        assert caller.hybrid.statistics.total.withheld == times
    assert caller.hybrid.statistics.total.traps == 1
