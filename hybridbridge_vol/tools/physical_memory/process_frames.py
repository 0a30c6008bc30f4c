"""Which physical pages each process has mapped, and where: /proc/PID/pagemap (fs/proc/task_mmu.c)."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.maps import Mapping, entries
from hybridbridge_vol.procfs.pagemap import FRAME, PRESENT
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.process.listing import comm_of, in_parts, read_maps
from hybridbridge_vol.tools.user_memory.pagemap import pages
from hybridbridge_vol.units import PAGE_SIZE

_RESIDENT = ("Rss", "Shared_Hugetlb", "Private_Hugetlb")


class FrameRun(NamedTuple):
    """Pages of a mapping from `vaddr` on with the numbers of their physical pages, 0 where none is there."""

    vaddr: int
    frames: array[int]


class MappedFrames(NamedTuple):
    """A mapping and its pages."""

    mapping: Mapping
    runs: list[FrameRun]


class ProcessFrames(NamedTuple):
    """A process and its pages; `read_error` says why there may be more."""

    pid: int
    comm: str
    mapped: list[MappedFrames]
    read_error: Unavailable | None = None

    def vaddrs_of(self, wanted: set[int]) -> Iterator[tuple[int, int]]:
        """`(frame, vaddr)` of those of some physical pages that the process has mapped."""
        for item in self.mapped:
            for run in item.runs:
                for frame in wanted.intersection(run.frames):
                    yield frame, run.vaddr + run.frames.index(frame) * PAGE_SIZE


def frames_of(kernel: GuestKernel, pids: list[int], jobs: int | None = None) -> Iterator[ProcessFrames]:
    """The pages of processes, by at most `jobs` processors; those without memory of their own are left
    out."""

    def answer(part: list[int]) -> list[ProcessFrames]:
        return [found for pid in part if (found := _of_process(kernel.files, pid))]

    parts = [part[start : start + 8] for part in in_parts(pids) for start in range(0, len(part), 8)]
    for number, found in enumerate(kernel.workers.map(answer, parts, jobs), 1):
        kernel.progress(number / len(parts) * 0.99, "searching the pages of processes")
        yield from found


def _of_process(files: Files, pid: int) -> ProcessFrames | None:
    path = f"/proc/{pid}/smaps"
    data, read_error = read_maps(files, path)
    if read_error:
        path = f"/proc/{pid}/maps"
        data, read_error = read_maps(files, path)
    mapped = []
    for entry in entries(path, data):
        if not isinstance(entry.mapping, Mapping):
            read_error = Unavailable(f"{path}: {entry.mapping}")
        elif "Rss" not in entry.sizes or any(entry.sizes.get(key) for key in _RESIDENT):
            try:
                mapped.append(MappedFrames(entry.mapping, list(_runs(files, pid, entry.mapping))))
            except UNREADABLE as error:
                read_error = why(f"/proc/{pid}/pagemap", error)
    if not mapped and not read_error:
        return None
    comm = comm_of(files, f"/proc/{pid}")
    return ProcessFrames(pid, comm if isinstance(comm, str) else "?", mapped, read_error)


def _runs(files: Files, pid: int, mapping: Mapping) -> Iterator[FrameRun]:
    if mapping.start_vaddr >> 63:  # [vsyscall], a page of the kernel's
        return
    for part in pages(files, pid, mapping.start_vaddr, mapping.end_vaddr):
        frames = array("Q", (entry & FRAME if entry & PRESENT else 0 for entry in part.entries))
        if any(frames):
            yield FrameRun(part.vaddr, frames)


def owners_of(processes: Iterable[ProcessFrames], wanted: set[int]) -> dict[int, list[tuple[int, str, int]]]:
    """For each of these physical pages `(pid, comm, vaddr)` of each process that has it mapped."""
    found: dict[int, list[tuple[int, str, int]]] = {}
    for process in processes:
        for frame, vaddr in process.vaddrs_of(wanted):
            found.setdefault(frame, []).append((process.pid, process.comm, vaddr))
    return found
