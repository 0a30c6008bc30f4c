"""Where a snapshot has a module's sections, and the trusted file's own bytes relocated to there.

The loader's rules differ between kernels, so only two things are taken from them: the order of sections
within a group, and that the code begins a page. Where every section lies is the majority vote of the
relocated references in the snapshot's copy of the module, as for the kernel itself. A lie there moves data;
what runs is the file's code.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hybridbridge_vol.bridge.modules.traps import FixUp, fix_ups_of, warnings_of
from hybridbridge_vol.bridge.modules.unwind import sort_unwind_tables
from hybridbridge_vol.bridge.text.static_keys import BRANCH, ENTRY_SIZE, JumpLabels, site_flags
from hybridbridge_vol.kernel_file.module import (
    R_32,
    RELATIVE,
    SHN_ABS,
    SHN_LORESERVE,
    SHN_UNDEF,
    WIDTHS,
    ModuleFile,
    Relocation,
)
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.units import PAGE_SIZE, U64

NOWHERE_VADDR = 0xFFFF_FFFF_FFFF_F000
"""What a reference leads to whose symbol is not known: the last page, which nothing is mapped at."""
ALIKE = 0.6
"""Share of a page of code, without what the loader fills in, that must be as in the file: alternatives and
static branches change a few bytes in a hundred."""

_BREAKPOINT, _CALL = 0xCC, 0xE8
_NOP5 = b"\x0f\x1f\x44\x00\x00"
PER_CPU_SECTION = ".data..percpu"
_FENTRY = "__fentry__"

Read = Callable[[int, int], bytes]
"""Bytes of the snapshot at a virtual address; what is not in the image reads as zero."""
Resolve = Callable[[str], list[int]]
"""Virtual addresses in the snapshot that a name may stand for, of the kernel or of another module."""
Votes = defaultdict[int, list[int]]
"""Where a section begins, as the references to it say, one by one."""


class _Kind:
    """How a kind of relocation is read, as a signed number but for R_32, and written."""

    def __init__(self, number: int) -> None:
        self.width = WIDTHS[number]
        self.mask = (1 << 8 * self.width) - 1
        self.is_relative = number in RELATIVE
        letter = "i" if self.width == 4 else "q"
        self.read = struct.Struct("<" + (letter.upper() if number == R_32 else letter)).unpack_from
        self.write = struct.Struct("<" + letter.upper()).pack_into


_KINDS = {number: _Kind(number) for number in WIDTHS}


@dataclass
class Group:
    """Sections that lie together: of code, or of constants. `vaddr` is where in the snapshot; `content` whole
    pages of trusted bytes; `references` are the fields that name the kernel's symbols, by their offset;
    `per_cpu` those that name the module's own per-CPU variables; `as_loaded` what was there before a field
    was turned elsewhere for our own runs."""

    vaddr: int
    content: bytearray
    references: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    per_cpu: list[int] = field(default_factory=list)
    as_loaded: dict[int, bytes] = field(default_factory=dict)


@dataclass
class RelocatedModule:
    """A module of the snapshot, made from its file. `sections` are virtual addresses by section number,
    `warnings` those of its WARNs, `fix_ups` where to go on after a fault of an instruction at a virtual
    address."""

    name: str
    file: ModuleFile
    sections: dict[int, int]
    text: Group
    rodata: Group | None
    labels: JumpLabels
    warnings: frozenset[int]
    fix_ups: dict[int, FixUp]

    def symbol_vaddr(self, name: str) -> int | None:
        """Where a symbol lies that the module exports."""
        symbol = self.file.exported(name)
        if symbol is None or symbol.section not in self.sections:
            return None
        return self.sections[symbol.section] + symbol.value

    def describe(self, vaddr: int) -> str:
        """The function at an address of the text, as `name+0x10`."""
        best, distance = self.name, vaddr - self.text.vaddr
        for symbol in self.file.symbols():
            start = self.sections.get(symbol.section)
            if start is not None and symbol.size and 0 <= vaddr - start - symbol.value < symbol.size:
                best, distance = symbol.name, vaddr - start - symbol.value
        return f"{best}+{distance:#x}"


class FirstPage:
    """The first page of a module's code as in its file, to be recognised by. What the loader fills in does
    not count."""

    def __init__(self, file: ModuleFile) -> None:
        layout, size = file.text_layout()
        self._size = min(size, PAGE_SIZE)
        expected, compared = bytearray(self._size), bytearray(self._size)
        for index, place in layout.items():
            section = file.sections[index]
            part = section.data[: max(0, self._size - place)]
            expected[place : place + len(part)] = part
            compared[place : place + len(part)] = b"\xff" * len(part)
        for index, place in layout.items():
            for offset, _info, _addend in file.raw_relocations(index) if place < self._size else ():
                start = place + offset - 1
                if start < self._size:
                    blank = range(max(start, 0), min(start + 9, self._size))
                    compared[blank.start : blank.stop] = bytes(len(blank))
        self._count = self._size - compared.count(0)
        self._expected, self._compared = (int.from_bytes(part, "little") for part in (expected, compared))

    def likeness(self, there: bytes) -> float:
        """The share of what counts that is in `there` as in the file."""
        other = int.from_bytes(there[: self._size], "little")
        differing = ((self._expected ^ other) & self._compared).to_bytes(self._size, "little")
        return (self._count - (self._size - differing.count(0))) / self._count if self._count else 0.0


@dataclass(frozen=True)
class Location:
    """Where a snapshot has a module: its groups of sections, with their sizes in bytes, and all `sections`
    that references tell of. Virtual addresses; `rodata_vaddr` is None if it could not be found."""

    name: str
    file: ModuleFile
    text_vaddr: int
    text_size: int
    rodata_vaddr: int | None
    rodata_size: int
    sections: dict[int, int]

    def holds(self, vaddr: int) -> bool:
        """Whether an address is in its code or its constants, whole pages of which are trusted."""
        rodata_offset = -1 if self.rodata_vaddr is None else vaddr - self.rodata_vaddr
        return 0 <= vaddr - self.text_vaddr < page_up(self.text_size) or 0 <= rodata_offset < page_up(
            self.rodata_size
        )


def locate(name: str, file: ModuleFile, text_vaddr: int, read: Read) -> Location:
    """Find where the module lies whose code begins at `text_vaddr`."""
    text_layout, text_size = file.text_layout()
    rodata_layout, rodata_size = file.rodata_layout()
    sections = {index: text_vaddr + offset for index, offset in text_layout.items()}
    votes: Votes = defaultdict(list)
    _vote(file, text_layout, text_vaddr, read(text_vaddr, text_size), votes)
    rodata_vaddr = _common_start(rodata_layout, votes)
    if rodata_vaddr is not None:
        sections.update({index: rodata_vaddr + offset for index, offset in rodata_layout.items()})
        _vote(file, rodata_layout, rodata_vaddr, read(rodata_vaddr, rodata_size), votes)
    for index, starts in votes.items():
        winner, count = _winner(starts)
        if 2 * count > len(starts):
            sections.setdefault(index, winner)
    return Location(name, file, text_vaddr, text_size, rodata_vaddr, rodata_size, sections)


def place(found: Location, read: Read, resolve: Resolve) -> RelocatedModule:
    """The module's trusted code and constants, relocated to where the snapshot has them."""
    file, sections = found.file, found.sections

    def built(layout: dict[int, int], vaddr: int, size: int, filler: int) -> Group:
        return _built(file, layout, vaddr, size, filler, sections, resolve, read(vaddr, size))

    text = built(file.text_layout()[0], found.text_vaddr, found.text_size, _BREAKPOINT)
    rodata = None
    if found.rodata_vaddr is not None:
        layout = file.rodata_layout()[0]
        rodata = built(layout, found.rodata_vaddr, found.rodata_size, 0)
        sort_unwind_tables(file, layout, rodata.content)
    labels = _labels(file, text, sections, resolve)
    return RelocatedModule(
        found.name, file, sections, text, rodata, labels, *_traps(file, text, sections, resolve)
    )


def _vote(file: ModuleFile, layout: dict[int, int], vaddr: int, there: bytes, votes: Votes) -> None:
    """Gather where the filled-in references of a group of sections at `vaddr` say that other sections
    begin."""
    places = file.symbol_offsets
    for index, place_of_section in layout.items():
        for offset, info, addend in file.raw_relocations(index):
            kind = _KINDS.get(info & 0xFFFFFFFF)
            symbol = info >> 32
            if kind is None or symbol >= len(places):
                continue
            section, symbol_value = places[symbol]
            offset += place_of_section
            if not SHN_UNDEF < section < SHN_LORESERVE or offset + kind.width > len(there):
                continue
            (value,) = kind.read(there, offset)
            if value:
                start = value - symbol_value - addend + (vaddr + offset if kind.is_relative else 0)
                votes[section].append(start & U64)


def _winner(starts: list[int]) -> tuple[int, int]:
    """What was voted for most, and how often."""
    return Counter(starts).most_common(1)[0]


def _common_start(layout: dict[int, int], votes: Votes) -> int | None:
    """Where the group begins of which every section that was voted for lies where `layout` has it; None if
    they disagree or nobody voted."""
    starts = {_winner(votes[index])[0] - offset for index, offset in layout.items() if index in votes}
    start = starts.pop() if len(starts) == 1 else None
    return None if start is None or start % PAGE_SIZE else start


def _built(
    file: ModuleFile,
    layout: dict[int, int],
    vaddr: int,
    size: int,
    filler: int,
    sections: dict[int, int],
    resolve: Resolve,
    there: bytes,
) -> Group:
    """The file's bytes of a group of sections, relocated; `there` are the snapshot's."""
    content = bytearray([filler]) * page_up(size)
    group = Group(vaddr, content)
    places, numbers = file.symbol_offsets, {item.name: item.number for item in file.sections}
    own_per_cpu = numbers.get(PER_CPU_SECTION)
    for index, start in layout.items():
        section = file.sections[index]
        content[start : start + len(section.data)] = section.data
    for index, start in layout.items():
        for offset, info, addend in file.raw_relocations(index):
            kind = _KINDS.get(info & 0xFFFFFFFF)
            offset += start
            if kind is None or offset + kind.width > len(content):
                continue
            symbol = info >> 32
            target_section, value = places[symbol] if symbol < len(places) else (SHN_UNDEF, 0)
            if target_section == SHN_UNDEF:
                _name_symbol(
                    file, group, Relocation(offset, info & 0xFFFFFFFF, symbol, addend), resolve, there
                )
                continue
            if target_section == own_per_cpu:
                group.per_cpu.append(offset)
            elif target_section == SHN_ABS:
                value -= NOWHERE_VADDR
            value += sections.get(target_section, NOWHERE_VADDR) + addend
            kind.write(content, offset, (value - vaddr - offset if kind.is_relative else value) & kind.mask)
    return group


def _name_symbol(file: ModuleFile, group: Group, item: Relocation, resolve: Resolve, there: bytes) -> None:
    """Fill in a reference to a symbol that is not in the file; the offset of `item` counts from the group's
    start."""
    name, offset, content = file.symbol(item.symbol).name, item.offset, group.content
    if name == _FENTRY and offset and content[offset - 1] == _CALL:
        content[offset - 1 : offset + 4] = _NOP5  # as ftrace leaves it
        return
    fields = [_field(item, value, group.vaddr + offset) for value in resolve(name) or [NOWHERE_VADDR]]
    data = there[offset : offset + len(fields[0])]
    content[offset : offset + len(fields[0])] = data if data in fields else fields[0]
    group.references[offset] = (name, item.kind, item.addend)


def _field(item: Relocation, value: int, place_vaddr: int) -> bytes:
    width = WIDTHS[item.kind]
    target = value + item.addend - (place_vaddr if item.kind in RELATIVE else 0)
    return (target & (1 << 8 * width) - 1).to_bytes(width, "little")


def field_for(reference: tuple[str, int, int], value: int, place_vaddr: int) -> bytes:
    """What a field of `Group.references` holds when its symbol is at `value`."""
    _name, kind, addend = reference
    return _field(Relocation(0, kind, 0, addend), value, place_vaddr)


def _labels(file: ModuleFile, text: Group, sections: dict[int, int], resolve: Resolve) -> JumpLabels:
    """The module's static branches; sites and targets as offsets from its text, keys as virtual addresses."""
    table = file.section("__jump_table")
    found = []
    if table is not None:
        values = dict(entry_values(file, table.number, sections, resolve))
        for entry in range(0, table.size - ENTRY_SIZE + 1, ENTRY_SIZE):
            site, goal, key = (values.get(entry + part) for part in (0, 4, 8))
            if site is None or goal is None or key is None:
                continue
            site, goal = site - text.vaddr, goal - text.vaddr
            if not (0 <= site <= len(text.content) - 5 and 0 <= goal < len(text.content)):
                continue
            flags = site_flags(bytes(text.content[site : site + 5]), goal - site)
            if flags is not None:
                found.append((site, goal, key & ~3, flags | key & BRANCH))
    found.sort()
    return JumpLabels(*(array("Q", (item[part] for item in found)) for part in range(4)))


def _traps(
    file: ModuleFile, text: Group, sections: dict[int, int], resolve: Resolve
) -> tuple[frozenset[int], dict[int, FixUp]]:
    """The module's warnings and fix-ups."""
    bugs, faults = file.section("__bug_table"), file.section("__ex_table")
    warnings: frozenset[int] = frozenset()
    fix_ups: dict[int, FixUp] = {}
    if bugs is not None:
        values = dict(entry_values(file, bugs.number, sections, resolve))
        warnings = warnings_of(bugs, values, text.content, text.vaddr)
    if faults is not None:
        fix_ups = fix_ups_of(file, faults, dict(entry_values(file, faults.number, sections, resolve)))
    return warnings, fix_ups


def entry_values(
    file: ModuleFile, table: int, sections: dict[int, int], resolve: Resolve
) -> Iterator[tuple[int, int]]:
    """`(offset in the table, address named there)`, with the flags in the lowest bits of a key's."""
    for item in file.relocations(table):
        symbol = file.symbol(item.symbol)
        if symbol.section == SHN_UNDEF:
            start = next(iter(resolve(symbol.name)), None)
        else:
            start = sections.get(symbol.section)
        if start is not None:
            yield item.offset, (start + symbol.value + item.addend) & U64
