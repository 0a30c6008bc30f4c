"""Memory of a small machine with a table of struct page, and the note VMCOREINFO that leads to it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

PAGE, MIB = 4096, 1 << 20
MACHINE_SIZE = 16 * MIB
_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_DIRECT_MAP, _VMEMMAP = 0xFFFF_8880_0000_0000, 0xFFFF_EA00_0000_0000
_ROOT, _DIRECT_TABLES, _MAP_TABLES, _ROOTS, _SECTIONS = (page * PAGE for page in (1, 2, 4, 6, 7))
_STRUCTS = 2 * MIB
"""Where the table of struct page lies, mapped by a large page."""
_PRESENT, _LARGE = 1, 1 << 7
_LRU, _HEAD, _SWAPCACHE, _ZONE = 1 << 4, 1 << 16, 1 << 10, 1 << 62

NOTE = f"""\
OSRELEASE=6.1.0
PAGESIZE=4096
SYMBOL(mem_section)={_DIRECT_MAP + _ROOTS:x}
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
OFFSET(page.compound_head)=8
NUMBER(PG_lru)=4
NUMBER(PG_swapcache)=10
NUMBER(PG_head_mask)=65536
NUMBER(phys_base)=-4096
SYMBOL(init_top_pgt)={_START_KERNEL_MAP + _ROOT + PAGE:x}
NUMBER(pgtable_l5_enabled)=0
""".encode()


def struct_page(
    flags: int = _ZONE, head: int = 0, mapping: int = 0, mapcount: int = -1, references: int = 1
) -> bytes:
    """64 bytes in the form of the note."""
    return struct.pack("<QQQQ16xiiQ", flags, head, 0, mapping, mapcount, references, 0)


KERNELS = struct_page()
FREE = struct_page(mapcount=-129, references=0)
IN_A_FREE_BLOCK = struct_page(references=0)
USERS = struct_page(_ZONE | _LRU, mapping=0xFFFF_8880_0000_1001, mapcount=0)
ISOLATED = struct_page(mapping=0xFFFF_8880_0000_1001, mapcount=0)
CACHED = struct_page(_ZONE | _LRU, mapping=0xFFFF_8880_0000_1000)
SWAPPED = struct_page(_ZONE | _SWAPCACHE)
HUGE = struct_page(_ZONE | _HEAD)
OFFLINE = struct_page(mapcount=-257)
MAPPED_TO_USER_SPACE = struct_page(mapcount=3, references=4)


def tail_of(page: int) -> bytes:
    """Of a compound page whose head that page is."""
    return struct_page(head=_VMEMMAP + 64 * page + 1, references=0)


def machine(pages: Mapping[int, bytes]) -> bytearray:
    """MACHINE_SIZE bytes of memory; `pages` are the struct pages, those of the others are the kernel's."""
    memory = bytearray(b"\x5a" * MACHINE_SIZE)

    def put(paddr: int, *words: int) -> None:
        struct.pack_into(f"<{len(words)}Q", memory, paddr, *words)

    memory[_ROOT : _SECTIONS + PAGE] = bytes(_SECTIONS + PAGE - _ROOT)
    for base, tables, leads_to in ((_DIRECT_MAP, _DIRECT_TABLES, 0), (_VMEMMAP, _MAP_TABLES, _STRUCTS)):
        put(_ROOT + 8 * (base >> 39 & 511), tables | _PRESENT)
        put(tables + 8 * (base >> 30 & 511), tables + PAGE | _PRESENT)
        for large in range(8):
            put(tables + PAGE + 8 * large, leads_to + 2 * MIB * large | _PRESENT | _LARGE)
    put(_ROOTS, _DIRECT_MAP + _SECTIONS)
    put(_SECTIONS, _VMEMMAP | 0x1F)
    for page in range(MACHINE_SIZE // PAGE):
        memory[_STRUCTS + 64 * page : _STRUCTS + 64 * (page + 1)] = pages.get(page, KERNELS)
    return memory
