"""The snapshot's address space inside the trusted machine, rebuilt page by page as it is touched.

The snapshot's own page tables are read, never used: each translation is checked against what the image holds,
moved to where the image lies in our physical memory, and entered into tables of ours as non-executable
supervisor memory. The kernel image window is not translated at all: text and `.rodata` come from the twin,
the rest from where the kernel was found; likewise for modules (bridge/modules/). Nothing grows with the size
of the image: a page costs time and memory when it is first touched.

A page in which the image has an address of the trusted side is withheld, but from SLOW-BRIDGE while it runs.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.bridge.device_memory import DeviceMemory
from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR, TABLES_PADDR
from hybridbridge_vol.bridge.twin_pages import TwinPages
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory, page_up
from hybridbridge_vol.machine.paging import (
    ACCESSED,
    ENTRIES,
    FRAME_MASK,
    HUGE_SHIFT,
    LARGE_SHIFT,
    NO_EXECUTE,
    PAGE_SHIFT,
    PRESENT,
    WRITABLE,
    TableBuilder,
    Translation,
)
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.units import PAGE_SIZE

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.modules.relocated_module import TrustedSegment

TABLES_SIZE = 256 << 20
"""Bytes of page tables that a snapshot's address space may take."""

UPPER_HALF = 1 << 63
KERNEL_TOP_SLOT = 0xFFFF_FF80_0000_0000
"""The top-level slot that both kernels' images share."""
_PRIVATE_SLOTS = (0xFFFF_FE00_0000_0000, 0xFFFF_FE80_0000_0000)
"""The cpu_entry_area's slot (with the LDT remap below it): each kernel's own."""
_SLOT_SIZE = 1 << 39

_DATA = WRITABLE | NO_EXECUTE | ACCESSED

_AROUND = 32
"""Pages of the direct map that are mapped at once, aligned to as many: objects of the kernel lie close
together, and one exception costs as much as mapping dozens of pages."""
_ENTRIES_AROUND = struct.Struct(f"<{_AROUND}Q")


class TablePool:
    """Guest-physical pages for page tables, handed out one by one."""

    def __init__(self, memory: PhysicalMemory) -> None:
        memory.place(TABLES_PADDR, HostMapping.anonymous(TABLES_SIZE))
        self._next = TABLES_PADDR

    def allocate(self) -> int:
        """The physical address of a zeroed page. MemoryError if there is none left."""
        paddr = self._next
        if paddr >= TABLES_PADDR + TABLES_SIZE:
            raise MemoryError("the snapshot's address space needs more page tables than any real one")
        self._next += PAGE_SIZE
        return paddr


class TrustedTables(NamedTuple):
    """The trusted kernel's own page tables, which the snapshot's address space is added to: the physical
    memory they lie in, their root, their levels, and where the trusted kernel's own memory is."""

    memory: PhysicalMemory
    root_paddr: int
    layout: Layout

    def builder(self) -> TableBuilder:
        """Adds to them, with tables from a pool of its own."""
        memory, pool = self.memory, TablePool(self.memory)
        return TableBuilder(
            self.root_paddr, self.layout.levels, memory.read_u64, memory.write_u64, pool.allocate
        )


class SnapshotSpace:
    """See the module's text. `builder` may be used by others to map pages of the proxy task's."""

    def __init__(
        self,
        tables: TrustedTables,
        snapshot: VirtualMemory,
        pages: ImagePages,
        twin: TwinPages,
        modules: SnapshotModules,
        per_cpu: PerCpuWindow,
        devices: DeviceMemory,
    ) -> None:
        self.modules = modules
        self.devices = devices
        self._of_devices: list[int] = []
        """Virtual addresses at which pages of devices are mapped."""
        self.builder = tables.builder()
        self._trusted = tables.layout
        self._snapshot = snapshot
        self._pages = pages
        self._twin = twin
        self._per_cpu = per_cpu
        self._withheld: set[int] = set()
        """Pages that were asked for and are suspect: virtual addresses."""
        self._lent: list[int] | None = None
        """Those that are mapped until SLOW-BRIDGE ends its run; None while it does not run."""
        self._clear_modules_area(tables.memory)

    def _clear_modules_area(self, memory: PhysicalMemory) -> None:
        """Take the trusted kernel's own pages out of the modules area: those for compiled BPF programs, 2 MiB
        since 6.1, of which we run none. Since 6.19 modules may lie before the snapshot's own such pages."""
        area, part = self._snapshot.layout.modules, 1 << HUGE_SHIFT
        for start in range(area.start & -part, area.stop, part):
            first = max(area.start - start, 0) >> LARGE_SHIFT
            end = min(area.stop - start, part) >> LARGE_SHIFT
            table = self.builder.table(start, LARGE_SHIFT)
            memory.write(table + 8 * first, bytes(8 * (end - first)))

    def link_again(self) -> None:
        """After the trusted kernel's memory, and so its own tables, went back to an earlier state: what was
        mapped stays mapped. Otherwise each page would be asked for again, and each time more tables made."""
        self.builder.link_again()

    @contextlib.contextmanager
    def all_lent(self) -> Iterator[None]:
        """While SLOW-BRIDGE runs, or Python changes the snapshot's data without following it: no page is
        withheld. They are mapped no more afterwards, so that FAST-BRIDGE, which uses the same tables, never
        sees them. It may be entered again."""
        if self._lent is not None:
            yield
            return
        self._lent = []
        try:
            yield
        finally:
            for page in self._lent:
                self.builder.unmap_page(page)
            self._lent = None

    def withholds(self, vaddr: int) -> bool:
        """Whether `complete` failed at `vaddr` because the page there is suspect."""
        return self._lent is None and vaddr & -PAGE_SIZE in self._withheld

    def complete(self, vaddr: int) -> bool:
        """Map what lies at `vaddr` in the snapshot; False if nothing does, if it is mapped already, or if it
        is withheld."""
        if vaddr < UPPER_HALF or self.builder.translate(vaddr) is not None:
            return False
        if vaddr in self._per_cpu.vaddrs:
            return self._map_translated(vaddr, self._per_cpu.shown(vaddr), largest=PAGE_SHIFT)
        if vaddr in self._trusted:
            return False
        layout = self._snapshot.layout
        offset = vaddr - layout.text_vaddr
        if 0 <= offset < page_up(layout.size):
            return self._map_kernel_image(vaddr & -PAGE_SIZE, offset & -PAGE_SIZE)
        if vaddr >= KERNEL_TOP_SLOT and vaddr not in layout.modules:
            return False
        trusted = self.modules.at(vaddr)
        if trusted is not None:
            return self._map_module(trusted, vaddr & -PAGE_SIZE)
        if any(slot <= vaddr < slot + _SLOT_SIZE for slot in _PRIVATE_SLOTS):
            return False
        if not self._map_translated(vaddr, vaddr):
            return False
        if layout.page_offset_base <= vaddr < min(layout.vmalloc_base, KERNEL_TOP_SLOT):
            self._map_around(vaddr)
        return True

    def _map_kernel_image(self, vaddr: int, offset: int) -> bool:
        extent = self._twin.extent
        if not extent.is_twin(offset):
            return self._map_data(vaddr, self._snapshot.layout.text_paddr + offset, PAGE_SHIFT)
        self._map_trusted(vaddr, offset, executable=offset < extent.text_end)
        return True

    def _map_module(self, trusted: TrustedSegment, vaddr: int) -> bool:
        if trusted.data_paddr is not None:
            self.builder.map_page(vaddr, trusted.data_paddr + vaddr - trusted.vaddrs.start, _DATA)
            return True
        self._map_trusted(vaddr, trusted.twin_offset_of(vaddr), trusted.executable)
        return True

    def _map_trusted(self, vaddr: int, offset: int, executable: bool) -> None:
        """Enter a page of the twin's, or of a module's behind it."""
        paddr = self._twin.enter(vaddr, offset, executable)
        self.builder.map_page(vaddr, paddr, ACCESSED | (0 if executable else NO_EXECUTE))

    def _map_translated(self, vaddr: int, snapshot_vaddr: int, largest: int = LARGE_SHIFT) -> bool:
        """Enter, at `vaddr`, the data that the snapshot's page tables have at `snapshot_vaddr`."""
        found = self._snapshot.translate(snapshot_vaddr)
        return found is not None and (
            self._map_data(vaddr, found.paddr, min(found.shift, largest)) or self._map_device(vaddr, found)
        )

    def _map_device(self, vaddr: int, found: Translation) -> bool:
        paddr = self.devices.paddr_for(found)
        if paddr is None:
            return False
        self.builder.map_page(vaddr & -PAGE_SIZE, paddr, _DATA)
        self._of_devices.append(vaddr & -PAGE_SIZE)
        return True

    def refuse_devices(self) -> None:
        """From now on a call that reads a register of a device does not end well. The processors must be told
        of it."""
        self.devices.refuse()
        for page in self._of_devices:
            self.builder.unmap_page(page)
        self._of_devices.clear()

    def _map_around(self, vaddr: int) -> None:
        """Enter the pages beside one of the direct map, as far as the snapshot has pages of 4 KiB there and
        the image is mapped as it is: elsewhere each would have to be read."""
        table = self._snapshot.layout.last_table(self._snapshot.image, vaddr) if self._pages.mapped else None
        if table is None:
            return
        start = vaddr & -(_AROUND << PAGE_SHIFT)
        first_entry_paddr = table + 8 * ((start >> PAGE_SHIFT) % ENTRIES)
        entries = self._snapshot.image.read_available(first_entry_paddr, _ENTRIES_AROUND.size)
        if entries is not None:
            self.builder.map_absent(start, _ENTRIES_AROUND.unpack(entries), self._page_of, _DATA)

    def _page_of(self, entry: int) -> int | None:
        """Where, in our memory, the page of 4 KiB of an entry of the snapshot's is; None if it has none."""
        page = self._pages.bring_in(entry & FRAME_MASK, PAGE_SHIFT) if entry & PRESENT else None
        return None if page is None or self._pages.is_suspect(page[0]) else SNAPSHOT_PADDR + page[0]

    def _map_data(self, vaddr: int, paddr: int, shift: int) -> bool:
        """Enter one page of the image, if it holds it, of at most `1 << shift` bytes."""
        page = self._pages.bring_in(paddr, shift)
        if page is None:
            return False
        page_paddr, page_shift = page
        if page_shift == PAGE_SHIFT and self._pages.is_suspect(page_paddr):
            self._withheld.add(vaddr & -PAGE_SIZE)
            if self._lent is None:
                return False
            self._lent.append(vaddr & -PAGE_SIZE)
        self.builder.map_page(
            vaddr >> page_shift << page_shift, SNAPSHOT_PADDR + page_paddr, _DATA, page_shift
        )
        return True
