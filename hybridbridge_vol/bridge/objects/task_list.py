"""The kernel's list of all processes, `init_task.tasks`, which no file of /proc is made from.

Where `tasks` is in a `struct task_struct` is found by value in the trusted kernel: it is the one ring, linked
at the same offset of each task, that `init_task` and the proxy task are both on. The list is then followed
through the snapshot's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.objects.list_ends import Broken, BrokenList, both_ends
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.units import U64

_WORDS = 2048
"""64-bit words of a task_struct in which the list is looked for."""
_MOST_TRUSTED_TASKS = 1024
MAX_TASKS = 1 << 20


def tasks_offset(bridge: Bridge) -> int | None:
    """Offset of `tasks` in a task_struct; None if no offset, or more than one, can be it."""
    found = [offset for offset in range(0, 8 * _WORDS, 8) if _links_proxy_task(bridge, offset)]
    return found[0] if len(found) == 1 else None


def _links_proxy_task(bridge: Bridge, offset: int) -> bool:
    """Whether the trusted kernel's `init_task` and the proxy task are on one ring of task_structs linked at
    `offset`."""
    read = bridge.machine.read_u64
    head, wanted = bridge.home("init_task") + offset, bridge.prepared.proxy_task.task + offset
    node, seen = head, False
    try:
        for _step in range(_MOST_TRUSTED_TASKS):
            following = read(node)
            is_ours = following in bridge.boot.layout or following == head
            if following == node or not is_ours or read(following + 8) != node:
                return False
            seen = seen or following == wanted
            if following == head:
                return seen
            node = following
    except UnmappedVirtual:
        pass
    return False


def task_list(bridge: Bridge) -> tuple[list[int], str]:
    """Virtual addresses of the task_structs that follow the snapshot's `init_task`, in the list's order, and
    why some are missing: the list ends before it is back at its head, and those that its other end leads to
    come next (empty if none are)."""
    offset = tasks_offset(bridge)
    if offset is None:
        return [], "this kernel's list of tasks was not found"
    word = partial(_word, bridge)
    found: list[int] = []
    try:
        for node in both_ends(partial(_forward, word), word, bridge.snapshot("init_task") + offset):
            found.append((node - offset) & U64)
    except Broken as error:
        return found, str(error)
    return found, ""


def _forward(word: Callable[[int], int], head: int, seen: dict[int, None]) -> Iterator[int]:
    node = head
    while True:
        try:
            following = word(node)
        except UnreadableVirtual as error:
            raise UnreadableVirtual(error.vaddr, f"it leads out of the image at {node:#x}") from None
        if following == head:
            return
        if following in seen or len(seen) >= MAX_TASKS:
            raise BrokenList(f"it leads back into itself at {node:#x}")
        seen[following] = None
        yield following
        node = following


def _word(bridge: Bridge, vaddr: int) -> int:
    """A 64-bit word of the snapshot's memory. UnreadableVirtual if the image does not hold it, or if the
    address is not one of the kernel's with any number of page-table levels."""
    if vaddr >> 47 != U64 >> 47 and vaddr >> 56 != 0xFF:
        raise UnreadableVirtual(vaddr, "not an address of the kernel")
    return bridge.virtual_memory.read_u64(vaddr)
