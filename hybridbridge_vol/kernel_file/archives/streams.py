"""Streams of bytes: ranges of a file, decompression, reads that are checked.

Every size in an archive is checked before it is believed. The functions of this package raise ValueError for
what is damaged and EOFError for what is truncated, the decompressors errors of their own; `damage_errors`
names them all.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from typing import IO

MAX_MEMBER_SIZE = 512 << 20
"""Bytes that one wanted file may have; the largest kernel modules have some 20 MB."""
_SKIP_SIZE = 1 << 20
"""Bytes that are read at a time where a stream that cannot seek is to pass over some."""


class Slice(io.RawIOBase):
    """`size` bytes of a file from `start` on, read-only."""

    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        self._stream, self._position, self._end = stream, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        self._stream.seek(self._position)
        data = self._stream.read(min(len(view), self._end - self._position))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def decompressed(raw: io.RawIOBase) -> IO[bytes]:
    """A stream decompressed by its magic bytes; as it is if it has none of them."""
    stream = io.BufferedReader(raw, 1 << 16)
    head = stream.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if head.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return lzma.LZMAFile(stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard  # every session imports this file; zstandard takes 4 ms, and few sessions need it

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))
    return stream


def decompressed_bytes(data: bytes) -> bytes:
    """`data` decompressed by its magic bytes, itself if it has none; at most `MAX_MEMBER_SIZE` bytes."""
    return decompressed(Slice(io.BytesIO(data), 0, len(data))).read(MAX_MEMBER_SIZE)


def damage_errors() -> tuple[type[Exception], ...]:
    """What damaged input makes the functions of this package and the decompressors raise.

    OSError without an errno is gzip's and bz2's; MemoryError is for a dictionary larger than the memory.
    """
    import zstandard  # see `decompressed`

    return (
        OSError,
        MemoryError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
    )


def read_exactly(stream: IO[bytes], size: int, most: int = MAX_MEMBER_SIZE) -> bytes:
    """`size` bytes; ValueError if that is more than `most`, EOFError if the stream ends before."""
    if not 0 <= size <= most:
        raise ValueError(f"an absurd size of {size} bytes")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("truncated")
    return data


def skip(stream: IO[bytes], size: int) -> None:
    """Pass over `size` bytes of a stream that cannot seek. EOFError if it ends before."""
    if size < 0:
        raise ValueError("a negative size")
    while size:
        passed = len(stream.read(min(size, _SKIP_SIZE)))
        if not passed:
            raise EOFError("truncated")
        size -= passed


def number(digits: bytes, base: int) -> int:
    """An unsigned number in digits; ValueError if it is not one."""
    value = int(digits, base)
    if value < 0:
        raise ValueError("a negative number")
    return value
