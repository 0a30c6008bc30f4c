"""The structures of 64-bit little-endian ELF files as they stand in them (System V gABI; elf(5))."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"\x7fELF\x02\x01"
"""What such a file begins with: ELFCLASS64, ELFDATA2LSB."""
EM_386, EM_X86_64 = 3, 62
ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR = 1, 2, 3, 4, 6
SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_DYNSYM = 2, 4, 8, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
SHN_UNDEF, SHN_LORESERVE, SHN_ABS = 0, 0xFF00, 0xFFF1
STB_LOCAL, STB_WEAK = 0, 2

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")


class ElfHeader(NamedTuple):
    """Elf64_Ehdr. Sizes and numbers are those of one header in the table, and of the table."""

    identity: bytes
    kind: int
    machine: int
    version: int
    entry: int
    segments_offset: int
    sections_offset: int
    flags: int
    size: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int
    names_section: int

    @classmethod
    def of(cls, data: bytes | memoryview) -> ElfHeader:
        """The header that `data` begins with. struct.error if it is too short."""
        return cls(*HEADER.unpack_from(data))


class Segment(NamedTuple):
    """A program header, Elf64_Phdr."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    file_size: int
    memory_size: int
    align: int


class Section(NamedTuple):
    """A section header, Elf64_Shdr. `name` is an offset in the table of section names."""

    name: int
    kind: int
    flags: int
    vaddr: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    """Elf64_Sym. `name` is an offset in the table of names."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int

    @property
    def binding(self) -> int:
        return self.info >> 4

    @property
    def kind(self) -> int:
        return self.info & 0xF


def segments(table: bytes | memoryview) -> Iterator[Segment]:
    """The whole program headers of a table."""
    return map(Segment._make, PROGRAM_HEADER.iter_unpack(_whole(table, PROGRAM_HEADER.size)))


def sections(table: bytes | memoryview) -> Iterator[Section]:
    """The whole section headers of a table."""
    return map(Section._make, SECTION_HEADER.iter_unpack(_whole(table, SECTION_HEADER.size)))


def symbols(table: bytes | memoryview) -> Iterator[Symbol]:
    """The whole symbols of a table."""
    return map(Symbol._make, SYMBOL.iter_unpack(_whole(table, SYMBOL.size)))


def _whole(table: bytes | memoryview, size: int) -> bytes | memoryview:
    return table[: len(table) // size * size]
