"""x86-64 page tables: walking the ones there are, and building our own (SDM volume 3A, 4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.units import PAGE_SIZE

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
UNCACHED = 1 << 4
"""Page-level cache disable (PCD)."""
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
NO_EXECUTE = 1 << 63
FRAME_MASK = 0x000F_FFFF_FFFF_F000

ENTRIES = 512
"""Of one table."""
PAGE_SHIFT, LARGE_SHIFT, HUGE_SHIFT = 12, 21, 30
"""Sizes of pages as powers of two: 4 KiB, 2 MiB, 1 GiB."""
TOP_SHIFT = {4: 39, 5: 48}
"""What an entry of the top-level table maps, as a power of two, by the number of levels."""
_INDEX_BITS = 9


def canonical(vaddr: int, levels: int = 4) -> bool:
    """Whether `vaddr` (64 bits, unsigned) is a canonical address with that many levels of page tables."""
    sign = TOP_SHIFT[levels] + _INDEX_BITS - 1
    high = vaddr >> sign
    return high == 0 or high == (1 << (64 - sign)) - 1


class Translation(NamedTuple):
    """Where a virtual address leads.

    `paddr` is the physical address of the byte, `entry` the last page-table entry, `shift` the size of the
    page it lies in as a power of two (`PAGE_SHIFT`, `LARGE_SHIFT` or `HUGE_SHIFT`).
    """

    paddr: int
    entry: int
    shift: int


def last_table(
    read_u64: Callable[[int], int], root_paddr: int, vaddr: int, levels: int = 4, last: int = PAGE_SHIFT
) -> int | None:
    """The physical address of the table whose entries map `1 << last` bytes each, around `vaddr`; None if
    there is none. Other parameters as those of `walk`."""
    table = root_paddr & FRAME_MASK
    shift = TOP_SHIFT[levels]
    while shift > last:
        entry = read_u64(table + 8 * ((vaddr >> shift) & (ENTRIES - 1)))
        if not entry & PRESENT or (entry & LARGE and shift in (LARGE_SHIFT, HUGE_SHIFT)):
            return None
        table = entry & FRAME_MASK
        shift -= _INDEX_BITS
    return table


def walk(read_u64: Callable[[int], int], root_paddr: int, vaddr: int, levels: int = 4) -> Translation | None:
    """Translate `vaddr` by the tables at `root_paddr`; None if an entry is not present.

    `read_u64` reads a table entry at a physical address; what it raises where there is no memory passes
    through.
    """
    table = root_paddr & FRAME_MASK
    shift = TOP_SHIFT[levels]
    while True:
        entry = read_u64(table + 8 * ((vaddr >> shift) & (ENTRIES - 1)))
        if not entry & PRESENT:
            return None
        if shift == PAGE_SHIFT or (entry & LARGE and shift in (LARGE_SHIFT, HUGE_SHIFT)):
            offset = (1 << shift) - 1
            return Translation((entry & FRAME_MASK & ~offset) | (vaddr & offset), entry, shift)
        table = entry & FRAME_MASK
        shift -= _INDEX_BITS


def pages(vaddr: int, size: int) -> Iterator[tuple[int, int]]:
    """`(vaddr, size)` pieces of a range, none of which crosses the edge of a page."""
    end = vaddr + size
    while vaddr < end:
        step = min(end - vaddr, PAGE_SIZE - vaddr % PAGE_SIZE)
        yield vaddr, step
        vaddr += step


class TableBuilder:
    """Adds to page tables. `root_paddr` is the top-level table.

    `allocate` gives the physical address of a zeroed page for a new table; `read_u64` and `write_u64` reach
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
        self._own: set[int] = set()
        """Physical addresses of the tables that were made."""
        self._links: dict[tuple[int, int], dict[int, int]] = {}
        """The entries that lead to them from tables of others, by their index in the table; by what such a
        table maps: `(first address / what it maps, what an entry maps as a power of two)`."""

    def translate(self, vaddr: int) -> Translation | None:
        """As `walk`, by these tables."""
        return walk(self._read, self.root_paddr, vaddr, self.levels)

    def table(self, vaddr: int, shift: int) -> int:
        """Physical address of the table whose entries map `1 << shift` bytes each, for `vaddr`; made if
        absent.

        New upper entries carry USER and no NO_EXECUTE: the last entry alone decides.
        """
        table = self.root_paddr
        level = TOP_SHIFT[self.levels]
        while level > shift:
            slot = table + 8 * ((vaddr >> level) & (ENTRIES - 1))
            entry = self._read(slot)
            if not entry & PRESENT:
                made = self._allocate()
                entry = made | PRESENT | WRITABLE | USER | ACCESSED
                self._write(slot, entry)
                self._own.add(made)
                if table not in self._own:
                    links = self._links.setdefault((vaddr >> level + _INDEX_BITS, level), {})
                    links[vaddr >> level & ENTRIES - 1] = entry
            table = entry & FRAME_MASK
            level -= _INDEX_BITS
        return table

    def link_again(self) -> None:
        """After the tables of others were taken back to an earlier state: let them lead to the tables that
        were made since then, with all that is mapped there. Where others have something now, it stays."""
        for (table_number, shift), links in self._links.items():
            vaddr = table_number * ENTRIES << shift
            table = last_table(self._read, self.root_paddr, vaddr, self.levels, shift)
            if table is None or table in self._own:
                continue
            for index, entry in links.items():
                if not self._read(table + 8 * index):
                    self._write(table + 8 * index, entry)

    def map_page(self, vaddr: int, paddr: int, flags: int, shift: int = PAGE_SHIFT) -> None:
        """Map one page of `1 << shift` bytes; `flags` are entry bits (PRESENT is added)."""
        entry = paddr | flags | PRESENT | (LARGE if shift > PAGE_SHIFT else 0)
        self._write(self.table(vaddr, shift) + 8 * ((vaddr >> shift) & (ENTRIES - 1)), entry)

    def unmap_page(self, vaddr: int) -> None:
        """Take a page of 4 KiB that was mapped out again. The processors that have used it must be told, if
        they are not to use it any more."""
        self._write(self.table(vaddr, PAGE_SHIFT) + 8 * ((vaddr >> PAGE_SHIFT) & (ENTRIES - 1)), 0)

    def map_absent(
        self, vaddr: int, entries: Iterable[int], paddr_of: Callable[[int], int | None], flags: int
    ) -> None:
        """Map those pages of 4 KiB that are not mapped yet, of some that follow each other from `vaddr` and
        are all of one table. Each has an entry in another table; `paddr_of` says of it where the page is, if
        it is anywhere. `flags` as for `map_page`."""
        slot = self.table(vaddr, PAGE_SHIFT) + 8 * ((vaddr >> PAGE_SHIFT) & (ENTRIES - 1))
        for entry in entries:
            if entry and not self._read(slot) and (paddr := paddr_of(entry)) is not None:
                self._write(slot, paddr | flags | PRESENT)
            slot += 8
