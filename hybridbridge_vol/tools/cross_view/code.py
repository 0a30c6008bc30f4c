"""Executable memory of the kernel that belongs to nobody whom the kernel lists.

What the page tables let the kernel execute is its own image, the code of the listed modules, and what some
part of it has compiled or copied: programs of BPF, trampolines of the tracer, copies of instructions for
kprobes, the page of a hypervisor's calls. The rest has been put there by a module that is not listed, or that
has wiped its `struct module`; by vmalloc() and set_memory_x(); or by changed page tables.

Who asked for an area of vmalloc stands in it (`caller` of struct vm_struct). Since 6.13 code of several
kinds lies in areas of one cache (mm/execmem.c), whose free parts are filled with breakpoints: there each page
is asked about. Outside of these areas two things are lawful, both in the direct map: the code by which other
processors start (arch/x86/realmode/init.c), and the page that kexec continues in
(arch/x86/kernel/machine_kexec_64.c).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.executable_pages import executable_ranges
from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.module_structs import MAX_SIZE, module_structs, parts
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.bridge.objects.vmap_areas import VmapArea, asked_by, vmap_areas
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.cross_view import modules
from hybridbridge_vol.tools.cross_view.comparison import Finding
from hybridbridge_vol.units import PAGE_SIZE

LOADERS = (*modules.LOADERS, "module_alloc")
"""Functions that ask for the memory of modules (kernel/module/main.c)."""
CACHE = (
    "execmem_alloc", "execmem_alloc_rw", "execmem_cache_populate", "execmem_cache_alloc", "__execmem_alloc",
)  # fmt: skip
"""Functions that ask for memory of any code (mm/execmem.c)."""
_UNUSED = re.compile(rb"[\x00\xcc]*")
_THUNKS = re.compile(rb"(?:[\x00\xcc\x2e]|\x41?\xff[\xe0-\xe7])*")
"""Jumps by registers and nothing else: thunks against ITS (arch/x86/kernel/alternative.c)."""
_MADE = ("bpf_", "ftrace_trampoline", "kprobe_")
_KEXEC_PAGES = 2
_FOR_MODULE = "allocated for a module"
NOBODY = "listed modules, BPF, tracers"


class Unowned(NamedTuple):
    """Virtual addresses from `vaddr`, `size` bytes. `where` says in words how they came about."""

    vaddr: int
    size: int
    is_executable: bool
    is_writable: bool
    where: str

    @property
    def end_vaddr(self) -> int:
        """The first address behind it."""
        return self.vaddr + self.size


class CodeOwners:
    """Of one snapshot. LookupError, and what following the snapshot's lists may raise (`Broken`)."""

    def __init__(self, kernel: GuestKernel, memory: TypedMemory) -> None:
        self._kernel = kernel
        self._memory = memory
        self._areas = sorted(vmap_areas(memory))
        self._executable = list(executable_ranges(memory.bridge.image, memory.bridge.layout))
        self._starts = [area.vaddr for area in self._areas]
        self._listed = sorted([*self._listed_parts(), *self._trampolines()])

    # --- what there is ------------------------------------------------------------------------------------

    def unowned(self) -> Iterator[Unowned]:
        """Executable memory that nobody has, and the rest of the memory that was allocated for modules and
        belongs to none that is listed."""
        layout = self._memory.bridge.layout
        kernel = (layout.text_vaddr, layout.text_vaddr + layout.size)
        allowance = self._memory.bridge.allowance
        for found in self._executable:
            allowance.check()
            for start, end in without(found.vaddr, found.end_vaddr, [kernel, *self._lawful()]):
                for first, last, area in self._by_area(start, end):
                    yield from self._of_area(first, last, area, found.is_writable)
        for area in self._areas:
            allowance.check()
            if asked_by(self._memory.bridge, area) in (*LOADERS, *CACHE):
                for first, last in without(area.vaddr, area.vaddr + area.size, self._listed):
                    for start, end in self.data_in(first, last):
                        yield Unowned(start, end - start, False, True, _FOR_MODULE)

    def data_in(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that the page tables do not let the kernel execute."""
        return without(start, end, [(one.vaddr, one.end_vaddr) for one in self._executable])

    def _of_area(self, start: int, end: int, area: VmapArea | None, is_writable: bool) -> Iterator[Unowned]:
        if area is None:
            yield Unowned(start, end - start, True, is_writable, self._region(start))
            return
        caller = asked_by(self._memory.bridge, area)
        if caller not in (*LOADERS, *CACHE):
            if not caller:
                yield Unowned(start, end - start, True, is_writable, "allocated by no function of the kernel")
            return
        for first, last in without(start, end, self._listed):
            for one, other in [(first, last)] if caller in LOADERS else self._used(first, last):
                yield Unowned(one, other - one, True, is_writable, _FOR_MODULE)

    def _used(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The pages of a cache of code that have some, which the kernel has no name for."""
        first = None
        for page in range(start, min(end, start + MAX_SIZE), PAGE_SIZE):
            if self._is_used(page):
                first = page if first is None else first
            elif first is not None:
                yield first, page
                first = None
        if first is not None:
            yield first, end

    def _is_used(self, page: int) -> bool:
        try:
            data = self._memory.read(page, PAGE_SIZE)
        except UnreadableVirtual:
            return False
        begins = _UNUSED.match(data)
        offset = begins.end() if begins else 0
        if offset == PAGE_SIZE or _THUNKS.fullmatch(data):
            return False
        try:
            name = self._kernel.addresses.symbol(page + offset)
        except (*UNREADABLE, KeyError):
            name = ""
        return not name.startswith(_MADE)

    # --- whose it is --------------------------------------------------------------------------------------

    def _by_area(self, start: int, end: int) -> Iterator[tuple[int, int, VmapArea | None]]:
        """The parts of a range that are in one area, or in none."""
        while start < end:
            index = bisect_right(self._starts, start) - 1
            area = self._areas[index] if index >= 0 else None
            if area is not None and start < area.vaddr + area.size:
                last = min(end, area.vaddr + area.size)
                yield start, last, area
            else:
                following = self._starts[index + 1] if index + 1 < len(self._starts) else end
                last = min(end, following)
                yield start, last, None
            start = last

    def _listed_parts(self) -> Iterator[tuple[int, int]]:
        memory = self._memory
        if not memory.has_symbol("modules"):
            return
        for module in memory.list(memory.ring("modules"), "module", "list"):
            for start, end in parts(memory, module):
                yield start, page_up(end)

    def _trampolines(self) -> Iterator[tuple[int, int]]:
        """Of the tracer, each for one of the ftrace_ops on its list (`create_trampoline`,
        arch/x86/kernel/ftrace.c)."""
        memory = self._memory
        if not memory.has_symbol("ftrace_ops_list") or not memory.types.has("ftrace_ops", "trampoline_size"):
            return
        first, end = memory.word(memory.symbol("ftrace_ops_list")), memory.symbol("ftrace_list_end")
        for ops in memory.chain(first, memory.types.offset("ftrace_ops", "next")):
            if ops == end:
                return
            start = memory.get(ops, "ftrace_ops", "trampoline")
            if start:
                yield start & -PAGE_SIZE, page_up(start + memory.get(ops, "ftrace_ops", "trampoline_size"))

    def _lawful(self) -> Iterator[tuple[int, int]]:
        """Code in the direct map that the kernel has put there."""
        memory = self._memory
        base = memory.bridge.layout.page_offset_base
        try:
            if memory.has_symbol("real_mode_header") and memory.has_symbol("real_mode_blob_end"):
                start = memory.word(memory.symbol("real_mode_header"))
                size = memory.symbol("real_mode_blob_end") - memory.symbol("real_mode_blob")
                yield start, page_up(start + size)
            for name in ("kexec_image", "kexec_crash_image"):
                image = memory.word(memory.symbol(name)) if memory.has_symbol(name) else 0
                page = memory.get(image, "kimage", "control_code_page") if image else 0
                if page:
                    start = base + memory.bridge.layout.page_of(page)
                    yield start, start + _KEXEC_PAGES * PAGE_SIZE
        except (LookupError, UnreadableVirtual):
            return

    def _region(self, vaddr: int) -> str:
        layout = self._memory.bridge.layout
        if layout.page_offset_base <= vaddr < layout.vmalloc_base:
            return "in the direct map"
        return "in no area of vmalloc"


def hidden_code(kernel: GuestKernel) -> Iterator[Finding | Unavailable]:
    """A finding for each range of executable memory that nobody has, and what could not be looked at."""
    try:
        memory = TypedMemory(kernel.bridge)
        structs = module_structs(memory, kernel.addresses.module_pages())
        owned = [(part, name) for name, vaddr in structs.items() for part in _parts(memory, vaddr)]
        for found in CodeOwners(kernel, memory).unowned():
            if found.is_executable:
                name = next((name for (start, end), name in owned if start <= found.vaddr < end), "")
                what = f"{found.vaddr:#x}, {found.size // 1024} KiB"
                rights = "executable and writable" if found.is_writable else "executable"
                yield Finding("code", what, name, f"page tables: {rights}, {found.where}", NOBODY)
    except (LookupError, HybridBridgeError, *Broken) as error:
        yield Unavailable(f"executable memory: {error}")


def _parts(memory: TypedMemory, vaddr: int) -> list[tuple[int, int]]:
    try:
        return parts(memory, vaddr)
    except UnreadableVirtual:
        return []


def without(start: int, end: int, taken: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a range."""
    for first, last in sorted(taken):
        if last <= start or first >= end:
            continue
        if first > start:
            yield start, first
        start = max(start, last)
    if start < end:
        yield start, end
