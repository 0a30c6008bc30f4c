"""Bytes of tests as the parsers of image formats take them."""

from __future__ import annotations

from hybridbridge_vol.memory_image.image_file import Source


def source(data: bytes, size: int | None = None, name: str = "dump") -> Source:
    """`data` as a file; of `size` bytes, if that is fewer."""
    data = data if size is None else data[:size]
    return Source(
        name, len(data), lambda offset, length: data[offset : offset + length] if offset >= 0 else b""
    )
