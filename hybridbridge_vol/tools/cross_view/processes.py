"""Processes that one of the kernel's lists names and another does not.

Each list, what the kernel's code walks for it, and how a process is taken out of it:

* /proc listing: the table of process ids, for those with a process (`next_tgid`). Taking the id out of the
  table (`detach_pid`).
* /proc/PID look-up: the same table, by number (`find_task_by_pid_ns`). The same.
* task list: `init_task.tasks`, which `for_each_process` walks. Unlinking the process: the classic DKOM.
* children: each thread's list of children (`/proc/PID/task/TID/children`). Unlinking the process from its
  parent's list.
* control groups: the tasks of each group's sets (`css_set.tasks`), which `cgroup.procs` lists. Unlinking the
  process there.
* memory of tasks: the pages that hold all task_structs. A process leaves this memory only when it is freed. A
  process that is not found here is not reported as missing.
* mounts of the first process: something is mounted over /proc/PID (`mount --bind`), and programs of the
  machine read that instead.
* count: `nr_threads`, which sysinfo(2) reports. Hiding a thread leaves the count as it is.

Sources: fs/proc/base.c, fs/proc/array.c (`children_seq_ops`), kernel/pid.c, kernel/fork.c (Linux 5.10 to
6.12).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from errno import ENOENT
from functools import partial
from itertools import chain

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.errors import HybridBridgeError, ParseError
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.kernel import Files, GuestKernel, Tasks
from hybridbridge_vol.guest.values import ListedTask, Question
from hybridbridge_vol.procfs.mounts import parse_mount
from hybridbridge_vol.procfs.pid import PidStat, parse_stat, parse_status
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, parsed, read_lines, why
from hybridbridge_vol.tools.cross_view.comparison import Comparison, Finding
from hybridbridge_vol.tools.cross_view.control_groups import grouped_processes
from hybridbridge_vol.tools.process.listing import comm_of, files_of, in_parts, numbers

LISTING, LOOKUP, TASKS, CHILDREN = "/proc listing", "/proc/PID look-up", "task list", "children of its parent"
GROUPS, MEMORY = "control groups", "memory of tasks"
_MOUNTS = "/proc/1/mountinfo"
_PROCESS_FOLDER = re.compile(r"/proc/([1-9]\d{0,9})(?:/.*)?", re.DOTALL)
_ENDED = "ZXx"
_HEAD_OF_TASK = 256
"""Bytes of a task_struct, with the pointer to its stack among them (include/linux/sched.h)."""
_FAMILIES_TO_SHARE, _LOOK_UPS_TO_SHARE = 16, 128
"""Parts (`in_parts`) that are worth a forked worker, which costs 80 ms of processor time: a part takes 30 ms,
or 4 ms."""
_MOST_COUNTED = 0xFFFF
"""`procs` of struct sysinfo has 16 bits."""


def hidden_processes(kernel: GuestKernel, probe: int = 0) -> Iterator[Finding | Unavailable]:
    """What the lists disagree about, and what could not be read. Process ids up to `probe` are looked up even
    if no list names them."""
    lists: Comparison[int] = Comparison()
    _add_listing(lists, kernel.files)
    tasks = _add_tasks(lists, kernel.tasks)
    with contextlib.suppress(OSError):  # a kernel without control groups
        lists.add(GROUPS, *grouped_processes(kernel.files.of_the_kernel))
    family = _Family(kernel)
    _add_children(lists, family)
    _add_lookups(lists, kernel, probe)
    yield from _differences(lists, kernel)
    for task in tasks:
        if not task.pid:
            what = f"task_struct at {task.task_vaddr:#x}"
            if _has_ended(kernel, task.task_vaddr):
                yield Unavailable(f"{what}: it has ended, and is still listed: the image is of two moments")
            elif any(kernel.bridge.virtual_memory.read_padded(task.task_vaddr, _HEAD_OF_TASK)):
                yield Finding("process", what, "", TASKS, "process ids: it has none")
            else:
                yield Unavailable(f"{what}: its memory is zeros")
    yield from lists.read_errors.values()
    yield from _covered(kernel.files)
    yield from _uncounted_threads(kernel, family)


def _differences(lists: Comparison[int], kernel: GuestKernel) -> Iterator[Finding]:
    disputed = in_parts(sorted(lists.disputed()))
    stats = dict(chain.from_iterable(_stats(kernel.files, part) for part in disputed))

    def excused(source: str, pid: int) -> bool:
        stat = stats[pid]
        if source == MEMORY:
            return True
        if source == GROUPS:
            # nobody knows whether it has ended where its table of ids cannot be read
            return stat.state in _ENDED if stat is not None else LISTING in lists.read_errors
        # those without a parent (the first process, the first kernel thread) are on no list of children
        return source == CHILDREN and (stat is None or stat.ppid == 0)

    # a group's list of tasks has its nodes where the list of tasks has: in each task
    lost = lists.read_errors.get(TASKS)
    for pid, seen, missing in lists.differences(excused):
        stat = stats[pid]
        sources = (Source(f"/proc/{pid}/stat"),)
        doubt = lost.reason if lost and missing == GROUPS else ""
        yield Finding("process", str(pid), stat.comm if stat else "", seen, missing, sources, doubt)


def _has_ended(kernel: GuestKernel, task_vaddr: int) -> bool:
    """Whether a task has given up its signal handlers (`__exit_signal`, kernel/exit.c): no task can run
    without them."""
    try:
        memory = TypedMemory(kernel.bridge)
        return not memory.get(task_vaddr, "task_struct", "sighand") and bool(
            memory.get(task_vaddr, "task_struct", "exit_state")
        )
    except (LookupError, HybridBridgeError, *Broken):
        return False


# --- the lists --------------------------------------------------------------------------------------------


def _add_listing(lists: Comparison[int], files: Files) -> None:
    try:
        lists.add(LISTING, numbers(files.listdir("/proc")))
    except IncompleteDirectory as error:
        lists.add(LISTING, numbers(error.names), why("/proc", error))
    except UNREADABLE as error:
        lists.add(LISTING, [], why("/proc", error))


def _add_tasks(lists: Comparison[int], search: Tasks) -> list[ListedTask]:
    """The kernel's list of tasks, and the memory of tasks, which is found by those that are listed."""
    try:
        tasks, incomplete = search.listed()
    except (*UNREADABLE, KeyError) as error:
        tasks, incomplete = [], str(error)
    pids = {task.pid for task in tasks if task.pid}
    lists.add(TASKS, pids, Unavailable(f"task list: {incomplete}") if incomplete else None)
    in_memory = search.in_memory(task.task_vaddr for task in tasks)
    lists.add(MEMORY, pids.union(pid for pid in in_memory if pid > 0))
    return tasks


def _add_children(lists: Comparison[int], family: _Family) -> None:
    """The children of each process; those of a hidden process may be hidden too, and have children."""
    family.visit(lists.every())
    found: set[int] = set()
    while found != lists.every():
        found = lists.every()
        family.visit(found)
        lists.add(CHILDREN, family.children, family.read_error)


def _add_lookups(lists: Comparison[int], kernel: GuestKernel, probe: int) -> None:
    named = lists.every()
    pids = [*sorted(named), *(pid for pid in range(1, probe + 1) if pid not in named)]
    lists.add(LOOKUP, _looked_up(kernel, pids))
    if LISTING in lists.read_errors:
        # its names are partly those of look-ups that were rolled back, and of threads
        others = (keys for source, keys in lists.named.items() if source not in (LISTING, LOOKUP))
        guessed = lists.named[LISTING].difference(*others)
        for pid in guessed:
            if isinstance(parsed(kernel.files, f"/proc/{pid}/status", parse_status), Unavailable):
                lists.named[LISTING].discard(pid)
                lists.named[LOOKUP].discard(pid)
        lists.named[LISTING] -= guessed - lists.named[LOOKUP]


def _looked_up(kernel: GuestKernel, pids: list[int]) -> Iterator[int]:
    """Those that a look-up of /proc/PID finds, as processes: /proc/TID exists for every thread, too."""
    done = 0
    parts = in_parts(pids)
    for found, asked in kernel.workers.map(partial(_look_up, kernel), parts, least=_LOOK_UPS_TO_SHARE):
        done += asked
        kernel.progress(done / len(pids), "looking up process ids")
        yield from found
    kernel.progress(1, "")


def _look_up(kernel: GuestKernel, pids: list[int]) -> tuple[list[int], int]:
    """The processes among these, and how many these are."""
    files, groups = kernel.files, kernel.tasks.groups(pids)
    missing = (pid for pid in pids if pid not in groups)
    files.expect([*files_of(pids, "", kind="lstat"), *files_of(missing, "status")])
    return [pid for pid in pids if _is_process(files, f"/proc/{pid}", pid, groups.get(pid))], len(pids)


def _is_process(files: Files, folder: str, pid: int, group: int | None) -> bool:
    """Whether a look-up finds a process of this id, which is of the process `group` if that is known. What
    cannot be read exists, whatever is wrong with it."""
    try:
        files.stat(folder)
    except FileNotFoundError:
        return False
    except UNREADABLE:
        pass
    if group is not None:
        return group == pid
    status = parsed(files, f"{folder}/status", parse_status)
    return isinstance(status, Unavailable) or status.tgid == pid


def _stats(files: Files, pids: list[int]) -> list[tuple[int, PidStat | None]]:
    """The `stat` of each of these; None if it cannot be read."""
    files.expect(files_of(pids, "stat"))
    stats = ((pid, parsed(files, f"/proc/{pid}/stat", parse_stat)) for pid in pids)
    return [(pid, None if isinstance(stat, Unavailable) else stat) for pid, stat in stats]


class _Family:
    """The children of all threads of the processes visited."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._visited: set[int] = set()
        self.children: set[int] = set()
        self.threads = 0
        self.read_error: Unavailable | None = None

    def visit(self, pids: Iterable[int]) -> None:
        new = sorted(set(pids) - self._visited)
        self._visited.update(new)
        ask = partial(_children, self._kernel.files)
        found = self._kernel.workers.map(ask, in_parts(new), least=_FAMILIES_TO_SHARE)
        for children, threads, read_error in found:
            self.children |= children
            self.threads += threads
            self.read_error = read_error or self.read_error


def _children(files: Files, pids: list[int]) -> tuple[set[int], int, Unavailable | None]:
    """The children of all threads of these processes, how many threads they have, and why one could not be
    read."""
    files.expect(files_of(pids, "task", kind="listdir"))
    lists: list[str] = []
    read_error: Unavailable | None = None
    for pid in pids:
        folder = f"/proc/{pid}/task"
        try:
            lists += (f"{folder}/{tid}/children" for tid in numbers(files.listdir(folder)))
        except UNREADABLE as error:
            if not isinstance(error, OSError) or error.errno != ENOENT:  # a hidden process may have no folder
                read_error = why(folder, error)
    files.expect(Question("read", path) for path in lists)
    children: set[int] = set()
    for path in lists:
        data, gap = read_lines(files, path)
        read_error = gap or read_error
        children |= _numbers_in(data)
    return children, len(lists), read_error


def _numbers_in(data: bytes) -> set[int]:
    return {int(word) for word in data.split() if word.isdigit()}


def _covered(files: Files) -> Iterator[Finding | Unavailable]:
    """Processes whose folder in the first process's /proc lies below another mount, so that ps(1) and its
    like read something else there."""
    data, read_error = read_lines(files, _MOUNTS)
    if read_error:
        yield read_error
    for line, source in lines(_MOUNTS, data):
        try:
            mount = parse_mount(line)
        except ParseError as error:
            yield Unavailable(f"{_MOUNTS}: {error}")
            continue
        found = _PROCESS_FOLDER.fullmatch(mount.target)
        if found is None:
            continue
        name = comm_of(files, f"/proc/{found[1]}")
        if isinstance(name, str):
            missing = f"{mount.target}: {mount.kind} is mounted there"
            yield Finding("process", found[1], name, LISTING, missing, (source,))


def _uncounted_threads(kernel: GuestKernel, family: _Family) -> Iterator[Finding | Unavailable]:
    """Threads that the kernel counts and no process has."""
    info = attempt("sysinfo", kernel.system.sysinfo)
    if isinstance(info, Unavailable):
        yield info
    elif family.read_error is None and family.threads < info.procs < _MOST_COUNTED:
        what = f"{info.procs - family.threads} of {info.procs}"
        yield Finding("thread", what, "", "count of threads", "/proc/PID/task", (Source("sysinfo"),))
