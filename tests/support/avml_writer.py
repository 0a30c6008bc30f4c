"""Small AVML files, as their maker writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import cramjam


def avml(ranges: Iterable[tuple[int, bytes]]) -> bytes:
    """AVML's compressed format: `(physical address, memory)` ranges, 64 KiB a frame."""
    parts = []
    for start, data in ranges:
        frames = b"".join(_frame(data[at : at + 0x10000]) for at in range(0, len(data), 0x10000))
        frames = b"\xff\x06\0\0sNaPpY" + frames
        parts += [
            struct.pack("<IIQQQ", 0x4C4D5641, 2, start, start + len(data) - 1, 0),
            frames,
            struct.pack("<Q", len(frames)),
        ]
    return b"".join(parts)


def _frame(data: bytes) -> bytes:
    packed = bytes(cramjam.snappy.compress_raw(data))
    kind, body = (0, packed) if len(packed) < len(data) * 7 // 8 else (1, data)  # as the library decides
    return bytes([kind]) + (len(body) + 4).to_bytes(3, "little") + bytes(4) + body  # the checksum is not read
