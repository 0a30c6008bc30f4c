"""The image as guest-physical memory: mapped copy-on-write, or read page by page if it cannot be mapped.

This is the physical side only: `SnapshotSpace` maps a page at its virtual address when it is first touched.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.bridge.trusted_addresses import TrustedAddresses
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.machine.paging import LARGE_SHIFT, PAGE_SHIFT
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.memory_image.ranges import joined
from hybridbridge_vol.snapshot.blank_pages import BlankPages
from hybridbridge_vol.units import PAGE_SIZE

_BLOCK = 32 * PAGE_SIZE
"""Pages that are looked at together: they are mapped together where they can be."""
_EDGE = 7
"""Bytes of the pages before and behind that a word may have: they may follow each other in the direct map."""


class ImagePages:
    """See the module's text. Physical addresses are the image's own; in `memory` they lie from
    `SNAPSHOT_PADDR` on.

    A page that is read goes into a file in memory (memfd_create(2)), at its physical address. That file is
    mapped as an image would be, so discarding what a call has written leaves the page there.

    `trusted`: the addresses that make a page suspect. `blank`: which pages of zeros count as missing.
    """

    def __init__(
        self,
        image: PhysicalImage,
        memory: PhysicalMemory,
        trusted: TrustedAddresses,
        blank: BlankPages | None = None,
    ) -> None:
        self._image = image
        self._memory = memory
        self._trusted = trusted
        self._blank = blank
        self._has_blank: dict[tuple[int, int], bool] = {}
        self._suspect: dict[tuple[int, int], bool] = {}
        self._filled: set[int] = set()
        self._file: BinaryIO | None = None
        self._used: list[tuple[int, int]] = []
        self.mappings = self._mapped_runs() if image.mappable else self._room_for_runs()
        """`(paddr, mapping)` of all memory of the image."""
        for paddr, mapping in self.mappings:
            memory.place(SNAPSHOT_PADDR + paddr, mapping)

    @property
    def mapped(self) -> bool:
        """Whether the image is mapped as it is, so that bringing in a page reads nothing."""
        return self._image.mappable

    def _mapped_runs(self) -> list[tuple[int, HostMapping]]:
        fileno = self._image.fileno()
        return [
            (run.paddr, HostMapping.private_file(fileno, run.offset, run.size)) for run in self._image.runs
        ]

    def _room_for_runs(self) -> list[tuple[int, HostMapping]]:
        """Empty memory for whole pages; more than one run may have bytes of the same page."""
        pages = [(run.paddr & -PAGE_SIZE, page_up(run.end_paddr)) for run in self._image.runs]
        ranges = list(joined((start, end - start) for start, end in pages))
        self._file = os.fdopen(os.memfd_create("pages"), "r+b", buffering=0)
        self._file.truncate(max((start + size for start, size in ranges), default=0))
        fileno = self._file.fileno()
        return [(start, HostMapping.private_file(fileno, start, size)) for start, size in ranges]

    def bring_in(self, paddr: int, shift: int) -> tuple[int, int] | None:
        """The page to map for a byte of the image, and its size as a power of two, at most `shift`: that of
        the page that the snapshot has there. None if the image does not hold it. Only one of 4 KiB may be
        suspect."""
        sizes = (LARGE_SHIFT, PAGE_SHIFT) if shift > PAGE_SHIFT and self._image.mappable else (PAGE_SHIFT,)
        for size in sizes:
            page = paddr >> size << size
            if self._holds(page, 1 << size) and (self._image.mappable or self._fill(page)):
                if size > PAGE_SHIFT and self.is_suspect(page, 1 << size):
                    continue
                if self._blank is not None and self._is_blank(self._blank, page, 1 << size):
                    continue
                self._note_used(page, 1 << size)
                return page, size
        return None

    def is_suspect(self, page: int, size: int = PAGE_SIZE) -> bool:
        """Whether the image has an address of the trusted side in memory that was brought in, or across its
        edges. Decided once, before anything can be written there: of an image that is mapped, for many pages
        together."""
        if size == PAGE_SIZE and self._image.mappable:
            block = page & -_BLOCK
            run = self._image.run_at(page)
            if run is not None and run.paddr <= block and not self._has_address(block, _BLOCK):
                return False
        return self._has_address(page, size)

    def _is_blank(self, blank: BlankPages, page: int, size: int) -> bool:
        """Whether a page of the image that should not be is zeros, in memory that is brought in. Decided
        once, before anything can be written there."""
        found = self._has_blank.get((page, size))
        if found is None:
            content = self._memory.around(SNAPSHOT_PADDR + page, size, 0)
            found = self._has_blank[page, size] = blank.any_in(page, content)
        return found

    def _has_address(self, page: int, size: int) -> bool:
        found = self._suspect.get((page, size))
        if found is None:
            view = self._memory.around(SNAPSHOT_PADDR + page, size, _EDGE)
            found = self._suspect[page, size] = self._trusted.are_in(view)
        return found

    def _note_used(self, page: int, size: int) -> None:
        if self._used:
            last, last_size = self._used[-1]
            if last + last_size == page:
                self._used[-1] = last, last_size + size
                return
        self._used.append((page, size))

    def _holds(self, paddr: int, size: int) -> bool:
        run = self._image.run_at(paddr)
        return run is not None and paddr + size <= page_up(run.end_paddr)

    def _fill(self, page: int) -> bool:
        """Read one page of an image that cannot be mapped; False if its bytes cannot be read."""
        if page in self._filled:
            return True
        run = self._image.run_at(page)
        size = PAGE_SIZE if run is None else min(PAGE_SIZE, run.end_paddr - page)
        data = self._image.read_available(page, size)
        if data is None or self._file is None:
            return False
        os.pwrite(self._file.fileno(), data, page)
        self._filled.add(page)
        return True

    def bytes_at(self, paddr: int, size: int) -> memoryview | bytes | None:
        """Bytes of the image; where they are mapped without copying them, and as calls have left them."""
        for start, mapping in self.mappings if self._image.mappable else ():
            if start <= paddr and paddr + size <= start + mapping.size:
                return mapping.view[paddr - start : paddr - start + size]
        return self._image.read_available(paddr, size)

    def touched(self, paddr: int, mapping: HostMapping) -> list[tuple[int, int]]:
        """`(offset, size)` ranges of the mapping that begins at `paddr` that were ever mapped: no other can
        have been written."""
        end = paddr + mapping.size
        return [
            (max(page, paddr) - paddr, min(page + size, end) - max(page, paddr))
            for page, size in self._used
            if page < end and paddr < page + size
        ]
