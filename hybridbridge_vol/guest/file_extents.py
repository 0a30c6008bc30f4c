"""Where a file lies on the device of its file system: the answer of FS_IOC_FIEMAP, as values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

FS_IOC_FIEMAP = 0xC020660B
"""include/uapi/linux/fs.h."""
HEADER = struct.Struct("<QQIIII")  # struct fiemap, include/uapi/linux/fiemap.h
_EXTENT = struct.Struct("<QQQ16xI12x")
EXTENT_SIZE = _EXTENT.size
_LAST, _UNKNOWN, _DELALLOC, _ENCODED, _ENCRYPTED = 0x1, 0x2, 0x4, 0x8, 0x80
_NOT_ALIGNED, _INLINE, _TAIL, _UNWRITTEN = 0x100, 0x200, 0x400, 0x800
_NOT_PLAIN = _UNKNOWN | _DELALLOC | _ENCODED | _ENCRYPTED | _NOT_ALIGNED | _INLINE | _TAIL | _UNWRITTEN


class Extent(NamedTuple):
    """A range of a file, and where its first byte lies on the device. Bytes; `flags` are FIEMAP_EXTENT_*."""

    offset: int
    device_offset: int
    size: int
    flags: int

    @property
    def is_plain(self) -> bool:
        """Whether the device holds the file's bytes as they are."""
        return not self.flags & _NOT_PLAIN

    @property
    def is_last(self) -> bool:
        return bool(self.flags & _LAST)


def request(start: int, size: int, count: int) -> bytes:
    """What is asked for: at most `count` extents of a range; room for them follows."""
    return HEADER.pack(start, size, 0, 0, count, 0) + bytes(count * EXTENT_SIZE)


def parse_extents(data: bytes) -> Iterator[Extent]:
    """The extents in an answer."""
    mapped = HEADER.unpack_from(data)[3]
    for number in range(min(mapped, (len(data) - HEADER.size) // EXTENT_SIZE)):
        yield Extent(*_EXTENT.unpack_from(data, HEADER.size + number * EXTENT_SIZE))
