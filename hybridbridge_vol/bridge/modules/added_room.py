"""Room for modules that are added to a snapshot (`added_module`): addresses, and memory for their data."""

from __future__ import annotations

from hybridbridge_vol.bridge.physical_map import ADDED_PADDR
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.units import PAGE_SIZE

DATA_ROOM = 4 << 20
"""Bytes that the data of all added modules may have together; one has some ten thousand."""
_STEP = 2 << 20
"""Bytes between the places at which free room is looked for: at most 760 of them."""


class AddedRoom:
    """Free room for added modules: virtual addresses that the snapshot maps nothing at, and memory for their
    data."""

    def __init__(self, snapshot: VirtualMemory, memory: PhysicalMemory) -> None:
        self._snapshot = snapshot
        self._taken: list[range] = []
        self._next_offset = 0
        self.memory = HostMapping.anonymous(DATA_ROOM)
        memory.place(ADDED_PADDR, self.memory)

    def vaddrs(self, size: int) -> range | None:
        """Take whole pages of the modules area that nothing is mapped at; None if there are none."""
        area = self._snapshot.layout.modules
        for start in range(area.stop - _STEP, area.start, -_STEP):
            wanted = range(start, start + page_up(size))
            if wanted.stop <= area.stop and self._is_free(wanted):
                self._taken.append(wanted)
                return wanted
        return None

    def _is_free(self, wanted: range) -> bool:
        if any(taken.start < wanted.stop and wanted.start < taken.stop for taken in self._taken):
            return False
        return all(self._snapshot.translate(page) is None for page in wanted[::PAGE_SIZE])

    def data_paddr(self, content: bytes | bytearray) -> int | None:
        """Put whole pages of data into memory; their guest-physical address, None if there is no room
        left."""
        start = self._next_offset
        if start + len(content) > DATA_ROOM:
            return None
        self._next_offset += len(content)
        self.memory.view[start : start + len(content)] = content
        return ADDED_PADDR + start
