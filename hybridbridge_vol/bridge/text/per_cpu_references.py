"""References of the kernel's text to its static per-CPU variables, where these are linked into the kernel
image.

Up to 6.14 the section of per-CPU variables is linked at 0, and `%gs:` references to them do not depend on
where the kernel lies. Since 6.15 it is linked like any other section (arch/x86/kernel/vmlinux.lds.S): a
variable is reached by `%gs:name(%rip)`, or `%gs:name(,%reg,8)` with a relocated absolute address, and GS
holds the distance from there to the CPU's area. That distance is the running kernel's, so these references
must have the running kernel's addresses.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.bridge.text.twin_text import FIELD_SIZE

_GS_REFERENCE = (
    rb"(?=\x65[\x66\xf0\xf2\xf3]*[\x40-\x4f]?"  # SDM volume 2A, 2.1: the GS prefix among others, REX,
    rb"(?:\x0f\x38.|\x0f\x3a.|\x0f[^\x38\x3a]|[^\x0f])"  # one, two or three bytes of opcode,
    rb"(?:([\x05\x0d\x15\x1d\x25\x2d\x35\x3d])"  # ModRM: relative to RIP,
    rb"|([\x04\x0c\x14\x1c\x24\x2c\x34\x3c][\x05\x0d\x15\x1d\x25\x2d\x35\x3d\x45\x4d\x55\x5d\x65\x6d\x75\x7d\x85\x8d"
    rb"\x95\x9d\xa5\xad\xb5\xbd\xc5\xcd\xd5\xdd\xe5\xed\xf5\xfd]"  # absolute and an index,
    rb"|[\x84\x8c\x94\x9c\xa4\xac\xb4\xbc].|[\x80-\x83\x85-\x8b\x8d-\x93\x95-\x9b\x9d-\xa3\xa5-\xab\xad-\xb3\xb5-\xbb"
    rb"\xbd-\xbf])))"  # base and a 32-bit displacement
)
_WIDEST_IMMEDIATE = 4


class PerCpuText(NamedTuple):
    """Offsets from `_text`: `[start, end)` of the section, empty if it is linked at 0; `fields`, ascending,
    of the 32-bit displacements of `%gs:` references into it; `offset_fields` of those that read
    `this_cpu_off`, which is what the kernel adds to a per-CPU variable's address to get the running CPU's."""

    start: int
    end: int
    fields: array[int]
    offset_fields: array[int]


def read_per_cpu_text(
    text: bytes, start: int, end: int, this_cpu_off: int | None, absolute: Sequence[int], text_vaddr: int
) -> PerCpuText:
    """Find the references in `text`, the bytes of a booted kernel from `_text` on.

    `start`, `end` and `this_cpu_off` are offsets from `_text`; `absolute` the ascending offsets of its 32-bit
    relocation sites; `text_vaddr` is the virtual address of this kernel's `_text`. Bytes that merely look
    like a reference have a displacement that leads elsewhere: the section is a ten-thousandth of what 32 bits
    can reach.
    """
    fields: set[int] = set()
    offset_fields: set[int] = set()
    for place, relative in gs_fields(text):
        (value,) = struct.unpack_from("<i", text, place)
        if relative:
            target = place + FIELD_SIZE + value  # and the width of an immediate operand behind it
        elif _holds(absolute, place):
            target = (value - text_vaddr) & 0xFFFFFFFF
        else:
            continue
        if not start - _WIDEST_IMMEDIATE <= target < end:
            continue
        (offset_fields if relative and target == this_cpu_off else fields).add(place)
    return PerCpuText(start, end, array("I", sorted(fields)), array("I", sorted(offset_fields)))


def gs_fields(text: bytes | bytearray) -> Iterator[tuple[int, bool]]:
    """`(offset, relative to RIP)` of the 32-bit displacement of all that looks like a `%gs:` reference."""
    for match in re.finditer(_GS_REFERENCE, text, re.DOTALL):
        relative = match[1] is not None
        place = match.end(1) if relative else match.end(2)
        if place + FIELD_SIZE <= len(text):
            yield place, relative


def _holds(ascending: Sequence[int], value: int) -> bool:
    place = bisect_left(ascending, value)
    return place < len(ascending) and ascending[place] == value
