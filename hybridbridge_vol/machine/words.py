"""Reading a kernel object as 64-bit words, in which pointers are found by their value."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual


def read_words(machine: Machine, vaddr: int, size: int) -> list[int]:
    """The 64-bit words of `size` bytes at a virtual address, up to the first that is not mapped."""
    words: list[int] = []
    for offset in range(0, size, 8):
        try:
            words.append(machine.read_u64(vaddr + offset))
        except UnmappedVirtual:
            break
    return words


def ring_of(machine: Machine, head_vaddr: int, most: int) -> Iterator[int]:
    """The nodes of a list (include/linux/list.h) without its head, `most` of them at most."""
    node = machine.read_u64(head_vaddr)
    for _ in range(most):
        if node == head_vaddr:
            return
        yield node
        node = machine.read_u64(node)
