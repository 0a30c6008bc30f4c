"""Whether an image is of one moment: what no moment of a machine has, and pages of several have together.

A task that a CPU runs is marked as running (`rq->curr->on_cpu`, kernel/sched/core.c). Each node of a list
leads back to where the list came from: superblocks and their inodes, which come and go all the time, and the
lists that tasks are on. A node that one neighbour knows and the other does not is of two moments; one that
neither knows was taken off, as a rootkit does, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.snapshot.blank_pages import ZERO_PAGE
from hybridbridge_vol.units import PAGE_SIZE

MAX_INODES = 1 << 16
"""That are compared: a second."""
MAX_TASKS = 1 << 14
_LISTS = ("tasks", "children", "sibling", "cg_list")
"""Fields of a task_struct (include/linux/sched.h)."""
_POISON = 0xDEAD
"""The upper bits of what list_del leaves (include/linux/poison.h)."""


def of_several_moments(memory: TypedMemory, quickly: bool = False) -> str:
    """Why an image is not of one moment, in a few words; empty if nothing says so. What cannot be read says
    nothing. `quickly`: without the inodes, which take a second."""
    for compare in (_running, _tasks) if quickly else (_running, _tasks, _inodes):
        reason = compare(memory)
        if reason:
            return f"the image is of more than one moment: {reason}"
    return ""


def said_of(bridge: Bridge, quickly: bool = False) -> str:
    """The same of an image; empty if its kernel has no type information."""
    try:
        return of_several_moments(TypedMemory(bridge), quickly)
    except HybridBridgeError:
        return ""


def _running(memory: TypedMemory) -> str:
    online = memory.bridge.layout.cpu_numbers
    try:
        for cpu, queue in memory.per_cpu("runqueues"):
            task = memory.get(queue, "rq", "curr")
            if cpu in online and not memory.get(task, "task_struct", "on_cpu"):
                return f"the task at {task:#x}, which CPU {cpu} runs, is not marked as running"
    except (LookupError, *Broken):
        pass
    return ""


def _tasks(memory: TypedMemory) -> str:
    try:
        head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
        nodes = _nodes_of_tasks(memory, _whole(memory.list(head, "task_struct", "tasks"), MAX_TASKS))
        return next((f"lists contradict each other at {node:#x}" for node in nodes), "")
    except (LookupError, *Broken):
        return ""


def _nodes_of_tasks(memory: TypedMemory, tasks: Iterable[int]) -> Iterator[int]:
    """The nodes that only one of their neighbours knows."""
    names = [name for name in _LISTS if memory.types.has("task_struct", name)]
    for task in tasks:
        for name in names:
            node = memory.at(task, "task_struct", name)
            try:
                following, before = memory.word(node), memory.word(node + 8)
                if not (_is_link(memory, following) and _is_link(memory, before)):
                    continue
                if (memory.word(following + 8) == node) != (memory.word(before) == node):
                    yield node
            except Broken:
                continue


def _is_link(memory: TypedMemory, vaddr: int) -> bool:
    """Whether a node leads to memory that was read: a page of zeros says nothing."""
    if not vaddr >> 63 or vaddr >> 48 == _POISON:
        return False
    return memory.read(vaddr & -PAGE_SIZE, PAGE_SIZE) != ZERO_PAGE


def _inodes(memory: TypedMemory) -> str:
    before = set(memory.torn)
    left = MAX_INODES
    try:
        for block in _whole(memory.list(memory.ring("super_blocks"), "super_block", "s_list"), MAX_INODES):
            head = memory.at(block, "super_block", "s_inodes")
            left -= sum(1 for _inode in _whole(memory.list(head, "inode", "i_sb_list"), left))
            for page in memory.torn - before:
                if memory.read(page, PAGE_SIZE) != ZERO_PAGE:
                    return f"lists contradict each other at {page:#x}"
    except (LookupError, *Broken):
        pass
    return ""


def _whole(items: Iterator[int], most: int) -> Iterator[int]:
    """A list, up to where it breaks."""
    try:
        yield from islice(items, most)
    except Broken:
        return
