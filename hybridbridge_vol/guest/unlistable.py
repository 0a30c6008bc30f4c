"""Listing /proc although the kernel cannot list some of its processes.

One forged or smeared pointer in one task makes the kernel's listing of all processes fail. A position in the
directory is a process id plus TGID_OFFSET (fs/proc/base.c), so the listing continues behind each entry that
it fails at.

Ids are found in a tree of tables (the namespace's `idr`). Where one of them is not in memory, none of its ids
can be looked up, and nobody knows which of them are processes: they are counted, not named.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

Entries = list[tuple[int, str]]
"""`(position behind the entry, name)`; the position behind an entry is that of the next."""
EntriesFrom = Callable[[int, int], Entries | None]
"""Entries from a position on, in one buffer of so many bytes; None if the call was rolled back."""

LARGE, SMALL = 32 << 10, 32
"""Bytes of a buffer for many entries, and for one (19 and a name of up to 12 bytes)."""
TGID_OFFSET = 258
"""fs/proc/base.c: FIRST_PROCESS_ENTRY + 2, behind self and thread-self."""
PID_MAX = 1 << 22
"""include/linux/threads.h: no process has a larger id on 64-bit systems."""
TABLE_IDS = 64
"""include/linux/xarray.h, XA_CHUNK_SIZE: so many ids, from a multiple of it on, are in one table."""
MAX_REASONS = 2
"""Reasons of one kind that are said."""
MOST_PROBED = 1 << 16
"""Process ids that are looked up one by one for one unlistable entry."""
MOST_UNLISTABLE = 512
"""With so many unlistable entries the rest of the directory is given up."""


def listable_entries(
    entries_from: EntriesFrom,
    exists: Callable[[int], bool | str],
    lost: Callable[[str], None] = lambda _reason: None,
) -> Iterator[tuple[int, str]]:
    """All entries of /proc that can be listed, and an entry for each process that cannot.

    `exists` reports whether there is a process of that id, or why the look-up was rolled back: there may be
    one then. `lost` is told why processes may be missing, or named that are none.
    """
    exists = functools.cache(exists)  # a table is looked at again with each of its ids
    position, size, unlistable = 0, LARGE, 0
    while unlistable < MOST_UNLISTABLE:
        part = entries_from(position, size)
        if part is None and size > SMALL:
            size = max(size // 4, SMALL)
            continue
        if part is None:
            behind = first_passable(entries_from, position)
            if behind is None:
                lost(f"none behind process {max(position - TGID_OFFSET, 0)} can be listed")
                return
            last = behind - 1 - TGID_OFFSET
            first = max(position - TGID_OFFSET, last - MOST_PROBED, 1)
            if first > max(position - TGID_OFFSET, 1):
                lost(f"none before process {first} can be listed")
            # several in a row fail alike: each is looked up by its name; the last is known to exist
            for pid in _may_be_there(first, last, exists, lost):
                if pid != last:
                    lost(f"processes {first} to {last} cannot be listed; those are named that may be there")
                unlistable += 1
                yield pid + TGID_OFFSET + 1, str(pid)
                if unlistable >= MOST_UNLISTABLE:
                    lost(f"{unlistable} processes cannot be listed, and those behind {pid} are not")
                    return
            position, size = behind, LARGE
            continue
        if not part:
            return
        yield from part
        position = part[-1][0]


def _may_be_there(
    first: int, last: int, exists: Callable[[int], bool | str], lost: Callable[[str], None]
) -> Iterator[int]:
    """The ids of a range that may be processes. None of a table that cannot be read: `lost` is told, once
    for all of them."""
    gone: list[int] = []
    reasons: set[str] = set()
    start = first
    while start <= last:
        end = min(last, start | (TABLE_IDS - 1))
        answers = {pid: exists(pid) for pid in range(start, end + 1)}
        if not all(isinstance(answer, str) for answer in answers.values()):
            yield from (pid for pid, answer in answers.items() if answer or pid == last)
        elif all(isinstance(exists(pid), str) for pid in _table(start)):
            gone += answers
            reasons.update(map(str, answers.values()))
        else:
            yield from answers
        start = end + 1
    if gone:
        count = f"{len(gone):,} process ids from {gone[0]} to {gone[-1]}"
        lost(f"{count} cannot be looked up: {' or '.join(sorted(reasons)[:MAX_REASONS])}")


def _table(pid: int) -> range:
    """The ids in the table of an id. 0 is the idle task's, which no look-up finds."""
    begin = pid & -TABLE_IDS
    return range(max(begin, 1), begin + TABLE_IDS)


def first_passable(entries_from: EntriesFrom, position: int) -> int | None:
    """The smallest position above `position` from which an entry can be listed; None if there is none.

    All positions up to that of the bad entry fail (the kernel searches for the next process from there on),
    so it is found by doubling and halving.
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
