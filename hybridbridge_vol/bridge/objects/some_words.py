"""Some words of a structure of which an image has thousands, as of inodes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from operator import itemgetter

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import PAGE_SIZE, U64


class SomeWords:
    """The 64-bit words at some offsets of a structure of `size` bytes."""

    def __init__(self, size: int, offsets: Sequence[int]) -> None:
        ascending = sorted(offsets)
        edges = zip([0, *(offset + 8 for offset in ascending)], [*ascending, size], strict=True)
        self._layout = struct.Struct("<" + "Q".join(f"{start - end}x" for end, start in edges))
        self._pick = itemgetter(*map(ascending.index, offsets))

    def read(self, memory: TypedMemory, vaddr: int) -> tuple[int, ...]:
        """The words of the structure at an address, in the order in which their offsets were given;
        UnreadableVirtual where the image lacks a part of it."""
        words: tuple[int, ...] = self._pick(memory.unpack(vaddr, self._layout))
        return words


class ListedWords:
    """The same of each structure on a ring of `struct list_head`: the link, which is at an offset of it, and
    the words are read as one, which takes half the time."""

    def __init__(self, size: int, link: int, offsets: Sequence[int]) -> None:
        self._link = link
        self._words = SomeWords(size, [link, link + 8, *offsets])

    def all(
        self, memory: TypedMemory, head_vaddr: int
    ) -> Iterator[tuple[int, tuple[int, ...] | UnreadableVirtual]]:
        """The address of each structure, and its words, or why the image does not have them. Errors as of
        `TypedMemory.list`."""
        seen: dict[int, None] = {}
        before, node = head_vaddr, memory.word(head_vaddr)
        if not node:
            return  # not initialised
        while node != head_vaddr:
            memory.count(node, seen)
            vaddr = node - self._link & U64
            try:
                following, back, *found = self._words.read(memory, vaddr)
            except UnreadableVirtual as error:
                memory.compare(node, node + 8, before)
                yield vaddr, error
                following = memory.word(node)
            else:
                if back != before:
                    memory.torn.update((node & -PAGE_SIZE, before & -PAGE_SIZE))
                yield vaddr, tuple(found)
            before, node = node, following
