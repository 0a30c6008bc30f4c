"""A snapshot's virtual layout: where its kernel maps what, read from its own variables at known symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine import paging
from hybridbridge_vol.snapshot.find_kernel import Found, Readable
from hybridbridge_vol.units import PAGE_SIZE, U64

MAX_CPUS = 8192
"""CONFIG_NR_CPUS of Debian's kernels."""
MODULES_END = 0xFFFF_FFFF_FF00_0000
"""Behind the last address of a module; above lies the fixmap (arch/x86/include/asm/pgtable_64_types.h)."""
PAGE_STRUCT = 64
"""Bytes of `struct page`, by which the memory map at `vmemmap_base` goes on (include/linux/mm_types.h)."""


class SymbolTable(Protocol):
    """As much of a symbol table as this module needs (link-time addresses)."""

    def get(self, name: str) -> int | None:
        """Address of a symbol."""


class LaidOutKernel(Protocol):
    """As much of a stored kernel as this module needs: its symbols, its link-time bounds, where it was linked
    to have its memory regions (empty if variables say), and where its modules begin."""

    text_link_vaddr: int
    end_link_vaddr: int
    region_bases: list[int]
    modules_vaddr: int

    @property
    def symbols(self) -> SymbolTable:
        """Its symbol table."""


class Tables(Protocol):
    """As much of a memory image as a walk of page tables needs."""

    def table_entry(self, paddr: int) -> int | None:
        """The 64-bit word at a physical address that is a multiple of 8, None if it is absent."""


class UnreadableSnapshot(Exception):
    """A physical address that the image does not hold was needed."""

    def __init__(self, paddr: int) -> None:
        super().__init__(f"{paddr:#x}")
        self.paddr = paddr


class SnapshotLayout(NamedTuple):
    """The snapshot's kernel in physical and virtual memory.

    `text_paddr`/`text_vaddr`: `_text` in guest-physical memory and in the snapshot's address space. `shift`:
    virtual minus link-time address. `size`: bytes from `_text` to `_end`. `root_paddr`: `init_top_pgt`.
    `levels`: of paging. The three bases are the kernel's own variables. `modules` are the addresses
    that its modules may have. `cpu_numbers` are the CPUs that worked: those online, and those `stopped_cpus`
    that were so until the kernel stopped them at its end (a panic, a halt)."""

    text_paddr: int
    text_vaddr: int
    shift: int
    size: int
    root_paddr: int
    levels: int
    page_offset_base: int
    vmalloc_base: int
    vmemmap_base: int
    modules: range
    cpu_numbers: tuple[int, ...] = ()
    stopped_cpus: tuple[int, ...] = ()

    @property
    def cpus(self) -> int:
        """How many CPUs worked."""
        return len(self.cpu_numbers)

    def page_struct_of(self, paddr: int) -> int:
        """Virtual address of the `struct page` of the page at a physical address."""
        return self.vmemmap_base + paddr // PAGE_SIZE * PAGE_STRUCT

    def page_of(self, page_struct_vaddr: int) -> int:
        """Physical address of the page that a `struct page` is about."""
        return (page_struct_vaddr - self.vmemmap_base) // PAGE_STRUCT * PAGE_SIZE

    def translate(
        self, image: Tables, vaddr: int, root_paddr: int | None = None
    ) -> paging.Translation | None:
        """Walk the snapshot's own page tables, which an attacker may have changed, or those at `root_paddr`;
        None where nothing is mapped, or the tables are not in the image."""
        try:
            return self.walk(image, vaddr, root_paddr)
        except UnreadableSnapshot:
            return None

    def walk(self, image: Tables, vaddr: int, root_paddr: int | None = None) -> paging.Translation | None:
        """The same, but UnreadableSnapshot if a page table is not in the image; `root_paddr` is by default
        that of the kernel's own tables."""
        root = self.root_paddr if root_paddr is None else root_paddr
        return paging.walk(_entries(image), root, vaddr, self.levels)

    def last_table(self, image: Tables, vaddr: int) -> int | None:
        """The physical address of the page table with the entry of the page at an address; None where there
        is none, or a large page."""
        try:
            return paging.last_table(_entries(image), self.root_paddr, vaddr, self.levels)
        except UnreadableSnapshot:
            return None

    def mapped(self, image: Tables, vaddr: int) -> Iterator[tuple[int, bool]]:
        """The virtual addresses of the pages of 4 KiB in the 2 MiB from an address on, and of each whether
        something is mapped there."""
        pages = range(vaddr, vaddr + (1 << paging.LARGE_SHIFT), PAGE_SIZE)
        table = self.last_table(image, vaddr)
        if table is None:  # then all of them, or none, have an entry further up
            is_mapped = self.translate(image, vaddr) is not None
            yield from ((page, is_mapped) for page in pages)
            return
        for number, page in enumerate(pages):
            yield page, bool((image.table_entry(table + 8 * number) or 0) & paging.PRESENT)


def _entries(image: Tables) -> Callable[[int], int]:
    """How to read an entry of a page table. It raises UnreadableSnapshot."""

    def read_u64(paddr: int) -> int:
        word = image.table_entry(paddr)
        if word is None:
            raise UnreadableSnapshot(paddr)
        return word

    return read_u64


def read_layout(image: Readable, kernel: LaidOutKernel, found: Found) -> SnapshotLayout:
    """Read the layout of the kernel that `find_kernel` found.

    AttachError if what must be there is not.
    """

    symbols, text, end = kernel.symbols, kernel.text_link_vaddr, kernel.end_link_vaddr

    def static(name: str, size: int = 8) -> int | None:
        vaddr = symbols.get(name)
        if vaddr is None:
            return None
        data = image.read_available(found.text_paddr + vaddr - text, size)
        return None if data is None else int.from_bytes(data, "little")

    def needed(name: str) -> int:
        value = static(name)
        if value is None:
            raise AttachError(
                f"the image does not hold the kernel's {name}; it was truncated while it was taken"
            )
        return value

    root = symbols.get("init_top_pgt")
    if root is None:
        raise AttachError("the kernel has no init_top_pgt; it is older than the bridge knows")
    page_offset, vmalloc, vmemmap = kernel.region_bases or [
        needed(f"{name}_base") for name in ("page_offset", "vmalloc", "vmemmap")
    ]
    levels = 5 if static("__pgtable_l5_enabled", 4) else 4
    online, stopped = _cpus(static)
    return SnapshotLayout(
        found.text_paddr,
        (text + found.shift) & U64,
        found.shift,
        end - text,
        found.text_paddr + root - text,
        levels,
        page_offset,
        vmalloc,
        vmemmap,
        range(kernel.modules_vaddr, MODULES_END),
        _bits(online | stopped),
        _bits(stopped),
    )


def _cpus(static: Callable[[str, int], int | None]) -> tuple[int, int]:
    """The masks of the CPUs that were online, and of those that were stopped.

    A CPU that is taken offline first loses its bit in the mask of active ones; one that the kernel stops
    (`stop_this_cpu`, arch/x86/kernel/process.c) loses that in the mask of those online, and no other.
    """
    count = static("nr_cpu_ids", 4)
    if count is None:
        # a constant: of CONFIG_SMP=n, which has no offsets of per-CPU areas, it is 1
        count = MAX_CPUS if static("__per_cpu_offset", 8) is not None else 1
    possible = (1 << min(count, MAX_CPUS)) - 1
    online = (static("__cpu_online_mask", MAX_CPUS // 8) or 0) & possible
    active = (static("__cpu_active_mask", MAX_CPUS // 8) or 0) & possible
    return online, active & ~online


def _bits(mask: int) -> tuple[int, ...]:
    return tuple(number for number in range(mask.bit_length()) if mask >> number & 1)
