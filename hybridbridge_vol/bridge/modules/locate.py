"""Where a snapshot has a module's sections.

The loader's rules differ between kernels, so only two things are taken from them: the order of sections
within a segment, and that code begins a page. Where a section lies is the majority vote of the references to
it in the snapshot's copy of the module, as for the kernel itself. A forged reference moves data; the code
that runs is the file's.

`first_page` recognizes a module's code before, `relocate` fills the sections in afterwards.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.elf_headers import SHN_LORESERVE, SHN_UNDEF
from hybridbridge_vol.kernel_file.module import (
    R_32,
    RELATIVE,
    RELOCATION,
    WIDTHS,
    ModuleFile,
)
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.units import PAGE_SIZE, U64

STRUCT_SECTION = ".gnu.linkonce.this_module"
"""A module's `struct module`."""
Read = Callable[[int, int], bytes]
"""Bytes of the snapshot at a virtual address; what is not in the image reads as zero."""
Resolve = Callable[[str], list[int]]
"""Virtual addresses in the snapshot that a name may stand for, of the kernel or of another module."""
_NO_TABLE = memoryview(b"")
Votes = defaultdict[int, list[int]]
"""Where a section begins by the references to it, one by one."""


class RelocationKind:
    """How a kind of relocation is read, as a signed number except for R_32, and written."""

    def __init__(self, number: int) -> None:
        self.width = WIDTHS[number]
        self.mask = (1 << 8 * self.width) - 1
        self.is_relative = number in RELATIVE
        letter = "i" if self.width == 4 else "q"
        self.read = struct.Struct("<" + (letter.upper() if number == R_32 else letter)).unpack_from
        self.write = struct.Struct("<" + letter.upper()).pack_into


RELOCATION_KINDS = {number: RelocationKind(number) for number in WIDTHS}


class Location(NamedTuple):
    """Where a snapshot has a module: its segments, with their sizes in bytes, all `sections` that references
    show, and the `pages` that have some of these. Virtual addresses; `rodata_vaddr` is None if the constants
    were not found."""

    name: str
    file: ModuleFile
    text_vaddr: int
    text_size: int
    rodata_vaddr: int | None
    rodata_size: int
    sections: dict[int, int]
    pages: frozenset[int]

    def holds(self, vaddr: int) -> bool:
        """Whether an address is in its code or its constants, whole pages of which are trusted."""
        rodata_offset = -1 if self.rodata_vaddr is None else vaddr - self.rodata_vaddr
        in_text = 0 <= vaddr - self.text_vaddr < page_up(self.text_size)
        return in_text or 0 <= rodata_offset < page_up(self.rodata_size)

    def covers(self, vaddr: int) -> bool:
        """Whether an address is in a page of its code, its constants or its data, as far as they were
        found."""
        return vaddr & -PAGE_SIZE in self.pages

    def symbol_vaddr(self, name: str) -> int | None:
        """Virtual address of a symbol that the module exports; None if it does not export it."""
        return exported_vaddr(self.file, self.sections, name)


def exported_vaddr(file: ModuleFile, sections: dict[int, int], name: str) -> int | None:
    """Where a symbol is that a module with such `sections` exports; None if it does not export it."""
    symbol = file.exported(name)
    start = None if symbol is None else sections.get(symbol.section)
    return None if symbol is None or start is None else start + symbol.value


def locate(name: str, file: ModuleFile, text_vaddr: int, read: Read, pages: Sequence[int] = ()) -> Location:
    """Find where the module lies whose code begins at `text_vaddr`. `pages` are those that its `struct
    module` names, in its order."""
    text_layout, text_size = file.text_layout()
    rodata_layout, rodata_size = file.rodata_layout()
    sections = {index: text_vaddr + offset for index, offset in text_layout.items()}
    votes: Votes = defaultdict(list)
    _vote(file, text_layout, text_vaddr, read(text_vaddr, text_size), sections, votes)
    rodata_vaddr = _common_start(rodata_layout, votes)
    if rodata_vaddr is not None:
        sections.update({index: rodata_vaddr + offset for index, offset in rodata_layout.items()})
        _vote(file, rodata_layout, rodata_vaddr, read(rodata_vaddr, rodata_size), sections, votes)
    for index, starts in votes.items():
        winner, count = _winner(starts)
        if 2 * count > len(starts):
            sections.setdefault(index, winner)
    _place_data(file, sections, text_vaddr, rodata_vaddr, pages)
    known = file.sections
    ranges = [(start, known[index].size) for index, start in sections.items() if index < len(known)]
    ranges += [(text_vaddr, text_size)]
    ranges += [] if rodata_vaddr is None else [(rodata_vaddr, rodata_size)]
    return Location(name, file, text_vaddr, text_size, rodata_vaddr, rodata_size, sections, _pages_of(ranges))


def _pages_of(ranges: Iterable[tuple[int, int]]) -> frozenset[int]:
    """The pages that have some of these ranges: start and size of each."""
    return frozenset(
        page for start, size in ranges for page in range(start & -PAGE_SIZE, page_up(start + size), PAGE_SIZE)
    )


def segment_starts(
    text_vaddr: int, rodata_vaddr: int | None, sizes: Sequence[int], pages: Sequence[int]
) -> dict[int, int]:
    """Where the segments begin by their order, of the numbers 0 to 3: code, constants, data that is constant
    after initialisation, data, of so many bytes. Before 6.4 they lie behind each other, each at a new page;
    since then `struct module` has where those lie that are not empty, data before constants
    (include/linux/module.h, `enum mod_mem_type`)."""
    code, constants, later, data = range(4)
    behind_text = page_up(text_vaddr + sizes[code])
    if rodata_vaddr == behind_text:
        behind_rodata = page_up(behind_text + sizes[constants])
        return {later: behind_rodata, data: page_up(behind_rodata + sizes[later])}
    own = [segment for segment in (code, data, constants, later) if sizes[segment]]
    first = pages.index(text_vaddr) if text_vaddr in pages else len(pages)
    return dict(zip(own, pages[first:], strict=False))


def _place_data(
    file: ModuleFile,
    sections: dict[int, int],
    text_vaddr: int,
    rodata_vaddr: int | None,
    pages: Sequence[int],
) -> None:
    """Add the sections of data that no code refers to, such as those of static keys, to `sections`; none if
    those that are known disagree."""
    layouts = (file.text_layout(), file.rodata_layout(), file.later_layout(), file.data_layout())
    starts = segment_starts(text_vaddr, rodata_vaddr, [size for _layout, size in layouts], pages)
    found = {
        section: starts[segment] + offset
        for segment, (layout, _size) in enumerate(layouts)
        if segment in starts
        for section, offset in layout.items()
    }
    if all(sections.get(section, vaddr) == vaddr for section, vaddr in found.items()):
        sections.update(found)


def text_by_exit(file: ModuleFile, struct_vaddr: int, read: Read) -> int | None:
    """Where a module's code begins by the function in its `struct module` that ends it; None if it has
    none."""
    own = file.section(STRUCT_SECTION)
    layout = file.text_layout()[0]
    for item in file.relocations(own.number) if own is not None else ():
        symbol = file.symbol(item.symbol)
        if symbol.section in layout:
            function = int.from_bytes(read(struct_vaddr + item.offset, 8), "little")
            return function - symbol.value - item.addend - layout[symbol.section] & U64
    return None


def _vote(
    file: ModuleFile,
    layout: dict[int, int],
    vaddr: int,
    loaded: bytes,
    known: Container[int],
    votes: Votes,
) -> None:
    """Gather where other sections than the `known` ones begin by the filled-in references of a segment, which
    the snapshot has at `vaddr` with the bytes `loaded`."""
    size, kinds = len(loaded), RELOCATION_KINDS
    for index, section_offset in layout.items():
        for offset, info, addend, section, symbol_value in _references(file, index, known):
            kind = kinds.get(info & 0xFFFFFFFF)
            offset += section_offset
            if kind is None or offset + kind.width > size:
                continue
            (value,) = kind.read(loaded, offset)
            if value:
                start = value - symbol_value - addend + (vaddr + offset if kind.is_relative else 0)
                votes[section].append(start & U64)


def _references(
    file: ModuleFile, index: int, known: Container[int]
) -> Iterator[tuple[int, int, int, int, int]]:
    """The relocations of a section that refer to others of the file than the `known` ones: offset, info and
    addend of each, and the section and the value of its symbol. Most refer to the code itself, or to what is
    not in the file: these are left out by their infos, of which there are few different ones."""
    table = file.relocation_tables.get(index, _NO_TABLE)
    infos = table.cast("Q")[1::3].tolist()
    symbols = file.symbol_offsets
    wanted = {}
    for info in set(infos):
        section, value = symbols[info >> 32] if info >> 32 < len(symbols) else (SHN_UNDEF, 0)
        if SHN_UNDEF < section < SHN_LORESERVE and section not in known:
            wanted[info] = section, value
    if not wanted:
        return
    for number, info in enumerate(infos):
        if info in wanted:
            offset, _info, addend = RELOCATION.unpack_from(table, number * RELOCATION.size)
            yield offset, info, addend, *wanted[info]


def _winner(starts: list[int]) -> tuple[int, int]:
    """What was voted for most, and how often."""
    return Counter(starts).most_common(1)[0]


def _common_start(layout: dict[int, int], votes: Votes) -> int | None:
    """Where the segment begins, if all its sections that have votes agree on one start; else None. `layout`:
    offset in the segment by section."""
    starts = {_winner(votes[index])[0] - offset for index, offset in layout.items() if index in votes}
    start = starts.pop() if len(starts) == 1 else None
    return None if start is None or start % PAGE_SIZE else start
