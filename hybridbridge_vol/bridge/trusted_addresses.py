"""Which bytes of the image could be an address of the trusted side.

The author of an image does not know where the trusted kernel lies, but can guess: its text among some 200
positions, and as often as there is room. FAST-BRIDGE follows a pointer without looking at it, so it is not
given pages that hold such bytes (snapshot_space.py): SLOW-BRIDGE is, which looks. Addresses of its memory are
found at any alignment, those of its image at multiples of 4.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.taint.native_library import library
from hybridbridge_vol.machine.memory import PhysicalMemory
from hybridbridge_vol.machine.paging import (
    ENTRIES,
    FRAME_MASK,
    HUGE_SHIFT,
    LARGE,
    LARGE_SHIFT,
    PRESENT,
    TOP_SHIFT,
    last_table,
)
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.units import PAGE_SIZE

_ROUNDED = 64 << 20
"""What is mapped in each GiB is rounded to as much at both ends: the trusted kernel maps more later."""


class TrustedAddresses:
    """Ranges of virtual addresses: `window` in the last 2 GiB, the others in one hole of 8 TiB."""

    def __init__(self, window: range, hole: Iterable[range]) -> None:
        numbers = [number for item in (window, *hole) for number in (item.start, len(item))]
        self._ranges = (ctypes.c_uint64 * len(numbers))(*numbers)
        self._count = len(numbers) // 2
        self._find = library().trusted_address_in

    def are_in(self, data: memoryview) -> bool:
        """Whether eight bytes of `data`, which can be written, are one of these addresses."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else 0
        return bool(self._find(start, len(data), self._ranges, self._count) >= 0)


def trusted_addresses(
    sides: Sides, layout: Layout, root_paddr: int, memory: PhysicalMemory
) -> TrustedAddresses:
    """Those of a booted kernel: of its image, and what its page tables at `root_paddr` map in the guard hole,
    rounded to `_ROUNDED`."""
    start = sides.home_text_vaddr
    return TrustedAddresses(range(start, start + sides.size), _mapped(layout, root_paddr, memory))


def _mapped(layout: Layout, root_paddr: int, memory: PhysicalMemory) -> Iterator[range]:
    for slot in range(layout.guard_hole.start, layout.guard_hole.stop, 1 << TOP_SHIFT[4]):
        table = last_table(memory.read_u64, root_paddr, slot, layout.levels, HUGE_SHIFT)
        for number, entry in _present(table, memory):
            inner = None if entry & LARGE else entry & FRAME_MASK
            used = [inside for inside, _entry in _present(inner, memory)] or [0, ENTRIES - 1]
            start = slot + (number << HUGE_SHIFT)
            first, end = start + (used[0] << LARGE_SHIFT), start + (used[-1] + 1 << LARGE_SHIFT)
            yield range(first & -_ROUNDED, end + _ROUNDED - 1 & -_ROUNDED)


def _present(table: int | None, memory: PhysicalMemory) -> Iterator[tuple[int, int]]:
    """The entries of a page table that are present, with their numbers."""
    if table is not None:
        for number, entry in enumerate(memoryview(memory.read(table, PAGE_SIZE)).cast("Q")):
            if entry & PRESENT:
                yield number, entry
