"""From a list of children that name their parents to the order and depth in which a tree is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

DEEPEST = 64
"""Rows further down are shown at this depth: in a hostile image a chain of parents may be as long as the
list."""


def as_tree(parent_of: Mapping[int, int | None]) -> Iterator[tuple[int, int]]:
    """Each key once, as (key, depth): parents before children, siblings and roots in the mapping's order.

    A root is what has no parent among the keys. What hangs on a cycle (which no sane kernel has) is shown
    too: the first member of each cycle is taken for a root.
    """
    children: dict[int, list[int]] = {}
    roots = []
    for key, parent in parent_of.items():
        if parent is None or parent == key or parent not in parent_of:
            roots.append(key)
        else:
            children.setdefault(parent, []).append(key)
    seen: set[int] = set()
    for start in (*roots, *parent_of):
        waiting = [(start, 0)]
        while waiting:
            key, depth = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            yield key, depth
            below = min(depth + 1, DEEPEST)
            waiting.extend((child, below) for child in reversed(children.get(key, ())))
