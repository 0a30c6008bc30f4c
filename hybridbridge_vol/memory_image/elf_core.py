"""ELF cores of a machine's memory (ELF-64 object file format, "Program header")."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.format import Format
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MAX_RUNS, Contents, PhysicalImage, RunList

_MAGIC = b"\x7fELF"
_CLASS_AT, _CLASS_64 = 4, 2
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<44xI16x")
"""`sh_info`."""
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_ET_CORE, _PT_LOAD, _PN_XNUM = 4, 1, 0xFFFF


def parse_elf_core(source: Source) -> Contents:
    """The runs of an ELF core of a machine's memory: its PT_LOAD segments, by their physical addresses.

    ImageError if the file is an ELF file of another kind. Segments without bytes in the file are left out;
    one that overlaps an earlier one is cut to what is new.
    """
    collected = RunList(source.size)
    for kind, _flags, offset, _vaddr, paddr, size, _memory_size, _align in _program_headers(source):
        if kind == _PT_LOAD and size and paddr + size <= MAX_PADDR:
            collected.add(paddr, size, offset)
    if not collected.runs and not collected.missing:
        raise ImageError(
            f"{source.name}: an ELF core without memory (no PT_LOAD segment with physical addresses)"
        )
    return collected.contents("ELF core")


def _program_headers(source: Source) -> Iterator[tuple[int, ...]]:
    head = source.read_at(0, _HEADER.size)
    if len(head) < _HEADER.size or head[_CLASS_AT] != _CLASS_64:
        raise ImageError(f"{source.name}: an ELF file, but not a 64-bit core of a machine's memory")
    kind, _machine, _version, _entry, table, sections, _flags, _size, entry_size, count, *_ = _HEADER.unpack(
        head
    )
    if kind != _ET_CORE:
        raise ImageError(f"{source.name}: an ELF program, not a memory image")
    if count == _PN_XNUM:  # more headers than fit 16 bits: the first section header has their number
        section = source.read_at(sections, _SECTION_HEADER.size)
        count = _SECTION_HEADER.unpack(section)[0] if len(section) == _SECTION_HEADER.size else 0
    if entry_size != _PROGRAM_HEADER.size or not 0 < count <= MAX_RUNS:
        raise ImageError(f"{source.name}: a damaged ELF core (no usable program headers)")
    headers = source.read_at(table, entry_size * count)
    yield from _PROGRAM_HEADER.iter_unpack(headers[: len(headers) // entry_size * entry_size])


FORMAT = Format(
    lambda file: file.head.startswith(_MAGIC),
    lambda file: PhysicalImage(file, parse_elf_core(file.source)),
)
