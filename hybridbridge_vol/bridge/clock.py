"""Time stands still: every clock of the snapshot reads its last tick before the freeze.

The timekeeper (kernel/time/timekeeping.c, `tk_core`; the first of `timekeeper_data` since 6.17) adds what its
clocksource counted since `cycle_last` to the time of the last tick. The clocksource's own read function, in
the twin, is made to answer `cycle_last`, whatever hardware it would ask; RDTSC answers the same.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.text.rebased_text import TwinText, returning64
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.trust.placement import START_KERNEL_MAP
from hybridbridge_vol.units import U64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybridbridge_vol.kernel_file.symbols import Symbols

_SEARCH_WORDS = 24
"""How far into it the first `struct tk_read_base` is looked for: it begins after a sequence counter."""
_MASK_AT, _CYCLE_LAST_AT = 8, 16  # struct tk_read_base: clock, mask, cycle_last


def stop_clock(
    machine: Machine, twin: TwinText, symbols: Symbols, layout: SnapshotLayout, text_link_vaddr: int
) -> int | None:
    """Freeze the snapshot's clock; returns `cycle_last`, None if the timekeeper makes no sense.

    The read base is recognised by its mask (all ones up to some bit) and by a clock whose first word, its
    read function, is the entry of a function.
    """
    core = symbols.get("tk_core") or symbols.get("timekeeper_data")
    if core is None:
        return None
    base = (core + layout.shift) & U64
    for place in range(base, base + 8 * _SEARCH_WORDS, 8):
        clock = machine.read_u64(place)
        mask = machine.read_u64(place + _MASK_AT)
        if clock < START_KERNEL_MAP or mask & (mask + 1) or mask < 0xFFFF:
            continue
        try:
            offset = machine.read_u64(clock) - layout.text_vaddr
        except UnmappedVirtual:
            continue
        found = symbols.lookup(text_link_vaddr + offset) if 0 <= offset < layout.size else None
        if found is None or found[1] != 0:
            continue
        cycle_last = machine.read_u64(place + _CYCLE_LAST_AT)
        twin.overlay(offset, returning64(cycle_last))
        machine.devices.tsc, machine.devices.tsc_step = cycle_last, 0
        return cycle_last
    return None
