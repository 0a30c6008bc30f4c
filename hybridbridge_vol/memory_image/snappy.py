"""Snappy blocks, through the library cramjam (a wheel without dependencies), which trusts lengths that we
check first."""

from __future__ import annotations


class SnappyError(ValueError):
    """The data is no Snappy block, or would give more than was asked for."""


def unpacked_size(data: bytes) -> int:
    """How many bytes a block says that it holds: the little-endian base-128 number at its start."""
    size = 0
    for place, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size
    raise SnappyError("no length")


def decompress(data: bytes, limit: int) -> bytes:
    """A block of at most `limit` bytes, unpacked. SnappyError for anything else."""
    size = unpacked_size(data)
    if size > limit:
        raise SnappyError("larger than it may be")
    import cramjam

    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise SnappyError(str(error)) from None
