"""Rolling back a call: all memory of the machine as it was at a marked moment, in milliseconds.

`Caller.roll_back` (caller.py) decides when, and puts the rest back: labels and descriptors.

All memory is private to this process and copy-on-write over files. The mark keeps the few pages that were
written until then; rolling back discards every private page (`MADV_DONTNEED`, madvise(2)) and puts the kept
pages back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.units import PAGE_SIZE

_PAGEMAP = "/proc/self/pagemap"
_ENTRY_SIZE = 8
_PRIVATE = re.compile(rb"[\x40-\x5f\x80-\x9f\xc0-\xdf]")
"""The highest byte of a page's entry that says it was written (Documentation/admin-guide/mm/pagemap.rst): bit
63 of the entry is "present", 62 "swapped", 61 "file page or shared". The byte has 0x80 set and 0x20 clear for
a private copy in memory, 0x40 set for one that was swapped out."""


def private_pages(mapping: HostMapping, offset: int, size: int, pagemap: int) -> Iterator[int]:
    """Offsets of the pages in `[offset, offset + size)` of a private mapping that were written since it was
    made.

    `pagemap` is a descriptor of /proc/self/pagemap.
    """
    first = (mapping.address + offset) // PAGE_SIZE
    entries = os.pread(pagemap, _ENTRY_SIZE * (-(-size // PAGE_SIZE)), _ENTRY_SIZE * first)
    for match in _PRIVATE.finditer(entries[_ENTRY_SIZE - 1 :: _ENTRY_SIZE]):
        yield offset + match.start() * PAGE_SIZE


class Mark:
    """A moment to go back to.

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
        """Go back: memory, and the processor's registers and translations."""
        for mapping, pages in self._kept:
            mapping.discard_writes()
            for offset, data in pages:
                mapping.view[offset : offset + len(data)] = data
        self._machine.uc.context_restore(self._context)
        self._machine.flush_translations()
