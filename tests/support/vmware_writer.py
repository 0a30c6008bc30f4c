"""VMware's saved states, written for tests as crash (vmware_vmss.c, vmware_vmss.h) and LeechCore
(device_file.c) describe them. No product of VMware's made them: Volatility's reader is the witness that they
are what is meant."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

PAGE = 4096
MAGIC = b"\xd2\xbe\xd2\xbe"


def tag(name: bytes, indices: Sequence[int] = (), value: int = 0, size: int = 4) -> bytes:
    """A tag with a number."""
    head = bytes([len(indices) << 6 | size, len(name)])
    return head + name + struct.pack(f"<{len(indices)}I", *indices) + value.to_bytes(size, "little")


def block(name: bytes, indices: Sequence[int], data: bytes, padding: int = 0, size: int = 63) -> bytes:
    """A tag with a block of data; `size` 62 marks it as compressed."""
    head = bytes([len(indices) << 6 | size, len(name)]) + name + struct.pack(f"<{len(indices)}I", *indices)
    return head + struct.pack("<QQH", len(data), len(data), padding) + bytes(padding) + data


def regions(table: Iterable[tuple[int, int, int]]) -> bytes:
    """The tags of `(paddr, size, place)` regions, in bytes."""
    rows = list(table)
    tags = [tag(b"regionsCount", (), len(rows))]
    for index, (paddr, size, place) in enumerate(rows):
        tags.append(tag(b"regionPageNum", (index,), place // PAGE))
        tags.append(tag(b"regionPPN", (index,), paddr // PAGE))
        tags.append(tag(b"regionSize", (index,), size // PAGE))
    return tag(b"align_mask", (), 0xFFFF) + b"".join(tags)


def control_registers(cr3s: Sequence[int], as_block: bool = False) -> bytes:
    """The tags CR64 of CPUs with these CR3: one for each register, or a block of five for each CPU."""
    rows = [(0x80050033, 0, 0x7F0000000000, cr3, 0x6F0) for cr3 in cr3s]
    if as_block:
        return b"".join(block(b"CR64", (cpu,), struct.pack("<5Q", *row)) for cpu, row in enumerate(rows))
    return b"".join(
        tag(b"CR64", (cpu, number), value, 8)
        for cpu, row in enumerate(rows)
        for number, value in enumerate(row)
    )


def state(memory_tags: bytes, magic: bytes = MAGIC, cpus: bytes = b"") -> bytes:
    """A state whose group `memory` has these tags, after two other groups as real ones have them; `cpus` are
    more tags of the group `cpu`."""
    groups = [
        (b"Checkpoint", tag(b"fileversion", (), 9) + block(b"Description", (), b"a test")),
        (b"cpu", tag(b"cpu:numVCPUs", (), 1) + tag(b"rip", (0,), 0xFFFFFFFF81000000, 8) + cpus),
        (b"memory", memory_tags),
    ]
    start = 12 + 80 * len(groups)
    head, body = struct.pack("<4sII", magic, 8, len(groups)), b""
    for name, tags in groups:
        head += struct.pack("<64sQQ", name, start + len(body), len(tags) + 2)
        body += tags + b"\0\0"
    return head + body


def aligned(memory_tags: bytes, memory: bytes, alignment: int = PAGE) -> bytes:
    """A state that holds the memory too, padded so that it begins at a multiple of `alignment`."""
    without = state(memory_tags + block(b"Memory", (0, 0), b""))
    padding = -(len(without) - 2) % alignment
    return state(memory_tags + block(b"Memory", (0, 0), memory, padding))


def boot_params(entries: list[tuple[int, int, int]]) -> bytes:
    """A page with a `struct boot_params` whose memory map has `(paddr, size, type)` entries."""
    page = bytearray(PAGE)
    page[0x1E8] = len(entries)
    page[0x202:0x206] = b"HdrS"
    for index, entry in enumerate(entries):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * index, *entry)
    return bytes(page)
