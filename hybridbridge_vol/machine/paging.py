"""x86-64 page tables: reading them, and building our own (SDM volume 3A, 4.5 "4-level and 5-level
paging")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
NO_EXECUTE = 1 << 63
FRAME_MASK = 0x000F_FFFF_FFFF_F000

ENTRIES = 512
TOP_SHIFT = {4: 39, 5: 48}


def canonical(vaddr: int, levels: int = 4) -> bool:
    """Whether `vaddr` (64 bits, unsigned) is a canonical address with that many paging levels."""
    high = vaddr >> (TOP_SHIFT[levels] + 8)
    return high == 0 or high == (1 << (64 - TOP_SHIFT[levels] - 8)) - 1


@dataclass(frozen=True, slots=True)
class Translation:
    """Where a virtual address leads.

    `paddr` is the physical address of the byte, `entry` the last page-table entry, `shift` the size of the
    page it lies in as a power of two (12, 21 or 30).
    """

    paddr: int
    entry: int
    shift: int


def walk(read_u64: Callable[[int], int], root_paddr: int, vaddr: int, levels: int = 4) -> Translation | None:
    """Translate `vaddr` by the tables at `root_paddr`; None if an entry is not present.

    `read_u64` reads a table entry at a physical address and raises what it raises for a hole.
    """
    table = root_paddr & FRAME_MASK
    shift = TOP_SHIFT[levels]
    while True:
        entry = read_u64(table + 8 * ((vaddr >> shift) & 511))
        if not entry & PRESENT:
            return None
        if shift == 12 or (entry & LARGE and shift in (21, 30)):
            offset = (1 << shift) - 1
            return Translation((entry & FRAME_MASK & ~offset) | (vaddr & offset), entry, shift)
        table = entry & FRAME_MASK
        shift -= 9


def pages(vaddr: int, size: int) -> Iterator[tuple[int, int]]:
    """`(vaddr, size)` pieces of a range, none trampoline a 4 KiB boundary."""
    end = vaddr + size
    while vaddr < end:
        step = min(end - vaddr, 4096 - (vaddr & 4095))
        yield vaddr, step
        vaddr += step


class TableBuilder:
    """Page tables of our own making in a pool of guest-physical pages.

    `allocate` hands out the physical address of a zeroed page for a new table; `read_u64`/`write_u64` reach
    physical memory.
    """

    def __init__(
        self,
        root_paddr: int,
        levels: int,
        read_u64: Callable[[int], int],
        write_u64: Callable[[int, int], None],
        allocate: Callable[[], int],
    ) -> None:
        self.root_paddr = root_paddr
        self.levels = levels
        self._read = read_u64
        self._write = write_u64
        self._allocate = allocate

    def table(self, vaddr: int, shift: int) -> int:
        """Physical address of the table whose entries map `1 << shift` bytes each, for `vaddr`; made if
        absent.

        New upper entries carry USER and no NO_EXECUTE: the last entry alone decides.
        """
        table = self.root_paddr
        level = TOP_SHIFT[self.levels]
        while level > shift:
            slot = table + 8 * ((vaddr >> level) & 511)
            entry = self._read(slot)
            if not entry & PRESENT:
                entry = self._allocate() | PRESENT | WRITABLE | USER | ACCESSED
                self._write(slot, entry)
            table = entry & FRAME_MASK
            level -= 9
        return table

    def map_page(self, vaddr: int, paddr: int, flags: int, shift: int = 12) -> None:
        """Map one page of `1 << shift` bytes; `flags` are entry bits (PRESENT is added)."""
        entry = paddr | flags | PRESENT | (LARGE if shift > 12 else 0)
        self._write(self.table(vaddr, shift) + 8 * ((vaddr >> shift) & 511), entry)
