"""Searches for processes that do not go through /proc: the kernel's list of tasks, and its memory for
them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from hybridbridge_vol.bridge.objects.task_list import task_list
from hybridbridge_vol.bridge.objects.task_slab import tasks_in_slabs
from hybridbridge_vol.bridge.run import id_loop
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import ListedTask, TaskList
from hybridbridge_vol.units import U64

PIDTYPE_PID, PIDTYPE_TGID = 0, 1  # include/linux/pid_types.h
_AT_ONCE = 512
"""Tasks in one program: one that leads nowhere rolls back the others of its program, too."""


class SnapshotTasks:
    """Implements `guest.kernel.Tasks`; ids are those of the snapshot's first pid namespace."""

    def __init__(self, proxy: ProxyCalls, may_ask_together: Callable[[], bool]) -> None:
        self._proxy = proxy
        self._may_ask_together = may_ask_together

    def listed(self) -> TaskList:
        """Every process on the kernel's own list of tasks."""
        vaddrs, reason = task_list(self._proxy.bridge)
        tasks = []
        for part in _parts(vaddrs):
            known = self._ids(part)
            for vaddr in part:
                try:
                    pid = self._pid(vaddr, PIDTYPE_PID) if known is None else known[vaddr]
                    tasks.append(ListedTask(pid, vaddr))
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

    def groups(self, pids: Iterable[int]) -> dict[int, int]:
        """See `guest.kernel.Tasks`."""
        found: dict[int, int] = {}
        for part in _parts(pids):
            answers = None
            with contextlib.suppress(CallRolledBack, LookupError):
                if self._may_ask_together() and self._group(part[0]) is not None:
                    answers = id_loop.ids_of_processes(
                        self._proxy.program_memory, *self._functions(), PIDTYPE_TGID, part
                    )
            known = zip(part, answers or (), strict=False)
            found |= {pid: group for pid, group in known if group is not None}
        return found

    def _ids(self, tasks: Sequence[int]) -> dict[int, int] | None:
        """The id of each of these tasks; None if they are to be asked for singly."""
        if not self._may_ask_together():
            return None
        try:
            # alone, so that its code is proven: a program that meets unproven code is rolled back
            self._pid(tasks[0], PIDTYPE_PID)
        except CallRolledBack:
            return None
        id_of = self._functions()[1]
        ids = id_loop.ids_of_tasks(self._proxy.program_memory, id_of, PIDTYPE_PID, tasks)
        return None if ids is None else dict(zip(tasks, ids, strict=True))

    def _group(self, pid: int) -> int | None:
        """The same for one process id, so that its code is proven."""
        task = self._proxy.function(id_loop.FIND, pid) & U64
        return self._pid(task, PIDTYPE_TGID) if task else None

    def _functions(self) -> tuple[int, int]:
        return self._proxy.bridge.snapshot(id_loop.FIND), self._proxy.bridge.snapshot(id_loop.ID)

    def _pid(self, task_vaddr: int, kind: int) -> int:
        return self._proxy.function(id_loop.ID, task_vaddr, kind, 0)


def _parts(numbers: Iterable[int]) -> Iterator[list[int]]:
    waiting = iter(numbers)
    while part := list(islice(waiting, _AT_ONCE)):
        yield part
