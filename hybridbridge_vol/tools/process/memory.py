"""A process's memory as runs of pages: which of them are in the snapshot, and their content.

Both by the kernel's own code: /proc/PID/pagemap walks the process's page tables, /proc/PID/mem reads through
them (fs/proc/task_mmu.c `pagemap_read`, fs/proc/base.c `mem_rw`; Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from errno import ENODATA
from itertools import groupby
from typing import Literal, NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.maps import Mapping, entries, populated
from hybridbridge_vol.procfs.pagemap import FRAME, PRESENT, SWAPPED
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.process.listing import read_maps
from hybridbridge_vol.units import PAGE_SIZE

State = Literal["there", "swapped", "absent", "lost"]
"""there: in memory and in the image; swapped: on a swap device; absent: never touched, or only in its file;
lost: in memory, but not in the image, or not searched for."""

MAX_SCANNED = 1 << 40
"""Bytes of address space that are searched for pages (mappings without any are skipped): half a minute's
work."""
MAX_FAILURES = 1024
"""Calls about one mapping that may fail before the rest of it is given up."""
PATIENCE_SECONDS = 60.0
"""Processor time that calls which fail may take, of all mappings together; after that each mapping is given
up at its first failure."""
MOST_SECONDS = 600.0
"""The same after which nothing more is asked."""

_PAGES_AT_ONCE = 1 << 15
_TABLE_SIZE = 2 << 20
"""Bytes of address space that one page table describes."""
_BYTES_AT_ONCE = 1 << 20
_RESIDENT = ("Rss", "Swap", "Shared_Hugetlb", "Private_Hugetlb")


class Run(NamedTuple):
    """Neighbouring pages of one mapping in the same state: `[start_vaddr, end_vaddr)`."""

    start_vaddr: int
    end_vaddr: int
    state: State

    @property
    def size(self) -> int:
        return self.end_vaddr - self.start_vaddr


class Missing(NamedTuple):
    """Neighbouring pages that the core should have and has not: `[start_vaddr, end_vaddr)`, and why."""

    start_vaddr: int
    end_vaddr: int
    reason: str


@dataclass
class Region:
    """A mapping, its pages, and the bytes of smaps or maps that describe it."""

    mapping: Mapping
    runs: list[Run]
    source: Source
    missing: list[Missing] = field(default_factory=list)
    """Pages that are lost, and those that were found in memory and could not be read."""
    unread: int = 0
    """Bytes of the latter."""
    failures: int = 0
    """Calls about it that failed."""
    given_up: str = ""
    """Why nothing more is asked about it."""

    def size(self, state: State) -> int:
        """Bytes of its address space in a state."""
        return sum(run.size for run in self.runs if run.state == state)

    def lose(self, start_vaddr: int, end_vaddr: int, reason: str) -> None:
        """Note what is missing; neighbours of one reason become one range."""
        last = self.missing[-1] if self.missing else None
        if last and (last.end_vaddr, last.reason) == (start_vaddr, reason):
            self.missing[-1] = last._replace(end_vaddr=end_vaddr)
        else:
            self.missing.append(Missing(start_vaddr, end_vaddr, reason))


@dataclass
class ProcessMemory:
    """The mappings of a process, ascending; `read_error` says why there may be more."""

    kernel: GuestKernel
    pid: int
    regions: list[Region] = field(default_factory=list)
    read_error: Unavailable | None = None
    _wasted: float = 0.0
    """Seconds that failed calls took."""

    @classmethod
    def survey(cls, kernel: GuestKernel, pid: int, limit: int) -> ProcessMemory:
        """Find out which pages there are; those beyond `limit` bytes count as lost. OSError if the process
        has no memory of its own, or if its mappings cannot be read."""
        memory = cls(kernel, pid)
        memory.regions = list(memory._mappings())
        if not memory.regions:
            reason = "no memory of its own: a kernel thread or a zombie"
            if memory.read_error:
                reason = memory.read_error.reason
            raise OSError(ENODATA, reason, f"/proc/{pid}")
        memory._look(limit)
        return memory

    def _mappings(self) -> Iterator[Region]:
        """Each mapping, absent if the kernel counts nothing of it as resident or swapped, else lost until it
        is found."""
        path = f"/proc/{self.pid}/smaps"
        data, smaps_error = read_maps(self.kernel.files, path)
        if smaps_error:
            path = f"/proc/{self.pid}/maps"
            data, self.read_error = read_maps(self.kernel.files, path)
        populated = self._populated()
        for entry in entries(path, data):
            mapping = entry.mapping
            if not isinstance(mapping, Mapping):
                self.read_error = Unavailable(f"{path}: {mapping}")
            elif mapping.start_vaddr % PAGE_SIZE or mapping.end_vaddr % PAGE_SIZE:
                self.read_error = Unavailable(
                    f"{path}: a mapping that does not begin and end on pages, at {mapping.start_vaddr:#x}"
                )
            else:
                counted = any(entry.sizes.get(key) for key in _RESIDENT) or "Rss" not in entry.sizes
                empty = not counted and populated is not None and mapping.start_vaddr not in populated
                whole = Run(mapping.start_vaddr, mapping.end_vaddr, "absent" if empty else "lost")
                yield Region(mapping, [whole], entry.source)

    def _populated(self) -> frozenset[int] | None:
        """Where mappings begin that numa_maps counts pages of: smaps leaves out huge pages that NUMA
        balancing watches (mm/huge_memory.c, follow_trans_huge_pmd). None if that cannot be known."""
        try:
            return populated(self.kernel.files.read(f"/proc/{self.pid}/numa_maps"))
        except FileNotFoundError:  # a kernel without NUMA
            return frozenset()
        except UNREADABLE:
            return None

    def _look(self, limit: int) -> None:
        """Replace each region's runs by those that its page tables show."""
        wanted = [region for region in self.regions if region.runs[0].state == "lost"]
        total = sum(region.mapping.size for region in wanted)
        scanned = 0
        for region in wanted:
            self.kernel.progress(scanned / total, f"searching the pages of process {self.pid}")
            scanned += region.mapping.size
            if scanned > MAX_SCANNED:
                reason = f"only the first {MAX_SCANNED >> 40} TiB of mappings are searched for pages"
                region.lose(region.mapping.start_vaddr, region.mapping.end_vaddr, reason)
                continue
            found = list(joined(self._pieces(region)))
            region.runs = list(joined(bounded(found, limit)))
            for run in beyond(found, limit):
                region.lose(run.start_vaddr, run.end_vaddr, "beyond the limit that was set")
            limit -= region.size("there")

    def _pieces(self, region: Region) -> Iterator[Run]:
        """The pages of a region, in order, in runs that may be joined. Where pagemap cannot be read, it is
        read in halves."""
        (whole,) = region.runs
        waiting = [(whole.start_vaddr, whole.end_vaddr)]
        while waiting:
            start, end = waiting.pop()
            if end - start > _PAGES_AT_ONCE * PAGE_SIZE:
                middle = start + _PAGES_AT_ONCE * PAGE_SIZE
                waiting += [(middle, end), (start, middle)]
                continue
            try:
                entries_of = self._pagemap(region, start, end)
            except _Failed as failure:
                middle = (start + end) // 2 & -_TABLE_SIZE
                if start < middle < end and not failure.is_last:
                    waiting += [(middle, end), (start, middle)]
                else:
                    region.lose(start, end, failure.reason)
                    yield Run(start, end, "lost")
                continue
            yield from self._runs(region, start, entries_of)
            known = start + len(entries_of) * PAGE_SIZE
            if known < end:
                region.lose(known, end, f"/proc/{self.pid}/pagemap: nothing about it")
                yield Run(known, end, "lost")

    def _runs(self, region: Region, start: int, entries_of: tuple[int, ...]) -> Iterator[Run]:
        """The pages from `start` on that these entries of pagemap describe."""
        for word, group in groupby(entries_of):
            state = self._state(word)
            behind = start + len(list(group)) * PAGE_SIZE
            if state == "lost":
                region.lose(start, behind, "in memory, but not in the image")
            yield Run(start, behind, state)
            start = behind

    def _pagemap(self, region: Region, start: int, end: int) -> tuple[int, ...]:
        """The entries of the pages in `[start, end)`; fewer if there are no more."""
        data = self._ask(region, "pagemap", start // PAGE_SIZE * 8, (end - start) // PAGE_SIZE * 8)
        return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & -8])

    def _ask(self, region: Region, name: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes of a file of the process, about a region. _Failed if they cannot be read."""
        path = f"/proc/{self.pid}/{name}"
        if self._wasted > MOST_SECONDS:
            region.given_up = region.given_up or "given up: too many calls about other mappings failed"
        if region.given_up:
            raise _Failed(region.given_up, True)
        start = time.process_time()
        try:
            return self.kernel.files.read_at(path, offset, size)[:size]
        except UNREADABLE as error:
            self._wasted += time.process_time() - start
            region.failures += 1
            reason = why(path, error).reason
            if region.failures >= MAX_FAILURES or self._wasted > PATIENCE_SECONDS:
                region.given_up = f"given up: {reason}"
            raise _Failed(reason, bool(region.given_up)) from None

    def _state(self, word: int) -> State:
        """The state of the page of an entry of pagemap."""
        if word & PRESENT:
            frame = word & FRAME
            # frame 0: the kernel does not show it
            is_there = not frame or self.kernel.addresses.in_image(frame * PAGE_SIZE, PAGE_SIZE)
            return "there" if is_there else "lost"
        return "swapped" if word & SWAPPED else "absent"

    def read(self, region: Region, run: Run) -> Iterator[bytes]:
        """The bytes of a run that is there, in pieces. What cannot be read is zero, and counted in the
        region's `unread`, with the reason in `missing`. A page that fails is passed over, no other."""
        vaddr = careful_until = run.start_vaddr
        while vaddr < run.end_vaddr:
            size = min(PAGE_SIZE if vaddr < careful_until else _BYTES_AT_ONCE, run.end_vaddr - vaddr)
            try:
                data = self._ask(region, "mem", vaddr, size)
                reason, is_last = f"/proc/{self.pid}/mem: ends", False
            except _Failed as failure:
                data, reason, is_last = b"", region.given_up or failure.reason, failure.is_last
            if not data and size > PAGE_SIZE and not is_last:
                careful_until = vaddr + size
                continue
            if not data:
                lost = run.end_vaddr - vaddr if is_last else size
                region.lose(vaddr, vaddr + lost, reason)
                region.unread += lost
                for start in range(0, lost, _BYTES_AT_ONCE):
                    yield bytes(min(_BYTES_AT_ONCE, lost - start))
                vaddr += lost
            else:
                yield data
                vaddr += len(data)


class _Failed(Exception):
    """A call about a region failed; the last that is made for it if `is_last`."""

    def __init__(self, reason: str, is_last: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_last = is_last


def joined(runs: Iterable[Run]) -> Iterator[Run]:
    """Neighbours in the same state as one run."""
    last: Run | None = None
    for run in runs:
        if last and last.state == run.state and last.end_vaddr == run.start_vaddr:
            last = Run(last.start_vaddr, run.end_vaddr, run.state)
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def bounded(runs: Iterable[Run], limit: int) -> Iterator[Run]:
    """The runs; of those that are there, what is beyond `limit` bytes is lost."""
    for run in runs:
        if run.state == "there" and run.size > limit:
            cut = run.start_vaddr + max(limit, 0) // PAGE_SIZE * PAGE_SIZE
            if cut > run.start_vaddr:
                yield Run(run.start_vaddr, cut, "there")
            yield Run(cut, run.end_vaddr, "lost")
        else:
            yield run
        limit -= run.size if run.state == "there" else 0


def beyond(runs: Iterable[Run], limit: int) -> Iterator[Run]:
    """What `bounded` cuts off: the parts of runs that are there which are beyond `limit` bytes."""
    for run in runs:
        if run.state == "there":
            if run.size > limit:
                yield Run(run.start_vaddr + max(limit, 0) // PAGE_SIZE * PAGE_SIZE, run.end_vaddr, "lost")
            limit -= run.size
