"""Reading much of a snapshot's virtual memory: each page table once, pages that lie in a row in one piece."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.machine.paging import FRAME_MASK, LARGE_SHIFT, PRESENT
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE, U64

_TABLE_SPAN = 1 << LARGE_SHIFT
"""Bytes of virtual memory that the last page table maps."""


class BulkReader:
    """Reads by the snapshot's own page tables, which may be forged. The last tables are kept."""

    def __init__(self, memory: VirtualMemory) -> None:
        self._memory = memory
        self._tables: dict[int, memoryview | None] = {}

    def read(self, vaddr: int, size: int) -> tuple[bytearray, list[int]]:
        """`size` bytes, and the offsets of the first bytes of pages that the image does not hold: these are
        zeros."""
        data = bytearray(size)
        absent: list[int] = []
        for at, length, paddr in self._runs(vaddr, size):
            piece = None if paddr is None else self._memory.image.read_available(paddr, length)
            if piece is not None:
                data[at : at + length] = piece
            elif paddr is not None and length > PAGE_SIZE:
                absent += self._read_by_page(data, at, length, paddr)
            else:
                absent.append(at)
        return data, absent

    def _read_by_page(self, data: bytearray, at: int, length: int, paddr: int) -> Iterator[int]:
        """The same for a run that the image holds in part; `paddr` is where it begins."""
        end = at + length
        while at < end:
            step = min(end - at, PAGE_SIZE - paddr % PAGE_SIZE)
            piece = self._memory.image.read_available(paddr, step)
            if piece is None:
                yield at
            else:
                data[at : at + step] = piece
            at, paddr = at + step, paddr + step

    def _runs(self, vaddr: int, size: int) -> Iterator[tuple[int, int, int | None]]:
        """`(offset, length, physical address)` of what lies in a row; None where no page is mapped, page by
        page."""
        start, length, first = 0, 0, 0
        at = 0
        while at < size:
            page = vaddr + at & U64
            step = min(size - at, PAGE_SIZE - page % PAGE_SIZE)
            paddr = self._translate(page)
            if length and paddr == first + length:
                length += step
            else:
                if length:
                    yield start, length, first
                start, length, first = at, step if paddr is not None else 0, paddr or 0
                if paddr is None:
                    yield at, step, None
            at += step
        if length:
            yield start, length, first

    def _translate(self, vaddr: int) -> int | None:
        span = vaddr // _TABLE_SPAN
        if span not in self._tables:
            self._tables[span] = self._table(vaddr)
        table = self._tables[span]
        if table is None:
            place = self._memory.translate(vaddr)
            return None if place is None else place.paddr
        entry = table[vaddr % _TABLE_SPAN // PAGE_SIZE]
        return (entry & FRAME_MASK) + vaddr % PAGE_SIZE if entry & PRESENT else None

    def _table(self, vaddr: int) -> memoryview | None:
        """The last table for an address; None if there is none, as for large pages."""
        table_paddr = self._memory.layout.last_table(self._memory.image, vaddr)
        data = None if table_paddr is None else self._memory.image.read_available(table_paddr, PAGE_SIZE)
        return None if data is None else memoryview(data).cast("Q")
