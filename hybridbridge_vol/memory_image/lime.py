"""LiME: ranges of memory, each behind a header (LiME's doc/README.md, "format=lime")."""

from __future__ import annotations

import struct

from hybridbridge_vol.memory_image.formats import LIME, LIME_VERSION
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import RunList

_HEADER = struct.Struct("<4sIQQQ")
"""Magic, version, first and last physical address, 8 reserved bytes."""


def parse_lime(source: Source, format_name: str = "LiME") -> Contents:
    """The runs of a LiME file, and what is missing of them.

    Reading ends at the first header that makes no sense. A range that overlaps an earlier one is cut to what
    is new.
    """
    collected = RunList(source.size)
    offset = 0
    while offset + _HEADER.size <= source.size and not collected.full:
        header = source.read_at(offset, _HEADER.size)
        if len(header) < _HEADER.size:
            break
        magic, version, start, last, _reserved = _HEADER.unpack(header)
        if magic != LIME or version != LIME_VERSION or last < start or last >= MAX_PADDR:
            break
        offset += _HEADER.size
        collected.add(start, last - start + 1, offset)
        offset += last - start + 1
    return Contents(format_name, collected.runs(), collected.missing())


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    return PhysicalImage(file, parse_lime(file.source))
