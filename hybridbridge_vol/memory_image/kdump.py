"""kdump-compressed dumps: what makedumpfile writes with -c, -l, -p or -z, and QEMU's `dump-guest-memory`.

In blocks of one page: a header, a sub-header, two bitmaps (which pages the machine had, which of them are in
the file), then a descriptor for each page in the file, then the pages' data, each compressed on its own.
(makedumpfile 1.7: IMPLEMENTATION, diskdump_mod.h; QEMU: include/sysemu/dump.h.) The file is not trusted:
every place and size is checked before it is used, and no more is kept in memory than one count for 128 MiB of
the machine's memory.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.units import PAGE_SIZE, Progress

ReadAt = Callable[[int, int], bytes]

SIGNATURE = b"KDUMP   "
MAX_PADDR = 1 << 46
MAX_RANGES = 4096
"""Ranges of memory kept apart; of more, those that lie close together become one."""

_HEADER = struct.Struct("<8si390s22xIiiIII")
"""Up to `total_ram_blocks`: signature, version, `struct new_utsname`, time, then see `_Header`."""
_SUB_HEADER = struct.Struct("<QiiQQ")
_MAX_MAPNR_64_OFFSET = 96
_DESCRIPTOR = struct.Struct("<QII8x")

_ZLIB, _LZO, _SNAPPY, _INCOMPLETE, _ZSTD = 1, 2, 4, 8, 0x20
_COMPRESSED = _ZLIB | _LZO | _SNAPPY | _ZSTD
_BLOCK = PAGE_SIZE
"""Bytes of a bitmap counted together."""
_PAGES_PER_BLOCK = _BLOCK * 8
_LOOK_AHEAD = 256
_CACHED_PAGES = 1024

Range = tuple[int, int]
"""`(paddr, size)` in bytes."""


@dataclass(frozen=True)
class _Header:
    """`status` flags; `max_page` is one more than the highest page number; the rest are file offsets and
    sizes."""

    status: int
    max_page: int
    present_offset: int
    stored_offset: int
    bitmap_size: int
    descriptors_offset: int


class KdumpFile:
    """The pages of a kdump-compressed file that `read_at` gives, `file_size` bytes long.

    `ranges` is what memory the machine had; pages that the dump leaves out lie in them too, but cannot be
    read. `missing` is what the headers promise and the file does not hold. Raises ImageError if the file is
    not what its signature says, or is compressed in a way that nothing here reads.
    """

    def __init__(self, read_at: ReadAt, file_size: int, name: str, progress: Progress | None = None) -> None:
        self._read_at = read_at
        self._file_size = file_size
        self._header = _parse_header(read_at, file_size, name)
        if progress:
            progress(0.0, "reading the dump's page maps")
        self._page = lru_cache(_CACHED_PAGES)(self._load)
        self._word = lru_cache(64)(self._stored_block)
        self._before = self._count_pages()
        """How many pages the file has before each block of the bitmap, and in all."""
        self.ranges = merged(self._present(), MAX_RANGES)
        self.missing = self._missing()

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, paddr: int, size: int) -> bytes:
        """`size` bytes at a physical address; fewer where a page is not in the file or is damaged."""
        parts = []
        while size > 0:
            page = self._page(paddr // PAGE_SIZE)
            if page is None:
                break
            parts.append(page[paddr % PAGE_SIZE : paddr % PAGE_SIZE + size])
            paddr += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def _load(self, page: int) -> bytes | None:
        descriptor = self._descriptor(page)
        if descriptor is None:
            return None
        offset, size, flags = descriptor
        if not 0 < size <= PAGE_SIZE or offset + size > self._file_size:
            return None
        data = self._read_at(offset, size)
        if len(data) < size:
            return None
        try:
            plain = _decompress(data, flags & _COMPRESSED)
        except Exception:  # noqa: BLE001  every library has errors of its own
            return None
        return plain if len(plain) == PAGE_SIZE else None

    def _descriptor(self, page: int) -> tuple[int, int, int] | None:
        """Offset, size and flags of a page's data; None if the file has no such page."""
        if not 0 <= page < self._header.max_page:
            return None
        block, bit = divmod(page, _PAGES_PER_BLOCK)
        bits = self._word(block)
        if not bits >> bit & 1:
            return None
        return self._descriptor_at(self._before[block] + (bits & (1 << bit) - 1).bit_count())

    def _descriptor_at(self, index: int) -> tuple[int, int, int] | None:
        data = self._read_at(self._header.descriptors_offset + index * _DESCRIPTOR.size, _DESCRIPTOR.size)
        return _DESCRIPTOR.unpack(data) if len(data) == _DESCRIPTOR.size else None

    # --- bitmaps ------------------------------------------------------------------------------------------

    def _bitmap_block(self, start: int, block: int) -> int:
        """One block of a bitmap as a number whose bit 0 is its first page; no bits beyond the last page."""
        header = self._header
        size = min(_BLOCK, header.bitmap_size - block * _BLOCK)
        bits = int.from_bytes(self._read_at(start + block * _BLOCK, max(0, size)), "little")
        pages = header.max_page - block * _PAGES_PER_BLOCK
        return bits if pages >= _PAGES_PER_BLOCK else bits & (1 << max(0, pages)) - 1

    def _stored_block(self, block: int) -> int:
        return self._bitmap_block(self._header.stored_offset, block)

    def _blocks(self) -> range:
        return range(-(-self._header.max_page // _PAGES_PER_BLOCK))

    def _count_pages(self) -> array[int]:
        counts = array("Q", [0])
        for block in self._blocks():
            counts.append(counts[-1] + self._stored_block(block).bit_count())
        return counts

    def _present(self) -> Iterator[Range]:
        for block in self._blocks():
            bits = self._bitmap_block(self._header.present_offset, block) | self._stored_block(block)
            first = block * _PAGES_PER_BLOCK
            for start, count in _ones(bits):
                yield (first + start) * PAGE_SIZE, count * PAGE_SIZE

    # --- what is missing ----------------------------------------------------------------------------------

    def _missing(self) -> list[Range]:
        """From where on a truncated file's pages lie behind its end: data stands in the order of pages."""
        count = self._before[-1]
        first = bisect_left(range(count), True, key=self._is_cut) if count else 0
        if first == count:
            return []
        block = max(0, bisect_left(self._before, first + 1) - 1)
        bits = self._word(block)
        for _ in range(first - self._before[block]):
            bits &= bits - 1
        start = block * _PAGES_PER_BLOCK + (bits & -bits).bit_length() - 1
        return [(start * PAGE_SIZE, (self._header.max_page - start) * PAGE_SIZE)]

    def _is_cut(self, index: int) -> bool:
        """Whether a page's data ends behind the file; pages of zeros, which share theirs, are skipped."""
        first = self._descriptor_at(0)
        for ahead in range(index, min(index + _LOOK_AHEAD, self._before[-1])):
            descriptor = self._descriptor_at(ahead)
            if descriptor is None:
                return True
            if first and descriptor[0] > first[0]:
                return descriptor[0] + descriptor[1] > self._file_size
        return False


def _parse_header(read_at: ReadAt, file_size: int, name: str) -> _Header:
    damaged = ImageError(
        f"{name}: damaged kdump headers; dump again, or convert it with makedumpfile or crash"
    )
    head = read_at(0, PAGE_SIZE)
    if len(head) < _HEADER.size or head[:8] != SIGNATURE:
        raise damaged
    _, version, _, status, block_size, sub_blocks, bitmap_blocks, max_page, _ = _HEADER.unpack_from(head)
    sub_header = read_at(PAGE_SIZE, 128).ljust(128, b"\0")
    _, _, split, _, _ = _SUB_HEADER.unpack_from(sub_header)
    if version >= 6:
        (max_page,) = struct.unpack_from("<Q", sub_header, _MAX_MAPNR_64_OFFSET)
    if block_size != PAGE_SIZE or not 0 < sub_blocks < 1 << 20 or not bitmap_blocks:
        raise damaged
    present_offset = (1 + sub_blocks) * PAGE_SIZE
    bitmaps_size = bitmap_blocks * PAGE_SIZE
    descriptors_offset = present_offset + bitmaps_size
    if not 0 < max_page <= MAX_PADDR // PAGE_SIZE or bitmaps_size // 2 * 8 < max_page:
        raise damaged
    if descriptors_offset >= file_size:
        raise ImageError(f"{name}: truncated: its page maps are not all there")
    if version >= 2 and split:
        raise ImageError(f"{name}: one part of a split dump; join the parts with 'makedumpfile --reassemble'")
    return _Header(
        status,
        max_page,
        present_offset,
        present_offset + bitmaps_size // 2,
        bitmaps_size // 2,
        descriptors_offset,
    )


def _decompress(data: bytes, how: int) -> bytes:
    """One page, of which nothing longer than a page is ever made; raises what the library raises."""
    if not how:
        return data
    if how == _ZLIB:
        return zlib.decompressobj().decompress(data, PAGE_SIZE)
    if how == _LZO:
        import lzallright

        return bytes(lzallright.LZOCompressor.decompress(data, PAGE_SIZE))
    if how == _SNAPPY:
        import cramjam

        page = bytearray(PAGE_SIZE)
        return bytes(page[: cramjam.snappy.decompress_raw_into(data, page)])
    if how == _ZSTD:
        import zstandard

        if zstandard.frame_content_size(data) > PAGE_SIZE:
            return b""
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=PAGE_SIZE))
    return b""


def _ones(bits: int) -> Iterator[tuple[int, int]]:
    """`(position, count)` of the runs of ones in a bitmap block, ascending."""
    text = f"{bits:b}"[::-1]
    at = text.find("1")
    while at >= 0:
        end = text.find("0", at)
        end = len(text) if end < 0 else end
        yield at, end - at
        at = text.find("1", end)


def merged(ranges: Iterable[Range], limit: int) -> list[Range]:
    """Ascending ranges, joined where they touch; where there are too many, also those with small gaps
    between."""
    gap = 0
    result: list[Range] = []
    for paddr, size in ranges:
        if result and paddr - sum(result[-1]) <= gap:
            start = result[-1][0]
            result[-1] = (start, max(sum(result[-1]), paddr + size) - start)
        else:
            result.append((paddr, size))
        while len(result) > limit:
            gap = max(gap * 2, PAGE_SIZE)
            result = _merged_at(result, gap)
    return result


def _merged_at(ranges: list[Range], gap: int) -> list[Range]:
    result = [ranges[0]]
    for paddr, size in ranges[1:]:
        start, length = result[-1]
        if paddr - start - length <= gap:
            result[-1] = (start, max(sum(result[-1]), paddr + size) - start)
        else:
            result.append((paddr, size))
    return result
