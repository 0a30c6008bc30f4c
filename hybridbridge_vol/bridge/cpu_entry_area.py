"""Hiding the trusted kernel's cpu_entry_area.

It begins at a fixed address, the same for every kernel (Documentation/arch/x86/x86_64/mm.rst): a pointer of
an image that leads there would be followed to the trusted kernel's own descriptor tables, which say where the
trusted kernel lies. So its page tables are hung into a place of the guard hole that nothing uses, drawn at
random, and the processor is told of the new addresses. The kernel's code reads nothing there but on entry
from user mode.
"""

from __future__ import annotations

from hybridbridge_vol.machine.cpu import CpuState
from hybridbridge_vol.machine.memory import PhysicalMemory
from hybridbridge_vol.machine.paging import ENTRIES, HUGE_SHIFT, TOP_SHIFT, last_table
from hybridbridge_vol.trust.placement import PLACES_IN_SLOT, Layout, random_below
from hybridbridge_vol.units import PAGE_SIZE

START = 0xFFFF_FE00_0000_0000
_SLOT_SHIFT = TOP_SHIFT[4]
"""It has a slot of 512 GiB to itself, of which one processor uses the first GiB."""
_IN_HUGE = (1 << HUGE_SHIFT) - 1
_BASE = 1
"""Of what Unicorn has of a table register: selector, base, limit, flags."""


def hide(memory: PhysicalMemory, layout: Layout, state: CpuState) -> CpuState:
    """The state of a booted kernel's processor that goes with the moved tables. Nothing is moved if the
    kernel has none there."""

    def table_of(vaddr: int, shift: int) -> int | None:
        return last_table(memory.read_u64, state.root_paddr, vaddr, layout.levels, shift)

    slots, area = table_of(START, _SLOT_SHIFT), table_of(START, HUGE_SHIFT)
    room = table_of(layout.page_offset_base, HUGE_SHIFT)
    if slots is None or area is None or room is None:
        return state
    used = memoryview(memory.read(room, PAGE_SIZE)).cast("Q")
    free = [number for number in PLACES_IN_SLOT if not used[number]]
    number = free[random_below(len(free))]
    memory.write_u64(room + 8 * number, memory.read_u64(area))
    memory.write_u64(slots + 8 * (START >> _SLOT_SHIFT & ENTRIES - 1), 0)
    new = layout.page_offset_base & -(1 << _SLOT_SHIFT) | number << HUGE_SHIFT

    def moved(table: tuple[int, ...]) -> tuple[int, ...]:
        base = table[_BASE]
        if base & ~_IN_HUGE == START:
            base = new | base & _IN_HUGE
        return (*table[:_BASE], base, *table[_BASE + 1 :])

    return state._replace(gdtr=moved(state.gdtr), idtr=moved(state.idtr), tr=moved(state.tr))
