"""What a taint label says: constants shared with the native engine (native/engine.h), and sets of ranges.

A label is a 64-bit number for one byte of a register or of memory. Its payload names bytes of the snapshot;
flags stand above it.
"""

from __future__ import annotations

from collections.abc import Iterable

POINTER = 1 << 63
"""An address that the snapshot determines."""
TRUSTED = 1 << 62
"""From the trusted kernel's own changing state."""
SEEDED = 1 << 61
"""From the snapshot, but its origin was not observed."""
NODE = 1 << 60
"""The payload is the number of a union of two labels, not a range."""
DISTANCE = 1 << 59
"""A distance from the snapshot's pointer with this payload: added to that pointer, it cancels it."""
PAYLOAD = SEEDED - 1 & ~DISTANCE
LEAF_BITS = 40
LEAF_MASK = (1 << LEAF_BITS) - 1
"""A payload that is one range of the snapshot's bytes: its physical address in the image in the lower
`LEAF_BITS` bits, its size above."""


def leaf_range(label: int) -> tuple[int, int] | None:
    """`(physical address in the image, size)` if the label is one range of the snapshot's bytes, else
    None."""
    payload = label & PAYLOAD
    if not payload or payload & NODE:
        return None
    return payload & LEAF_MASK, payload >> LEAF_BITS


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of `(start, size)` ranges: ascending, disjoint, not touching."""
    merged: list[tuple[int, int]] = []
    for start, size in sorted(ranges):
        if merged and start <= sum(merged[-1]):
            last, length = merged[-1]
            merged[-1] = (last, max(length, start + size - last))
        else:
            merged.append((start, size))
    return merged
