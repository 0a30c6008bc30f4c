"""Searches for processes that do not go through /proc: the kernel's list of tasks, and its memory for
them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from hybridbridge_vol.bridge.objects.task_list import task_list
from hybridbridge_vol.bridge.objects.task_slab import tasks_in_slabs
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import ListedTask, TaskList

PIDTYPE_PID, PIDTYPE_TGID = 0, 1  # include/linux/pid_types.h


class SnapshotTasks:
    """Implements `guest.kernel.Tasks`; ids are those of the snapshot's first pid namespace."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def listed(self) -> TaskList:
        """Every process on the kernel's own list of tasks."""
        vaddrs, reason = task_list(self._proxy.bridge)
        tasks = []
        for vaddr in vaddrs:
            try:
                tasks.append(ListedTask(self._pid(vaddr, PIDTYPE_PID), vaddr))
            except CallRolledBack as error:
                reason = reason or f"of the task at {vaddr:#x}: {error.reason}"
        return TaskList(tasks, reason)

    def in_memory(self, listed_vaddrs: Iterable[int]) -> list[int]:
        """Ids of the processes whose task_struct lies in the slabs for them but is none of
        `listed_vaddrs`."""
        known = set(listed_vaddrs)
        found = []
        for vaddr in tasks_in_slabs(self._proxy.bridge, known):
            if vaddr not in known:
                with contextlib.suppress(CallRolledBack):
                    found.append(self._pid(vaddr, PIDTYPE_TGID))
        return found

    def _pid(self, task_vaddr: int, kind: int) -> int:
        return self._proxy.function("__task_pid_nr_ns", task_vaddr, kind, 0)
