"""AVML's compressed files: ranges of memory as Snappy frames (microsoft/avml, src/image.rs and
src/io/snappy.rs).

Each range: a header as LiME's with the magic "AVML" and version 2, frames of at most 64 KiB of memory each,
and 8 bytes with the frames' total size. (Uncompressed, AVML writes plain LiME.) Opening walks over the
frames' headers; a frame is unpacked when it is asked for.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

from hybridbridge_vol.memory_image.compression import CompressionError, snappy_size, unpack_snappy
from hybridbridge_vol.memory_image.formats import AVML, AVML_VERSION
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, MAX_RUNS, Contents, PhysicalImage
from hybridbridge_vol.memory_image.ranges import Range, merged
from hybridbridge_vol.memory_image.runs import Run

_HEADER = struct.Struct("<4sIQQQ")
"""Magic, version, first and last physical address, 8 reserved bytes."""
_TRAILER_SIZE = 8
_FRAME_SIZE = 1 << 16
"""Bytes that a frame may hold (google/snappy, framing_format.txt, 4.2)."""
MAX_FRAMES = 1 << 26
"""4 TiB of memory."""
_COMPRESSED, _PLAIN, _FIRST_SKIPPABLE = 0, 1, 0x80
_FRAME_HEADER_SIZE, _CHECKSUM_SIZE, _MAX_LENGTH_SIZE = 4, 4, 5
_CACHED_FRAMES = 64
_FRAMES_PER_STEP = 4096


class _Frame(NamedTuple):
    """A frame's header: `size` bytes follow it; it holds `memory_size` bytes of memory, 0 if it is to be
    skipped."""

    size: int
    memory_size: int


class AvmlPages:
    """The memory of an AVML file. `ranges` are physical, in file order; `missing` those that headers promise
    and the file does not hold."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.ranges: list[Range] = []
        self.missing: list[Range] = []
        starts, ends, offsets = array("Q"), array("Q"), array("Q")
        self._frames = starts, ends, offsets
        self._walk_ranges()
        order = sorted(range(len(starts)), key=starts.__getitem__)
        self._starts, self._ends, self._offsets = (
            array("Q", map(column.__getitem__, order)) for column in self._frames
        )
        self._unpack = lru_cache(_CACHED_FRAMES)(self._unpack_frame)

    def _walk_ranges(self) -> None:
        offset = 0
        while offset + _HEADER.size <= self._source.size:
            header = self._source.read_at(offset, _HEADER.size)
            if len(header) < _HEADER.size:
                break
            magic, version, start, last, _reserved = _HEADER.unpack(header)
            if magic != AVML or version != AVML_VERSION or last < start or last >= MAX_PADDR:
                break
            offset, reached = self._walk_frames(offset + _HEADER.size, start, last + 1)
            if reached > start:
                self.ranges.append((start, reached - start))
            if reached <= last:
                self.missing.append((reached, last + 1 - reached))
                break
            offset += _TRAILER_SIZE

    def _walk_frames(self, offset: int, paddr: int, end: int) -> tuple[int, int]:
        """Note the frames of one range; `(file offset behind them, physical address reached)`."""
        starts, ends, offsets = self._frames
        while paddr < end and len(starts) < MAX_FRAMES:
            frame = self._frame_at(offset, end - paddr)
            if frame is None:
                break
            if frame.memory_size:
                starts.append(paddr)
                ends.append(paddr + frame.memory_size)
                offsets.append(offset)
                paddr += frame.memory_size
                if self._source.progress and len(starts) % _FRAMES_PER_STEP == 0:
                    self._source.progress(offset / self._source.size, "reading the AVML file's frames")
            offset += _FRAME_HEADER_SIZE + frame.size
        return offset, paddr

    def _frame_at(self, offset: int, room: int) -> _Frame | None:
        """The frame at a file offset, which may hold `room` bytes of memory; None if there is none whole."""
        head = self._source.read_at(offset, _FRAME_HEADER_SIZE + _CHECKSUM_SIZE + _MAX_LENGTH_SIZE)
        if len(head) < _FRAME_HEADER_SIZE:
            return None
        kind, size = head[0], int.from_bytes(head[1:_FRAME_HEADER_SIZE], "little")
        if offset + _FRAME_HEADER_SIZE + size > self._source.size:
            return None
        if kind not in (_COMPRESSED, _PLAIN):
            return _Frame(size, 0) if kind >= _FIRST_SKIPPABLE else None
        try:
            block = head[_FRAME_HEADER_SIZE + _CHECKSUM_SIZE :]
            memory_size = snappy_size(block) if kind == _COMPRESSED else size - _CHECKSUM_SIZE
        except CompressionError:
            return None
        return _Frame(size, memory_size) if 0 < memory_size <= min(_FRAME_SIZE, room) else None

    def read(self, paddr: int, size: int) -> bytes:
        """Physical memory; fewer bytes where it is absent or its frame is damaged."""
        parts = []
        while size > 0:
            index = bisect_right(self._starts, paddr) - 1
            if index < 0 or paddr >= self._ends[index]:
                break
            data = self._unpack(index)
            if data is None:
                break
            part = data[paddr - self._starts[index] :][:size]
            parts.append(part)
            paddr += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unpack_frame(self, index: int) -> bytes | None:
        offset = self._offsets[index]
        head = self._source.read_at(offset, _FRAME_HEADER_SIZE)
        size = int.from_bytes(head[1:], "little")
        data = self._source.read_at(offset + _FRAME_HEADER_SIZE, size)[_CHECKSUM_SIZE:]
        if head[:1] == bytes([_COMPRESSED]):
            try:
                data = unpack_snappy(data, _FRAME_SIZE)
            except CompressionError:
                return None
        return data if len(data) == self._ends[index] - self._starts[index] else None


def parse_avml(source: Source) -> Contents:
    """The contents of an AVML file."""
    pages = AvmlPages(source)
    runs = [Run(paddr, size, 0) for paddr, size in merged(sorted(pages.ranges), MAX_RUNS)]
    return Contents("AVML", runs, pages.missing, pages.read)


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    return PhysicalImage(file, parse_avml(file.source))
