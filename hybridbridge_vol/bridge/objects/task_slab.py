"""All task_structs in the slabs that the snapshot's kernel allocated them from, whether they are on a list or
not.

The kernel's own map of its memory, an array with one `struct page` for each page, says which pages belong to
the cache `task_struct_cachep` (`slab_cache`, mm/slab.h; 64 bytes on x86-64). How large the objects are
follows from where the known ones are. An object counts as a task if it and its `struct pid` point at each
other: one that was freed does not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.machine.memory import page_up
from hybridbridge_vol.machine.paging import PAGE_SHIFT
from hybridbridge_vol.snapshot.kernel_layout import PAGE_STRUCT
from hybridbridge_vol.units import PAGE_SIZE

_CACHE = "task_struct_cachep"
_LARGE_SIZE = 2 << 20
_TASK_WORDS, _PID_WORDS = 2048, 32
_MAX_SLAB = 1 << 20
MAX_SLABS = 1 << 16


class _Links(NamedTuple):
    """Offsets: of `thread_pid` in a task_struct, of `tasks[PIDTYPE_PID]` in a struct pid, and of the list
    node in the task_struct that the latter points to."""

    thread_pid: int
    tasks: int
    node: int


def tasks_in_slabs(bridge: Bridge, known: Iterable[int]) -> list[int]:
    """Virtual addresses of the task_structs, those `known` (of the snapshot's list of tasks) among them but
    where the image lacks the map of their memory; empty if the kernel or the image does not show where they
    are."""
    links, heads = _links(bridge), _slabs(bridge)
    if links is None or not heads:
        return []
    slabs = [bridge.layout.page_offset_base + pfn * PAGE_SIZE for pfn in heads]
    # one whose slab is not known would seem to lie far behind another's, with freed memory between them
    stride, size = _sizes(slabs, [task for task in known if _is_mapped(bridge, task)])
    offsets = range(0, size - stride + 1, stride) if stride else ()
    places = dict.fromkeys(slab + offset for slab in slabs for offset in offsets)
    return [place for place in places if _is_task(bridge, place, links)]


def _sizes(slabs: list[int], known: Iterable[int]) -> tuple[int, int]:
    """Bytes from one task_struct to the next, and of a slab, by where the known ones are in the `slabs`
    (virtual addresses, ascending); `(0, 0)` if that does not show it."""
    offsets = [
        offset
        for task in known
        if 0 <= (offset := task - slabs[max(bisect_right(slabs, task) - 1, 0)]) < _MAX_SLAB
    ]
    stride = math.gcd(*offsets)
    if not stride or stride % 8:
        return 0, 0
    return stride, page_up(1 << (max(offsets) + stride - 1).bit_length())


def _links(bridge: Bridge) -> _Links | None:
    """Found by value in the trusted kernel, at the proxy task and its struct pid."""
    proxy_task, read = bridge.prepared.proxy_task, bridge.machine.read_u64
    try:
        thread_pid = next(
            offset
            for offset in range(0, 8 * _TASK_WORDS, 8)
            if read(proxy_task.task + offset) == proxy_task.pid
        )
        inside = range(proxy_task.task, proxy_task.task + 8 * _TASK_WORDS)
        tasks = next(
            offset for offset in range(0, 8 * _PID_WORDS, 8) if read(proxy_task.pid + offset) in inside
        )
        return _Links(thread_pid, tasks, read(proxy_task.pid + tasks) - proxy_task.task)
    except (UnmappedVirtual, StopIteration):
        return None


def _slabs(bridge: Bridge) -> list[int]:
    """The first page frame of each slab of the cache, ascending."""
    if _CACHE not in bridge.kernel.symbols:
        return []
    offset = bridge.kernel.symbols.address(_CACHE) - bridge.kernel.text_link_vaddr
    cache = bridge.image.read_available(bridge.layout.text_paddr + offset, 8)
    if cache is None or not any(cache):
        return []
    wanted = np.uint64(int.from_bytes(cache, "little"))
    pieces = (
        pfn + at * 8 // PAGE_STRUCT
        for pfn, data in _page_structs(bridge)
        for at in np.flatnonzero(np.frombuffer(data, "<u8") == wanted).tolist()
    )
    return sorted(set(islice(pieces, MAX_SLABS)))


def _page_structs(bridge: Bridge) -> Iterator[tuple[int, memoryview | bytes]]:
    """The kernel's map of the memory that the image holds, in pieces: the first page frame of each, and its
    bytes."""
    base, image, layout = bridge.layout.vmemmap_base, bridge.image, bridge.layout
    for run in image.stored:
        at = base + run.paddr // PAGE_SIZE * PAGE_STRUCT
        end = base + -(-(run.paddr + run.size) // PAGE_SIZE) * PAGE_STRUCT
        while at < end:
            found = layout.translate(image, at)
            size = _LARGE_SIZE if found is not None and found.shift > PAGE_SHIFT else PAGE_SIZE
            size = min(end, at - at % size + size) - at
            if found is not None:
                data = bridge.image_pages.bytes_at(found.paddr, size)
                # where the image lacks a page of it, the others count
                shown = bridge.image.read_padded(found.paddr, size) if data is None else data
                yield (at - base) // PAGE_STRUCT, shown
            at += size


def _is_mapped(bridge: Bridge, task: int) -> bool:
    """Whether the image has the `struct page` of the memory at an address of the direct map."""
    layout = bridge.layout
    found = layout.translate(bridge.image, layout.page_struct_of(task - layout.page_offset_base))
    return found is not None and bridge.image.read_available(found.paddr, PAGE_STRUCT) is not None


def _is_task(bridge: Bridge, task: int, links: _Links) -> bool:
    pid = _word(bridge, task + links.thread_pid)
    return pid is not None and _word(bridge, pid + links.tasks) == task + links.node


def _word(bridge: Bridge, vaddr: int) -> int | None:
    """A word of the direct map, where all slab objects are; None elsewhere, or if the image does not hold
    it."""
    paddr = vaddr - bridge.layout.page_offset_base
    data = bridge.image.read_available(paddr, 8) if 0 <= paddr < bridge.image.end_paddr else None
    return None if data is None else int.from_bytes(data, "little")
