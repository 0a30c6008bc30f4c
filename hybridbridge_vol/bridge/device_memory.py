"""Memory of devices that the snapshot's drivers have mapped: no image has it, and no device is here to ask.

A call that reads it is rolled back, unless somebody wants an answer nevertheless and says so beside what he
shows: then registers read as zeros, and what is written to them is lost. Zeros, because most network cards
clear a counter that is read, and the driver adds it to its own in memory: nothing was counted since. All
ones, as a card gives that was pulled out, would be added.

A page of a device is one that the snapshot's page tables map uncached (ioremap(), arch/x86/mm/ioremap.c),
that the image does not have, and that is not among the memory of the kernel's, by its own list.
"""

from __future__ import annotations

from collections.abc import Sequence

from unicorn import Uc

from hybridbridge_vol.bridge.physical_map import DEVICES_PADDR
from hybridbridge_vol.machine.paging import UNCACHED, Translation
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.units import PAGE_SIZE

MAX_PAGES = 1 << 12
"""Pages of devices that a session gives an answer for: 16 MiB of registers."""


class DeviceMemory:
    """See the module's text. `refused`: the guest-physical address of the page of a device that was last
    asked for and not answered; None if none was."""

    def __init__(self, image: PhysicalImage) -> None:
        self._image = image
        self._ram: Sequence[range] | None = None
        self._pages: dict[int, int] = {}
        self.refused: int | None = None

    def show(self, uc: Uc) -> None:
        """Make an emulator see where pages of devices are put."""
        uc.mmio_map(DEVICES_PADDR, MAX_PAGES * PAGE_SIZE, _zeros, None, _lost, None)

    @property
    def is_answered(self) -> bool:
        """Whether registers read as zeros."""
        return self._ram is not None

    def answer(self, ram: Sequence[range]) -> None:
        """From now on registers read as zeros. `ram`: the guest-physical addresses of the machine's
        memory, which is no device's."""
        self._ram = ram

    def refuse(self) -> None:
        """From now on a call that reads a register does not end well."""
        self._ram = None
        self.refused = None

    def paddr_for(self, found: Translation) -> int | None:
        """Where, in our memory, the page of a device is that a translation of the snapshot's leads to; None
        if it leads to none, or to one that is not answered for."""
        page = found.paddr & -PAGE_SIZE
        if not found.entry & UNCACHED or self._image.run_at(page) is not None:
            return None
        if self._ram is None:
            self.refused = page
            return None
        if any(page in memory for memory in self._ram):
            return None
        if page not in self._pages and len(self._pages) == MAX_PAGES:
            return None
        return DEVICES_PADDR + self._pages.setdefault(page, len(self._pages)) * PAGE_SIZE


def _zeros(_uc: Uc, _offset: int, _size: int, _data: object) -> int:
    return 0


def _lost(_uc: Uc, _offset: int, _size: int, _value: int, _data: object) -> None:
    """What is written to a device."""
