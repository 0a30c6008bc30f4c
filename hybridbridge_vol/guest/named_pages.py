"""Reading a file's content from the image itself: the kernel's own read finds the pages, and names them.

pread(2) runs as always, through the file system's code and the page cache, with its checks: what is locked,
not up to date or absent ends it as it ends any read. But what it would copy is logged
(`bridge.text.copy_log`): addresses of the kernel's map of all memory, which are physical addresses of the
image. So each range of the file comes with where it lies, and its bytes are read from the image at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from hybridbridge_vol.bridge.run.copy_log import CopyLog
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.descriptors import OpenFile
from hybridbridge_vol.guest.file_content import PhysicalRange, Piece, PieceKind, next_page
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import PAGE_SIZE

LARGEST_NAMED_READ = 8 << 20
"""Bytes that one read asks for: nothing of them passes through the emulator."""


class Gap(NamedTuple):
    """Why a read gives nothing: its errno, 0 at the end of the file; and the `struct address_space` in which
    the page was looked for (virtual address), 0 if that is not known."""

    number: int
    mapping_vaddr: int = 0


class NamedPages:
    """Reads of open files."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._log = CopyLog(proxy.caller)

    def read(self, file: OpenFile, offset: int, limit: int, content: bool) -> list[Piece] | Gap | None:
        """What is at an offset of a file, up to `limit` at most: one read's pieces, data (without their bytes
        unless `content`) and what the image lacks, in order. None if the kernel took the content from
        elsewhere than its map of memory: it must be copied. CallRolledBack."""
        # whole pages, so that what is logged is what is returned; none beyond the end, which may be half-read
        end = min((offset + LARGEST_NAMED_READ) & -PAGE_SIZE, next_page(limit - 1))
        with self._log.switched_on():
            count = self._proxy.raw(
                "pread64",
                file.number,
                self._proxy.buffer(),
                end - offset,
                offset,
                label=f"pread64 {file.path}",
            )
        trusted = self._proxy.bridge.boot.layout
        records = self._log.records()
        if count <= 0:
            noted = [vaddr for vaddr, _size in records if vaddr in trusted]
            return Gap(-count, self._mapping(noted[-1]) if noted else 0)
        copies = [record for record in records if record[0] not in trusted]
        if sum(size for _vaddr, size in copies) != count:
            return None
        ranges = list(self._ranges(copies, offset))
        if not all(0 <= item.paddr < self._proxy.bridge.image.end_paddr for item in ranges):
            return None
        return list(self._pieces(_until(limit, ranges), content))

    def _mapping(self, readahead_vaddr: int) -> int:
        """The page cache of a `struct readahead_control` (include/linux/pagemap.h: `file`, `mapping`); it lay
        on the stack of a call that has just returned."""
        try:
            return self._proxy.caller.machine.read_u64(readahead_vaddr + 8)
        except UnmappedVirtual:
            return 0

    def next_page(self, mapping_vaddr: int, offset: int, end: int) -> int:
        """The offset of the first page from `offset` to `end` that is in a page cache; `end` if there is
        none, `offset` if that cannot be said."""
        if not mapping_vaddr:
            return offset
        try:
            return _first(partial(self._has_page, mapping_vaddr), offset, end)
        except (KeyError, CallRolledBack):
            return offset

    def _has_page(self, mapping_vaddr: int, start: int, end: int) -> bool:
        return bool(self._proxy.function("filemap_range_has_page", mapping_vaddr, start, end - 1) & 1)

    def _ranges(self, records: Iterable[tuple[int, int]], offset: int) -> Iterator[PhysicalRange]:
        """The records as ranges of the file, neighbours joined."""
        base = self._proxy.bridge.layout.page_offset_base
        waiting: PhysicalRange | None = None
        for vaddr, size in records:
            paddr = vaddr - base
            if waiting is not None and paddr == waiting.paddr + waiting.size:
                waiting = PhysicalRange(waiting.offset, waiting.size + size, waiting.paddr)
            else:
                if waiting is not None:
                    yield waiting
                waiting = PhysicalRange(offset, size, paddr)
            offset += size
        if waiting is not None:
            yield waiting

    def _pieces(self, ranges: Iterable[PhysicalRange], content: bool) -> Iterator[Piece]:
        """Their content; what lies together in the file is one piece."""
        image = self._proxy.bridge.image
        parts: list[bytes] = []
        held: list[PhysicalRange] = []
        for item in ranges:
            if not content:
                yield Piece(PieceKind.DATA, item.offset, item.size, ranges=(item,))
                continue
            data = image.read_available(item.paddr, item.size)
            if data is not None:
                parts.append(data)
                held.append(item)
                continue
            if held:
                yield _data(parts, held)
                parts, held = [], []
            reason = f"physical address {item.paddr:#x}: {image.why_absent(item.paddr)}"
            yield Piece(PieceKind.MISSING, item.offset, item.size, reason=reason)
        if held:
            yield _data(parts, held)


def _until(limit: int, ranges: Iterable[PhysicalRange]) -> Iterator[PhysicalRange]:
    for item in ranges:
        if item.offset >= limit:
            return
        yield item._replace(size=min(item.size, limit - item.offset))


def _data(parts: list[bytes], held: list[PhysicalRange]) -> Piece:
    data = b"".join(parts)
    return Piece(PieceKind.DATA, held[0].offset, len(data), data, ranges=tuple(held))


def _first(has_page: Callable[[int, int], bool], start: int, end: int) -> int:
    """The first page in `[start, end)` of which `has_page(start, end)` is true; `end` if there is none. Steps
    are doubled while nothing is found, and then halved."""
    step = PAGE_SIZE
    while start < end and not has_page(start, min(start + step, end)):
        start += step
        step *= 2
    if start >= end:
        return end
    while step > PAGE_SIZE:
        step //= 2
        if not has_page(start, start + step):
            start += step
    return start
