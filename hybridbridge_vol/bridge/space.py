"""The snapshot's address space inside the trusted machine, rebuilt page by page as it is touched.

The snapshot's own page tables are read, never used: each translation is checked against what the image holds,
shifted to where the image lies in our physical memory, and entered into tables of ours as non-executable
supervisor memory. The kernel image window is not translated at all: text and `.rodata` come from the twin,
the rest from where the kernel was found; likewise for modules (bridge/modules.py). Nothing grows with the
image: a page costs when it is first touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.modules.snapshot_modules import (
    MODULES_END,
    MODULES_START,
    ROOM,
    Part,
    SnapshotModules,
)
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.text.rebased_text import TwinText
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping, page_up
from hybridbridge_vol.machine.paging import ACCESSED, FRAME_MASK, NO_EXECUTE, WRITABLE, TableBuilder
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.kernel_layout import SnapshotLayout
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.units import PAGE_SIZE

# Guest-physical map of the machine; trusted RAM lies at 0. All below 1 TiB: Unicorn faults beyond 40 bits.
TABLES_PADDR = 128 << 30
TABLES_SIZE = 256 << 20
TWIN_PADDR = 192 << 30
SNAPSHOT_PADDR = 256 << 30
MAX_SNAPSHOT = (1 << 40) - SNAPSHOT_PADDR

UPPER_HALF = 1 << 63
KERNEL_TOP_SLOT = 0xFFFF_FF80_0000_0000
"""The top-level slot that both kernels' images share."""
_PRIVATE_SLOTS = (0xFFFF_FE00_0000_0000, 0xFFFF_FE80_0000_0000)
"""The cpu_entry_area's slot (with the LDT remap below it): each kernel's own."""

_DATA = WRITABLE | NO_EXECUTE | ACCESSED
_LARGE_SHIFT = 21
_LARGE_SIZE = 1 << _LARGE_SHIFT


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of the kernel image the twin provides, in offsets from `_text`.

    `[0, rodata_end)` without `[ro_after_init, ro_after_init_end)`; executable below `text_end`.
    """

    text_end: int
    rodata_end: int
    ro_after_init: int
    ro_after_init_end: int

    def is_twin(self, offset: int) -> bool:
        """Whether the page at `offset` is the twin's."""
        return offset < self.rodata_end and not self.ro_after_init <= offset < self.ro_after_init_end


class SnapshotSpace:
    """See the module's text."""

    def __init__(
        self,
        machine: Machine,
        image: PhysicalImage,
        layout: SnapshotLayout,
        trusted: Layout,
        twin: TwinText,
        window: Window,
        memo: Memo,
        modules: SnapshotModules,
        per_cpu: PerCpuWindow,
    ) -> None:
        self._machine = machine
        self._image = image
        self._layout = layout
        self._trusted = trusted
        self._twin = twin
        self.window = window
        self._memo = memo
        self.modules = modules
        self._per_cpu = per_cpu
        self._size = page_up(layout.size)
        self._tables = HostMapping.anonymous(TABLES_SIZE)
        self._next_table = TABLES_PADDR
        self._text_pages: dict[int, int] = {}
        self._memoized = HostMapping.anonymous(self._size + ROOM)
        self.whole_twin = HostMapping.anonymous(self._size + ROOM)
        """The twin, and modules behind it, as SLOW-BRIDGE sees it; the machine given here sees `int3` where
        nothing is proven."""
        machine.place(TABLES_PADDR, self._tables)
        machine.place(TWIN_PADDR, self._memoized)
        self.mappings = list(self._place_image())
        self._filled: set[int] = set()
        self._mapped: list[tuple[int, int]] = []
        root = machine.read_register("CR3") & FRAME_MASK
        memory = machine.memory
        self.builder = TableBuilder(root, machine.levels, memory.read_u64, memory.write_u64, self._new_table)
        self._clear_modules_area()
        for vaddr in (per_cpu.vaddrs[0], per_cpu.vaddrs[-1]):
            self.builder.table(
                vaddr, 12
            )  # now: what the trusted kernel's own tables get later is lost with a failed call

    def _clear_modules_area(self) -> None:
        """Take the trusted kernel's own pages out of where the snapshot's modules lie: those for compiled BPF
        programs, 2 MiB of them since 6.1, of which we run none. From 6.19 on modules may lie before the
        snapshot's own."""
        memory = self._machine.memory
        table = self.builder.table(MODULES_START, _LARGE_SHIFT)
        for number in range((MODULES_END - MODULES_START) >> _LARGE_SHIFT):
            if memory.read_u64(table + 8 * number):
                memory.write_u64(table + 8 * number, 0)

    def _place_image(self) -> list[tuple[int, HostMapping]]:
        """Map every run of the image copy-on-write, or make room for it where its bytes must be read
        instead."""
        placed = []
        for run in self._image.runs:
            start, end = run.paddr & -PAGE_SIZE, page_up(run.paddr + run.size)
            if self._image.mappable:
                mapping = HostMapping.private_file(self._image.fileno(), run.offset, run.size)
                start = run.paddr
            else:
                mapping = HostMapping.anonymous(end - start)
            self._machine.place_rounded(SNAPSHOT_PADDR + start, mapping)
            placed.append((start, mapping))
        return placed

    def _new_table(self) -> int:
        paddr = self._next_table
        if paddr >= TABLES_PADDR + TABLES_SIZE:
            raise MemoryError("the snapshot's address space needs more page tables than any real one")
        self._next_table += PAGE_SIZE
        return paddr

    # --- faults -------------------------------------------------------------------------------------------

    def complete(self, vaddr: int) -> bool:
        """Map what lies at `vaddr` in the snapshot; False if nothing does or if it is mapped already."""
        if vaddr < UPPER_HALF or self._machine.translate(vaddr) is not None:
            return False
        if vaddr in self._per_cpu.vaddrs:
            shown = self._layout.translate(self._image, self._per_cpu.shown(vaddr))
            return shown is not None and self._map_data(vaddr, shown.paddr, 12)
        if vaddr in self._trusted:
            return False
        offset = vaddr - self._layout.text_vaddr
        if 0 <= offset < self._size:
            return self._complete_kernel_window(vaddr & -PAGE_SIZE, offset & -PAGE_SIZE)
        if vaddr >= KERNEL_TOP_SLOT and not MODULES_START <= vaddr < MODULES_END:
            return False
        part = self.modules.at(vaddr)
        if part is not None:
            return self._complete_module(part, vaddr & -PAGE_SIZE)
        if any(slot <= vaddr < slot + (1 << 39) for slot in _PRIVATE_SLOTS):
            return False
        translation = self._layout.translate(self._image, vaddr)
        if translation is None:
            return False
        return self._map_data(vaddr, translation.paddr, translation.shift)

    def _complete_kernel_window(self, vaddr: int, offset: int) -> bool:
        if not self.window.is_twin(offset):
            return self._map_data(vaddr, self._layout.text_paddr + offset, 12)
        self._map_trusted(vaddr, offset, executable=offset < self.window.text_end)
        return True

    def _complete_module(self, part: Part, vaddr: int) -> bool:
        self._map_trusted(vaddr, part.offset + vaddr - part.group.vaddr, part.executable)
        return True

    def _map_trusted(self, vaddr: int, offset: int, executable: bool) -> None:
        """Enter a page of the twin's, or of a module's behind it."""
        if executable:
            self._text_pages[offset] = vaddr
        self._fill_twin(offset, executable)
        self.builder.map_page(vaddr, TWIN_PADDR + offset, ACCESSED | (0 if executable else NO_EXECUTE))

    def twin_page(self, offset: int) -> bytearray:
        """A page of the twin at an offset from `_text`; behind it, of a module."""
        if offset < self._size:
            return self._twin.page(offset)
        part = self.modules.placed_by_offset(offset)
        return (
            bytearray(PAGE_SIZE) if part is None else part.group.content[offset - part.offset :][:PAGE_SIZE]
        )

    def _fill_twin(self, offset: int, executable: bool) -> None:
        page = self.twin_page(offset)
        self.whole_twin.view[offset : offset + PAGE_SIZE] = page
        if executable and offset < self._size:
            page = self._memo.text.masked(offset, page)
            self._twin.cover(page, offset)
        elif executable and (part := self.modules.placed_by_offset(offset)) is not None:
            page = part.proven.masked(offset - part.offset, page)
        self._memoized.view[offset : offset + PAGE_SIZE] = page

    def renew_twin(self, offsets: Iterable[int]) -> list[int]:
        """Make the twin's text pages that hold these offsets again, after the memo or the classes changed;
        the virtual addresses of those that were in use."""
        pages = {offset & -PAGE_SIZE for offset in offsets} & self._text_pages.keys()
        for page in pages:
            self._fill_twin(page, True)
        return sorted(self._text_pages[page] for page in pages)

    def offset_of(self, vaddr: int) -> int | None:
        """The place of an address of the twin's or of a module's trusted part, counted from `_text`; None
        elsewhere."""
        offset = vaddr - self._layout.text_vaddr
        if 0 <= offset < self._size:
            return offset
        part = self.modules.relocated_at(vaddr)
        return None if part is None else part.offset + vaddr - part.group.vaddr

    def learn(self, ranges: Iterable[tuple[int, int]], fields: Iterable[int]) -> None:
        """Take proven code and trusted fields, as offsets from `_text`, into what is known of the text they
        belong to."""
        by_part: dict[int | None, tuple[list[tuple[int, int]], set[int]]] = {}
        for start, end in ranges:
            by_part.setdefault(self._part_number(start), ([], set()))[0].append((start, end))
        for place in fields:
            by_part.setdefault(self._part_number(place), ([], set()))[1].add(place)
        for number, (code, trusted) in by_part.items():
            if number is None:
                self._memo.text.add(code, trusted)
                continue
            part = self.modules.parts[number]
            inside = {place - part.offset for place in trusted}
            part.proven.add([(start - part.offset, end - part.offset) for start, end in code], inside)
            self.modules.reclassify(part, inside)

    def _part_number(self, offset: int) -> int | None:
        part = None if offset < self._size else self.modules.placed_by_offset(offset)
        return None if part is None else self.modules.parts.index(part)

    def _map_data(self, vaddr: int, paddr: int, shift: int) -> bool:
        """Enter one page of the snapshot, the larger the better, if the image holds it."""
        if shift > 12 and self._image.mappable:
            large_paddr = paddr & -_LARGE_SIZE
            if self._holds(large_paddr, _LARGE_SIZE):
                self.builder.map_page(vaddr & -_LARGE_SIZE, SNAPSHOT_PADDR + large_paddr, _DATA, 21)
                self._mapped.append((large_paddr, _LARGE_SIZE))
                return True
        page = paddr & -PAGE_SIZE
        if not self._holds(page, PAGE_SIZE):
            return False
        if not self._image.mappable and not self._fill(page):
            return False
        self.builder.map_page(vaddr & -PAGE_SIZE, SNAPSHOT_PADDR + page, _DATA)
        self._mapped.append((page, PAGE_SIZE))
        return True

    def _holds(self, paddr: int, size: int) -> bool:
        run = self._image.run_at(paddr)
        return run is not None and paddr + size <= page_up(run.paddr + run.size)

    def _fill(self, paddr: int) -> bool:
        """Bring one page of an image that cannot be mapped into memory; False if its bytes cannot be read."""
        if paddr in self._filled:
            return True
        run = self._image.run_at(paddr)
        size = PAGE_SIZE if run is None else min(PAGE_SIZE, run.paddr + run.size - paddr)
        data = self._image.read_available(paddr, size)
        if data is None:
            return False
        self._machine.memory.write(SNAPSHOT_PADDR + paddr, data)
        self._filled.add(paddr)
        return True

    def bytes_at(self, paddr: int, size: int) -> memoryview | bytes | None:
        """Bytes of the image; not copied where they are mapped, and then as calls have left them."""
        for start, mapping in self.mappings if self._image.mappable else ():
            if start <= paddr and paddr + size <= start + mapping.size:
                return mapping.view[paddr - start : paddr - start + size]
        return self._image.read_available(paddr, size)

    def refill(self) -> None:
        """After the image's mappings were set back: bring pages that had to be read into memory again."""
        filled, self._filled = self._filled, set()
        for paddr in filled:
            self._fill(paddr)

    def touched(self, paddr: int, mapping: HostMapping) -> list[tuple[int, int]]:
        """`(offset, size)` ranges of the image mapping that begins at `paddr` that were ever mapped."""
        return [
            (page - paddr, min(size, mapping.size - (page - paddr)))
            for page, size in self._mapped
            if 0 <= page - paddr < mapping.size
        ]
