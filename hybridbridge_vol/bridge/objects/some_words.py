"""Some words of a structure of which an image has thousands, as of inodes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import itemgetter

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory


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
