"""Where the snapshot's own page tables let the kernel execute code.

A page is executable if no entry on the way to it has the bit NX (Intel SDM 4.6); pages of processes, which
the kernel does not execute, are left out. The tables are read by numpy: a kernel whose direct map is made of
small pages has 2 MB of them for each GiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from hybridbridge_vol.machine.paging import (
    ENTRIES,
    FRAME_MASK,
    HUGE_SHIFT,
    LARGE,
    LARGE_SHIFT,
    NO_EXECUTE,
    PAGE_SHIFT,
    PRESENT,
    TOP_SHIFT,
    USER,
    WRITABLE,
)
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.units import PAGE_SIZE, U64

MAX_TABLES = 1 << 20
"""Page tables that are read: those of 2 TiB in small pages."""
MAX_PAGES, MAX_RANGES = 1 << 18, 1 << 14
"""Executable pages that are followed, and ranges of them: a kernel with all its modules has some thousand and
some hundred; forged tables can have any number."""
_INDEX_BITS = 9


class ExecutableRange(NamedTuple):
    """Virtual addresses that follow one another and have the same rights."""

    vaddr: int
    size: int
    is_writable: bool

    @property
    def end_vaddr(self) -> int:
        """The first address behind it."""
        return self.vaddr + self.size


def executable_ranges(image: PhysicalImage, layout: SnapshotLayout) -> Iterator[ExecutableRange]:
    """Those of the kernel's half of the address space, in order. A table that is not in the image maps
    nothing."""
    return islice(_joined(islice(_Walk(image, layout).pages(), MAX_PAGES)), MAX_RANGES)


def _joined(pages: Iterable[ExecutableRange]) -> Iterator[ExecutableRange]:
    last: ExecutableRange | None = None
    for found in pages:
        if last is not None and last.end_vaddr == found.vaddr and last.is_writable == found.is_writable:
            last = last._replace(size=last.size + found.size)
            continue
        if last is not None:
            yield last
        last = found
    if last is not None:
        yield last


class _Walk:
    def __init__(self, image: PhysicalImage, layout: SnapshotLayout) -> None:
        self._image = image
        self._root_paddr = layout.root_paddr
        self._top = TOP_SHIFT[layout.levels]
        self._sign = U64 & -(1 << self._top + _INDEX_BITS)
        self._count = 0
        self._without_code: set[int] = set()
        """Tables that lead to no code: some are shared by many entries."""

    def pages(self) -> Iterator[ExecutableRange]:
        yield from self._table(self._root_paddr & FRAME_MASK, self._top, 0, True)

    def _table(self, paddr: int, shift: int, base: int, is_writable: bool) -> Iterator[ExecutableRange]:
        """What a table leads to whose entries map 1 << `shift` bytes each; `base` is the first address that
        it maps, without the bits of its sign."""
        if paddr in self._without_code or self._count >= MAX_TABLES:
            return
        self._count += 1
        data = self._image.read_available(paddr, PAGE_SIZE)
        if data is None:
            return
        entries = np.frombuffer(data, "<u8")
        indices = np.flatnonzero((entries & np.uint64(PRESENT | NO_EXECUTE)) == PRESENT)
        has_code = False
        for index in indices[indices >= (ENTRIES // 2 if shift == self._top else 0)].tolist():
            entry, vaddr = int(entries[index]), base | index << shift
            writable = is_writable and bool(entry & WRITABLE)
            is_page = shift == PAGE_SHIFT or (shift in (LARGE_SHIFT, HUGE_SHIFT) and entry & LARGE)
            if not is_page:
                for inner in self._table(entry & FRAME_MASK, shift - _INDEX_BITS, vaddr, writable):
                    has_code = True
                    yield inner
            elif not entry & USER:
                has_code = True
                yield ExecutableRange(self._sign | vaddr, 1 << shift, writable)
        if not has_code:
            self._without_code.add(paddr)
