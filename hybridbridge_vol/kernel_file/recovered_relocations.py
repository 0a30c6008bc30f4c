"""The relocations of a kernel whose file has none: a bare vmlinux, one built without CONFIG_RANDOMIZE_BASE.

What the linker would have listed (arch/x86/tools/relocs.c) is found again:

- in data, every aligned 64-bit word that is an address of the kernel, and the page tables that the kernel is
  linked with, whose entries are physical addresses of others;
- in code, every operand that is an address of the kernel, as far as all of its 64 bits count and it is no
  mask; and physical addresses of the kernel, where `phys_base` is added to them;
- distances to per-CPU variables that are linked at 0.

Tables without addresses whose numbers look like such are left out. What is missed or found wrongly shows when
the kernel is booted at another address. Needs all of the kernel's symbols.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from hybridbridge_vol.kernel_file.code_sweep import (
    WIDEST_IMMEDIATE,
    Field,
    Range,
    all_fields,
    end_of_mode,
    fields_at,
    text_ranges,
)
from hybridbridge_vol.kernel_file.relocations import Relocations
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import PAGE_SIZE, START_KERNEL_MAP, U64

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    Numbers = np.ndarray[Any, Any]

_SLACK = 2 << 20
"""Addresses of the kernel may be rounded up to this beyond its end (PMD_SIZE; arch/x86/mm/pti.c)."""
_TABLE_NAME = re.compile(r"(\w+_)?(top|level\d\w*)_pgt")
_TABLE_FLAGS = 0x63
"""Present, writable, accessed, dirty: bits that all entries leading to a further table have
(_KERNPG_TABLE_NOENC)."""
_LARGE_PAGE = 0x80
_ALT_SIZES = (12, 13, 14, 16)
_PARTS = 3
_NOT_ADDRESSES = (("__start_notes", "__stop_notes"),)
"""Tables whose numbers are addresses as linked, for whoever loads the kernel."""
_TABLE_ADDRESS = (0, 0x63, 0x67)
"""What may be added to the address of a page table: flags (_KERNPG_TABLE, _PAGE_TABLE)."""
_PVH_NOTE = b"\x12\0\0\0Xen\0"
"""Type and owner of a note with the address of an entry (include/xen/interface/elfnote.h)."""
_ADDING = frozenset(("add", "lea", "mov", "movabs", "sub"))


def recover_relocations(flat: bytes, symbols: Symbols) -> Relocations:
    """The relocations of the kernel `flat`, its image from `_text` on as linked (15 to 60 s)."""
    return _Recovery(flat, symbols).relocations()


class _Recovery:
    """The kernel's image, and what its symbols say of its parts (offsets from `_text`)."""

    def __init__(self, flat: bytes, symbols: Symbols) -> None:
        self._flat = flat
        self._symbols = symbols
        self._text = symbols.address("_text")
        self._end = symbols.address("_end") - self._text
        self._parts = self._text_parts()
        starts = (vaddr - self._text for vaddr, kind, _name in symbols if kind in "tTwW")
        functions = text_ranges((start for start in starts if 0 <= start < self._end), self._parts)
        self._code = sorted({*functions, *self._replacements()})
        self._tables = [
            Range(vaddr - self._text, (symbols.next_address(vaddr) or vaddr) - self._text)
            for vaddr, _kind, name in symbols
            if _TABLE_NAME.fullmatch(name) and vaddr >= self._text
        ]

    def relocations(self) -> Relocations:
        """See the module's text."""
        abs32, abs64 = self._addresses_in_code()
        physical32, physical64 = self._physical_in_code()
        abs64 |= physical64 | set(self._addresses_in_data()) | set(self._table_entries())
        inverse = self._per_cpu_in_code() | self._per_cpu_exports()
        return Relocations(*(self._sites(places) for places in (abs32 | physical32, inverse, abs64)))

    def _sites(self, places: Iterable[int]) -> array[int]:
        return array("Q", [self._text + place for place in sorted(places)])

    def _offset(self, name: str) -> int | None:
        vaddr = self._symbols.get(name)
        return None if vaddr is None or vaddr < self._text else vaddr - self._text

    def _range(self, first: str, last: str) -> Range | None:
        start, end = self._offset(first), self._offset(last)
        return Range(start, end) if start is not None and end is not None and start < end else None

    def _text_parts(self) -> list[Range]:
        """Where code is: `.text`, `.init.text`, and what alternatives are made of with `.exit.text`."""
        parts = [self._range("_text", "_etext"), self._range("_sinittext", "_einittext")]
        behind = self._range("__alt_instructions_end", "__init_end")
        return [part for part in (*parts, behind) if part is not None]

    def _is_code(self, offset: int) -> bool:
        return any(part.start <= offset < part.end for part in self._parts[:2])

    # --- data

    def _addresses_in_data(self) -> Iterator[int]:
        """Offsets of the words outside of the code that are addresses of the kernel."""
        import numpy as np  # 0.1 s, which most kernels do without

        words = np.frombuffer(self._flat[: len(self._flat) // 8 * 8], "<u8")
        hits = np.nonzero((words >= self._text) & (words <= self._text + self._end))[0] * 8
        excluded = [part for names in _NOT_ADDRESSES if (part := self._range(*names)) is not None]
        fixups = self._device_tables()
        for offset in [*hits.tolist(), *self._unaligned()]:
            if self._is_code(offset) or any(part.start <= offset < part.end for part in excluded):
                continue
            if any(part.start <= offset < part.end for part in fixups) and not self._is_function(offset):
                continue
            yield offset

    def _unaligned(self) -> Iterator[int]:
        """Offsets of the addresses that are not aligned: of exactly a symbol, or behind the 16-bit limit of a
        table of descriptors (struct desc_ptr)."""
        import numpy as np

        for shift in range(1, 8):
            words = np.ndarray(((len(self._flat) - shift) // 8,), "<u8", self._flat, shift)
            hits = np.nonzero((words >= self._text) & (words <= self._text + self._end))[0] * 8 + shift
            for offset in hits.tolist():
                vaddr = int.from_bytes(self._flat[offset : offset + 8], "little")
                limit = int.from_bytes(self._flat[offset - 2 : offset], "little")
                if self._is_symbol(vaddr) or (0 < limit < PAGE_SIZE and limit % 8 == vaddr % 8 + 7):
                    yield offset

    def _device_tables(self) -> list[Range]:
        """The tables of PCI fix-ups: vendor, device and class are 64 bits (struct pci_fixup)."""
        names = [name for _vaddr, name in self._symbols.with_prefix("__start_pci_fixups_")]
        found = [self._range(name, name.replace("__start", "__end")) for name in names]
        return [part for part in found if part is not None]

    def _is_function(self, offset: int) -> bool:
        vaddr = int.from_bytes(self._flat[offset : offset + 8], "little")
        return any(kind in "tTwW" for kind, _name in self._symbols.names_at(vaddr))

    def _table_entries(self) -> Iterator[int]:
        """Offsets of the entries of page tables that lead to a page table of the kernel's own."""
        for table in self._tables:
            for offset in range(table.start, min(table.end, len(self._flat) - 7), 8):
                if self._is_table_entry(int.from_bytes(self._flat[offset : offset + 8], "little")):
                    yield offset

    def _is_table_entry(self, value: int) -> bool:
        if value & _TABLE_FLAGS != _TABLE_FLAGS or value & _LARGE_PAGE:
            return False
        place = (value & -PAGE_SIZE) - (self._text - START_KERNEL_MAP)
        return any(table.start <= place < table.end for table in self._tables)

    # --- code

    def _numbers(self, part: Range) -> Numbers:
        """The 32-bit number at each offset of a part of the text, aligned or not."""
        import numpy as np

        count = min(part.end, len(self._flat) - 3) - part.start
        return np.ndarray((max(count, 0),), "<u4", self._flat, part.start, (1,))

    def _addresses_in_code(self) -> tuple[set[int], set[int]]:
        """Offsets of the operands of 32 and of 64 bits that are addresses of the kernel."""
        low = self._text & 0xFFFFFFFF

        def names(numbers: Numbers, _part: Range) -> Numbers:
            return (numbers >= low) & (numbers <= low + self._end + _SLACK)

        fields = [
            field
            for field in self._fields(names)
            if field.is_wide and not field.is_relative and self._is_address(field.value)
        ]
        masks = {(field.value, field.instruction >> 8) for field in fields if field.is_mask}
        found = [
            field
            for field in fields
            if not field.is_mask
            and not any((field.value, (field.instruction >> 8) + near) in masks for near in (-1, 0, 1))
        ]
        return (
            {field.offset for field in found if field.size == 4},
            {field.offset for field in found if field.size == 8},
        )

    def _is_address(self, value: int) -> bool:
        return self._text <= value <= self._text + self._end + _SLACK

    def _replacements(self) -> Iterator[Range]:
        """The code that alternatives put in the place of other code (struct alt_instr begins with distances
        to both; what else it has changed often)."""
        table = self._range("__alt_instructions", "__alt_instructions_end")
        if table is None or len(self._parts) < _PARTS:
            return
        places: set[int] = set()
        for size in _ALT_SIZES:
            entries = range(table.start, table.end - size + 1, size)
            found = {self._distance(entry + 4) for entry in entries if self._is_code(self._distance(entry))}
            places = max(
                places, {place for place in found if table.end <= place < self._parts[-1].end}, key=len
            )
        yield from (Range(start, end) for start, end in pairwise(sorted(places)) if end - start < PAGE_SIZE)

    def _distance(self, offset: int) -> int:
        """What the 32-bit distance at an offset leads to, an offset as well."""
        return offset + int.from_bytes(self._flat[offset : offset + 4], "little", signed=True)

    def _physical_in_code(self) -> tuple[set[int], set[int]]:
        """Offsets of the operands that are physical addresses of the kernel: its own page tables', or others
        where `phys_base` is near, which the kernel adds to them."""
        found = {field for field in self._fields(self._of_tables) if self._is_table_address(field.value)}
        base = self._offset("phys_base")
        for function in [] if base is None else self._users_of(base):
            found.update(field for field in all_fields(self._flat, function) if self._is_physical(field))
        kept = [field for field in found if field.mnemonic in _ADDING and not field.is_relative]
        kept += self._physical_at_entry()
        return (
            {field.offset for field in kept if field.size == 4},
            {field.offset for field in kept if field.size == 8},
        )

    def _is_physical(self, field: Field) -> bool:
        """Whether an operand must be a physical address of the kernel, in a function that knows `phys_base`.

        For a number below 2**32 a compiler takes 64 bits only if it does not know it yet. One of 32 bits must
        be that of a symbol and not round, or of the last byte before a symbol.
        """
        if not field.is_wide or not 0 <= field.value - (self._text - START_KERNEL_MAP) <= self._end + _SLACK:
            return False
        if field.size == 8:
            return True
        vaddr = field.value + START_KERNEL_MAP
        return self._is_symbol(vaddr + 1) or (vaddr % _SLACK != 0 and self._is_symbol(vaddr))

    def _physical_at_entry(self) -> list[Field]:
        """The physical addresses in the function by which PVH enters, code of 32 bits whose address a note
        tells (XEN_ELFNOTE_PHYS32_ENTRY, arch/x86/platform/pvh/head.S)."""
        notes = self._range("__start_notes", "__stop_notes")
        entry = None if notes is None else self._flat.find(_PVH_NOTE, notes.start, notes.end)
        if entry is None or entry < 0:
            return []
        at = entry + len(_PVH_NOTE)
        place = int.from_bytes(self._flat[at : at + 4], "little") - (self._text - START_KERNEL_MAP)
        function = next((item for item in self._code if item.start == place), None)
        if function is None:
            return []
        end = end_of_mode(self._flat, function)
        code = all_fields(self._flat, Range(function.start, end), bits=32)
        fields = [field for field in code if not field.has_base]
        rest = all_fields(self._flat, Range(end, function.end))
        fields += [field for field in rest if not field.is_address]
        return [field for field in fields if 0 <= field.value - (self._text - START_KERNEL_MAP) <= self._end]

    def _is_symbol(self, vaddr: int) -> bool:
        return next(self._symbols.names_at(vaddr), None) is not None

    def _fields(self, condition: Callable[[Numbers, Range], Numbers]) -> list[Field]:
        """The fields of all code whose first 32 bits fulfil a condition (of the numbers in a part)."""
        wanted: list[int] = []
        for part in self._parts:
            wanted += (condition(self._numbers(part), part).nonzero()[0] + part.start).tolist()
        return list(fields_at(self._flat, self._code, wanted))

    def _of_tables(self, numbers: Numbers, _part: Range) -> Numbers:
        import numpy as np

        pages = [
            page + flags for table in self._tables for page in self._pages(table) for flags in _TABLE_ADDRESS
        ]
        return np.isin(numbers, np.array(pages, "<u4"))

    def _pages(self, table: Range) -> range:
        """Physical addresses of a table's pages."""
        start = self._text - START_KERNEL_MAP
        return range(start + table.start, start + table.end, PAGE_SIZE)

    def _is_table_address(self, value: int) -> bool:
        return any(value & -PAGE_SIZE in self._pages(table) for table in self._tables)

    def _users_of(self, variable: int) -> list[Range]:
        """The functions that name a variable, relative to RIP or absolutely."""
        import numpy as np

        def names(numbers: Numbers, part: Range) -> Numbers:
            behind = np.arange(part.start + 4, part.start + 4 + len(numbers), dtype="<u4")
            distances = np.uint32(variable) - behind - numbers
            absolute: Numbers = numbers == (self._text + variable) & 0xFFFFFFFF
            return (distances <= WIDEST_IMMEDIATE) | absolute

        starts = [function.start for function in self._code]
        fields = [field for field in self._fields(names) if field.value in (variable, self._text + variable)]
        numbers = {bisect_right(starts, field.instruction) - 1 for field in fields}
        return [self._code[number] for number in sorted(numbers)]

    # --- per-CPU variables

    def _per_cpu_size(self) -> int:
        """Bytes of the static per-CPU area if it is linked at 0; 0 otherwise."""
        start, end = self._symbols.get("__per_cpu_start"), self._symbols.get("__per_cpu_end")
        return end if start == 0 and end is not None and end < self._end else 0

    def _per_cpu_in_code(self) -> set[int]:
        """Offsets of the distances from an instruction to a per-CPU variable."""
        import numpy as np

        size = self._per_cpu_size()
        if not size:
            return set()
        low = self._text & 0xFFFFFFFF

        def names(numbers: Numbers, part: Range) -> Numbers:
            behind = np.arange(low + part.start + 4, low + part.start + 4 + len(numbers), dtype="<u4")
            hits: Numbers = behind + numbers + WIDEST_IMMEDIATE < size + WIDEST_IMMEDIATE
            return hits

        fields = self._fields(names)
        return {
            field.offset for field in fields if field.is_relative and (self._text + field.value) & U64 < size
        }

    def _per_cpu_exports(self) -> set[int]:
        """Offsets of the distances to per-CPU variables in the tables of exported symbols
        (struct kernel_symbol, include/asm-generic/export.h)."""
        size, found = self._per_cpu_size(), set()
        for suffix in ("", "_gpl"):
            table = self._range(f"__start___ksymtab{suffix}", f"__stop___ksymtab{suffix}")
            for offset in range(*table, 4) if table is not None and size else ():
                if (self._text + self._distance(offset)) & U64 < size:
                    found.add(offset)
        return found
