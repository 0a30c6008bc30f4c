"""Where a trusted kernel lives: a virtual layout of its own, drawn at random for each boot.

The regions lie in the guard hole of the x86-64 memory map (top-level slots 256 to 271, `0xffff8000...`,
Documentation/arch/x86/x86_64/mm.rst), where no Linux puts anything; the kernel image must lie in the top 2 GiB
like every kernel's, so there it has to avoid the snapshot's. The draw is secret to a snapshot's author: no image
can be made to point into the trusted side but by luck.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

START_KERNEL_MAP = 0xFFFFFFFF80000000  # __START_KERNEL_map, arch/x86/include/asm/page_64_types.h
KERNEL_IMAGE_SIZE = 1 << 30  # with CONFIG_RANDOMIZE_BASE, same file
KERNEL_ALIGN = 2 << 20  # CONFIG_PHYSICAL_ALIGN
GUARD_HOLE = 0xFFFF_8000_0000_0000
GUARD_HOLE_END = 0xFFFF_8800_0000_0000
_PUD = 1 << 30  # kernel_randomize_memory() draws multiples of PUD_SIZE, arch/x86/mm/kaslr.c
_SLOT = 1 << 39


@dataclass(frozen=True, slots=True)
class Layout:
    """Virtual addresses of one boot.

    `kernel_delta` is what is added to every link-time address of the kernel image (a multiple of 2 MiB);
    `page_offset_base`, `vmalloc_base` and `vmemmap_base` are the kernel's own variables of these names.
    """

    kernel_delta: int
    page_offset_base: int
    vmalloc_base: int
    vmemmap_base: int

    def __contains__(self, vaddr: int) -> bool:
        """Whether `vaddr` lies in the part of the guard hole that the trusted kernel uses."""
        return GUARD_HOLE <= vaddr < GUARD_HOLE_END


LINUX_LAYOUT = Layout(0, 0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_0000, 0xFFFF_EA00_0000_0000)
"""Where Linux puts everything without KASLR (Documentation/arch/x86/x86_64/mm.rst, four levels)."""


def overlap(start: int, end: int, other_start: int, other_end: int) -> bool:
    """Whether two half-open ranges share an address."""
    return start < other_end and other_start < end


def draw_layout(
    text_link_vaddr: int,
    end_link_vaddr: int,
    avoid: tuple[int, int] | None = None,
    below: Callable[[int], int] = secrets.randbelow,
) -> Layout:
    """A random layout for a kernel linked from `_text` to `_end`.

    `avoid` is a range of virtual addresses that the kernel image must leave free (the snapshot's kernel).
    The direct map is the lowest of the three regions, since new page tables copy from its slot upwards, and the
    order page_offset, vmalloc, vmemmap keeps vmalloc's 32 TiB from wrapping.
    """
    size = end_link_vaddr - text_link_vaddr
    first = START_KERNEL_MAP + KERNEL_ALIGN
    places = (START_KERNEL_MAP + KERNEL_IMAGE_SIZE - size - first) // KERNEL_ALIGN
    free = [
        place
        for place in range(first, first + places * KERNEL_ALIGN, KERNEL_ALIGN)
        if avoid is None or not overlap(place, place + size, *avoid)
    ]
    kernel = free[below(len(free))]
    slots = (GUARD_HOLE_END - GUARD_HOLE) // _SLOT
    chosen = sorted(_distinct(3, slots, below))
    bases = [GUARD_HOLE + slot * _SLOT + below(_SLOT // _PUD // 2) * _PUD for slot in chosen]
    return Layout(kernel - text_link_vaddr, *bases)


def _distinct(count: int, choices: int, below: Callable[[int], int]) -> set[int]:
    picked: set[int] = set()
    while len(picked) < count:
        picked.add(below(choices))
    return picked
