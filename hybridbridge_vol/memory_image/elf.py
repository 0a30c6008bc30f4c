"""The headers of ELF-64 cores (System V gABI, "ELF Header", "Program Header", "Note Section")."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from hybridbridge_vol import elf_headers
from hybridbridge_vol.elf_headers import PROGRAM_HEADER, SECTION_HEADER, Segment
from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import CpuRegisters
from hybridbridge_vol.memory_image.runs import MAX_HEADERS
from hybridbridge_vol.units import elf_machine

_CLASS_AT, _CLASS_64 = 4, 2
_NOTE = struct.Struct("<III")
_PN_XNUM = 0xFFFF
_MAX_NOTES_SIZE = 64 << 20
"""8,192 CPUs with a note of the kernel's and one of QEMU's each take 8 MiB."""
_MAX_SECTIONS = 1 << 10
MAX_NOTES = 1 << 16
"""Some for each of 8,192 CPUs."""
_REGISTERS = struct.Struct("<6Q")
"""The base of the last segment register, IDTR, and CR0 to CR4."""
_REGISTERS_AT = 8 + 18 * 8 + 10 * 24 - 8
"""Behind version and size, 18 registers, and of 10 segment registers of 24 bytes all but the last base."""


class ElfHeader(NamedTuple):
    """The ELF header: file offsets and numbers of entries."""

    segments_offset: int
    segment_count: int
    sections_offset: int
    section_count: int
    names_section: int


class Section(NamedTuple):
    """A section header: its name, and where its bytes lie in the file."""

    name: bytes
    offset: int
    size: int


class Note(NamedTuple):
    """A note: its owner's name, its type, and what it holds."""

    name: bytes
    kind: int
    content: bytes


def parse_elf_header(source: Source) -> ElfHeader:
    """The header of a 64-bit core of an x86-64 machine. ImageError if the file is an ELF file of another
    kind."""
    head = source.read_at(0, elf_headers.HEADER.size)
    if len(head) < elf_headers.HEADER.size or head[_CLASS_AT] != _CLASS_64:
        raise ImageError(f"{source.name}: an ELF file, but not a 64-bit core of a machine's memory")
    elf = elf_headers.ElfHeader.of(head)
    if elf.kind != elf_headers.ET_CORE:
        raise ImageError(f"{source.name}: an ELF program, not a memory image")
    if elf.machine != elf_headers.EM_X86_64:
        machine = f"{elf_machine(elf.machine)} (e_machine {elf.machine})"
        raise ImageError(
            f"{source.name}: the memory of a machine with {machine}; only that of 64-bit x86 can be answered"
        )
    segment_count, count = elf.segment_count, elf.section_count
    if segment_count == _PN_XNUM:  # more than fit 16 bits: the first section header has their number
        first = next(elf_headers.sections(source.read_at(elf.sections_offset, SECTION_HEADER.size)), None)
        segment_count = 0 if first is None else first.info
    damaged = segment_count and elf.segment_size != PROGRAM_HEADER.size
    damaged = damaged or count and elf.section_size != SECTION_HEADER.size
    if damaged or segment_count > MAX_HEADERS or not segment_count + count:
        raise ImageError(f"{source.name}: a damaged ELF core (no usable program headers)")
    return ElfHeader(
        elf.segments_offset, segment_count, elf.sections_offset, min(count, _MAX_SECTIONS), elf.names_section
    )


def parse_segments(source: Source, header: ElfHeader) -> Iterator[Segment]:
    """The program headers, as many as the file holds."""
    return elf_headers.segments(
        source.read_at(header.segments_offset, PROGRAM_HEADER.size * header.segment_count)
    )


def parse_sections(source: Source, header: ElfHeader) -> list[Section]:
    """The section headers with their names."""
    table = source.read_at(header.sections_offset, SECTION_HEADER.size * header.section_count)
    rows = list(elf_headers.sections(table))
    if header.names_section >= len(rows):
        return []
    holder = rows[header.names_section]
    names = source.read_at(holder.offset, min(holder.size, 1 << 16))
    return [Section(names[row.name :].split(b"\0", 1)[0], row.offset, row.size) for row in rows]


def qemu_cpus(notes: Iterable[Note]) -> list[CpuRegisters]:
    """The registers in QEMU's own notes, one for each CPU (`QEMUCPUState`, target/i386/arch_dump.c)."""
    found = []
    for note in islice(notes, MAX_NOTES):
        if note.name == b"QEMU" and len(note.content) >= _REGISTERS_AT + _REGISTERS.size:
            idt, cr0, _cr1, _cr2, cr3, cr4 = _REGISTERS.unpack_from(note.content, _REGISTERS_AT)
            found.append(CpuRegisters(cr3, cr0, cr4, idt))
    return found


def parse_notes(source: Source, offset: int, size: int) -> Iterator[Note]:
    """The notes in `size` bytes from a file offset on; they end where they make no sense."""
    data = source.read_at(offset, min(size, _MAX_NOTES_SIZE))
    at = 0
    while at + _NOTE.size <= len(data):
        name_size, content_size, kind = _NOTE.unpack_from(data, at)
        content_at = at + _NOTE.size + -(-name_size // 4) * 4
        end = content_at + content_size
        if end > len(data):
            return
        yield Note(data[at + _NOTE.size :][:name_size].rstrip(b"\0"), kind, data[content_at:end])
        at = content_at + -(-content_size // 4) * 4
