"""Where a trusted kernel lies: a virtual layout of its own, drawn at random for each boot.

The regions lie in the guard hole of the x86-64 memory map (with 4-level page tables at `0xffff8000...`, with
5 at `0xff00...`, Documentation/arch/x86/x86_64/mm.rst), where Linux puts nothing. The kernel image must lie
in the top 2 GiB like every kernel's, and there it has to avoid the snapshot's. The draw is secret to a
snapshot's author: an image can be made to point into the trusted side only by guessing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.units import START_KERNEL_MAP, U64

KERNEL_IMAGE_SIZE = 1 << 30  # with CONFIG_RANDOMIZE_BASE, arch/x86/include/asm/page_64_types.h
_LOOKALIKES = (range(0xFFFF_FFFF_8E00_0000, 0xFFFF_FFFF_AB80_0000), range(0xFFFF_FFFF_B800_0000, 1 << 64))
"""Addresses that words of any image look like, which would make their pages suspect
(bridge/trusted_addresses.py): the time since 1970 in seconds, negative, of the years 2015 to 2030
(`wall_to_monotonic` of the timekeeper), and `mov $-1, %eax` and its like in code (opcodes b8 to bf)."""
KERNEL_ALIGN = 2 << 20  # CONFIG_PHYSICAL_ALIGN
RAM_SIZE = 256 << 20
"""Enough for a distribution kernel, its memmap and every file system we mount."""
UNUSED_PADDR = 0x9F000
"""Guest-physical memory that the kernel maps, like all below 1 MiB, and is told not to use."""
GUARD_HOLES = {
    4: range(0xFFFF_8000_0000_0000, 0xFFFF_8800_0000_0000),
    5: range(0xFF00_0000_0000_0000, 0xFF00_0800_0000_0000),
}
"""By the number of levels of page tables. With 5 levels the hole is longer, of which the same length is used.
Each is aligned to its length."""
FIXED_HOLE = range(0xFFFF_F000_0000_0000, 0xFFFF_F800_0000_0000)
"""For kernels whose regions are constants of their code. New page tables of these copy only what lies above
the direct map as linked, so the guard hole below will not do. Here KASAN would have its shadow memory."""
_HOLE_SIZE = 8 << 40
_PUD = 1 << 30  # kernel_randomize_memory() draws multiples of PUD_SIZE, arch/x86/mm/kaslr.c
_SLOT = 1 << 39
_REGIONS = 3
_EARLIER = 16
"""Bits: a pointer that is read from two bytes before on has the end of another word in its lowest two bytes,
and what was its upper half is where an address of the guard hole has its middle: to text in the first 128 MiB
of the last 2 GiB, where every kernel without KASLR lies, it looks like an address in the hole."""
PLACES_IN_SLOT = [number for number in range(1, _SLOT // _PUD) if number % 4]
"""Of a slot of the top page table, in GiB, where something may lie. Elsewhere the lower half of an address is
a small number: many a pair of 32-bit numbers looks like that, of which the second is some -32,000."""


class Layout(NamedTuple):
    """Virtual addresses of one boot; the three bases lie in one guard hole.

    `kernel_delta` is what is added to every link-time address of the kernel image (a multiple of 2 MiB);
    `page_offset_base`, `vmalloc_base` and `vmemmap_base` are the kernel's own variables of these names;
    `levels` is how many its page tables have (4 or 5).
    """

    kernel_delta: int
    page_offset_base: int
    vmalloc_base: int
    vmemmap_base: int
    levels: int = 4

    @property
    def guard_hole(self) -> range:
        """Virtual addresses that no snapshot uses; all of the trusted kernel but its image is here."""
        start = self.page_offset_base & -_HOLE_SIZE
        return range(start, start + _HOLE_SIZE)

    def __contains__(self, vaddr: object) -> bool:
        """Whether `vaddr` lies in the part of the guard hole that the trusted kernel uses."""
        return vaddr in self.guard_hole


LINUX_LAYOUT = Layout(0, 0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_0000, 0xFFFF_EA00_0000_0000)
"""Where Linux puts everything without KASLR (Documentation/arch/x86/x86_64/mm.rst, four levels)."""


def overlap(start: int, end: int, other_start: int, other_end: int) -> bool:
    """Whether two half-open ranges share an address."""
    return start < other_end and other_start < end


def random_below(limit: int) -> int:
    """A number that nobody can guess, from 0 on. The remainder's bias is below 1 in 2**40 for limits up to
    2**24."""
    # the module `secrets` would cost 8 ms of every start
    return int.from_bytes(os.urandom(8), "little") % limit


def looks_like_other_words(image: range, link: range) -> bool:
    """Whether addresses of a kernel image look like what images have anyway: `_LOOKALIKES`, or where this
    kernel was linked."""
    return any(overlap(image.start, image.stop, item.start, item.stop) for item in (*_LOOKALIKES, link))


def looks_like_pointers(layout: Layout, avoid: tuple[int, int], size: int) -> bool:
    """Whether addresses of the three regions look like pointers, read from two bytes before on, to the kernel
    of `size` bytes in the middle of `avoid`."""
    text = _in_the_middle(avoid, size)
    bases = (layout.page_offset_base, layout.vmalloc_base, layout.vmemmap_base)
    return any(_is_like(base & -_SLOT, text) for base in bases)


def _in_the_middle(avoid: tuple[int, int], size: int) -> range:
    start = (avoid[0] + avoid[1] - size) // 2
    return range(start, start + size)


def _is_like(slot: int, text: range) -> bool:
    start, end = text.start << _EARLIER & U64, text.stop << _EARLIER & U64
    return overlap(slot, slot + _SLOT, start, end)


def draw_layout(
    text_link_vaddr: int,
    end_link_vaddr: int,
    avoid: tuple[int, int] | None = None,
    below: Callable[[int], int] = random_below,
    levels: int = 4,
    mapped_size: int = KERNEL_IMAGE_SIZE,
    fixed_steps: tuple[int, int, int] | None = None,
) -> Layout:
    """A random layout for a kernel linked from `_text` to `_end`.

    `avoid` is a range of virtual addresses that the kernel image must leave free: the snapshot's kernel, and
    as much on both sides;
    `mapped_size` bytes from START_KERNEL_MAP on are all that the kernel maps of itself. With `fixed_steps`
    the regions are constants of its code, and begin at multiples of these, which leaves far fewer choices.
    ValueError if there is no room. The
    direct map is the lowest of the three regions, since new page tables copy from its slot upwards, and the
    order page_offset, vmalloc, vmemmap keeps vmalloc's 32 TiB from wrapping.
    """
    size = end_link_vaddr - text_link_vaddr
    first = START_KERNEL_MAP + KERNEL_ALIGN
    slots = (START_KERNEL_MAP + mapped_size - size - first) // KERNEL_ALIGN
    free = [
        start
        for start in range(first, first + slots * KERNEL_ALIGN, KERNEL_ALIGN)
        if avoid is None or not overlap(start, start + size, *avoid)
    ]
    if not free:
        raise ValueError("no room for a second kernel")
    link = range(text_link_vaddr, end_link_vaddr)
    best = [start for start in free if not looks_like_other_words(range(start, start + size), link)] or free
    kernel = best[below(len(best))]
    page_offset, vmalloc, vmemmap = (
        _fixed_bases(fixed_steps, below)
        if fixed_steps
        else _bases(_slots(GUARD_HOLES[levels], _in_the_middle(avoid, size) if avoid else link), below)
    )
    return Layout(kernel - text_link_vaddr, page_offset, vmalloc, vmemmap, levels)


def _slots(hole: range, text: range) -> list[int]:
    """The slots of a hole in which no address looks like a pointer to `text`, or, in the first one, like a
    pair of 32-bit numbers of which the second is -32,768; all but that for a kernel of more than 100 MiB."""
    slots = range(hole.start + _SLOT, hole.stop, _SLOT)
    best = [slot for slot in slots if not _is_like(slot, text)]
    return best if len(best) >= _REGIONS else list(slots)


def _bases(slots: Sequence[int], below: Callable[[int], int]) -> Iterator[int]:
    """None lies at the edge of a slot: other words of memory look like addresses there."""
    chosen = sorted(_distinct(_REGIONS, len(slots), below))
    choices = len(PLACES_IN_SLOT) // 2
    return (slots[number] + PLACES_IN_SLOT[below(choices)] * _PUD for number in chosen)


def _fixed_bases(steps: tuple[int, int, int], below: Callable[[int], int]) -> tuple[int, int, int]:
    """Each is drawn below the one that follows it."""
    first, second, third = steps
    vmemmap = (1 + below(len(FIXED_HOLE) // third - 1)) * third
    vmalloc = (1 + below(vmemmap // second - 1)) * second
    page_offset = below(vmalloc // first) * first
    return FIXED_HOLE.start + page_offset, FIXED_HOLE.start + vmalloc, FIXED_HOLE.start + vmemmap


def _distinct(count: int, choices: int, below: Callable[[int], int]) -> set[int]:
    picked: set[int] = set()
    while len(picked) < count:
        picked.add(below(choices))
    return picked
