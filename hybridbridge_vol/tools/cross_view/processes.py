"""Processes that one of the kernel's views shows and another does not.

| view | what the kernel's code walks | made to disagree by | |---|---|---| | /proc listing | the table of
process ids, for those with a process (`next_tgid`) | taking the id out of the table (`detach_pid`) | |
/proc/PID look-up | the same table, by number (`find_task_by_pid_ns`) | the same; or only the listing's half
of it | | task list | `init_task.tasks`, which `for_each_process` walks | unlinking the process from it: the
classic DKOM | | children | each thread's list of children (`/proc/PID/task/TID/children`) | unlinking it from
its parent's list | | control groups | the tasks of each group's sets (`css_set.tasks`), which `cgroup.procs`
lists | unlinking the process there, too | | memory of tasks | the pages that all task_structs are in |
nothing but freeing it; who is not there is not missed | | count | `nr_threads`, which sysinfo(2) tells |
hiding a thread and leaving the count as it is |

Sources: fs/proc/base.c, fs/proc/array.c (`children_seq_ops`), kernel/pid.c, kernel/fork.c (Linux 5.10 to
6.12).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from errno import ENOENT
from functools import partial
from itertools import chain

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Question
from hybridbridge_vol.procfs.pid import PidStat, parse_stat, parse_status
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.cross_view.control_groups import grouped_processes
from hybridbridge_vol.tools.cross_view.views import Finding, Views
from hybridbridge_vol.tools.process.listing import files_of, in_parts, numbers

LISTING, LOOKUP, TASKS, CHILDREN = "/proc listing", "/proc/PID look-up", "task list", "children of its parent"
GROUPS, MEMORY = "control groups", "memory of tasks"
_ENDED = "ZXx"


def hidden_processes(kernel: GuestKernel, probe: int = 0) -> Iterator[Finding | Unavailable]:
    """What disagrees; process ids up to `probe` are looked up even if no view names them."""
    views: Views[int] = Views()
    listed, gap = _numbers(kernel, "/proc")
    views.add(LISTING, listed, gap)
    try:
        tasks, reason = kernel.tasks.listed()
    except (*UNREADABLE, KeyError) as error:
        tasks, reason = [], str(error)
    views.add(
        TASKS, (pid for pid, _task in tasks if pid), Unavailable(f"task list: {reason}") if reason else None
    )
    in_memory = kernel.tasks.in_memory(task for _pid, task in tasks)
    views.add(MEMORY, {pid for pid, _task in tasks if pid}.union(pid for pid in in_memory if pid > 0))
    with contextlib.suppress(OSError):  # a kernel without control groups
        views.add(GROUPS, *grouped_processes(kernel))
    family = _Family(kernel)
    family.visit(views.every())
    found: set[int] = set()
    while found != views.every():  # the children of a hidden process may be hidden too
        found = views.every()
        family.visit(found)
        views.add(CHILDREN, family.children, family.gap)
    views.add(
        LOOKUP,
        _looked_up(kernel, [*sorted(found), *(pid for pid in range(1, probe + 1) if pid not in found)]),
    )
    stats = dict(
        chain.from_iterable(kernel.workers.map(partial(_stats, kernel), in_parts(sorted(views.every()))))
    )

    def excused(view: str, pid: int) -> bool:
        # those without a parent (the first process, the first kernel thread) are nobody's children that a
        # file lists
        stat = stats[pid]
        if view == MEMORY:
            return True
        if view == GROUPS:
            return stat is not None and stat.state in _ENDED
        return view == CHILDREN and (stat is None or stat.ppid == 0)

    for pid, seen, missing in views.differences(excused):
        stat = stats[pid]
        yield Finding(
            "process", str(pid), stat.comm if stat else "", seen, missing, (Source(f"/proc/{pid}/stat"),)
        )
    for pid, task in tasks:
        if not pid:
            yield Finding("process", f"task_struct at {task:#x}", "", TASKS, "process ids: it has none")
    yield from views.gaps.values()
    yield from _count(kernel, family)


def _numbers(kernel: GuestKernel, folder: str) -> tuple[list[int], Unavailable | None]:
    try:
        return numbers(kernel.files.listdir(folder)), None
    except UNREADABLE as error:
        return [], why(folder, error)


def _looked_up(kernel: GuestKernel, pids: list[int]) -> Iterator[int]:
    """Those that a look-up of /proc/PID finds, as processes: /proc/TID is there for every thread, too."""
    done = 0
    for found, asked in kernel.workers.map(partial(_look_up, kernel), in_parts(pids)):
        done += asked
        kernel.progress(done / len(pids), "looking up process ids")
        yield from found
    kernel.progress(1, "")


def _look_up(kernel: GuestKernel, pids: list[int]) -> tuple[list[int], int]:
    """The processes among these, and how many these are."""
    kernel.files.expect([*files_of(pids, "", kind="lstat"), *files_of(pids, "status")])
    found = []
    for pid in pids:
        try:
            kernel.files.stat(f"/proc/{pid}")
        except OSError as error:
            if error.errno == ENOENT:
                continue
        except UNREADABLE:
            pass  # it is there, whatever is wrong with it
        try:
            if parse_status(kernel.files.read(f"/proc/{pid}/status")).tgid != pid:
                continue
        except UNREADABLE:
            pass
        found.append(pid)
    return found, len(pids)


def _stats(kernel: GuestKernel, pids: list[int]) -> list[tuple[int, PidStat | None]]:
    kernel.files.expect(files_of(pids, "stat"))
    return [(pid, _stat(kernel, pid)) for pid in pids]


def _stat(kernel: GuestKernel, pid: int) -> PidStat | None:
    try:
        return parse_stat(kernel.files.read(f"/proc/{pid}/stat"))
    except UNREADABLE:
        return None


class _Family:
    """The children of all threads of the processes visited."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._visited: set[int] = set()
        self.children: set[int] = set()
        self.threads = 0
        self.gap: Unavailable | None = None

    def visit(self, pids: Iterable[int]) -> None:
        new = sorted(set(pids) - self._visited)
        self._visited.update(new)
        for children, threads, gap in self._kernel.workers.map(
            partial(_children, self._kernel), in_parts(new)
        ):
            self.children |= children
            self.threads += threads
            self.gap = gap or self.gap


def _children(kernel: GuestKernel, pids: list[int]) -> tuple[set[int], int, Unavailable | None]:
    """The children of all threads of these processes, how many threads they have, and why one could not be
    read."""
    children: set[int] = set()
    gap: Unavailable | None = None
    kernel.files.expect(files_of(pids, "task", kind="listdir"))
    files = []
    for pid in pids:
        folder = f"/proc/{pid}/task"
        try:
            files += [f"{folder}/{tid}/children" for tid in numbers(kernel.files.listdir(folder))]
        except UNREADABLE as error:
            if not isinstance(error, OSError) or error.errno != ENOENT:  # a hidden process may have no folder
                gap = why(folder, error)
    kernel.files.expect(Question("read", path) for path in files)
    for path in files:
        try:
            children.update(int(word) for word in kernel.files.read(path).split() if word.isdigit())
        except UNREADABLE as error:
            gap = why(path, error)
    return children, len(files), gap


def _count(kernel: GuestKernel, family: _Family) -> Iterator[Finding | Unavailable]:
    """Threads that the kernel counts and no process has."""
    try:
        counted = kernel.system.sysinfo().procs
    except UNREADABLE as error:
        yield why("sysinfo", error)
        return
    if family.gap is None and counted > family.threads and counted < 0xFFFF:  # where the field is full
        what = f"{counted - family.threads} of {counted}"
        yield Finding("thread", what, "", "count of threads", "/proc/PID/task", (Source("sysinfo"),))
