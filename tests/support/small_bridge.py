"""A bridge between a kernel of a few functions and a small snapshot of it: no guest, no boot.

All its parts are real; the kernel's code is written in the tests. A function lies at the same offset from
`_text` on both sides: home's copy is executable memory of the trusted side, the twin's is made on demand.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from assembly import assembled
from small_snapshot import (
    DIRECT_MAP,
    GS,
    HOME_DELTA,
    HOME_LAYOUT,
    HOME_VADDR,
    KERNEL_SIZE,
    LINK,
    PER_CPU_OFFSET,
    RODATA_END,
    SHIFT,
    TEXT_END,
    TEXT_VADDR,
    SmallSnapshot,
)
from small_snapshot import symbols as small_symbols
from unicorn import x86_const as x86

from hybridbridge_vol.allowance import Allowance
from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.device_memory import DeviceMemory
from hybridbridge_vol.bridge.faults import FaultHandler
from hybridbridge_vol.bridge.image_pages import ImagePages
from hybridbridge_vol.bridge.memo import Memo, MemoKey
from hybridbridge_vol.bridge.modules.added_room import AddedRoom
from hybridbridge_vol.bridge.modules.names import ModuleNames
from hybridbridge_vol.bridge.modules.snapshot_modules import SnapshotModules
from hybridbridge_vol.bridge.per_cpu_window import PerCpuWindow
from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace, TrustedTables
from hybridbridge_vol.bridge.text.call_hashes import no_hashes
from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.bridge.text.policy import Trampoline
from hybridbridge_vol.bridge.text.prepared import Prepared
from hybridbridge_vol.bridge.text.proxy_task import ProxyTask
from hybridbridge_vol.bridge.text.runtime_constants import RuntimeConstants
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.bridge.text.trampolines import TwinTrampolines
from hybridbridge_vol.bridge.text.twin_text import TwinText, Words
from hybridbridge_vol.bridge.trusted_addresses import trusted_addresses
from hybridbridge_vol.bridge.twin_pages import TwinExtent, TwinPages
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.cpu import EFER_MSR, CpuState
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.memory import HostMapping, PhysicalMemory
from hybridbridge_vol.machine.paging import LARGE_SHIFT, WRITABLE, TableBuilder
from hybridbridge_vol.trust.stored_kernel import Boot, StoredKernel
from hybridbridge_vol.units import PAGE_SIZE

RAM_SIZE = 32 << 20
TRUSTED_MEMORY = HOME_LAYOUT.page_offset_base
"""Where the trusted side has all its memory."""
SLOT = 0x100
"""Bytes from one function to the next."""
_RETURN_OFFSET = TEXT_END - 16
_TABLES_PADDR, _DESCRIPTORS_PADDR, _STACK_TOP_PADDR = 0x1000, 0x0010_0000, 0x0020_0000
SCRATCH = TRUSTED_MEMORY + 0x0030_0000
"""Memory of the trusted side that calls may use."""

_EMPTY = array("I")


class SmallBridge:
    """See the module's text.

    `functions` are listings (see `assembled`) by name, each in a slot of its own behind `_text`. `statics`
    are bytes of the snapshot's kernel image by offset from `_text`, `home_statics` of the trusted kernel's.
    `caches` are virtual addresses of its slab caches.
    """

    def __init__(
        self,
        folder: Path,
        functions: Mapping[str, str],
        statics: Mapping[int, bytes] | None = None,
        home_statics: Mapping[int, bytes] | None = None,
        trampolines: Sequence[Trampoline] = (),
        caches: Sequence[int] = (),
    ) -> None:
        self._offsets = {name: SLOT * number for number, name in enumerate(functions, 1)}
        self._snapshot = SmallSnapshot(folder / "image", dict(statics or {}))
        memory, ram = PhysicalMemory(), HostMapping.anonymous(RAM_SIZE)
        memory.place(0, ram)
        kernel = _stored_kernel(folder, self._offsets)
        text = ram.view[kernel.text_paddr : kernel.text_paddr + KERNEL_SIZE]
        for name, offset in self._offsets.items():
            code = assembled(functions[name])
            text[offset : offset + len(code)] = code
        for offset, data in (home_statics or {}).items():
            text[offset : offset + len(data)] = data
        boot = Boot(folder, HOME_LAYOUT, HOME_VADDR + _RETURN_OFFSET, _state(memory, kernel), [], RAM_SIZE, 0)
        self.bridge = self._assemble(kernel, boot, ram, memory, text, _prepared(trampolines, caches))

    def _assemble(
        self,
        kernel: StoredKernel,
        boot: Boot,
        ram: HostMapping,
        memory: PhysicalMemory,
        text: memoryview,
        prepared: Prepared,
    ) -> Bridge:
        snapshot, memo = self._snapshot.memory, Memo(MemoKey(kernel.build_id, "policy"))
        sides = Sides(kernel.symbols, LINK, KERNEL_SIZE, HOME_DELTA, SHIFT)
        per_cpu = PerCpuWindow(GS, 0, PER_CPU_OFFSET)
        names = ModuleNames(lambda _name: None, sides.snapshot_all, sides.home_or_none, lambda _name: None)
        modules = SnapshotModules(snapshot, memo, names, per_cpu, AddedRoom(snapshot, memory), no_hashes())
        hole, form = HOME_LAYOUT.guard_hole.start, FileSystemForm()
        trampolines = TwinTrampolines(prepared.trampolines, TEXT_VADDR, HOME_VADDR, hole, None, form)
        twin_text = TwinText(text, (), SHIFT - HOME_DELTA, trusted=memo.text, trampolines=trampolines)
        extent = TwinExtent.of(kernel.symbols, LINK, RODATA_END)
        twin = TwinPages(memory, twin_text, extent, memo.text, modules, snapshot.layout)
        trusted = trusted_addresses(sides, HOME_LAYOUT, boot.state.root_paddr, memory)
        pages = ImagePages(snapshot.image, memory, trusted)
        tables = TrustedTables(memory, boot.state.root_paddr, HOME_LAYOUT)
        devices = DeviceMemory(snapshot.image)
        space = SnapshotSpace(tables, snapshot, pages, twin, modules, per_cpu, devices)
        faults = FaultHandler(space, twin, sides, prepared.warnings, prepared.fixups)
        machine = Machine(4, memory, faults)
        machine.load_state(boot.state)
        return Bridge(
            kernel=kernel,
            boot=boot,
            check=boot.verify(),
            prepared=prepared,
            ram=ram,
            virtual_memory=snapshot,
            sides=sides,
            memo=memo,
            space=space,
            image_pages=pages,
            twin=twin,
            faults=faults,
            machine=machine,
            namespaces={},
            allowance=Allowance(),
        )

    def close(self) -> None:
        """Let the machine, the memory and the image go."""
        self.bridge.close()
        self._snapshot.close()

    def home(self, name: str) -> int:
        """Virtual address of a function on the trusted side."""
        return HOME_VADDR + self._offsets[name]

    def twin(self, name: str) -> int:
        """Virtual address of a function in the twin."""
        return TEXT_VADDR + self._offsets[name]

    def snapshot_vaddr(self, paddr: int) -> int:
        """Virtual address, in the snapshot's direct map, of a physical address of the image."""
        return DIRECT_MAP + paddr


def _stored_kernel(folder: Path, functions: Mapping[str, int]) -> StoredKernel:
    """A kernel as the store has it, with the small snapshot's symbols and these functions."""
    known = [(address, kind, name) for address, kind, name in small_symbols()]
    table = Symbols.build([*known, *((LINK + offset, "T", name) for name, offset in functions.items())])
    packed = table.pack()
    (folder / "symbols").write_bytes(packed)
    record = {
        "release": "6.6.6",
        "banner": "Linux version 6.6.6",
        "build_id": "build",
        "created": 0.0,
        "text": LINK,
        "end": LINK + KERNEL_SIZE,
        "banner_vaddr": LINK,
        "probes": [],
        "symbols_checksum": zlib.crc32(packed),
    }
    return StoredKernel(folder, record)


def _state(memory: PhysicalMemory, kernel: StoredKernel) -> CpuState:
    """The state of a CPU in 64-bit mode over this memory, with a stack."""
    free = iter(range(_TABLES_PADDR + PAGE_SIZE, _DESCRIPTORS_PADDR, PAGE_SIZE))
    tables = TableBuilder(_TABLES_PADDR, 4, memory.read_u64, memory.write_u64, lambda: next(free))
    for paddr in range(0, RAM_SIZE, 1 << LARGE_SHIFT):
        tables.map_page(TRUSTED_MEMORY + paddr, paddr, WRITABLE, LARGE_SHIFT)
    for offset in range(0, KERNEL_SIZE, PAGE_SIZE):
        tables.map_page(HOME_VADDR + offset, kernel.text_paddr + offset, WRITABLE)
    memory.write(_DESCRIPTORS_PADDR, struct.pack("<4Q", 0, 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF))
    machine = Machine(memory=memory)
    machine.uc.reg_write(x86.UC_X86_REG_GDTR, (0, TRUSTED_MEMORY + _DESCRIPTORS_PADDR, 31, 0))
    machine.write_register("CR4", 0x620)  # PAE, and vector instructions
    machine.write_register("CR3", _TABLES_PADDR)
    machine.write_msr(EFER_MSR, 0x900)  # long mode, and pages that are not executable
    machine.write_register("CR0", 0x80000031)
    machine.write_register("CS", 0x10)
    machine.write_register("SS", 0x18)
    machine.write_register("RSP", TRUSTED_MEMORY + _STACK_TOP_PADDR)
    state = machine.save_state()
    machine.rest()
    return state


def _prepared(trampolines: Sequence[Trampoline], caches: Sequence[int]) -> Prepared:
    return Prepared(
        rodata_end=RODATA_END,
        sites=(),
        trampolines=sorted(trampolines),
        unmatched=[],
        fixups=_EMPTY,
        warnings=_EMPTY,
        labels=JumpLabels(_EMPTY, _EMPTY, _EMPTY, _EMPTY),
        features=FeatureBranches(_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY),
        per_cpu=PerCpuText(0, 0, _EMPTY, _EMPTY),
        hashes=no_hashes(),
        constants=RuntimeConstants.none(),
        caches=list(caches),
        slab_fields=None,
        file_systems=FileSystemForm(),
        proxy_task=ProxyTask(0, 0, 0, 0, 0, 0, 0),
        restored=Words.none(),
    )
