"""Arithmetic of ranges: `(start, size)` in bytes, ascending and disjoint unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from hybridbridge_vol.units import PAGE_SIZE

Range = tuple[int, int]
"""`(start, size)` in bytes."""


def merged(ranges: Iterable[Range], limit: int) -> list[Range]:
    """At most `limit` ranges of ascending ones, which may overlap: joined where they touch, and where they
    are too many, also where little lies between them."""
    gap = 0
    result: list[Range] = []
    for start, size in ranges:
        _append(result, start, size, gap)
        while len(result) > limit:
            gap = max(gap * 2, PAGE_SIZE)
            result = _joined(result, gap)
    return result


def _joined(ranges: Iterable[Range], gap: int) -> list[Range]:
    result: list[Range] = []
    for start, size in ranges:
        _append(result, start, size, gap)
    return result


def _append(ranges: list[Range], start: int, size: int, gap: int) -> None:
    """One more range behind ascending ones, joined with the last if no more than `gap` bytes lie between."""
    if ranges and start - sum(ranges[-1]) <= gap:
        first = ranges[-1][0]
        ranges[-1] = (first, max(sum(ranges[-1]), start + size) - first)
    else:
        ranges.append((start, size))


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in any order, which may overlap, as ascending ones that do not touch."""
    return _joined(sorted(ranges), 0)


def subtracted(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """What of ascending disjoint `ranges` none of `taken`, ascending and disjoint too, covers."""
    result: list[Range] = []
    others = list(taken)
    index = 0
    for start, size in ranges:
        end = start + size
        while index < len(others) and sum(others[index]) <= start:
            index += 1
        at = index
        while start < end and at < len(others) and others[at][0] < end:
            if others[at][0] > start:
                result.append((start, others[at][0] - start))
            start = max(start, sum(others[at]))
            at += 1
        if start < end:
            result.append((start, end - start))
    return result
