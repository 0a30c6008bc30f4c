"""The pages of a process's mappings, as /proc/PID/pagemap shows them (fs/proc/task_mmu.c, `pagemap_read`;
Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.pagemap import OF_FILE, PRESENT, SWAPPED
from hybridbridge_vol.units import PAGE_SIZE

MAX_SPAN = 1 << 36
"""Bytes of address space of one mapping that are searched for pages; a JIT's or sanitizer's reservation may
be larger."""
_AT_ONCE = 256 << 20
"""Bytes of address space that one read asks about: half a MiB of entries."""
_CLOSE, _LARGEST_WINDOW = 2 << 20, 64 << 20
"""Bytes of address space between two ranges that are asked about at once, and of all that are."""


class Pages(NamedTuple):
    """The entries of neighbouring pages of a process, the first of which lies at `vaddr`."""

    vaddr: int
    entries: Sequence[int]

    def held(self) -> Iterator[tuple[int, int]]:
        """`(vaddr, entry)` of the pages that are in memory or swapped out."""
        for number, entry in enumerate(self.entries):
            if entry & (PRESENT | SWAPPED):
                yield self.vaddr + number * PAGE_SIZE, entry


def pages(files: Files, pid: int, start_vaddr: int, end_vaddr: int) -> Iterator[Pages]:
    """The entries of the pages in `[start_vaddr, end_vaddr)`, up to `MAX_SPAN`, in order. OSError,
    CallRolledBack."""
    end_vaddr = min(end_vaddr, start_vaddr + MAX_SPAN)
    path = f"/proc/{pid}/pagemap"
    for vaddr in range(start_vaddr, end_vaddr, _AT_ONCE):
        size = (min(end_vaddr, vaddr + _AT_ONCE) - vaddr) // PAGE_SIZE * 8
        data = files.read_at(path, vaddr // PAGE_SIZE * 8, size)
        yield Pages(vaddr, struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & -8]))


class PagesOfCode:
    """The pages of a process's executable mappings: neighbours that lie close together are asked about at
    once."""

    def __init__(self, files: Files, pid: int, ranges: Sequence[tuple[int, int]]) -> None:
        self._files = files
        self._pid = pid
        self._windows = list(_joined(ranges))
        self._known: dict[tuple[int, int], Pages] = {}

    def pages(self, start_vaddr: int, end_vaddr: int) -> Iterator[Pages]:
        """As `pages`, of one of the ranges."""
        window = next((it for it in self._windows if it[0] <= start_vaddr and end_vaddr <= it[1]), None)
        if window is None or window[1] - window[0] > _LARGEST_WINDOW:
            yield from pages(self._files, self._pid, start_vaddr, end_vaddr)
            return
        if window not in self._known:
            (self._known[window],) = pages(self._files, self._pid, *window)
        first = (start_vaddr - window[0]) // PAGE_SIZE
        last = (end_vaddr - window[0]) // PAGE_SIZE
        yield Pages(start_vaddr, self._known[window].entries[first:last])


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    waiting: tuple[int, int] | None = None
    for start, end in ranges:
        if waiting and start - waiting[1] <= _CLOSE and end - waiting[0] <= _LARGEST_WINDOW:
            waiting = (waiting[0], end)
            continue
        if waiting:
            yield waiting
        waiting = (start, end)
    if waiting:
        yield waiting


def is_private(entry: int) -> bool:
    """Whether a page is the process's own: anonymous memory, or a copy of a file's page that was written
    to."""
    return bool(entry & (PRESENT | SWAPPED)) and not entry & OF_FILE
