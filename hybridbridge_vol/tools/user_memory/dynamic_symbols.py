"""Symbols that a loaded ELF file exports, read from the memory of the process that loaded it (System V ABI,
"Dynamic Linking"; the hash table of GNU: binutils, bfd/elflink.c `collect_gnu_hash_codes`)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hybridbridge_vol.elf_headers import (
    HEADER,
    MAGIC,
    PROGRAM_HEADER,
    PT_DYNAMIC,
    PT_LOAD,
    ElfHeader,
    Segment,
)

Read = Callable[[int, int], bytes]
"""(virtual address, size) -> bytes; OSError."""

_DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 5, 6, 0x6FFFFEF5
MAX_SEGMENTS, MAX_DYNAMIC, MAX_CHAIN = 64, 512, 4096
"""Program headers, entries of the dynamic section, and symbols of one bucket: more than linkers make."""
_SYMBOL_SIZE = 24


class LoadedFile:
    """An ELF file of 64 bits as it lies in memory."""

    def __init__(self, read: Read, base_vaddr: int) -> None:
        """`base_vaddr`: where the beginning of the file is mapped. OSError if it cannot be read; ValueError
        if it is no such file or exports nothing."""
        self._read = read
        head = read(base_vaddr, HEADER.size)
        if not head.startswith(MAGIC):
            raise ValueError("not an ELF file of 64 bits")
        elf = ElfHeader.of(head)
        dynamic = None
        first = None
        for number in range(min(elf.segment_count, MAX_SEGMENTS)):
            at = base_vaddr + elf.segments_offset + number * elf.segment_size
            segment = Segment(*PROGRAM_HEADER.unpack(read(at, PROGRAM_HEADER.size)))
            if segment.kind == PT_LOAD and first is None:
                first = segment.vaddr & -4096
            if segment.kind == PT_DYNAMIC:
                dynamic = segment.vaddr, segment.memory_size
        if dynamic is None or first is None:
            raise ValueError("no dynamic section")
        self.bias = base_vaddr - first
        self._tags = self._dynamic(dynamic[0] + self.bias, dynamic[1])
        if not {_DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH} <= self._tags.keys():
            raise ValueError("no symbols")

    def _dynamic(self, vaddr: int, size: int) -> dict[int, int]:
        data = self._read(vaddr, min(size // 16, MAX_DYNAMIC) * 16)
        tags: dict[int, int] = {}
        for tag, value in struct.iter_unpack("<QQ", data):
            if not tag:
                break
            # glibc's loader adds the bias to these itself (elf/get-dynamic-info.h), others do not
            tags.setdefault(tag, value if value >= self.bias else value + self.bias)
        return tags

    def address(self, name: str) -> int | None:
        """Where an exported symbol lies; None if the file does not define it. OSError, ValueError."""
        table = self._tags[_DT_GNU_HASH]
        buckets, base, words, _shift = struct.unpack("<IIII", self._read(table, 16))
        if not buckets:
            raise ValueError("a hash table without buckets")
        start = table + 16 + 8 * words
        wanted = _gnu_hash(name)
        (number,) = struct.unpack("<I", self._read(start + 4 * (wanted % buckets), 4))
        if number < base:
            return None
        chain = start + 4 * buckets
        for index in range(number, number + MAX_CHAIN):
            (value,) = struct.unpack("<I", self._read(chain + 4 * (index - base), 4))
            if value | 1 == wanted | 1:
                found = self._symbol(index, name)
                if found is not None:
                    return found
            if value & 1:
                return None
        raise ValueError("a hash table without an end")

    def _symbol(self, index: int, name: str) -> int | None:
        entry = self._read(self._tags[_DT_SYMTAB] + index * _SYMBOL_SIZE, _SYMBOL_SIZE)
        offset, _info, _other, section, value = struct.unpack_from("<IBBHQ", entry)
        wanted = name.encode() + b"\0"
        if section and self._read(self._tags[_DT_STRTAB] + offset, len(wanted)) == wanted:
            return int(value + self.bias)
        return None


def _gnu_hash(name: str) -> int:
    number = 5381
    for byte in name.encode():
        number = (number * 33 + byte) & 0xFFFFFFFF
    return number
