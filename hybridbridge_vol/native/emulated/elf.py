"""Programs and dynamic linkers as their files have them (System V gABI; the x86-64 psABI)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from hybridbridge_vol import elf_headers
from hybridbridge_vol.elf_headers import ET_DYN, ET_EXEC, PT_INTERP, PT_LOAD, PT_PHDR, ElfHeader
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.units import PAGE_SIZE, short_size

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
    elf = _header(path, data)
    start, end = elf.segments_offset, elf.segments_offset + elf.segment_size * elf.segment_count
    if elf.segment_count > _MAX_HEADERS or end > len(data):
        raise OptionError(f"{path}: a damaged program: it ends within its headers")
    headers = list(elf_headers.segments(data[start:end]))
    segments = tuple(_segment(path, data, header) for header in headers if header.kind == PT_LOAD)
    if not segments:
        raise OptionError(f"{path}: not a program: it has nothing to load")
    interpreter = next((_text(data, header) for header in headers if header.kind == PT_INTERP), "")
    vaddr = _headers_vaddr(headers, start)
    found = Executable(path, elf.kind == ET_DYN, elf.entry, vaddr, len(headers), segments, interpreter)
    if len(found.span) > _MAX_SPAN or found.span.stop > _ADDRESSES:
        raise OptionError(f"{path}: a damaged program: it takes {short_size(len(found.span))} of memory")
    return found


def _header(path: str, data: bytes) -> ElfHeader:
    """OptionError if it is none of a program's."""
    if len(data) < elf_headers.HEADER.size or not data.startswith(elf_headers.MAGIC):
        raise OptionError(f"{path}: not a 64-bit program of x86-64, and nothing else is emulated")
    elf = ElfHeader.of(data)
    if elf.machine != elf_headers.EM_X86_64:
        raise OptionError(
            f"{path}: a program of another architecture than x86-64: give a folder of x86-64 programs by "
            "--tools"
        )
    if elf.kind not in (ET_EXEC, ET_DYN) or elf.segment_size != elf_headers.PROGRAM_HEADER.size:
        raise OptionError(f"{path}: not a program")
    return elf


def _headers_vaddr(headers: Sequence[elf_headers.Segment], headers_at: int) -> int:
    """Where the program headers are in memory; 0 if they are not."""
    named = (header.vaddr for header in headers if header.kind == PT_PHDR)
    covering = (
        header.vaddr + headers_at - header.offset
        for header in headers
        if header.kind == PT_LOAD and 0 <= headers_at - header.offset < header.file_size
    )
    return next(named, next(covering, 0))


def _segment(path: str, data: bytes, header: elf_headers.Segment) -> Segment:
    _kind, flags, offset, vaddr, _paddr, file_size, size, _align = header
    if offset + file_size > len(data) or file_size > size or vaddr + size > _ADDRESSES:
        raise OptionError(f"{path}: a damaged program: a segment lies outside of it")
    protection = (flags & 4) >> 2 | flags & 2 | (flags & 1) << 2  # PF_R, PF_W, PF_X to PROT_*
    return Segment(vaddr, size, data[offset : offset + file_size], protection)


def _text(data: bytes, header: elf_headers.Segment) -> str:
    return os.fsdecode(data[header.offset : header.offset + header.file_size].partition(b"\0")[0])
