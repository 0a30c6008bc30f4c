"""pidstat: what each process used since boot: processors, memory, disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.counters import parse_meminfo, per_second
from hybridbridge_vol.procfs.maps import Mapping, entries
from hybridbridge_vol.procfs.pid import (
    POLICIES,
    USER_HZ,
    PidStat,
    PidStatus,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_status,
)
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, parsed
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, files_of, in_light_parts, numbers
from hybridbridge_vol.units import PAGE_SIZE

_NANOSECONDS_PER_TICK = 1_000_000_000 // USER_HZ


class _Task(NamedTuple):
    """A process or a thread: its folder, its files, and the amounts of the machine that shares are of."""

    files: Files
    folder: str
    stat: PidStat
    status: PidStatus | Unavailable
    seconds: float
    memory: int


class _Report(NamedTuple):
    """One of pidstat's reports: its columns between the ids and the name, how a task's cells are made, and
    the file below /proc/PID that they need beside stat and status."""

    columns: tuple[Column, ...]
    cells: Callable[[_Task], tuple[Cell, ...]]
    file: str | None = None


# --- the cells of each report -----------------------------------------------------------------------------


def _cpu(task: _Task) -> tuple[Cell, ...]:
    stat = task.stat

    def share(ticks: int) -> float:
        return per_second(ticks, task.seconds)  # of USER_HZ = 100 ticks: percent

    waited = parsed(task.files, f"{task.folder}/schedstat", parse_schedstat)
    return (
        share(stat.utime - stat.guest_time),
        share(stat.stime),
        share(stat.guest_time),
        # in whole ticks, as pidstat counts it
        waited if isinstance(waited, Unavailable) else share(waited // _NANOSECONDS_PER_TICK),
        share(stat.utime + stat.stime),
        stat.processor,
    )


def _memory(task: _Task) -> tuple[Cell, ...]:
    stat, resident = task.stat, task.stat.rss * PAGE_SIZE
    share = resident / task.memory * 100 if task.memory else 0.0
    faults = per_second(stat.minflt, task.seconds), per_second(stat.majflt, task.seconds)
    return (*faults, stat.vsize // 1024, resident // 1024, share)


def _disks(task: _Task) -> tuple[Cell, ...]:
    counts = parsed(task.files, f"{task.folder}/io", parse_io)
    names = ("read_bytes", "write_bytes", "cancelled_write_bytes")
    if isinstance(counts, Unavailable):
        return (*[counts] * len(names), task.stat.blkio_ticks)
    return (*(per_second(counts[name], task.seconds) / 1024 for name in names), task.stat.blkio_ticks)


def _switches(task: _Task) -> tuple[Cell, ...]:
    status = task.status
    if isinstance(status, Unavailable):
        return status, status
    return per_second(status.voluntary, task.seconds), per_second(status.involuntary, task.seconds)


def _priorities(task: _Task) -> tuple[Cell, ...]:
    return task.stat.rt_priority, POLICIES.get(task.stat.policy, str(task.stat.policy))


def _stack(task: _Task) -> tuple[Cell, ...]:
    path = f"{task.folder}/smaps"
    data = attempt(path, lambda: task.files.read(path))
    if isinstance(data, Unavailable):
        return data, data
    for mapping, sizes, _source in entries(path, data):
        if isinstance(mapping, Mapping) and mapping.path == "[stack]":
            return sizes.get("Size", 0), sizes.get("Referenced", 0)
    return 0, 0


def _tables(task: _Task) -> tuple[Cell, ...]:
    path = f"{task.folder}/fd"
    return task.stat.num_threads, attempt(path, lambda: len(numbers(task.files.listdir(path))))


_DEFAULT = _Report(
    (
        Column("%USR", "percent", "of one CPU, in user mode"),
        Column("%SYSTEM", "percent", "of one CPU, in the kernel"),
        Column("%GUEST", "percent", "of one CPU, running a guest"),
        Column("%WAIT", "percent", "of the time, ready to run but waiting for a CPU"),
        Column("%CPU", "percent", "of one CPU, user and kernel together"),
        Column("CPU", "int", "the CPU it ran on last"),
    ),
    _cpu,
    "schedstat",
)
_REPORTS = {
    "memory": _Report(
        (
            Column("MINFLT/S", "percent", "page faults a second that needed no disk"),
            Column("MAJFLT/S", "percent", "page faults a second that needed a disk"),
            Column("VSZ", "int", "virtual memory in KiB"),
            Column("RSS", "int", "resident memory in KiB"),
            Column("%MEM", "percent", "RSS in percent of the memory"),
        ),
        _memory,
    ),
    "io": _Report(
        (
            Column("KB_RD/S", "percent", "KiB a second that it made disks read"),
            Column("KB_WR/S", "percent", "KiB a second that it made disks write"),
            Column("KB_CCWR/S", "percent", "KiB a second of writes that it made unnecessary"),
            Column("IODELAY", "int", "clock ticks that it waited for disks"),
        ),
        _disks,
        "io",
    ),
    "switches": _Report(
        (
            Column("CSWCH/S", "percent", "voluntary context switches a second: it waited for something"),
            Column("NVCSWCH/S", "percent", "involuntary context switches a second"),
        ),
        _switches,
    ),
    "priorities": _Report(
        (
            Column("PRIO", "int", "real-time priority"),
            Column("POLICY", "str", "NORMAL, FIFO, RR, BATCH, ISO, IDLE or DEADLN"),
        ),
        _priorities,
    ),
    "stack": _Report(
        (
            Column("STKSIZE", "int", "KiB reserved for the stack of the first thread"),
            Column("STKREF", "int", "KiB of it that were used"),
        ),
        _stack,
    ),
    "tables": _Report(
        (Column("THREADS", "int", "number of threads"), Column("FD-NR", "int", "number of open files")),
        _tables,
    ),
}
_HEAD = (Column("UID", "int", "real user id"), Column("PID", "int", "process id"))
_THREAD_HEAD = (
    _HEAD[0],
    Column("TGID", "int", "process id; none in the row of a thread"),
    Column("TID", "int", "thread id; none in the row of a process"),
)
_COMMAND = Column("COMMAND", "str", "name of the executable, as the kernel stores it")


class Pidstat(Tool):
    name = "pidstat"
    help = "Processor time, memory and disk transfers of each process since boot"
    notes = (
        "Reads /proc/PID/stat, status, schedstat, io, smaps and fd: the first report of pidstat -p ALL. "
        "Shares and rates are of the time since boot, not since the process was started."
    )
    example = "--io"
    options = (
        PID,
        Option("processors", bool, "processor time (the default)", short="u"),
        Option("memory", bool, "page faults and memory instead", short="r"),
        Option("io", bool, "disk transfers instead", short="d"),
        Option("switches", bool, "context switches instead", short="w"),
        Option("priorities", bool, "scheduling policies and real-time priorities instead", short="R"),
        Option("stack", bool, "stacks instead", short="s"),
        Option("tables", bool, "numbers of threads and of open files instead", short="v"),
        Option("threads", bool, "all threads of each process below it", short="t"),
    )
    columns = (*_HEAD, *_DEFAULT.columns, _COMMAND)

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        head = _THREAD_HEAD if options["threads"] else _HEAD
        return (*head, *_report(options).columns, _COMMAND)

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        files, report, threads = kernel.files, _report(options), options["threads"]
        seconds = parse_uptime(files.read("/proc/uptime"))[0]
        memory = parse_meminfo(files.read("/proc/meminfo"))["MemTotal"] if options["memory"] else 0

        def row(folder: str, *ids: Cell) -> Row:
            path = f"{folder}/stat"
            status = parsed(files, f"{folder}/status", parse_status)
            uid = status if isinstance(status, Unavailable) else status.uid
            stat = parsed(files, path, parse_stat)
            if isinstance(stat, Unavailable):
                return Row((uid, *ids, *[stat] * (len(report.columns) + 1)))
            cells = report.cells(_Task(files, folder, stat, status, seconds, memory))
            return Row((uid, *ids, *cells, stat.comm), sources=(Source(path), Source(f"{folder}/status")))

        def answer(pids: list[int]) -> list[Row]:
            files.expect(files_of(pids, "status", "stat", *([report.file] if report.file else [])))
            rows = []
            for pid in pids:
                rows.append(row(f"/proc/{pid}", pid, *([None] if threads else [])))
                tids = _threads(files, pid) if threads else []
                rows += (row(f"/proc/{pid}/task/{tid}", None, tid) for tid in tids)
            return rows

        return chain.from_iterable(kernel.workers.map(answer, in_light_parts(chosen(kernel, options))))


def _report(options: Options) -> _Report:
    return next((report for name, report in _REPORTS.items() if options[name]), _DEFAULT)


def _threads(files: Files, pid: int) -> list[int]:
    """None of a process whose folder cannot be read: its own row says so."""
    try:
        return numbers(files.listdir(f"/proc/{pid}/task"))
    except UNREADABLE:
        return []


TOOL = Pidstat()
