"""A snapshot of a kernel of eight pages, and what its address space is rebuilt in: no guest, no boot.

The image is a raw file with page tables of its own: a direct map in 2 MiB pages, and in 4 KiB pages in one
place, a page of vmalloc memory, and some entries that lie.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from hybridbridge_vol.bridge.device_memory import DeviceMemory
from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.modules.added_room import AddedRoom
from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace, TrustedTables
from hybridbridge_vol.bridge.text.call_hashes import no_hashes
from hybridbridge_vol.bridge.text.twin_text import Patch, Sites, TwinText
from hybridbridge_vol.bridge.trusted_addresses import trusted_addresses
from hybridbridge_vol.bridge.twin_pages import TwinExtent, TwinPages
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory
from hybridbridge_vol.machine.paging import UNCACHED, WRITABLE, TableBuilder
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.snapshot.kernel_layout import MODULES_END, SnapshotLayout
from hybridbridge_vol.snapshot.virtual_memory import VirtualMemory
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.units import PAGE_SIZE

# The kernel image, as offsets from `_text`: a page of text; constants, of which one page is __ro_after_init;
# data.
TEXT_END, RO_AFTER_INIT, RODATA_END, DATA, KERNEL_SIZE = 0x1000, 0x2000, 0x4000, 0x4000, 0x8000
LINK = 0xFFFF_FFFF_8100_0000
HOME_DELTA, SHIFT = 0x0100_0000, 0x1200_0000
TEXT_VADDR, HOME_VADDR = LINK + SHIFT, LINK + HOME_DELTA

# The image: physical addresses.
TEXT_PADDR = 0x20_0000
IMAGE_SIZE = 0x60_1800
"""Three pages of 2 MiB, and one and a half of 4 KiB."""
_TABLES_PADDR = 0x10_0000
VMALLOC_PADDR, PER_CPU_PADDR = 0x30_0000, 0x31_0000

DIRECT_MAP, VMALLOC, ABSENT = 0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_0000, 0xFFFF_C900_0000_1000
"""The last is mapped to where the image has nothing."""
REGISTERS, REGISTERS_PADDR = VMALLOC + 0x2000, 3 << 30
"""Mapped uncached, to where the image has nothing."""
SPLIT = DIRECT_MAP + (1 << 30)
SPLIT_PADDRS = (0x32_0000, 1 << 30, None, 0x33_0000)
"""What is mapped by pages of 4 KiB from there on: one page that the image has, one that it lacks, none."""
MODULES = range(0xFFFF_FFFF_C000_0000, MODULES_END)
"""As of a kernel with CONFIG_RANDOMIZE_BASE."""
PER_CPU_OFFSET = 0xFFFF_8880_0031_0000
"""What the snapshot's first CPU adds to a per-CPU variable's address."""

FUNCTIONS = {"first_function": 0x0, "second_function": 0x800}
STATICS = {"tk_core": DATA + 0x100, "init_cred": DATA + 0x400, "__per_cpu_offset": DATA + 0x600}
_GUARD_HOLE = 0xFFFF_8000_0000_0000
HOME_LAYOUT = Layout(HOME_DELTA, _GUARD_HOLE, _GUARD_HOLE + (1 << 40), _GUARD_HOLE + (2 << 40))
GS = _GUARD_HOLE + 0x10_0000
"""Where the trusted kernel's GS leads."""
_RAM_SIZE, _ROOT_PADDR = 4 << 20, 0x1000


def symbols() -> Symbols:
    """The kernel's symbol table, with link-time addresses."""
    places = {"_text": 0, **FUNCTIONS, "_etext": TEXT_END, **STATICS, "_end": KERNEL_SIZE}
    places |= {"__start_ro_after_init": RO_AFTER_INIT, "__end_ro_after_init": RO_AFTER_INIT + PAGE_SIZE}
    return Symbols.build([(LINK + offset, "T", name) for name, offset in places.items()])


def word(value: int) -> bytes:
    """A 64-bit word in memory."""
    return value.to_bytes(8, "little")


class SmallSnapshot:
    """See the module's text. `statics` are bytes of the snapshot's kernel image by offset from `_text`;
    `mappable`: whether the image is made of slices of its file, or read piece by piece; `runs`: what the
    image holds, at the same offsets of the file."""

    def __init__(
        self,
        path: Path,
        statics: dict[int, bytes] | None = None,
        mappable: bool = True,
        runs: Sequence[Run] = (Run(0, IMAGE_SIZE, 0),),
        modules: range = MODULES,
    ) -> None:
        self.data = bytearray(os.urandom(64)) + bytearray(IMAGE_SIZE - 64)
        for page in range(0, IMAGE_SIZE, PAGE_SIZE):
            self.data[page : page + 8] = word(page)  # every page knows its address
        root = self._build_tables()
        for offset, content in (statics or {}).items():
            self.data[TEXT_PADDR + offset : TEXT_PADDR + offset + len(content)] = content
        path.write_bytes(self.data)
        read = None if mappable else lambda paddr, size: bytes(self.data[paddr : paddr + size])
        self.image = PhysicalImage(ImageFile(path), Contents("raw", runs, read=read))
        layout = SnapshotLayout(
            TEXT_PADDR,
            TEXT_VADDR,
            SHIFT,
            KERNEL_SIZE,
            root,
            4,
            DIRECT_MAP,
            VMALLOC,
            0xFFFF_EA00_0000_0000,
            modules,
            cpu_numbers=(0,),
        )
        self.memory = VirtualMemory(self.image, layout)
        self.sides = Sides(symbols(), LINK, KERNEL_SIZE, HOME_DELTA, SHIFT)

    def _build_tables(self) -> int:
        free = iter(range(_TABLES_PADDR + PAGE_SIZE, TEXT_PADDR, PAGE_SIZE))

        def read(paddr: int) -> int:
            return int.from_bytes(self.data[paddr : paddr + 8], "little")

        def write(paddr: int, value: int) -> None:
            self.data[paddr : paddr + 8] = word(value)

        def allocate() -> int:
            paddr = next(free)
            self.data[paddr : paddr + PAGE_SIZE] = bytes(PAGE_SIZE)
            return paddr

        self.data[_TABLES_PADDR : _TABLES_PADDR + PAGE_SIZE] = bytes(PAGE_SIZE)
        tables = TableBuilder(_TABLES_PADDR, 4, read, write, allocate)
        for paddr in range(0, IMAGE_SIZE, 2 << 20):
            tables.map_page(DIRECT_MAP + paddr, paddr, WRITABLE, 21)
        for number, split_paddr in enumerate(SPLIT_PADDRS):
            if split_paddr is not None:
                tables.map_page(SPLIT + PAGE_SIZE * number, split_paddr, WRITABLE)
        tables.map_page(VMALLOC, VMALLOC_PADDR, WRITABLE)
        tables.map_page(ABSENT, 1 << 30, WRITABLE)
        tables.map_page(REGISTERS, REGISTERS_PADDR, WRITABLE | UNCACHED)
        return _TABLES_PADDR

    def close(self) -> None:
        """Close the image."""
        self.image.close()


class SmallSpace:
    """The address space of a small snapshot inside a trusted kernel's, which has nothing but its tables."""

    def __init__(self, snapshot: SmallSnapshot, patches: tuple[Patch, ...] = ()) -> None:
        self.snapshot = snapshot
        self.memo = Memo(MemoKey("build", "policy"))
        self.physical = PhysicalMemory()
        self.physical.place(0, HostMapping.anonymous(_RAM_SIZE))
        per_cpu = PerCpuWindow(GS, 0, PER_CPU_OFFSET)
        names = ModuleNames(
            file=lambda _name: None,
            snapshot=snapshot.sides.snapshot_all,
            home=snapshot.sides.home_or_none,
            home_per_cpu=lambda _name: None,
        )
        modules = SnapshotModules(
            snapshot.memory, self.memo, names, per_cpu, AddedRoom(snapshot.memory, PhysicalMemory()),
            no_hashes(),
        )  # fmt: skip
        self.booted = bytearray(bytes(range(256)) * (KERNEL_SIZE // 256))
        """The trusted kernel's image from `_text`."""
        relocated = Sites(array("I", [0x10, DATA - 8]), 1, 8)
        text = TwinText(
            memoryview(self.booted), (relocated,), SHIFT - HOME_DELTA, patches, trusted=self.memo.text
        )
        extent = TwinExtent.of(symbols(), LINK, RODATA_END)
        layout = snapshot.memory.layout
        self.twin = TwinPages(self.physical, text, extent, self.memo.text, modules, layout)
        trusted = trusted_addresses(snapshot.sides, HOME_LAYOUT, _ROOT_PADDR, self.physical)
        self.pages = ImagePages(snapshot.image, self.physical, trusted)
        tables = TrustedTables(self.physical, _ROOT_PADDR, HOME_LAYOUT)
        devices = DeviceMemory(snapshot.image)
        self.space = SnapshotSpace(tables, snapshot.memory, self.pages, self.twin, modules, per_cpu, devices)

    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes at a virtual address that is mapped already; within one page."""
        place = self.space.builder.translate(vaddr)
        assert place is not None
        return self.physical.read(place.paddr, size)
