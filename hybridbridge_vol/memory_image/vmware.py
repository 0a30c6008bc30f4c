"""VMware's memory: a `.vmem` with its `.vmss` or `.vmsn`, one of these with memory of its own, a lone
`.vmem`."""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.e820 import low_memory_size
from hybridbridge_vol.memory_image.formats import VMWARE_MEMORY_SUFFIX
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import Contents, PhysicalImage
from hybridbridge_vol.memory_image.runs import Run, RunList
from hybridbridge_vol.memory_image.vmware_state import State, parse_vmware_state

_STATE_SUFFIXES = (".vmss", ".vmsn")
LOWEST_HOLE = 3 << 30
"""VMware keeps guest-physical memory contiguous up to here."""
_HOLE_END = 4 << 30


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds, or that it describes and the file beside it of the same name holds.
    ImageError if neither of the two says where memory lies."""
    if file.path.suffix.lower() == VMWARE_MEMORY_SUFFIX:
        return PhysicalImage(file, _contents_of_vmem(file))
    state = parse_vmware_state(file.source)
    if state.memory:
        return PhysicalImage(file, _contents(state, file.size, *state.memory))
    memory_path = _beside(file.path, VMWARE_MEMORY_SUFFIX)
    if memory_path is None:
        name = file.path.with_suffix(VMWARE_MEMORY_SUFFIX).name
        raise ImageError(
            f"{file.path}: holds a VMware guest's state without its memory; put {name} beside it, "
            "or give that"
        )
    memory = ImageFile(memory_path, file.source.progress)
    try:
        image = PhysicalImage(memory, _contents(state, memory.size, 0, memory.size))
    except BaseException:
        memory.close()
        raise
    file.close()
    return image


def _contents_of_vmem(file: ImageFile) -> Contents:
    reason = None
    for suffix in _STATE_SUFFIXES:
        state_path = _beside(file.path, suffix)
        if state_path is None:
            continue
        try:
            return _contents(_state_in(state_path), file.size, 0, file.size)
        except (ImageError, OSError) as error:
            reason = reason or str(error)
    if file.size <= LOWEST_HOLE:
        return Contents("VMware", [Run(0, file.size, 0)])
    if reason is not None:
        raise ImageError(f"{reason}; {file.path.name} cannot be read without it")
    low = low_memory_size(file.source, file.extents())
    if low is None:
        names = " or ".join(file.path.with_suffix(suffix).name for suffix in _STATE_SUFFIXES)
        raise ImageError(
            f"{file.path}: where memory beyond 3 GiB belongs is in {names}, which is not beside it, and the "
            "guest's own memory map was not found"
        )
    runs = [Run(0, low, 0), Run(_HOLE_END, file.size - low, low)]
    return Contents("VMware (hole by the guest's memory map)", runs)


def _state_in(path: Path) -> State:
    file = ImageFile(path)
    try:
        return parse_vmware_state(file.source)
    finally:
        file.close()


def _contents(state: State, file_size: int, start: int, size: int) -> Contents:
    """The contents of a file of memory: `size` bytes from the offset `start` on, in the state's regions."""
    collected = RunList(min(start + size, file_size))
    for region in state.regions:
        collected.add(region.paddr, region.size, start + region.offset)
    if not state.regions:  # no hole
        collected.add(0, size, start)
    return Contents("VMware", collected.runs(), collected.missing(), cpus=state.cpus)


def _beside(path: Path, suffix: str) -> Path | None:
    """The file beside `path` that differs in its suffix only, in small or capital letters."""
    for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if candidate.is_file():
            return candidate
    return None
