"""Reading a kernel object as 64-bit words, in which pointers are found by their value."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.units import PAGE_SIZE


def read_words(machine: Machine, vaddr: int, size: int) -> list[int]:
    """The 64-bit words of `size` bytes at a virtual address, up to the first that is not mapped."""
    data = read_mapped(machine, vaddr, size)
    return list(struct.unpack(f"<{len(data) // 8}Q", data))


def read_mapped(machine: Machine, vaddr: int, size: int) -> bytes:
    """Whole words of `size` bytes, up to the first page that is not mapped."""
    data = b""
    for _length, piece in _pieces(machine, vaddr, size):
        if piece is None:
            break
        data += piece
    return data[: len(data) & -8]


def read_padded(machine: Machine, vaddr: int, size: int) -> bytes:
    """`size` bytes, with zeros for pages that are not mapped (free ones, with CONFIG_DEBUG_PAGEALLOC)."""
    return b"".join(
        bytes(length) if piece is None else piece for length, piece in _pieces(machine, vaddr, size)
    )


def _pieces(machine: Machine, vaddr: int, size: int) -> Iterator[tuple[int, bytes | None]]:
    """Page by page, with the length; None for one that is not mapped."""
    here, end = vaddr, vaddr + size
    while here < end:
        stop = min(end, (here | PAGE_SIZE - 1) + 1)
        try:
            yield stop - here, machine.read(here, stop - here)
        except UnmappedVirtual:
            yield stop - here, None
        here = stop


def ring_of(machine: Machine, head_vaddr: int, most: int) -> Iterator[int]:
    """The nodes of a list (include/linux/list.h) without its head, `most` of them at most."""
    node = machine.read_u64(head_vaddr)
    for _ in range(most):
        if node == head_vaddr:
            return
        yield node
        node = machine.read_u64(node)
