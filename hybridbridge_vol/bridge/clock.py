"""Time stands still: every clock of the snapshot reads its last tick before the capture.

The timekeeper (kernel/time/timekeeping.c, `tk_core`; the first of `timekeeper_data` since 6.17) adds what its
clocksource counted since `cycle_last` to the time of the last tick. The clocksource's own read function, in
the twin, is made to return `cycle_last`, whatever hardware it would ask; RDTSC returns the same.
"""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.text.twin_text import Patch, returning64
from hybridbridge_vol.machine.devices import TimeStampCounter
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual, VirtualMemory
from hybridbridge_vol.units import START_KERNEL_MAP

_SEARCH_WORDS = 24
"""How far into it the first `struct tk_read_base` is looked for: it begins after a sequence counter."""
_MASK_AT, _CYCLE_LAST_AT = 8, 16  # struct tk_read_base: clock, mask, cycle_last
_NARROWEST_MASK = 0xFFFF


class StoppedClock(NamedTuple):
    """The offset from `_text` of the clocksource's read function, and what it last returned, in cycles."""

    read_offset: int
    cycle_last: int

    def patch(self) -> Patch:
        """Code of the read function in the twin."""
        return self.read_offset, returning64(self.cycle_last)

    def tsc(self) -> TimeStampCounter:
        """What RDTSC returns."""
        return TimeStampCounter(self.cycle_last, step=0)


def find_clock(snapshot: VirtualMemory, sides: Sides) -> StoppedClock | None:
    """The clock of a snapshot; None if its timekeeper makes no sense.

    The read base is recognised by its mask (all ones up to some bit) and by a clock whose first word, its
    read function, is the entry of a function. UnreadableVirtual if the image does not hold the timekeeper.
    """
    name = next((name for name in ("tk_core", "timekeeper_data") if name in sides.symbols), None)
    if name is None:
        return None
    start = sides.snapshot(name)
    for base_vaddr in range(start, start + 8 * _SEARCH_WORDS, 8):
        clock_vaddr = snapshot.read_u64(base_vaddr)
        mask = snapshot.read_u64(base_vaddr + _MASK_AT)
        if clock_vaddr < START_KERNEL_MAP or mask & (mask + 1) or mask < _NARROWEST_MASK:
            continue
        offset = _read_function(snapshot, sides, clock_vaddr)
        if offset is not None:
            return StoppedClock(offset, snapshot.read_u64(base_vaddr + _CYCLE_LAST_AT))
    return None


def _read_function(snapshot: VirtualMemory, sides: Sides, clock_vaddr: int) -> int | None:
    """The offset from `_text` of the function that a clocksource begins with; None if it begins with none."""
    try:
        offset = snapshot.read_u64(clock_vaddr) - sides.twin_text_vaddr
    except UnreadableVirtual:
        return None
    found = sides.function_at(offset)
    return offset if found is not None and found[1] == 0 else None
