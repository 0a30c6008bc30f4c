"""Where memory goes on above the hole below 4 GiB, by the memory map that the firmware gave the guest's
kernel.

Linux keeps the boot loader's `struct boot_params` (arch/x86/include/uapi/asm/bootparam.h;
/sys/kernel/boot_params) with the E820 table in it. A file that is memory without its hole does not say where
the hole was, but this table does, and one equation proves that it speaks of this file: memory below the hole
and above 4 GiB are as long as the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.ranges import Range

GIB4 = 4 << 30
_SIGNATURE = b"HdrS"
_SIGNATURE_OFFSET = 0x202
_COUNT_OFFSET = 0x1E8
_TABLE_OFFSET = 0x2D0
_ENTRY = struct.Struct("<QQI")
_MAX_ENTRIES = 128
_SIZE = _TABLE_OFFSET + _MAX_ENTRIES * _ENTRY.size
_RAM = 1
_CHUNK = 256 << 10
_PROGRESS_STEP = 64 << 20
MAX_CANDIDATES = 1 << 14
"""A real guest has some dozens of offsets with the signature; a hostile one must not keep us busy."""

Entries = list[tuple[int, int, int]]
"""`(paddr, size, type)`, ascending."""


def low_memory_size(source: Source, extents: Iterable[Range]) -> int | None:
    """How many bytes of a file that holds a guest's memory, without its hole, lie below the hole; the rest
    begins at 4 GiB. None if no kernel's memory map in it fits the file. `extents` are the parts of the file
    that are not zeros."""
    for offset in islice(_candidates(source, extents), MAX_CANDIDATES):
        entries = e820_entries(source.read_at(offset, _SIZE))
        size = _fitting(entries, source.size) if entries else None
        if size is not None:
            return size
    return None


def e820_entries(boot_params: bytes) -> Entries | None:
    """The E820 table of a `struct boot_params`; None if it holds none that firmware would make."""
    if len(boot_params) < _SIZE:
        return None
    count = boot_params[_COUNT_OFFSET]
    if not 0 < count <= _MAX_ENTRIES:
        return None
    entries = [_ENTRY.unpack_from(boot_params, _TABLE_OFFSET + index * _ENTRY.size) for index in range(count)]
    entries.sort()
    end = 0
    for paddr, size, _kind in entries:
        if paddr < end or not size or paddr + size > 1 << 52:
            return None
        end = paddr + size
    return entries


def _fitting(entries: Entries, file_size: int) -> int | None:
    ram = [(paddr, paddr + size) for paddr, size, kind in entries if kind == _RAM]
    high_end = max((end for _start, end in ram), default=0)
    low_size = file_size - (high_end - GIB4)
    low_ends = {paddr + size for paddr, size, _kind in entries if paddr + size <= GIB4}
    if high_end <= GIB4 or low_size not in low_ends:
        return None
    # nothing of the RAM lies in the hole, or across its ends
    return low_size if all(end <= low_size or start >= GIB4 for start, end in ram) else None


def _candidates(source: Source, extents: Iterable[Range]) -> Iterator[int]:
    """File offsets at which a `struct boot_params` may begin."""
    reported = 0
    for first, length in extents:
        for start in range(first, first + length, _CHUNK):
            if source.progress and start - reported >= _PROGRESS_STEP:
                reported = start
                source.progress(start / source.size, "looking for the guest's memory map")
            data = source.read_at(start, min(_CHUNK, first + length - start) + len(_SIGNATURE) - 1)
            at = data.find(_SIGNATURE)
            while at >= 0:
                if start + at >= _SIGNATURE_OFFSET:
                    yield start + at - _SIGNATURE_OFFSET
                at = data.find(_SIGNATURE, at + 1)
