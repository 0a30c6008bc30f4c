"""LiME: ranges of memory, each behind a header (LiME's doc/README.md, "format=lime")."""

from __future__ import annotations

import struct

from hybridbridge_vol.memory_image.format import Format
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import RunList

_MAGIC = b"EMiL"
_VERSION = 1
_HEADER = struct.Struct("<4sIQQQ")
"""Magic, version, first and last physical address, 8 reserved bytes."""


def is_lime(head: bytes) -> bool:
    """Whether a file that begins with `head` is a LiME file."""
    return head.startswith(struct.pack("<4sI", _MAGIC, _VERSION))


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
        if magic != _MAGIC or version != _VERSION or last < start or last >= MAX_PADDR:
            break
        offset += _HEADER.size
        collected.add(start, last - start + 1, offset)
        offset += last - start + 1
    return Contents(format_name, collected.runs(), collected.missing())


FORMAT = Format(
    lambda file: is_lime(file.head),
    lambda file: PhysicalImage(file, parse_lime(file.source)),
)
