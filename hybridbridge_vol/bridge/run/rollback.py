"""Undoing a call: all memory of the machine back to what it was at a marked moment, in milliseconds.

All memory is private to this process and copy-on-write over files. The mark keeps the few pages that were
written until then; rolling back throws every private page away (`MADV_DONTNEED`) and puts the kept pages
back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.units import PAGE_SIZE

_PAGEMAP = "/proc/self/pagemap"
# Documentation/admin-guide/mm/pagemap.rst: bit 63 present, 62 swapped, 61 file page or shared. The highest
# byte of a page's word is 0x80 set, 0x20 clear for a private copy in memory, 0x40 set for one swapped out.
_PRIVATE = re.compile(rb"[\x40-\x5f\x80-\x9f\xc0-\xdf]")


def private_pages(mapping: HostMapping, offset: int, size: int, pagemap: int) -> Iterator[int]:
    """Offsets of the pages in `[offset, offset + size)` of a private mapping that were written since it was
    made.

    `pagemap` is a descriptor of /proc/self/pagemap.
    """
    first = (mapping.address + offset) // PAGE_SIZE
    words = os.pread(pagemap, 8 * (-(-size // PAGE_SIZE)), 8 * first)
    for match in _PRIVATE.finditer(words[7::8]):
        yield offset + match.start() * PAGE_SIZE


class Mark:
    """A moment to come back to.

    `regions` are `(mapping, [(offset, size)])`: the mappings to be restored, and which of their parts may
    have been written so far.
    """

    def __init__(
        self, machine: Machine, regions: Iterable[tuple[HostMapping, list[tuple[int, int]]]]
    ) -> None:
        self._machine = machine
        self._context = machine.uc.context_save()
        self._kept: list[tuple[HostMapping, list[tuple[int, bytes]]]] = []
        pagemap = os.open(_PAGEMAP, os.O_RDONLY)
        try:
            for mapping, parts in regions:
                pages: dict[int, bytes] = {}
                for offset, size in parts:
                    for page in private_pages(mapping, offset, size, pagemap):
                        pages[page] = bytes(mapping.view[page : page + PAGE_SIZE])
                self._kept.append((mapping, sorted(pages.items())))
        finally:
            os.close(pagemap)

    def restore(self) -> None:
        """Go back. The processor's registers and its translation look-aside buffer follow."""
        for mapping, pages in self._kept:
            mapping.discard_writes()
            for offset, data in pages:
                mapping.view[offset : offset + len(data)] = data
        self._machine.uc.context_restore(self._context)
        self._machine.flush_translations()
