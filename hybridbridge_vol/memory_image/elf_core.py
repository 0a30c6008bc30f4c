"""ELF cores of a machine's memory."""

from __future__ import annotations

import struct

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MAX_RUNS, Collector, ReadAt, Run

_ELF_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")


_PT_LOAD, _ET_CORE, _PN_XNUM = 1, 4, 0xFFFF


def parse_elf_core(read_at: ReadAt, file_size: int, name: str) -> tuple[list[Run], list[tuple[int, int]]]:
    """The runs of an ELF core of a machine's memory: PT_LOAD headers with physical addresses (ELF-64, gABI).

    ImageError if the file is an ELF file of another kind. Segments without bytes in the file are left out;
    one that overlaps an earlier one is cut to what is new.
    """
    head = read_at(0, 64)
    if len(head) < 64 or head[4] != 2:
        raise ImageError(f"{name}: an ELF file, but not a 64-bit core of a machine's memory")
    (kind,) = struct.unpack_from("<H", head, 16)
    if kind != _ET_CORE:
        raise ImageError(f"{name}: an ELF program, not a memory image")
    (table,) = struct.unpack_from("<Q", head, 32)
    (section_table,) = struct.unpack_from("<Q", head, 40)
    entry_size, count = struct.unpack_from("<HH", head, 54)
    if count == _PN_XNUM:  # more headers than fit 16 bits: the first section header has their number
        section = read_at(section_table, 64)
        count = struct.unpack_from("<I", section, 44)[0] if len(section) == 64 else 0
    if entry_size != _ELF_PROGRAM_HEADER.size or not 0 < count <= MAX_RUNS:
        raise ImageError(f"{name}: a damaged ELF core (no usable program headers)")
    headers = read_at(table, entry_size * count)
    collected = Collector(file_size)
    for i in range(len(headers) // entry_size):
        kind, _flags, offset, _vaddr, paddr, size, _mem_size, _align = _ELF_PROGRAM_HEADER.unpack_from(
            headers, entry_size * i
        )
        if kind == _PT_LOAD and size and paddr + size <= MAX_PADDR:
            collected.add(paddr, size, offset)
    if not collected.runs and not collected.missing:
        raise ImageError(f"{name}: an ELF core without memory (no PT_LOAD segment with physical addresses)")
    return collected.result()
