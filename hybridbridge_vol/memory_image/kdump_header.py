"""The headers of kdump-compressed dumps (makedumpfile 1.7: IMPLEMENTATION, diskdump_mod.h; QEMU:
include/sysemu/dump.h)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.formats import KDUMP
from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR
from hybridbridge_vol.memory_image.ranges import Range
from hybridbridge_vol.units import PAGE_SIZE

_HEADER = struct.Struct("<8si390s22xIiiIII")
"""`struct disk_dump_header` up to `total_ram_blocks`: signature, version, `struct new_utsname`, time, status,
block size, blocks of the sub-header, blocks of both bitmaps, number of pages, then the one not used."""
_SUB_HEADER = struct.Struct("<QiiQQ")
"""`struct kdump_sub_header` from its start: physical base, dump level, split, first and last page."""
_MAX_MAPNR_64_OFFSET = 96
_RANGE = struct.Struct("<QQ")
"""File offset and size."""
_NOTES_AT, _NOTES_VERSION = 48, 4
"""Where those of the notes stand in the sub-header, and from which version on."""
_ERASED_AT, _ERASED_VERSION = 64, 5
"""The same of the list of what was erased."""
_INCOMPLETE = 8
"""In `status`: DUMP_DH_COMPRESSED_INCOMPLETE."""
_MAX_SUB_HEADER_BLOCKS = 1 << 20

_LEVELS = {2: "cache pages", 4: "private cache pages", 8: "user data", 16: "free pages"}
"""Bits of the dump level (makedumpfile(8), -d) that leave pages out. Bit 1 is not among them: pages of zeros
share one that is stored."""


def level_in_words(level: int) -> str:
    """What makedumpfile leaves out at a dump level."""
    kinds = ", ".join(name for bit, name in _LEVELS.items() if level & bit)
    return f"left out by makedumpfile, dump level {level}" + (f" ({kinds})" if kinds else "")


class KdumpHeader(NamedTuple):
    """`level` is makedumpfile's dump level; `incomplete` whether it ended before it had written all. `notes`
    and `erased` are the file offsets and sizes of the ELF notes and of the list of what makedumpfile
    overwrote. `max_page` is one more than the highest page number. The rest are file offsets and sizes in
    bytes: `present_offset` of the bitmap of pages that the machine had, `stored_offset` of the one of pages
    in the file, `bitmap_size` of each."""

    level: int
    incomplete: bool
    notes: Range
    erased: Range
    max_page: int
    present_offset: int
    stored_offset: int
    bitmap_size: int
    descriptors_offset: int


def parse_kdump_header(source: Source) -> KdumpHeader:
    """The headers of the file. ImageError if they make no sense, are cut, or are of one part of a dump."""
    damaged = ImageError(
        f"{source.name}: damaged kdump headers; dump again, or convert it with makedumpfile or crash"
    )
    head = source.read_at(0, PAGE_SIZE)
    if len(head) < _HEADER.size or head[:8] != KDUMP:
        raise damaged
    _, version, _, status, block_size, sub_blocks, bitmap_blocks, max_page, _ = _HEADER.unpack_from(head)
    sub_header = source.read_at(PAGE_SIZE, 128).ljust(128, b"\0")
    _, level, split, _, _ = _SUB_HEADER.unpack_from(sub_header)
    if version >= 6:
        (max_page,) = struct.unpack_from("<Q", sub_header, _MAX_MAPNR_64_OFFSET)
    if block_size != PAGE_SIZE or not 0 < sub_blocks < _MAX_SUB_HEADER_BLOCKS or not bitmap_blocks:
        raise damaged
    present_offset = (1 + sub_blocks) * PAGE_SIZE
    bitmap_size = bitmap_blocks * PAGE_SIZE // 2
    descriptors_offset = present_offset + 2 * bitmap_size
    if not 0 < max_page <= MAX_PADDR // PAGE_SIZE or bitmap_size * 8 < max_page:
        raise damaged
    if descriptors_offset >= source.size:
        raise ImageError(f"{source.name}: truncated: its page maps are not all there")
    if version >= 2 and split:
        raise ImageError(
            f"{source.name}: one part of a split dump; join the parts with 'makedumpfile --reassemble'"
        )
    return KdumpHeader(
        level if version >= 1 else 0,
        bool(status & _INCOMPLETE),
        _RANGE.unpack_from(sub_header, _NOTES_AT) if version >= _NOTES_VERSION else (0, 0),
        _RANGE.unpack_from(sub_header, _ERASED_AT) if version >= _ERASED_VERSION else (0, 0),
        max_page,
        present_offset,
        present_offset + bitmap_size,
        bitmap_size,
        descriptors_offset,
    )
