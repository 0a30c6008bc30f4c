"""Writing a raw image as LiME (its doc/README: magic, version, first and last address, 8 reserved bytes,
data)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

from samples import qemu

MAGIC = 0x4C694D45
_BLOCK = 1 << 20
_LOW_MEMORY_END, _HIGH_MEMORY_START = 0x9F000, 0x100000
"""LiME leaves out what lies between: the firmware's part below 1 MiB, which is not "System RAM"."""


def header(start_paddr: int, size: int) -> bytes:
    """The 32-byte header of one range of physical memory. ValueError for an empty one: it has no last
    address."""
    if size <= 0:
        raise ValueError(f"a LiME range of {size} bytes")
    return struct.pack("<IIQQQ", MAGIC, 1, start_paddr, start_paddr + size - 1, 0)


def write_lime(raw: Path, ranges: Iterable[tuple[int, int]], target: Path) -> None:
    """Write the `(paddr, size)` ranges of a raw image (file offset = physical address)."""
    with open(raw, "rb") as source, open(target, "wb") as out:
        for start, size in ranges:
            out.write(header(start, size))
            end = start + size
            out.writelines(
                os.pread(source.fileno(), min(_BLOCK, end - at), at) for at in range(start, end, _BLOCK)
            )


def system_ram(ram: int) -> list[tuple[int, int]]:
    """`(paddr, size)` of what the kernel calls "System RAM" in a machine with `ram` bytes."""
    (_, low, _), *high = qemu.physical_ranges(ram)
    return [
        (0, _LOW_MEMORY_END),
        (_HIGH_MEMORY_START, low - _HIGH_MEMORY_START),
        *((paddr, size) for paddr, size, _offset in high),
    ]
