"""A process's memory as runs of pages: which of them are in the snapshot, and their content.

Both by the kernel's own code: /proc/PID/pagemap walks the process's page tables, /proc/PID/mem reads through
them (fs/proc/task_mmu.c `pagemap_read`, fs/proc/base.c `mem_rw`; Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from errno import ENODATA
from itertools import groupby
from typing import Literal, NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.maps import Mapping, entries
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
"""Pages that may fail to be read before the rest is given up."""

_PRESENT, _SWAPPED, _FRAME = 1 << 63, 1 << 62, (1 << 55) - 1
_PAGES_AT_ONCE = 1 << 15
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


@dataclass
class Region:
    """A mapping, its pages, and the bytes of smaps or maps that describe it."""

    mapping: Mapping
    runs: list[Run]
    source: Source
    why_lost: Unavailable | None = None
    """Why pages are lost, if any are."""
    unread: int = 0
    """Bytes that pagemap shows in memory and that could not be read."""

    def size(self, state: State) -> int:
        """Bytes of its address space in a state."""
        return sum(run.size for run in self.runs if run.state == state)


@dataclass
class ProcessMemory:
    """The mappings of a process, ascending; `read_error` says why there may be more."""

    kernel: GuestKernel
    pid: int
    regions: list[Region] = field(default_factory=list)
    read_error: Unavailable | None = None
    _failures: int = 0

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
        """Each mapping, absent if smaps counts nothing of it as resident or swapped, else lost until it is
        found."""
        path = f"/proc/{self.pid}/smaps"
        data, smaps_error = read_maps(self.kernel.files, path)
        if smaps_error:
            path = f"/proc/{self.pid}/maps"
            data, self.read_error = read_maps(self.kernel.files, path)
        for entry in entries(path, data):
            mapping = entry.mapping
            if not isinstance(mapping, Mapping):
                self.read_error = Unavailable(f"{path}: {mapping}")
            elif mapping.start_vaddr % PAGE_SIZE or mapping.end_vaddr % PAGE_SIZE:
                self.read_error = Unavailable(
                    f"{path}: a mapping that does not begin and end on pages, at {mapping.start_vaddr:#x}"
                )
            else:
                empty = "Rss" in entry.sizes and not any(entry.sizes.get(key) for key in _RESIDENT)
                whole = Run(mapping.start_vaddr, mapping.end_vaddr, "absent" if empty else "lost")
                yield Region(mapping, [whole], entry.source)

    def _look(self, limit: int) -> None:
        """Replace each region's runs by those that its page tables show."""
        wanted = [region for region in self.regions if region.runs[0].state == "lost"]
        total = sum(region.mapping.size for region in wanted)
        scanned = 0
        for region in wanted:
            self.kernel.progress(scanned / total, f"searching the pages of process {self.pid}")
            scanned += region.mapping.size
            if scanned > MAX_SCANNED:
                region.why_lost = Unavailable(
                    f"only the first {MAX_SCANNED >> 40} TiB of mappings are searched for pages"
                )
                continue
            region.runs = list(bounded(joined(self._pieces(region)), limit))
            limit -= region.size("there")
            if region.size("lost") and not region.why_lost:
                region.why_lost = Unavailable("beyond the limit that was set")

    def _pieces(self, region: Region) -> Iterator[Run]:
        """The pages of a region, in order, in runs that may be joined."""
        (whole,) = region.runs
        path = f"/proc/{self.pid}/pagemap"
        for start in range(whole.start_vaddr, whole.end_vaddr, _PAGES_AT_ONCE * PAGE_SIZE):
            end = min(start + _PAGES_AT_ONCE * PAGE_SIZE, whole.end_vaddr)
            data = b""
            try:
                data = self.kernel.files.read_at(path, start // PAGE_SIZE * 8, (end - start) // PAGE_SIZE * 8)
            except UNREADABLE as error:
                region.why_lost = why(path, error)
            for word, group in groupby(struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & -8])):
                state = self._state(word)
                behind = start + len(list(group)) * PAGE_SIZE
                if state == "lost":
                    region.why_lost = region.why_lost or Unavailable("in memory, but not in the image")
                yield Run(start, behind, state)
                start = behind
            if start < end:
                region.why_lost = region.why_lost or Unavailable(f"{path}: nothing about {start:#x}")
                yield Run(start, end, "lost")

    def _state(self, word: int) -> State:
        """The state of the page of an entry of pagemap."""
        if word & _PRESENT:
            frame = word & _FRAME
            # frame 0: the kernel does not show it
            is_there = not frame or self.kernel.addresses.in_image(frame * PAGE_SIZE, PAGE_SIZE)
            return "there" if is_there else "lost"
        return "swapped" if word & _SWAPPED else "absent"

    def read(self, region: Region, run: Run) -> Iterator[bytes]:
        """The bytes of a run that is there, in pieces. What cannot be read is zero, and counted in the
        region's `unread`, with the reason in `why_lost`."""
        vaddr = careful_until = run.start_vaddr
        while vaddr < run.end_vaddr:
            size = min(PAGE_SIZE if vaddr < careful_until else _BYTES_AT_ONCE, run.end_vaddr - vaddr)
            data = self._read(region, vaddr, size)
            if not data and size > PAGE_SIZE:
                careful_until = vaddr + size
                continue
            if not data:
                data = bytes(size)
                region.unread += size
            yield data
            vaddr += len(data)

    def _read(self, region: Region, vaddr: int, size: int) -> bytes:
        """Up to `size` bytes; none if they cannot be read."""
        path = f"/proc/{self.pid}/mem"
        if self._failures >= MAX_FAILURES:
            return b""
        try:
            data = self.kernel.files.read_at(path, vaddr, size)[:size]
            reason = Unavailable(f"{path}: ends")
        except UNREADABLE as error:
            data, reason = b"", why(path, error)
        if not data and size == PAGE_SIZE:
            self._failures += 1
            region.why_lost = Unavailable(f"{reason.reason} at {vaddr:#x}")
        return data


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
