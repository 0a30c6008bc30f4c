"""A snapshot's virtual layout: where its kernel maps what, read from its own variables at known symbols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.machine import paging
from hybridbridge_vol.snapshot.find_kernel import Found, Readable
from hybridbridge_vol.units import U64

MAX_CPUS = 8192
"""CONFIG_NR_CPUS of Debian's kernels."""


class SymbolTable(Protocol):
    """As much of a symbol table as this module needs (link-time addresses)."""

    def get(self, name: str) -> int | None:
        """Address of a symbol."""


class Tables(Protocol):
    """As much of a memory image as a walk of page tables needs."""

    def table_entry(self, paddr: int) -> int | None:
        """The 64-bit word at a physical address that is a multiple of 8, None if it is absent."""


class UnreadableSnapshot(Exception):
    """A physical address that the image does not hold was needed."""


@dataclass(frozen=True)
class SnapshotLayout:
    """The snapshot's kernel in physical and virtual memory.

    `text_paddr`/`text_vaddr`: `_text` in guest-physical memory and in the snapshot's address space. `shift`:
    virtual minus link-time address. `size`: bytes from `_text` to `_end`. `root_paddr`: `init_top_pgt`.
    `levels`: of paging. The three bases are the kernel's own variables; `cpus` is how many were online.
    """

    text_paddr: int
    text_vaddr: int
    shift: int
    size: int
    root_paddr: int
    levels: int
    page_offset_base: int
    vmalloc_base: int
    vmemmap_base: int
    cpus: int

    def translate(self, image: Tables, vaddr: int) -> paging.Translation | None:
        """Walk the snapshot's own page tables, which an attacker may have changed; None where nothing is
        mapped."""
        try:
            return paging.walk(_entries(image), self.root_paddr, vaddr, self.levels)
        except UnreadableSnapshot:
            return None

    def last_table(self, image: Tables, vaddr: int) -> int | None:
        """The physical address of the page table with the entry of the page at an address; None where there
        is none, or a large page."""
        try:
            return paging.last_table(_entries(image), self.root_paddr, vaddr, self.levels)
        except UnreadableSnapshot:
            return None


def _entries(image: Tables) -> Callable[[int], int]:
    """How to read an entry of a page table. It raises UnreadableSnapshot."""

    def read_u64(paddr: int) -> int:
        word = image.table_entry(paddr)
        if word is None:
            raise UnreadableSnapshot(f"{paddr:#x}")
        return word

    return read_u64


def read_layout(image: Readable, symbols: SymbolTable, text: int, end: int, found: Found) -> SnapshotLayout:
    """Read the layout of the kernel that `find_kernel` found; `text` and `end` are its link-time bounds.

    AttachError if what must be there is not.
    """

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
    levels = 5 if static("__pgtable_l5_enabled", 4) else 4
    return SnapshotLayout(
        found.text_paddr,
        (text + found.shift) & U64,
        found.shift,
        end - text,
        found.text_paddr + root - text,
        levels,
        needed("page_offset_base"),
        needed("vmalloc_base"),
        needed("vmemmap_base"),
        _online_cpus(image, symbols, text, found),
    )


def _online_cpus(image: Readable, symbols: SymbolTable, text: int, found: Found) -> int:
    mask = symbols.get("__cpu_online_mask")
    if mask is None:
        return 0
    data = image.read_available(found.text_paddr + mask - text, MAX_CPUS // 8)
    return 0 if data is None else int.from_bytes(data, "little").bit_count()
