"""Programs and dynamic linkers as their files have them (System V gABI; the x86-64 psABI)."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.units import PAGE_SIZE, short_size

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_MAGIC = b"\x7fELF\x02\x01"  # ELFCLASS64, ELFDATA2LSB
_EXECUTABLE, _SHARED, _X86_64 = 2, 3, 62  # ET_EXEC, ET_DYN, EM_X86_64
_LOAD, _INTERPRETER, _HEADERS = 1, 3, 6  # PT_LOAD, PT_INTERP, PT_PHDR
_MAX_HEADERS = 128
"""Program headers; linkers write about 14."""
MAX_FILE = 256 << 20
"""Bytes of a program's file."""
_MAX_SPAN = 1 << 30
"""Bytes of memory between the beginning of a program and its end."""
_ADDRESSES = 1 << 47


class Segment(NamedTuple):
    """A part of the file and where it is in memory, relative to where the program lies. `protection` as for
    mmap(2)."""

    vaddr: int
    size: int
    content: bytes
    protection: int


class Executable(NamedTuple):
    """A program or a dynamic linker. Addresses are relative to its base, which is 0 unless `is_movable`.
    `headers_vaddr` and `header_count`: its program headers. `interpreter` is the path of its dynamic linker;
    empty if it has none."""

    path: str
    is_movable: bool
    entry: int
    headers_vaddr: int
    header_count: int
    segments: tuple[Segment, ...]
    interpreter: str

    @property
    def span(self) -> range:
        """The addresses from its first page to its last."""
        start = min(segment.vaddr for segment in self.segments)
        end = max(segment.vaddr + segment.size for segment in self.segments)
        return range(start & -PAGE_SIZE, end + PAGE_SIZE - 1 & -PAGE_SIZE)


def read_executable(path: str) -> Executable:
    """A program's file. OptionError if it is not one of x86-64, or is damaged."""
    return parse_executable(path, _content(path))


def _content(path: str) -> bytes:
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE:
            raise OptionError(f"{path}: a program of {short_size(size)}: more than is emulated")
        with open(path, "rb") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None


def parse_executable(path: str, data: bytes) -> Executable:
    """The same, of its content."""
    kind, entry, headers_at, count = _header(path, data)
    size = _PROGRAM_HEADER.size
    if count > _MAX_HEADERS or headers_at + count * size > len(data):
        raise OptionError(f"{path}: a damaged program: it ends within its headers")
    headers = list(_PROGRAM_HEADER.iter_unpack(data[headers_at : headers_at + count * size]))
    segments = tuple(_segment(path, data, header) for header in headers if header[0] == _LOAD)
    if not segments:
        raise OptionError(f"{path}: not a program: it has nothing to load")
    interpreter = next((_text(data, header) for header in headers if header[0] == _INTERPRETER), "")
    vaddr = _headers_vaddr(headers, headers_at)
    found = Executable(path, kind == _SHARED, entry, vaddr, count, segments, interpreter)
    if len(found.span) > _MAX_SPAN or found.span.stop > _ADDRESSES:
        raise OptionError(f"{path}: a damaged program: it takes {short_size(len(found.span))} of memory")
    return found


def _header(path: str, data: bytes) -> tuple[int, int, int, int]:
    """Kind, entry, and where the program headers are and how many. OptionError."""
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise OptionError(f"{path}: not a 64-bit program of x86-64, and nothing else is emulated")
    fields = _HEADER.unpack_from(data)
    kind, machine, entry, headers_at, header_size, count = (fields[at] for at in (1, 2, 4, 5, 9, 10))
    if machine != _X86_64:
        raise OptionError(
            f"{path}: a program of another architecture than x86-64: give a folder of x86-64 programs by "
            "--tools"
        )
    if kind not in (_EXECUTABLE, _SHARED) or header_size != _PROGRAM_HEADER.size:
        raise OptionError(f"{path}: not a program")
    return kind, entry, headers_at, count


def _headers_vaddr(headers: Sequence[tuple[int, ...]], headers_at: int) -> int:
    """Where the program headers are in memory; 0 if they are not."""
    named = (vaddr for kind, _flags, _offset, vaddr, *_rest in headers if kind == _HEADERS)
    covering = (
        vaddr + headers_at - offset
        for kind, _flags, offset, vaddr, _paddr, size, *_rest in headers
        if kind == _LOAD and 0 <= headers_at - offset < size
    )
    return next(named, next(covering, 0))


def _segment(path: str, data: bytes, header: tuple[int, ...]) -> Segment:
    _kind, flags, offset, vaddr, _paddr, file_size, size, _align = header
    if offset + file_size > len(data) or file_size > size or vaddr + size > _ADDRESSES:
        raise OptionError(f"{path}: a damaged program: a segment lies outside of it")
    protection = (flags & 4) >> 2 | flags & 2 | (flags & 1) << 2  # PF_R, PF_W, PF_X to PROT_*
    return Segment(vaddr, size, data[offset : offset + file_size], protection)


def _text(data: bytes, header: tuple[int, ...]) -> str:
    offset, size = header[2], header[5]
    return os.fsdecode(data[offset : offset + size].partition(b"\0")[0])
