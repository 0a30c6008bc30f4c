"""A ring of `struct list_head` (include/linux/list.h) from both of its ends: what stands behind a node that
is not in memory is found by the pointers back."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual

MAX_NODES = 1 << 17
"""Nodes of one list or tree: a longer one is cyclic or forged."""
_BACK = 8
"""Offset of `prev`."""

Word = Callable[[int], int]
"""The word at a virtual address."""


class BrokenList(Exception):
    """A list or tree of the snapshot ends where it should not."""


Broken = (UnreadableVirtual, BrokenList)
"""What following the snapshot's pointers may raise."""


def both_ends(
    forward: Callable[[int, dict[int, None]], Iterator[int]], word: Word, head_vaddr: int
) -> Iterator[int]:
    """The nodes that `forward` finds from a head on, which notes each before it looks where that leads. Where
    it breaks off those follow that the other end leads to, in the list's order, and what it raised is raised
    then; but not if the other end leads to the very node that could not be read: no other is missing."""
    seen: dict[int, None] = {}
    try:
        yield from forward(head_vaddr, seen)
    except Broken as error:
        behind, met = _from_the_end(word, head_vaddr, seen)
        yield from reversed(behind)
        if isinstance(error, BrokenList) or met is None or met != next(reversed(seen), None):
            raise


def _from_the_end(word: Word, head_vaddr: int, seen: Container[int]) -> tuple[list[int], int | None]:
    """The nodes from a list's end to the first that is not as the one behind it says, and the one of `seen`
    that they lead to."""
    found: dict[int, None] = {}
    behind = head_vaddr
    try:
        while len(found) < MAX_NODES:
            node = word(behind + _BACK)
            if node in seen:
                return list(found), node
            if node in found or node == head_vaddr or word(node) != behind:
                break
            found[node] = None
            behind = node
    except Broken:
        pass
    return list(found), None
