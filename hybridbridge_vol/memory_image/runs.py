"""Runs: contiguous ranges of guest-physical memory, and where they lie in a file."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from hybridbridge_vol.memory_image.ranges import Range, joined, subtracted

MAX_HEADERS = 1 << 20
"""Ranges that a file may list. A core that follows page tables (QEMU's with paging=true) has thousands."""

ZEROS = -1
"""The offset of a run that the file leaves out because it is zeros."""


class Run(NamedTuple):
    """A contiguous range of guest-physical memory, `size` bytes from `paddr` on; `offset` is where it lies in
    the file: ZEROS if it does not, 0 where the image is not made of plain slices."""

    paddr: int
    size: int
    offset: int

    @property
    def end_paddr(self) -> int:
        """The physical address behind it."""
        return self.paddr + self.size


class RunList:
    """Gathers the runs that a file lists. Each is cut to what the file holds; where two overlap, the earlier
    one counts."""

    def __init__(self, file_size: int) -> None:
        self._file_size = file_size
        self._runs: list[Run] = []
        self._absent: list[Range] = []

    @property
    def full(self) -> bool:
        """Whether the file lists more runs than any real one."""
        return len(self._runs) + len(self._absent) >= MAX_HEADERS

    def add(self, paddr: int, size: int, offset: int) -> None:
        """One run as a header gives it."""
        present = max(0, min(size, self._file_size - offset))
        if present:
            self._runs.append(Run(paddr, present, offset))
        if present < size:
            self._absent.append((paddr + present, size - present))

    def runs(self) -> list[Run]:
        """The runs: ascending, disjoint, joined where they touch in memory and in the file."""
        return disjoint(self._runs)

    def missing(self) -> list[Range]:
        """Physical ranges that some header promises and no run holds."""
        return subtracted(joined(self._absent), joined((run.paddr, run.size) for run in self._runs))


def disjoint(runs: Sequence[Run]) -> list[Run]:
    """`runs` in ascending order; where several cover an address, the first of the sequence has it. Runs that
    touch in memory and in the file are joined."""
    order = sorted(range(len(runs)), key=lambda index: runs[index].paddr)
    result: list[Run] = []
    open_runs: list[int] = []  # a heap: the first of the sequence on top
    at, position = 0, 0
    while at < len(order) or open_runs:
        if not open_runs:
            position = max(position, runs[order[at]].paddr)
        while at < len(order) and runs[order[at]].paddr <= position:
            heappush(open_runs, order[at])
            at += 1
        while open_runs and runs[open_runs[0]].end_paddr <= position:
            heappop(open_runs)
        if not open_runs:
            continue
        run = runs[open_runs[0]]
        until = run.end_paddr if at == len(order) else min(run.end_paddr, runs[order[at]].paddr)
        _append(result, Run(position, until - position, run.offset + position - run.paddr))
        position = until
    return result


def _append(runs: list[Run], run: Run) -> None:
    last = runs[-1] if runs else None
    if last and last.end_paddr == run.paddr and last.offset + last.size == run.offset:
        runs[-1] = Run(last.paddr, last.size + run.size, last.offset)
    else:
        runs.append(run)
