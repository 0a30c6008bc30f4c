"""Which pages of a machine's memory its kernel uses for itself, by its own account of each (struct page).

makedumpfile leaves out pages of zeros and, by its dump level, pages of caches, of user data and free ones; an
ELF core does not record the level. What is of none of these kinds was zeros at any level. What struct page
looks like and where the table of them lies is in the note VMCOREINFO, by which makedumpfile finds it too
(kernel/vmcore_info.c; makedumpfile 1.7: `__exclude_unnecessary_pages`). The table is mapped in virtual memory
as one array (CONFIG_SPARSEMEM_VMEMMAP, which x86-64 always has), and `mem_section` has its address
(mm/sparse.c, `sparse_encode_mem_map`).

Nothing here is trusted: each step ends in "unknown", and a page of which nothing is known is not the
kernel's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from hybridbridge_vol.machine.paging import walk
from hybridbridge_vol.memory_image.physical import MAX_PADDR, Reader
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP, U64

_LINE = re.compile(
    rb"^(?:(SYMBOL|NUMBER|SIZE|OFFSET|LENGTH)\(([\w.]{1,64})\)=(-?[0-9a-f]{1,20}))$", re.MULTILINE
)
_MAX_STRUCT = PAGE_SIZE
_FLAGS_OF_SECTIONS = PAGE_SIZE - 1
"""The lowest bits of an encoded address of the table: flags of its section, at most 12 (mmzone.h)."""
_HEAD, _HEAD_OR_MASK = "OFFSET page.compound_head", "OFFSET page.compound_info"
_KEPT_TABLES, _KEPT_PAGES = 1024, 1 << 16

UNKNOWN = "a page of an unknown kind"
FREE, USER, CACHE = "a free page", "a page of user data", "a page of a cache"


class _Form(NamedTuple):
    """What the note says: size of struct page, offsets in it, and masks of its flags; the root of the page
    tables (physical) and their levels; how `mem_section` (virtual) is laid out.

    At `head` a page that is another's tail has an odd number: the address of its head plus 1, or, where the
    field is called compound_info and struct page has a size that is a power of two, a mask for its own
    address (include/linux/page-flags.h, `_compound_head`)."""

    size: int
    flags: int
    references: int
    mapcount: int
    mapping: int
    head: int
    head_is_mask: bool
    cached_mask: int
    other_mask: int
    root_paddr: int
    levels: int
    sections: int
    root_count: int
    section_size: int
    map_offset: int
    section_bits: int


class KernelPages:
    """Kinds of pages, by the note VMCOREINFO and what `read` gives of the memory that the file stores."""

    def __init__(self, note: bytes, read: Reader) -> None:
        self._read = read
        self._form = _form_of(note)
        self._table = lru_cache(_KEPT_TABLES)(self._read_page)
        self.kind = lru_cache(_KEPT_PAGES)(self._kind)
        """page number -> which kind of page it is that a dump level may leave out; None if the kernel uses it
        for itself."""

    def _kind(self, page: int) -> str | None:
        form = self._form
        if form is None or not 0 <= page < MAX_PADDR // PAGE_SIZE:
            return UNKNOWN
        try:
            vaddr = self._struct_page(form, page)
            content = self._virtual(form, vaddr, form.size)
            head = int.from_bytes(content[form.head : form.head + 8], "little")
            if not head & 1:
                return _kind_of(content, form)
            head_vaddr = vaddr & head if form.head_is_mask else head - 1
            return _kind_of(self._virtual(form, head_vaddr, form.size), form) or UNKNOWN
        except LookupError:
            return UNKNOWN

    def _struct_page(self, form: _Form, page: int) -> int:
        """Its virtual address; LookupError if the file does not say."""
        section = page * PAGE_SIZE >> form.section_bits
        root, index = divmod(section, PAGE_SIZE // form.section_size)
        entry = self._word(form, form.sections + 8 * root) if root < form.root_count else 0
        encoded = self._word(form, entry + index * form.section_size + form.map_offset) if entry else 0
        if not encoded:
            raise LookupError
        return (encoded & ~_FLAGS_OF_SECTIONS) + page * form.size & U64

    def _word(self, form: _Form, vaddr: int) -> int:
        return int.from_bytes(self._virtual(form, vaddr, 8), "little")

    def _virtual(self, form: _Form, vaddr: int, size: int) -> bytes:
        """LookupError if the file does not have all of it; no more than two pages."""
        data = b""
        while len(data) < size:
            at = vaddr + len(data) & U64
            place = walk(self._entry, form.root_paddr, at, form.levels)
            if place is None:
                raise LookupError
            offset = place.paddr % PAGE_SIZE
            data += self._table(place.paddr - offset)[offset : offset + size - len(data)]
        return data

    def _entry(self, paddr: int) -> int:
        offset = paddr % PAGE_SIZE
        return int.from_bytes(self._table(paddr - offset)[offset : offset + 8], "little")

    def _read_page(self, paddr: int) -> bytes:
        data = self._read(paddr, PAGE_SIZE)
        if len(data) < PAGE_SIZE:
            raise LookupError
        return data


def _form_of(note: bytes) -> _Form | None:
    """None if the note lacks something, or makes no sense."""
    said = {
        f"{kind.decode()} {name.decode()}": int(value, 16 if kind == b"SYMBOL" else 10)
        for kind, name, value in _LINE.findall(note)
        if kind == b"SYMBOL" or value.lstrip(b"-").isdigit()
    }
    try:
        form = _Form(
            size=said["SIZE page"],
            flags=said["OFFSET page.flags"],
            references=said["OFFSET page._refcount"],
            mapcount=said["OFFSET page._mapcount"],
            mapping=said["OFFSET page.mapping"],
            head=said[_HEAD if _HEAD in said else _HEAD_OR_MASK],
            head_is_mask=_HEAD not in said and said["SIZE page"].bit_count() == 1,
            cached_mask=_bit(said["NUMBER PG_lru"]) | _bit(said["NUMBER PG_swapcache"]),
            other_mask=said["NUMBER PG_head_mask"] | _bit(said.get("NUMBER PG_hwpoison", -1)),
            root_paddr=said["SYMBOL init_top_pgt"] - START_KERNEL_MAP + said["NUMBER phys_base"] & U64,
            levels=5 if said.get("NUMBER pgtable_l5_enabled") else 4,
            sections=said["SYMBOL mem_section"],
            root_count=said["LENGTH mem_section"],
            section_size=said["SIZE mem_section"],
            map_offset=said["OFFSET mem_section.section_mem_map"],
            section_bits=said["NUMBER SECTION_SIZE_BITS"],
        )
    except KeyError:
        return None
    offsets = (form.flags, form.references, form.mapcount, form.mapping, form.head)
    fits = 0 < form.size <= _MAX_STRUCT and all(0 <= offset <= form.size - 8 for offset in offsets)
    sections = 8 <= form.section_size <= PAGE_SIZE and 0 <= form.map_offset <= form.section_size - 8
    return form if fits and sections and 12 < form.section_bits < 64 else None


def _bit(number: int) -> int:
    return 1 << number if 0 <= number < 64 else 0


def _kind_of(content: bytes, form: _Form) -> str | None:
    """Of a page that is no other's tail. By what makedumpfile looks at, and a little more: whatever is not
    certainly the kernel's is not. A struct page of zeros is none."""

    def word(offset: int, size: int = 8, signed: bool = False) -> int:
        return int.from_bytes(content[offset : offset + size], "little", signed=signed)

    if not any(content):
        return UNKNOWN
    flags, mapping = word(form.flags), word(form.mapping)
    if word(form.references, 4, signed=True) <= 0:
        return FREE
    if mapping & 1:
        return USER
    if flags & form.cached_mask or mapping:
        return CACHE
    if flags & form.other_mask:  # of huge pages of hugetlbfs, say
        return UNKNOWN
    return UNKNOWN if word(form.mapcount, 4, signed=True) < -1 else None  # with a type: offline, say
