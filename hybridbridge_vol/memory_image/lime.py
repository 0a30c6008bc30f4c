"""LiME: ranges with a header each."""

from __future__ import annotations

import struct

from hybridbridge_vol.memory_image.physical import MAX_PADDR, Collector, ReadAt, Run

LIME_MAGIC = 0x4C694D45


_LIME_HEADER = struct.Struct("<IIQQQ")


def parse_lime(read_at: ReadAt, file_size: int) -> tuple[list[Run], list[tuple[int, int]]]:
    """The runs of a LiME file, and what is missing of them (LiME's doc/README, "format=lime").

    Each range has a header: magic, version, first and last physical address, 8 reserved bytes. Reading ends
    at the first header that makes no sense. A range that overlaps an earlier one is cut to what is new.
    """
    collected = Collector(file_size)
    offset = 0
    while offset + _LIME_HEADER.size <= file_size and not collected.full:
        header = read_at(offset, _LIME_HEADER.size)
        if len(header) < _LIME_HEADER.size:
            break
        magic, version, start, last, _reserved = _LIME_HEADER.unpack(header)
        if magic != LIME_MAGIC or version != 1 or last < start or last >= MAX_PADDR:
            break
        offset += _LIME_HEADER.size
        collected.add(start, last - start + 1, offset)
        offset += last - start + 1
    return collected.result()
