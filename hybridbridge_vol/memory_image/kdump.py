"""kdump-compressed dumps: what makedumpfile writes with -c, -l, -p or -z, and QEMU's `dump-guest-memory`.

In blocks of one page: a header, a sub-header, two bitmaps (which pages the machine had, which of them are in
the file), then a descriptor for each page in the file, then the pages' data, each compressed on its own.
(makedumpfile 1.7: IMPLEMENTATION, diskdump_mod.h; QEMU: include/sysemu/dump.h.) The file is not trusted:
every offset and size is checked before it is used, and no more is kept in memory than one count for 128 MiB
of the machine's memory.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property, lru_cache

from hybridbridge_vol.memory_image.compression import (
    CompressionError,
    Unpack,
    unpack_lzo,
    unpack_snappy,
    unpack_zlib,
    unpack_zstd,
)
from hybridbridge_vol.memory_image.elf import parse_notes, qemu_cpus
from hybridbridge_vol.memory_image.eraseinfo import MAX_SIZE, erased_in_words
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.kdump_header import level_in_words, parse_kdump_header
from hybridbridge_vol.memory_image.physical import MAX_RUNS, Contents, CpuRegisters, PhysicalImage
from hybridbridge_vol.memory_image.ranges import Range, merged
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.units import PAGE_SIZE

_DESCRIPTOR = struct.Struct("<QII8x")
"""`struct page_desc`: file offset, size, flags."""

_UNPACK: dict[int, Unpack] = {1: unpack_zlib, 2: unpack_lzo, 4: unpack_snappy, 0x20: unpack_zstd}
"""By the flags of a page (DUMP_DH_COMPRESSED_*)."""
_COMPRESSED = sum(_UNPACK)

_BLOCK = PAGE_SIZE
"""Bytes of a bitmap counted together."""
_PAGES_PER_BLOCK = _BLOCK * 8
_BLOCKS_AT_ONCE = 256
"""Blocks of a bitmap that are read together, 1 MiB: a machine with 64 TiB has half a million."""
MAX_FRAGMENTS = 1 << 16
"""Ranges that bitmaps may have: of more, all in 128 MiB of memory count as one. The image keeps MAX_RUNS of
them, and forged bitmaps have one for each second page."""
_LOOK_AHEAD = 256
_CACHED_PAGES = 1024


class KdumpPages:
    """The pages of a kdump-compressed dump.

    `ranges` is what memory the machine had; pages that the dump leaves out lie in them too, but cannot be
    read. `missing` is what the headers promise and the file does not hold. Raises ImageError if the file is
    not what its signature says, or is compressed in a way that nothing here reads.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._header = parse_kdump_header(source)
        if source.progress:
            source.progress(0.0, "reading the dump's page maps")
        self._page = lru_cache(_CACHED_PAGES)(self._load)
        self._word = lru_cache(64)(self._stored_block)
        self._before = array("Q", [0])
        """How many pages the file has before each block of the bitmap, and in all."""
        self._left_out = 0
        """How many pages the machine had and the file has not."""
        self.ranges = merged(self._read_bitmaps(), MAX_RUNS)
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
        if not 0 < size <= PAGE_SIZE or offset + size > self._source.size:
            return None
        data = self._source.read_at(offset, size)
        if len(data) < size:
            return None
        how = flags & _COMPRESSED
        if how and how not in _UNPACK:
            return None
        try:
            content = _UNPACK[how](data, PAGE_SIZE) if how else data
        except CompressionError:
            return None
        return content if len(content) == PAGE_SIZE else None

    def _descriptor(self, page: int) -> tuple[int, int, int] | None:
        """Offset, size and flags of a page's data; None if the file has no such page."""
        if not 0 <= page < self._header.max_page:
            return None
        block, bit = divmod(page, _PAGES_PER_BLOCK)
        bits = self._word(block)
        if not bits >> bit & 1:
            return None
        return self._descriptor_at(self._pages_before(page))

    def _descriptor_at(self, index: int) -> tuple[int, int, int] | None:
        data = self._source.read_at(
            self._header.descriptors_offset + index * _DESCRIPTOR.size, _DESCRIPTOR.size
        )
        return _DESCRIPTOR.unpack(data) if len(data) == _DESCRIPTOR.size else None

    def may_hold(self, paddr: int, size: int) -> bool:
        """Whether a page of a physical range may be in the file: no more pages than the file has descriptors
        for. A bitmap is easily forged."""
        before = self._pages_before(paddr // PAGE_SIZE)
        until = self._pages_before((paddr + size - 1) // PAGE_SIZE + 1)
        return before < min(until, self._described)

    @cached_property
    def _described(self) -> int:
        """For how many pages there is room for descriptors: in front of the first page's data, which lies
        behind all of them."""
        start = self._header.descriptors_offset
        first = self._descriptor_at(0)
        end = first[0] if first and first[0] > start else self._source.size
        return max(0, min(end, self._source.size) - start) // _DESCRIPTOR.size

    def _pages_before(self, page: int) -> int:
        """How many pages the file has before one of the machine's."""
        block, bit = divmod(page, _PAGES_PER_BLOCK)
        if block >= len(self._before) - 1:
            return self._before[-1]
        return self._before[block] + (self._word(block) & (1 << bit) - 1).bit_count()

    # --- what is left out -----------------------------------------------------------------------------------

    def cpus(self) -> list[CpuRegisters]:
        """The registers of the machine's CPUs, where QEMU wrote the dump."""
        return qemu_cpus(parse_notes(self._source, *self._header.notes))

    def caution(self) -> str | None:
        """What makedumpfile overwrote, in one line; None if nothing."""
        offset, size = self._header.erased
        return erased_in_words(self._source.read_at(offset, min(size, MAX_SIZE)))

    def left_out(self) -> str | None:
        """What makedumpfile left out, in one line; None if nothing."""
        if not self._left_out:
            return None
        return f"{self._left_out * PAGE_SIZE >> 10:,} KiB {self._reason()}"

    def why_absent(self, paddr: int) -> str | None:
        """Why a page that the machine had is not in the file; None if it is, or the machine had none."""
        page = paddr // PAGE_SIZE
        block, bit = divmod(page, _PAGES_PER_BLOCK)
        if not 0 <= page < self._header.max_page or self._word(block) >> bit & 1:
            return None
        present = self._bitmap_block(self._header.present_offset, block) >> bit & 1
        return self._reason() if present else None

    def _reason(self) -> str:
        reason = level_in_words(self._header.level)
        return f"{reason}, which ended before it had written all" if self._header.incomplete else reason

    # --- bitmaps ------------------------------------------------------------------------------------------

    def _bitmap_blocks(self, start: int, first: int, count: int) -> Iterator[int]:
        """So many blocks of a bitmap from one on, each as a number whose bit 0 is its first page; no bits
        beyond the last page."""
        header = self._header
        size = min(count * _BLOCK, header.bitmap_size - first * _BLOCK)
        data = self._source.read_at(start + first * _BLOCK, max(0, size))
        for number in range(count):
            bits = int.from_bytes(data[number * _BLOCK : (number + 1) * _BLOCK], "little")
            pages = header.max_page - (first + number) * _PAGES_PER_BLOCK
            yield bits if pages >= _PAGES_PER_BLOCK else bits & (1 << max(0, pages)) - 1

    def _bitmap_block(self, start: int, block: int) -> int:
        return next(self._bitmap_blocks(start, block, 1))

    def _stored_block(self, block: int) -> int:
        return self._bitmap_block(self._header.stored_offset, block)

    def _both_bitmaps(self) -> Iterator[tuple[int, int]]:
        """By block: which pages are in the file, and which the machine had."""
        header = self._header
        blocks = -(-header.max_page // _PAGES_PER_BLOCK)
        for first in range(0, blocks, _BLOCKS_AT_ONCE):
            count = min(_BLOCKS_AT_ONCE, blocks - first)
            starts = (header.stored_offset, header.present_offset)
            yield from zip(*(self._bitmap_blocks(start, first, count) for start in starts), strict=True)

    def _read_bitmaps(self) -> Iterator[Range]:
        """Count the pages; the ranges of those that the machine had."""
        fragments = 0
        for block, (stored, present) in enumerate(self._both_bitmaps()):
            self._before.append(self._before[-1] + stored.bit_count())
            bits = present | stored
            if not bits:
                continue
            self._left_out += (bits ^ stored).bit_count()
            first = block * _PAGES_PER_BLOCK
            fragments += (bits & ~(bits << 1)).bit_count()
            if fragments > MAX_FRAGMENTS:
                lowest = (bits & -bits).bit_length() - 1
                yield (first + lowest) * PAGE_SIZE, (bits.bit_length() - lowest) * PAGE_SIZE
                continue
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
                return descriptor[0] + descriptor[1] > self._source.size
        return False


def parse_kdump(source: Source, format_name: str = "kdump") -> Contents:
    """The contents of a kdump-compressed dump. ImageError if the file is not what its signature says, or is
    compressed in a way that nothing here reads."""
    dump = KdumpPages(source)
    runs = [Run(paddr, size, 0) for paddr, size in dump.ranges]
    return Contents(
        format_name,
        runs,
        dump.missing,
        dump.read,
        dump.left_out(),
        dump.why_absent,
        dump.cpus(),
        dump.caution(),
        may_hold=dump.may_hold,
    )


def _ones(bits: int) -> Iterator[tuple[int, int]]:
    """`(position, count)` of the runs of ones in a bitmap block, ascending."""
    text = f"{bits:b}"[::-1]
    at = text.find("1")
    while at >= 0:
        end = text.find("0", at)
        end = len(text) if end < 0 else end
        yield at, end - at
        at = text.find("1", end)


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    return PhysicalImage(file, parse_kdump(file.source))
