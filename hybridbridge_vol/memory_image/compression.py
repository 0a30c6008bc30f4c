"""Compressed pieces of memory, each unpacked to no more than a given size.

The libraries for Snappy, LZO and zstd are imported when a file needs them: together they take 35 to 45 ms,
a tenth of a whole run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable


class CompressionError(ValueError):
    """The data is not of its kind, is damaged, or would give more than was asked for."""


def snappy_size(data: bytes) -> int:
    """How many bytes a Snappy block claims to hold: the little-endian base-128 number at its start
    (google/snappy, format_description.txt, 1)."""
    size = 0
    for position, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return size
    raise CompressionError("no length")


def unpack_snappy(data: bytes, limit: int) -> bytes:
    """A Snappy block of at most `limit` bytes. The library trusts the length that the block claims, so it is
    checked first."""
    if snappy_size(data) > limit:
        raise CompressionError("larger than it may be")
    import cramjam

    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise CompressionError(str(error)) from None


def unpack_zlib(data: bytes, limit: int) -> bytes:
    """The first `limit` bytes of a zlib stream."""
    try:
        return zlib.decompressobj().decompress(data, limit)
    except zlib.error as error:
        raise CompressionError(str(error)) from None


def unpack_lzo(data: bytes, limit: int) -> bytes:
    """An LZO1X block of at most `limit` bytes."""
    import lzallright

    try:
        unpacked = bytes(lzallright.LZOCompressor.decompress(data, limit))
    except lzallright.LZOError as error:
        raise CompressionError(str(error)) from None
    if len(unpacked) > limit:  # the library takes the limit as a hint
        raise CompressionError("larger than it may be")
    return unpacked


def unpack_zstd(data: bytes, limit: int) -> bytes:
    """A zstd frame of at most `limit` bytes."""
    import zstandard

    try:
        if zstandard.frame_content_size(data) > limit:
            raise CompressionError("larger than it may be")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=limit))
    except zstandard.ZstdError as error:
        raise CompressionError(str(error)) from None


Unpack = Callable[[bytes, int], bytes]
"""(data, limit) -> at most `limit` bytes; CompressionError."""
