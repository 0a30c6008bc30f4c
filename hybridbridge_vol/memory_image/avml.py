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
from collections.abc import Callable
from functools import lru_cache

from hybridbridge_vol.memory_image.snappy import SnappyError, decompress, unpacked_size
from hybridbridge_vol.units import Progress

MAGIC = 0x4C4D5641
MAX_PADDR = 1 << 46
FRAME_SIZE = 1 << 16
"""Bytes that a frame may hold (google/snappy, framing_format.txt, 4.2)."""
MAX_FRAMES = 1 << 26
_HEADER = struct.Struct("<IIQQQ")
_COMPRESSED, _PLAIN, _FIRST_SKIPPABLE = 0, 1, 0x80
_CHECKSUM_SIZE = 4
_CACHED = 64

ReadAt = Callable[[int, int], bytes]


class AvmlPages:
    """The memory of an AVML file. `spans` are `(paddr, size)` ranges in file order; `missing` those that
    headers promise and the file does not hold."""

    def __init__(self, read_at: ReadAt, file_size: int, progress: Progress | None = None) -> None:
        self._read_at = read_at
        self._file_size = file_size
        self._progress = progress
        self.spans: list[tuple[int, int]] = []
        self.missing: list[tuple[int, int]] = []
        self._starts, self._ends, self._places = array("Q"), array("Q"), array("Q")
        offset = 0
        while offset + _HEADER.size <= file_size and len(self._starts) < MAX_FRAMES:
            header = read_at(offset, _HEADER.size)
            if len(header) < _HEADER.size:
                break
            magic, version, start, last, _reserved = _HEADER.unpack(header)
            if magic != MAGIC or version != 2 or last < start or last >= MAX_PADDR:
                break
            offset, reached = self._walk(offset + _HEADER.size, start, last + 1)
            if reached <= last:
                self.missing.append((reached, last + 1 - reached))
                break
            offset += 8  # the frames' total size
        if any(self.spans[i] > self.spans[i + 1] for i in range(len(self.spans) - 1)):
            self._sort()
        self._unpack = lru_cache(_CACHED)(self._unpack_frame)

    def _sort(self) -> None:
        order = sorted(range(len(self._starts)), key=self._starts.__getitem__)
        self._starts, self._ends, self._places = (
            array("Q", [column[i] for i in order]) for column in (self._starts, self._ends, self._places)
        )

    def _walk(self, offset: int, start: int, end: int) -> tuple[int, int]:
        """Note the frames of one range; `(file offset behind them, physical address reached)`."""
        begin = start
        while start < end:
            head = self._read_at(offset, 4 + _CHECKSUM_SIZE + 5)
            if len(head) < 4:
                break
            kind, size = head[0], int.from_bytes(head[1:4], "little")
            if offset + 4 + size > self._file_size:
                break
            if kind in (_COMPRESSED, _PLAIN):
                try:
                    held = unpacked_size(head[8:]) if kind == _COMPRESSED else size - _CHECKSUM_SIZE
                except SnappyError:
                    break
                if not 0 < held <= min(FRAME_SIZE, end - start):
                    break
                self._starts.append(start)
                self._ends.append(start + held)
                self._places.append(offset)
                start += held
            elif kind < _FIRST_SKIPPABLE:
                break
            offset += 4 + size
            if self._progress and len(self._starts) % 4096 == 0:
                self._progress(offset / self._file_size, "reading the AVML file's frames")
        if start > begin:
            self.spans.append((begin, start - begin))
        return offset, start

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
        offset = self._places[index]
        head = self._read_at(offset, 4)
        size = int.from_bytes(head[1:4], "little")
        data = self._read_at(offset + 4, size)[_CHECKSUM_SIZE:]
        if head[:1] == b"\0":
            try:
                data = decompress(data, FRAME_SIZE)
            except SnappyError:
                return None
        return data if len(data) == self._ends[index] - self._starts[index] else None
