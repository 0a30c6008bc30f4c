"""The memory regions of a kernel that has their addresses in its code, and where.

With CONFIG_DYNAMIC_MEMORY_LAYOUT (5-level page tables or CONFIG_RANDOMIZE_MEMORY) the direct map, the vmalloc
area and the memory map begin where variables of the kernel say. Without, their addresses are constants
(arch/x86/include/asm/page_64_types.h, pgtable_64_types.h), which the compiler has put into instructions as
immediates of 64 bits, alone or combined: a distance, a part of an index, a sum with an offset.
A second such kernel in the same address space must have others there.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hybridbridge_vol.kernel_file.code_sweep import Range, fields_at, text_ranges
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.units import START_KERNEL_MAP, U64

_OFFSET = 1 << 33
"""An address may have so much added to it or taken from it: an offset, an end, what DMA can reach."""
ALIGNMENT = (1 << 39, 1 << 40, 1 << 41)
"""Of the direct map, the vmalloc area and the memory map, as they were linked: compilers leave out what does
not change the lower bits of a sum. And a number of 32 bits can be shifted to each, and to parts of it."""
_WIDEST_SHIFT = 47
_SHIFT = re.compile(rb"([\x48\x49])\xc1([\xe0-\xe7])([\x10-\x2f])", re.DOTALL)
"""`shl r64, imm8`."""
_REACH = 64
"""Bytes of code between a constant's two instructions."""
_VMALLOC_SIZE = 32 << 40
"""VMALLOC_SIZE_TB_L4."""
_LAYOUTS = (
    (0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_0000, 0xFFFF_EA00_0000_0000),
    (0xFFFF_8800_0000_0000, 0xFFFF_C900_0000_0000, 0xFFFF_EA00_0000_0000),
)
"""Direct map, vmalloc area, memory map: since 4.20 and before (Documentation/arch/x86/x86_64/mm.rst)."""


class Bases(NamedTuple):
    """Virtual addresses of the direct map, the vmalloc area and the memory map."""

    page_offset: int
    vmalloc: int
    vmemmap: int


class _Form(NamedTuple):
    """A combination of the regions' addresses: `value` is it as linked, `moved` what it is for other ones;
    `spread` how much may be added to it."""

    value: int
    moved: int
    spread: int = _OFFSET


def _forms(linked: Bases, bases: Bases) -> Iterator[_Form]:
    """What compilers make of the three addresses. A value that fits two forms is the first one's."""

    def form(of: Callable[[Bases], int], spread: int = _OFFSET) -> _Form:
        return _Form(of(linked) & U64, of(bases) & U64, spread)

    # pointers into arrays of 8 bytes, and numbers of pages (64 bytes each): parts of what is scaled later
    yield form(lambda at: (at.page_offset - (1 << 64)) >> 3, 1 << 24)
    yield form(lambda at: (at.vmemmap - (1 << 64)) >> 6, 1 << 24)
    yield form(lambda at: at.page_offset - (at.vmemmap << 6), 1 << 24)
    yield form(lambda at: at.page_offset)
    yield form(lambda at: -at.page_offset)
    yield form(lambda at: START_KERNEL_MAP - at.page_offset)
    yield form(lambda at: at.page_offset - START_KERNEL_MAP)
    yield form(lambda at: at.vmalloc)
    yield form(lambda at: -at.vmalloc)
    yield form(lambda at: at.vmemmap)
    yield form(lambda at: -at.vmemmap)
    # the end of the vmalloc area: of one that is moved, where the memory map begins
    end = linked.vmalloc + _VMALLOC_SIZE
    yield _Form(end, bases.vmemmap)
    yield _Form(-end & U64, -bases.vmemmap & U64)
    yield _Form(_VMALLOC_SIZE, bases.vmemmap - bases.vmalloc, 2)


class Shifted(NamedTuple):
    """A constant of two instructions: `mov reg, number` and later `shl reg, count`. Offsets from `_text` of
    both operands, of 32 and of 8 bits."""

    number_at: int
    count_at: int
    number: int
    shift: int

    @property
    def value(self) -> int:
        """What it makes."""
        return self.number << self.shift & U64


@dataclass(frozen=True)
class RegionConstants:
    """Where a kernel was linked to have its regions; its immediates of 64 bits, as ascending offsets from
    `_text` with the values as linked; and its constants of two instructions."""

    linked: Bases
    words: list[tuple[int, int]] = field(default_factory=list)
    shifted: list[Shifted] = field(default_factory=list)

    def moved(self, bases: Bases) -> Iterator[tuple[int, bytes]]:
        """`(offset, bytes)` of all operands for other regions, which must be aligned as `ALIGNMENT` says."""
        forms = list(_forms(self.linked, bases))
        for site, value in self.words:
            yield site, _moved(value, forms).to_bytes(8, "little")
        for item in self.shifted:
            value = _moved(item.value, forms)
            count = min((value & -value).bit_length() - 1, _WIDEST_SHIFT) if value else item.shift
            yield item.number_at, (value >> count).to_bytes(4, "little")
            yield item.count_at, bytes([count])


def _moved(value: int, forms: list[_Form]) -> int:
    found = next(form for form in forms if _added(value, form) is not None)
    return found.moved + (_added(value, found) or 0) & U64


def _added(value: int, form: _Form) -> int | None:
    """What was added to a form; None if the value is not of that form."""
    difference = (value - form.value + (1 << 63) & U64) - (1 << 63)
    return difference if abs(difference) <= form.spread else None


def find_region_constants(flat: bytes, symbols: Symbols) -> RegionConstants | None:
    """The constants of the kernel `flat`, its image from `_text` on; None if its regions are variables."""
    if "page_offset_base" in symbols:
        return None
    text = symbols.address("_text")
    parts = []
    for first, last in (("_text", "_etext"), ("_sinittext", "_einittext")):
        start, end = symbols.get(first), symbols.get(last)
        if start is not None and end is not None and text <= start < end:
            parts.append(Range(start - text, end - text))
    starts = (vaddr - text for vaddr, kind, _name in symbols if kind in "tTwW" and vaddr >= text)
    functions = text_ranges(starts, parts)
    found = [_found(flat, parts, functions, Bases(*layout)) for layout in _LAYOUTS]
    return max(found, key=lambda item: len(item.words) + len(item.shifted))


def _found(flat: bytes, parts: list[Range], functions: list[Range], linked: Bases) -> RegionConstants:
    import numpy as np  # 0.1 s, which most kernels do without

    result = RegionConstants(linked)
    forms = list(_forms(linked, linked))
    wanted: list[int] = []
    for part in parts:
        count = min(part.end, len(flat) - 7) - part.start
        numbers = np.ndarray((max(count, 0),), "<u8", flat, part.start, (1,))
        hits = np.zeros(len(numbers), bool)
        for form in forms:
            hits |= numbers - np.uint64((form.value - form.spread) & U64) <= 2 * form.spread
        wanted += (hits.nonzero()[0] + part.start).tolist()
    for item in fields_at(flat, functions, wanted):
        if item.size == 8 and any(_added(item.value, form) is not None for form in forms):
            result.words.append((item.offset, item.value))
    result.shifted.extend(_shifted(flat, parts, functions, forms))
    return result


def _shifted(
    flat: bytes, parts: list[Range], functions: list[Range], forms: list[_Form]
) -> Iterator[Shifted]:
    """Constants that are shifted into place, as compilers do where code shall be small."""
    starts = [function.start for function in functions]
    for part in parts:
        for match in _SHIFT.finditer(flat, part.start, part.end):
            count_at, count = match.end() - 1, match[3][0]
            first = max(starts[bisect_right(starts, match.start()) - 1], match.start() - _REACH)
            register = match[2][0] & 7 | (8 if match[1] == b"\x49" else 0)
            for number_at, number in _numbers_of(flat, first, match.start(), register):
                item = Shifted(number_at, count_at, number, count)
                if any(item.value == form.value for form in forms):
                    yield item
                    break


def _numbers_of(flat: bytes, start: int, end: int, register: int) -> Iterator[tuple[int, int]]:
    """`(offset, number)` of what may have been moved into a register by `mov r32, imm32`, nearest first."""
    opcode = (b"\x41" if register & 8 else b"") + bytes([0xB8 + (register & 7)])
    at = flat.rfind(opcode, start, end)
    while at >= 0:
        place = at + len(opcode)
        if place + 4 <= end:
            yield place, int.from_bytes(flat[place : place + 4], "little")
        at = flat.rfind(opcode, start, at)
