"""Where memory lies by the map that the firmware gave the guest's kernel (E820).

Linux keeps the boot loader's `struct boot_params` (arch/x86/include/uapi/asm/bootparam.h;
/sys/kernel/boot_params) with the E820 table in it. A file that is memory without its holes does not say where
they were, but this table does, and one equation proves that it speaks of this file: what lies between the
holes is as long as the file, to the byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice

from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.ranges import Range, joined, subtracted
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.units import PAGE_SIZE

GIB4 = 4 << 30
_SIGNATURE = b"HdrS"
_SIGNATURE_OFFSET = 0x202
_COUNT_OFFSET = 0x1E8
_TABLE_OFFSET = 0x2D0
_ENTRY = struct.Struct("<QQI")
_MAX_ENTRIES = 128
_SIZE = _TABLE_OFFSET + _MAX_ENTRIES * _ENTRY.size
_RAM = 1
_BIOS_START, _BIOS_END = 0xA0000, 0x100000
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
    return next(
        (size for entries in _maps(source, extents) if (size := _fitting(entries, source.size))), None
    )


def system_ram_back_to_back(source: Source, extents: Iterable[Range]) -> list[Run] | None:
    """The runs of a file that holds what the guest's kernel calls "System RAM", range behind range, as LiME
    writes it with format=raw. None if no kernel's memory map in it fits the file."""
    for entries in _maps(source, extents):
        ram = system_ram(entries)
        if sum(size for _start, size in ram) == source.size:
            offsets = accumulate((size for _start, size in ram), initial=0)
            return [Run(start, size, offset) for (start, size), offset in zip(ram, offsets, strict=False)]
    return None


def system_ram(entries: Entries) -> list[Range]:
    """What Linux lists as "System RAM" in /proc/iomem of a memory map: without the first page and the BIOS's
    area (arch/x86/kernel/setup.c, `trim_bios_range`)."""
    ram = joined((paddr, size) for paddr, size, kind in entries if kind == _RAM)
    return subtracted(ram, [(0, PAGE_SIZE), (_BIOS_START, _BIOS_END - _BIOS_START)])


def _maps(source: Source, extents: Iterable[Range]) -> Iterator[Entries]:
    """The memory maps in a file."""
    for offset in islice(_candidates(source, extents), MAX_CANDIDATES):
        entries = e820_entries(source.read_at(offset, _SIZE))
        if entries:
            yield entries


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
