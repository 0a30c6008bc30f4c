"""Writing a raw image as LiME (its doc/README: magic, version, first and last address, 8 reserved bytes, data)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

MAGIC = 0x4C694D45
_BLOCK = 1 << 20


def header(start: int, size: int) -> bytes:
    """The header of one range of physical memory."""
    return struct.pack("<IIQQQ", MAGIC, 1, start, start + size - 1, 0)


def write_lime(raw: Path, ranges: list[tuple[int, int]], target: Path) -> None:
    """Write the `(paddr, size)` ranges of a raw image (file offset = physical address)."""
    with open(raw, "rb") as source, open(target, "wb") as out:
        for start, size in ranges:
            out.write(header(start, size))
            for at in range(0, size, _BLOCK):
                out.write(os.pread(source.fileno(), min(_BLOCK, size - at), start + at))
