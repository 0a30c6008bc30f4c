"""Symbols that come in a file beside the kernel: a System.map, or an ELF vmlinux with its symbol table.

A kernel without CONFIG_KALLSYMS_ALL carries the names of its functions only. Its build leaves the others in
`System.map` (scripts/mksysmap, lines of nm) and in `vmlinux` (`.symtab`, System V ABI). Whether a file is of
that kernel is decided by the functions that both name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hybridbridge_vol.elf_headers import (
    SECTION_HEADER,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_SYMTAB,
    STB_LOCAL,
    STB_WEAK,
    ElfHeader,
    Section,
    Symbol,
    sections,
    symbols,
)
from hybridbridge_vol.errors import IncompleteKernelError, KernelFileError
from hybridbridge_vol.kernel_file.bzimage import is_elf
from hybridbridge_vol.kernel_file.symbols import Symbols

_MOST_BYTES = 2 << 30
"""A vmlinux with its debugging information has 1 GB."""
_FEWEST = 1000
"""Symbols of a kernel; the smallest ones have 30,000."""
_LINE = re.compile(rb"^([0-9a-f]{16}|[0-9a-f]{8}) ([A-Za-z?]) (\S+)$", re.MULTILINE)
_STT_OBJECT, _STT_SECTION, _STT_FILE = 1, 3, 4
_NOT_A_VARIABLE = re.compile(r"[.$]|__crc_|__kstrtab|__kcrctab|__ksymtab_")
"""Labels of the compiler's and the assembler's, and what modules are linked by (scripts/mksysmap)."""


class GivenSymbols(NamedTuple):
    """The symbols of a file, whose name is for messages."""

    name: str
    symbols: Symbols


def read_symbol_file(path: Path) -> GivenSymbols:
    """Read a System.map or an ELF vmlinux. KernelFileError if it is neither, or has no symbols."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(_MOST_BYTES)
    except OSError as error:
        raise KernelFileError(f"{path}: cannot be read ({error.strerror})") from None
    found = elf_symbols(data) if is_elf(data) else _map_symbols(data)
    if found is None:
        raise KernelFileError(
            f"{path}: has no table of symbols; give the System.map of the kernel's build, or its vmlinux "
            "before it was stripped (Debian has that in the package linux-image-*-dbg)"
        )
    return GivenSymbols(str(path), found)


def _map_symbols(data: bytes) -> Symbols | None:
    """The symbols of a System.map; None if it is none, or Debian's, which has one line and says so."""
    lines = _LINE.findall(data)
    if len(lines) < _FEWEST or len(lines) < data.count(b"\n") * 0.9:
        return None
    return Symbols.from_columns([int(address, 16) for address, _, _ in lines], [k + n for _, k, n in lines])


def elf_symbols(data: bytes) -> Symbols | None:
    """The symbols of `.symtab`, with nm's letter for each kind; None if there are none."""
    try:
        found = list(_symbols(data, _sections(data)))
    except (struct.error, IndexError):
        return None
    return Symbols.build(found) if len(found) >= _FEWEST else None


def elf_objects(data: bytes, kind: int) -> Iterator[tuple[int, int]]:
    """`(offset in the file, size)` of each object of data in the symbol tables of that type. struct.error or
    IndexError for a damaged file."""
    all_sections = _sections(data)
    for table in all_sections:
        for symbol in _entries(data, table) if table.kind == kind else ():
            section = all_sections[symbol.section] if symbol.section < len(all_sections) else None
            if symbol.kind != _STT_OBJECT or section is None or section.kind == SHT_NOBITS:
                continue
            offset = section.offset + symbol.value - section.vaddr
            if section.offset <= offset and offset + symbol.size <= section.offset + section.size:
                yield offset, symbol.size


def _sections(data: bytes) -> list[Section]:
    elf = ElfHeader.of(data)
    if elf.section_size != SECTION_HEADER.size:
        return []
    end = elf.sections_offset + elf.section_size * elf.section_count
    if end > len(data):
        raise IndexError("the section headers are not all in the file")
    return list(sections(data[elf.sections_offset : end]))


def _entries(data: bytes, table: Section) -> Iterator[Symbol]:
    return symbols(data[table.offset : table.offset + table.size])


def _symbols(data: bytes, all_sections: list[Section]) -> Iterator[tuple[int, str, str]]:
    table = next((section for section in all_sections if section.kind == SHT_SYMTAB), None)
    if table is None:
        return
    names = all_sections[table.link]
    end = min(names.offset + names.size, len(data))
    for symbol in _entries(data, table):
        if not symbol.name or not symbol.section or symbol.kind in (_STT_SECTION, _STT_FILE):
            continue
        start = names.offset + symbol.name
        name = data[start : data.find(b"\0", start, end)].decode("latin-1")
        if name and not _NOT_A_VARIABLE.match(name):
            in_section = symbol.section < min(len(all_sections), SHN_LORESERVE)
            section = all_sections[symbol.section] if in_section else None
            yield symbol.value, _letter(symbol.binding, section), name


def _letter(binding: int, section: Section | None) -> str:
    """What nm calls a symbol of that section (nm(1))."""
    if binding == STB_WEAK:
        return "W"
    if section is None:
        letter = "a"
    elif section.flags & SHF_EXECINSTR:
        letter = "t"
    elif section.kind == SHT_NOBITS:
        letter = "b"
    else:
        letter = "d" if section.flags & SHF_WRITE else "r"
    return letter if binding == STB_LOCAL else letter.upper()


def completed(own: Symbols, given: GivenSymbols, kernel_name: str) -> Symbols:
    """`own` with what `given` adds to it. IncompleteKernelError if the two are not of one build.

    All that both can name must agree: kallsyms is made from the same vmlinux.
    """
    known = {(address, name) for address, _kind, name in given.symbols}
    missing = [(address, kind, name) for address, kind, name in own if (address, name) not in known]
    functions = len(own)
    if len(missing) > functions // 100:
        address, _, name = missing[0]
        there = given.symbols.get(name)
        place = "is not in it" if there is None else f"is at {there:#x} in it"
        raise IncompleteKernelError(
            f"{given.name}: not of the build of {kernel_name}: {len(missing)} of {functions} functions "
            f"differ, {name} at {address:#x} {place}; give the file of the same build"
        )
    return Symbols.build([*given.symbols, *missing])
