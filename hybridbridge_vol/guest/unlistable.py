"""Listing /proc although the kernel stumbles over some of its processes.

One forged or smeared pointer in one task makes the kernel's listing of all of them fail. Its position in the
directory tells the process (fs/proc/base.c: a process stands at its id plus TGID_OFFSET), so the listing goes
on behind whichever entry it cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Entries = list[tuple[int, str]]
"""`(position behind the entry, name)`; the position behind an entry is that of the next."""
EntriesFrom = Callable[[int, int], Entries | None]
"""Entries from a position on, in one buffer of so many bytes; None if the call was rolled back."""

LARGE, SMALL = 32 << 10, 32
"""Bytes of a buffer for many entries, and for one (19 and a name of up to 12 bytes)."""
TGID_OFFSET = 257
"""fs/proc/base.c: FIRST_PROCESS_ENTRY + 1."""
PID_MAX = 1 << 22
"""include/linux/threads.h: no process has a larger id on 64-bit systems."""
MOST_PROBED = 1 << 16
"""Process ids asked for one by one behind one hole."""
MOST_HOLES = 512
"""So many entries that cannot be listed make a directory worthless."""


def entries_around_holes(
    entries_from: EntriesFrom, exists: Callable[[int], bool]
) -> Iterator[tuple[int, str]]:
    """All entries of /proc that can be listed, and an entry for each process that cannot.

    `exists` tells whether there is a process of that id, or something that ends the call when it is looked
    at.
    """
    position, size, holes = 0, LARGE, 0
    while holes < MOST_HOLES:
        part = entries_from(position, size)
        if part is None and size > SMALL:
            size //= 4
            size = max(size, SMALL)
            continue
        if part is None:
            behind = first_passable(entries_from, position)
            if behind is None:
                return
            last = behind - 1 - TGID_OFFSET
            first = max(position - TGID_OFFSET, last - MOST_PROBED, 1)
            # several in a row fail alike: each is asked for by its name, the last is known to be there
            for pid in range(first, last):
                if exists(pid):
                    holes += 1
                    yield pid + TGID_OFFSET + 1, str(pid)
                    if holes >= MOST_HOLES:
                        return
            yield behind, str(last)
            position, size, holes = behind, LARGE, holes + 1
            continue
        if not part:
            return
        yield from part
        position = part[-1][0]


def first_passable(entries_from: EntriesFrom, position: int) -> int | None:
    """The smallest position above `position` from which an entry can be listed; None if there is none.

    All positions up to the bad entry's fail alike (the kernel looks for the next process from there on), so
    it is found by doubling and halving.
    """
    failing, step = position, 1
    while entries_from(failing + step, SMALL) is None:
        failing += step
        step *= 2
        if failing > PID_MAX + TGID_OFFSET:
            return None
    passing = failing + step
    while passing - failing > 1:
        middle = (failing + passing) // 2
        if entries_from(middle, SMALL) is None:
            failing = middle
        else:
            passing = middle
    return passing
