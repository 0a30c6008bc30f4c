"""VMware's saved states (.vmss) and snapshots (.vmsn): where guest-physical memory lies in the memory's file.

A header of 12 bytes, a table of groups (64 bytes of name, offset, size), and in each group tags up to an
empty one: a 16-bit word (length of the name, number of 32-bit indices, size of the value), the name, the
indices, the value. The sizes 62 and 63 announce a block: its size in the file and in memory, the size of a
padding, the padding, the data. Group `memory` has the regions, in pages: `regionPPN` guest-physical,
`regionPageNum` in the file of memory, `regionSize`; and the memory itself in the block `Memory`, where it is
not a `.vmem` file of its own. Group `cpu` has the registers: CR3 is `CR64` with the indices of the CPU and 3,
or the fourth word of a block `CR64` with the index of the CPU.

Facts from crash (vmware_vmss.c, by VMware's engineers), Volatility 3 (layers/vmware.py), LeechCore
(device_file.c) and Rekall (vmem.py), which agree. Nothing read here is trusted: offsets only ever grow, and
counts are bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.formats import VMWARE, VMWARE_OLD
from hybridbridge_vol.memory_image.image_file import ReadAt, Source
from hybridbridge_vol.memory_image.physical import MAX_PADDR, CpuRegisters
from hybridbridge_vol.units import PAGE_SIZE, U64

MAX_REGIONS = 4096
"""VMware makes one to three."""
MAX_TAGS = 1 << 16
MAX_GROUPS = 1 << 12
MAX_CPUS = 1 << 13
_CONTROL_REGISTERS, _CR3_INDEX, _CR3_AT = b"CR64", 3, 3 * 8

_HEADER = struct.Struct("<4sII")
_GROUP = struct.Struct("<64sQQ")
_BLOCK = struct.Struct("<QQH")
_LONGEST_TAG = 2 + 255 + 3 * 4 + _BLOCK.size
_COMPRESSED_BLOCK, _BLOCK_SIZE = 62, 63


class Region(NamedTuple):
    """Guest-physical memory at `paddr`, `size` bytes, at `offset` in the file of memory (or in the block
    `Memory`)."""

    paddr: int
    size: int
    offset: int


class State(NamedTuple):
    """What a .vmss or .vmsn says. `regions` are empty where memory has no hole: it is contiguous from 0.
    `memory` is the `(file offset, size)` of the memory in this file, None if that is a file of its own.
    `cpus`: those whose registers it has."""

    regions: tuple[Region, ...]
    memory: tuple[int, int] | None
    cpus: tuple[CpuRegisters, ...] = ()


class _Tag(NamedTuple):
    """A tag: a `value`, or a `block` of data, by its `(file offset, size)`."""

    name: bytes
    indices: tuple[int, ...]
    value: int = 0
    block: tuple[int, int] | None = None
    compressed: bool = False


def parse_vmware_state(source: Source) -> State:
    """The state in a file. ImageError if nothing can be learned from it."""
    head = source.read_at(0, _HEADER.size)
    if head[:4] in VMWARE_OLD:
        raise ImageError(
            f"{source.name}: a state saved by a VMware product without 64-bit guests, which is not read"
        )
    if len(head) < _HEADER.size or head[:4] not in VMWARE:
        raise ImageError(f"{source.name}: not a VMware saved state or snapshot")
    count = _HEADER.unpack(head)[2]
    start = _group(source.read_at, count, b"memory")
    if start is None:
        raise ImageError(f"{source.name}: damaged: this VMware state has no group 'memory'")
    columns: dict[bytes, dict[int, int]] = {b"regionPPN": {}, b"regionPageNum": {}, b"regionSize": {}}
    regions_count, memory = 0, None
    for tag in _tags(source.read_at, start, source.size):
        if tag.name in columns and len(tag.indices) == 1:
            columns[tag.name].setdefault(tag.indices[0], tag.value)
        elif tag.name == b"regionsCount":
            regions_count = tag.value
        elif tag.name == b"Memory" and tag.block:
            memory = memory or tag
    if memory and memory.compressed:
        raise ImageError(
            f"{source.name}: its memory is compressed by VMware, which is not read; convert it with vmss2core"
        )
    regions = _regions(regions_count, columns, source.name)
    return State(regions, memory.block if memory else None, _cpus(source, count))


def _cpus(source: Source, groups: int) -> tuple[CpuRegisters, ...]:
    """By the number of the CPU; a register that is there twice counts once."""
    start = _group(source.read_at, groups, b"cpu")
    found: dict[int, int] = {}
    for tag in () if start is None else _tags(source.read_at, start, source.size):
        if tag.name != _CONTROL_REGISTERS or not tag.indices or len(found) == MAX_CPUS:
            continue
        if tag.block and not tag.compressed and tag.block[1] >= _CR3_AT + 8:
            word = source.read_at(tag.block[0] + _CR3_AT, 8)
            if len(word) == 8:
                found.setdefault(tag.indices[0], int.from_bytes(word, "little"))
        elif not tag.block and tag.indices[1:] == (_CR3_INDEX,):
            found.setdefault(tag.indices[0], tag.value)
    return tuple(CpuRegisters(found[number] & U64) for number in sorted(found))


def _group(read_at: ReadAt, count: int, wanted: bytes) -> int | None:
    """The file offset of the first tag of a group."""
    for index in range(min(count, MAX_GROUPS)):
        data = read_at(_HEADER.size + index * _GROUP.size, _GROUP.size)
        if len(data) < _GROUP.size:
            return None
        name, offset, _size = _GROUP.unpack(data)
        if name.split(b"\0", 1)[0] == wanted:
            return int(offset)
    return None


def _tags(read_at: ReadAt, offset: int, file_size: int) -> Iterator[_Tag]:
    """The tags of a group; they end where they make no sense."""
    for _ in range(MAX_TAGS):
        if offset >= file_size:
            return
        data = read_at(offset, _LONGEST_TAG)
        if len(data) < 2 or data[:2] == b"\0\0":
            return
        size, index_count, name_length = data[0] & 0x3F, data[0] >> 6, data[1]
        at = 2 + name_length + 4 * index_count
        if len(data) < at:
            return
        name = data[2 : 2 + name_length]
        indices = struct.unpack_from(f"<{index_count}I", data, 2 + name_length)
        if size in (_BLOCK_SIZE, _COMPRESSED_BLOCK):
            if len(data) < at + _BLOCK.size:
                return
            stored, _in_memory, padding = _BLOCK.unpack_from(data, at)
            offset += at + _BLOCK.size + padding
            yield _Tag(name, indices, block=(offset, stored), compressed=size == _COMPRESSED_BLOCK)
            offset += stored
        else:
            if len(data) < at + size:
                return
            yield _Tag(name, indices, int.from_bytes(data[at : at + size], "little"))
            offset += at + size


def _regions(count: int, columns: dict[bytes, dict[int, int]], name: str) -> tuple[Region, ...]:
    damaged = ImageError(f"{name}: damaged: its table of memory regions makes no sense")
    if count > MAX_REGIONS:
        raise damaged
    regions = []
    for index in range(count):
        try:
            paddr, size, offset = (
                columns[column][index] * PAGE_SIZE
                for column in (b"regionPPN", b"regionSize", b"regionPageNum")
            )
        except KeyError:
            raise damaged from None
        if paddr + size > MAX_PADDR or offset > MAX_PADDR:
            raise damaged
        if size:
            regions.append(Region(paddr, size, offset))
    return tuple(regions)
