"""Opening VMware's memory: a `.vmem` with its `.vmss` or `.vmsn`, one of these with memory of its own, a lone
`.vmem`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image import vmware_state as vmware
from hybridbridge_vol.memory_image.physical import Collector, PhysicalImage, Run, file_reader
from hybridbridge_vol.units import Progress

_MEMORY, _STATES = ".vmem", (".vmss", ".vmsn")
LOWEST_HOLE = 3 << 30
"""VMware keeps guest-physical memory contiguous up to here."""
_HOLE_END = 4 << 30


def open_vmware(path: Path, fd: int, progress: Progress | None) -> PhysicalImage:
    """The memory that the file `fd` at `path` holds or describes, through the file beside it of the same
    name. Where memory is in that file, `fd` becomes that file's. ImageError if neither file tells where
    memory lies."""
    if path.suffix.lower() == _MEMORY:
        return _open_vmem(path, fd, progress)
    state = vmware.parse_state(file_reader(fd), os.fstat(fd).st_size, str(path))
    if state.memory:
        offset, size = state.memory
        return _image(path, fd, state, offset, size)
    memory = _beside(path, _MEMORY)
    if memory is None:
        name = path.with_suffix(_MEMORY).name
        raise ImageError(
            f"{path}: holds a VMware guest's state without its memory; put {name} beside it, or give that"
        )
    with open(memory, "rb") as stream:
        os.dup2(stream.fileno(), fd, inheritable=False)
    return _image(memory, fd, state)


def _open_vmem(path: Path, fd: int, progress: Progress | None) -> PhysicalImage:
    reason = None
    for suffix in _STATES:
        beside = _beside(path, suffix)
        if beside is None:
            continue
        try:
            with open(beside, "rb") as stream:
                state = vmware.parse_state(
                    file_reader(stream.fileno()), os.fstat(stream.fileno()).st_size, str(beside)
                )
            return _image(path, fd, state)
        except (ImageError, OSError) as error:
            reason = reason or str(error)
    size = os.fstat(fd).st_size
    if size <= LOWEST_HOLE:
        return PhysicalImage(path, fd, "VMware", [Run(0, size, 0)])
    if reason is not None:
        raise ImageError(f"{reason}; {path.name} cannot be read without it")
    from hybridbridge_vol.memory_image.e820 import low_memory_size

    low = low_memory_size(file_reader(fd), size, _extents(fd, size), progress)
    if low is None:
        names = " or ".join(path.with_suffix(suffix).name for suffix in _STATES)
        raise ImageError(
            f"{path}: where memory beyond 3 GiB belongs is in {names}, which is not beside it, and the guest's own "
            "memory map was not found"
        )
    runs = [Run(0, low, 0), Run(_HOLE_END, size - low, low)]
    return PhysicalImage(path, fd, "VMware (hole by the guest's memory map)", runs)


def _image(
    path: Path, fd: int, state: vmware.State, start: int = 0, size: int | None = None
) -> PhysicalImage:
    """The image of a state whose memory begins at `start` in the file `fd`."""
    end = os.fstat(fd).st_size if size is None else start + size
    collected = Collector(min(end, os.fstat(fd).st_size))
    for region in state.regions:
        collected.add(region.paddr, region.size, start + region.place)
    if not state.regions:  # no hole
        collected.add(0, end - start, start)
    runs, missing = collected.result()
    return PhysicalImage(path, fd, "VMware", runs, missing)


def _beside(path: Path, suffix: str) -> Path | None:
    """The file beside `path` that differs in its suffix only, in small or capital letters."""
    for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if candidate.is_file():
            return candidate
    return None


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a sparse file that are no holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError:  # nothing but a hole to the end
            return
        yield start, end
