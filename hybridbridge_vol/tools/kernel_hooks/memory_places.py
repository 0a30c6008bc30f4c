"""What lies at a physical address of the kernel's memory, in words: a variable, a field of a structure in
slab memory, a page of an area of vmalloc.

Of slab memory the kernel's own map of its memory names the cache (`slab_cache` of struct slab, in struct page
before 5.17), and most caches hold structures of one type; those that the kernel has merged do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.bridge.objects.vmap_areas import asked_by, vmap_areas
from hybridbridge_vol.cached_method import cached_method
from hybridbridge_vol.check.modules.linked_module import DATA, LATER, RODATA
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.tools.cross_view.code import CACHE, LOADERS
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import PAGE_SIZE, U64

_STRUCTS = {
    "filp": "file", "sock_inode_cache": "socket_alloc", "TCP": "tcp_sock", "TCPv6": "tcp6_sock",
    "UDP": "udp_sock", "UDPv6": "udp6_sock", "RAW": "raw_sock", "UNIX": "unix_sock",
    "inode_cache": "inode", "proc_inode_cache": "proc_inode", "shmem_inode_cache": "shmem_inode_info",
    "cred_jar": "cred", "kernfs_node_cache": "kernfs_node", "bdev_cache": "bdev_inode", "key_jar": "key",
    "skbuff_head_cache": "sk_buff", "net_namespace": "net", "files_cache": "files_struct",
    "signal_cache": "signal_struct", "sighand_cache": "sighand_struct", "mnt_cache": "mount",
}  # fmt: skip
"""The structure in a cache whose name is another one."""
STACKS = ("alloc_thread_stack_node", "dup_task_struct", "copy_process", "fork_idle", "kernel_clone")
"""What asks for the stacks of threads: return addresses there are of calls that were made."""
FOR_CODE = (*LOADERS, *CACHE)
_RECORDS = ("vmap_area", "maple_node")
"""Caches of what the kernel notes of areas of vmalloc and of code."""
_COMPOUND_HEAD = 8
"""Offset in struct page (include/linux/mm_types.h)."""
MAX_CACHES = 1 << 14
MAX_FRAMES = 1 << 20
"""Pages of areas of vmalloc."""
_MAX_DEPTH = 8


class Place(NamedTuple):
    """`what` is empty where the memory is not the kernel's to follow: a stack, its own records of vmalloc."""

    what: str
    vaddr: int


class MemoryPlaces:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names
        self._layout = memory.bridge.layout
        self._variables = data_ranges(memory.bridge.kernel)

    def at(self, paddr: int) -> Place:
        """The place of a physical address."""
        layout = self._layout
        offset = paddr - layout.text_paddr
        if any(start <= offset < end for start, end in self._variables):
            vaddr = layout.text_vaddr + offset & U64
            return Place(self._names.place(vaddr), vaddr)
        area = self._frames.get(paddr // PAGE_SIZE)
        if area is not None:
            page, caller = area
            vaddr = page + paddr % PAGE_SIZE
            if caller in STACKS:
                return Place("", vaddr)
            if caller in FOR_CODE:
                return Place(self._in_module(vaddr), vaddr)
            return Place(f"memory of {caller or 'vmalloc'}", vaddr)
        vaddr = layout.page_offset_base + paddr & U64
        try:
            return Place(self._of_processor(vaddr) or self._in_page(paddr, vaddr), vaddr)
        except UnreadableVirtual:
            return Place("memory of the kernel", vaddr)

    def _in_module(self, vaddr: int) -> str:
        """A variable of a listed module of the package; nothing for a pointer that was linked there, which
        `check` compares, and for what the kernel and the linker note of the module."""
        placed = self._names.modules.with_data(vaddr)
        if placed is None or vaddr in self._linked_in(placed.name):
            return ""
        name = self._names.modules.names(placed.name).variable(vaddr)
        return f"{placed.name}: {name}" if name else ""

    @cached_method
    def _linked_in(self, name: str) -> frozenset[int]:
        placed = self._names.modules.by_name[name]
        return frozenset(
            start + offset
            for segment in (RODATA, LATER, DATA)
            if (start := placed.vaddr_of(segment, 0)) is not None
            for offset in placed.linked.segments[segment].offsets.tolist()
        )

    def _of_processor(self, vaddr: int) -> str:
        """A variable of one CPU; empty for other memory."""
        memory, symbols = self._memory, self._memory.bridge.kernel.symbols
        if not memory.has_symbol("__per_cpu_start"):
            return ""
        start = memory.symbol("__per_cpu_start")
        size = memory.symbol("__per_cpu_end") - start
        for cpu in memory.cpus():
            offset = vaddr - memory.per_cpu_area(cpu) - start & U64
            found = (
                symbols.lookup(symbols.addresses("__per_cpu_start")[0] + offset) if offset < size else None
            )
            if found is not None:
                return f"{found[0]}{f'+{found[1]:#x}' if found[1] else ''} of CPU {cpu}"
        return ""

    # --- slab memory --------------------------------------------------------------------------------------

    def _in_page(self, paddr: int, vaddr: int) -> str:
        memory = self._memory
        page = self._layout.page_struct_of(paddr)
        head = memory.word(page + _COMPOUND_HEAD)
        if head & 1:  # the address of the first page; since 7.0 a mask that leads to it
            page = head - 1 if head <= page else page & head - 1
        known = self._caches.get(memory.word(page + self._cache_at))
        if known is None:
            is_free = not head & 1 and not memory.get(page, "page", "_refcount.counter")
            return "" if is_free else "memory of the kernel"
        name, size, is_merged = known
        if name in _RECORDS:
            return ""
        first = self._layout.page_offset_base + self._layout.page_of(page)
        offset = (vaddr - first) % size if size else 0
        struct_name = _STRUCTS.get(name, name)
        types = memory.types
        if not is_merged and types.has(struct_name) and offset < types.size(struct_name):
            return f"{struct_name}.{self._field(struct_name, offset)}"
        return f"slab {name}+{offset:#x}"

    def _field(self, struct_name: str, offset: int) -> str:
        """The path of the member at an offset of a structure."""
        types, words = self._memory.types, []
        for _ in range(_MAX_DEPTH):
            inside = [one for one in types.members(struct_name) if one.offset <= offset and not one.bits]
            if not inside:
                break
            field = inside[-1]
            words.append(field.name)
            offset -= field.offset
            struct_name = types.struct_of(field.type)
            if types.bytes_of(field.type) <= 8 or not struct_name or types.size(struct_name) <= offset:
                break
        return ".".join(words) + (f"+{offset:#x}" if offset or not words else "")

    @cached_property
    def _cache_at(self) -> int:
        types = self._memory.types
        return types.offset(*(("slab", "slab_cache") if types.has("slab") else ("page", "slab_cache")))

    @cached_property
    def _caches(self) -> dict[int, tuple[str, int, bool]]:
        """The name of each cache, the bytes from one object to the next, and whether it is several caches in
        one; by its address."""
        memory = self._memory
        found: dict[int, tuple[str, int, bool]] = {}
        try:
            for cache in memory.list(memory.ring("slab_caches"), "kmem_cache", "list"):
                name = memory.text(memory.get(cache, "kmem_cache", "name"))
                size = memory.get(cache, "kmem_cache", "size")
                is_merged = memory.get(cache, "kmem_cache", "refcount") != 1
                found[cache] = (name, size, is_merged)
                if len(found) >= MAX_CACHES:
                    break
        except Broken:
            pass  # what was found until then counts
        return found

    # --- areas of vmalloc ---------------------------------------------------------------------------------

    @cached_property
    def _frames(self) -> dict[int, tuple[int, str]]:
        """The virtual page, and who asked for it, of the page frames in areas of vmalloc."""
        memory = self._memory
        found: dict[int, tuple[int, str]] = {}
        try:
            for page, caller in islice(self._pages(), MAX_FRAMES):
                paddr = memory.paddr(page)
                if paddr is not None:
                    found[paddr // PAGE_SIZE] = (page, caller)
        except Broken:
            pass  # what was found until then counts
        return found

    def _pages(self) -> Iterator[tuple[int, str]]:
        for area in vmap_areas(self._memory):
            caller = asked_by(self._memory.bridge, area)
            for page in range(area.vaddr, area.vaddr + area.size, PAGE_SIZE):
                yield page, caller


def data_ranges(kernel: StoredKernel) -> list[tuple[int, int]]:
    """Where the kernel image has constants and variables, without what it gives back at the end of its boot;
    offsets from `_text`."""
    symbols, text = kernel.symbols, kernel.text_link_vaddr
    given_back = symbols.get("__start_bss_decrypted_unused")
    bounds = (
        (symbols.get("__start_rodata"), symbols.get("__end_rodata")),
        (symbols.get("_sdata"), symbols.get("_edata")),
        (symbols.get("__bss_start"), given_back or symbols.get("__bss_stop")),
    )
    return [(start - text, end - text) for start, end in bounds if start is not None and end is not None]
