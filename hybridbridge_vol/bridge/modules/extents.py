"""Which symbol of a module an address lies in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple


class Extent(NamedTuple):
    """`size` bytes from `start` on that have a name; `number` is its place in the table of symbols."""

    start: int
    size: int
    number: int
    name: str


class Extents:
    """Extents by their place. They may lie in each other, and have several names."""

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._sorted = sorted(extents)
        self._starts = [extent.start for extent in self._sorted]
        self._ends = list[int]()
        """By place in the list: the highest end of this extent and of all before it."""
        for extent in self._sorted:
            end = extent.start + extent.size
            self._ends.append(max(end, self._ends[-1]) if self._ends else end)

    def around(self, vaddr: int) -> Extent | None:
        """The extent with an address, of several the last one of the table; None if there is none."""
        best = None
        at = bisect_right(self._starts, vaddr) - 1
        while at >= 0 and self._ends[at] > vaddr:
            extent = self._sorted[at]
            if vaddr < extent.start + extent.size and (best is None or extent.number > best.number):
                best = extent
            at -= 1
        return best
