"""What a difference between two texts rests on that the image has not: pages that are missing beside it, and
variables that say what a patch site calls.

A difference beside a missing page may be the rest of what the kernel wrote across the edge. It is shown, and
says so: what a rootkit changes there is not hidden by a page that it empties.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from hybridbridge_vol.check.function_pointers import joined
from hybridbridge_vol.units import PAGE_SIZE

_LONGEST_SITE = 64
"""Bytes of a patch site: the longest replacement of some instructions by others has fewer."""
BESIDE = "beside a page that is not in the image"
UNREAD = "what says what is called there is in memory that is not in the image"
EMPTY = "zeros, and cannot be checked"
ABSENT = "not in the image and cannot be checked"


class Doubts:
    """Of one text. Offsets count from its beginning."""

    def __init__(self, pages: Iterable[int], unread: Iterable[int]) -> None:
        """`pages`: the offsets of missing pages, or of their parts in the text. `unread`: patch sites whose
        variable is missing."""
        self._edges: list[int] = []
        for page in pages:
            insort(self._edges, page)
            insort(self._edges, page - page % PAGE_SIZE + PAGE_SIZE)
        self._unread = sorted(unread)

    def of(self, start: int, end: int) -> str:
        """Why a difference from `start` to `end` may be none; empty if nothing speaks for that."""
        at = bisect_left(self._edges, start - _LONGEST_SITE)
        if self._edges[at : at + 1] and self._edges[at] <= end + _LONGEST_SITE:
            return BESIDE
        at = bisect_left(self._unread, start - _LONGEST_SITE)
        return UNREAD if any(start <= site < end for site in self._unread[at : at + _LONGEST_SITE]) else ""


def blank_pages(
    expected: bytes | bytearray, found: bytes | bytearray, start: int = 0, end: int | None = None
) -> Iterator[int]:
    """The pages from `start` to `end`, each a page behind the one before, that are zeros and should not be:
    no kernel runs with such, but a writer of images that could not read a page may have left it empty."""
    end = len(found) if end is None else end
    for page in range(start, end, PAGE_SIZE):
        whole = slice(max(page, 0), min(page + PAGE_SIZE, end))
        if not any(found[whole]) and any(expected[whole]):
            yield page


def in_a_row(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first of some pages that follow one another, and how many these are."""
    for start, end in joined(sorted(pages), PAGE_SIZE + 1):
        yield start, (end - 1 - start) // PAGE_SIZE + 1
