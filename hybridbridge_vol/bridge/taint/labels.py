"""What a taint label says: constants shared with the native engine, and sets of ranges. Imports nothing."""

from __future__ import annotations

from collections.abc import Iterable

POINTER = 1 << 63
"""Points where the snapshot says."""
TRUSTED = 1 << 62
"""From the trusted kernel's own changing state."""
SEEDED = 1 << 61
"""From the snapshot, but nobody saw from where."""
NODE = 1 << 60
"""The payload is the number of a union of two labels, not a range."""
DISTANCE = 1 << 59
"""From where the snapshot's pointer with this payload leads: added to it, it cancels it."""
PAYLOAD = SEEDED - 1 & ~DISTANCE
LEAF_BITS = 40
LEAF_MASK = (1 << LEAF_BITS) - 1


def leaf_range(label: int) -> tuple[int, int] | None:
    """`(physical address in the image, size)` if the label is one range of the snapshot's bytes, else
    None."""
    payload = label & PAYLOAD
    if not payload or payload & NODE:
        return None
    return payload & LEAF_MASK, payload >> LEAF_BITS


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending, disjoint, not touching `(start, size)`."""
    merged: list[tuple[int, int]] = []
    for start, size in sorted(ranges):
        if merged and start <= sum(merged[-1]):
            last, length = merged[-1]
            merged[-1] = (last, max(length, start + size - last))
        else:
            merged.append((start, size))
    return merged
