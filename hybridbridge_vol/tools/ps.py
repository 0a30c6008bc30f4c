"""ps: the processes (or threads) of the snapshot, read the way procps reads them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import USER_HZ, PidStat, parse_cmdline, parse_stat, parse_status
from hybridbridge_vol.procfs.sources import LSTAT_UID, Source, stat_fields, status_values
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.toolkit.tree import as_tree
from hybridbridge_vol.tools.process.listing import files_of, in_parts, numbers
from hybridbridge_vol.tools.process.ps_columns import FIELDS, fields_named, rows_of
from hybridbridge_vol.tools.process.ps_view import View, percent, state_letters
from hybridbridge_vol.units import PAGE_SIZE

LWP = Column("LWP", "int", "thread id; that of the first thread is the PID")


class Ps(Tool):
    name = "ps"
    help = "Processes, as `ps -ef` and `ps aux` show them"
    notes = (
        "Reads /proc/PID/stat, status and cmdline, as procps does. UID is the effective user's number: user names "
        "stand in /etc/passwd, which the kernel does not know. A process that cannot be read is listed with the "
        "reason."
    )
    example = "--tree"
    options = (
        Option("pid", int, "only these processes", many=True, short="p"),
        Option("threads", bool, "one row for each thread (as `ps -eLf`)", short="L"),
        Option("tree", bool, "children below their parents (as `ps -ef --forest`)", short="H"),
        Option("every", bool, "all processes, as is done without it", short="e"),
        Option("full", bool, "whole command lines, as is done without it", short="f"),
        Option(
            "columns", str, f"these columns instead, parted by commas: {' '.join(FIELDS)}", short="o",
            examples=(",".join(FIELDS),),
        ),
    )  # fmt: skip
    columns = (
        Column("PID", "int", "process id"),
        Column("PPID", "int", "parent's process id"),
        Column("UID", "int", "effective user id"),
        Column("TTY", "str", "controlling terminal, `?` for none"),
        Column(
            "STAT",
            "str",
            "state (R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, I idle) and flags: "
            "< high priority, N nice, L pages locked, s session leader, l multi-threaded, + foreground",
        ),
        Column("START", "time", "when it was started"),
        Column("TIME", "duration", "processor time used"),
        Column("%CPU", "float", "TIME in percent of the time since START"),
        Column("%MEM", "float", "RSS in percent of the memory"),
        Column("VSZ", "int", "virtual memory in KiB"),
        Column("RSS", "int", "resident memory in KiB"),
        Column("NLWP", "int", "number of threads"),
        Column("COMM", "str", "name of the executable, as the kernel keeps it"),
        Column("CMD", "str", "command line; [name] where there is none"),
    )
    tree_column = "CMD"

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if options["columns"]:
            return tuple(field.column for field in fields_named(options["columns"]))
        if options["threads"]:
            return (self.columns[0], LWP, *self.columns[1:])
        return self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        if options["columns"] and options["tree"]:
            raise OptionError("--tree and --columns: give one of them")
        pids = list(dict.fromkeys(options["pid"])) or numbers(kernel.files.listdir("/proc"))
        view = View.of(kernel)
        if options["columns"]:
            yield from rows_of(view, pids, fields_named(options["columns"]), options["threads"])
            return

        def answer(part: list[int]) -> list[tuple[_Process, list[_Thread]]]:
            return [
                (process, list(_threads(view, process)) if options["threads"] else [])
                for process in _processes(view, part)
            ]

        processes = chain.from_iterable(kernel.workers.map(answer, in_parts(pids)))
        if options["tree"]:
            found = {process.pid: (process, threads) for process, threads in processes}
            order = as_tree({pid: process.ppid for pid, (process, _threads) in found.items()})
            tree = ((*found[pid], depth) for pid, depth in order)
        else:
            tree = ((process, threads, 0) for process, threads in processes)
        for process, threads, depth in tree:
            if not options["threads"]:
                yield Row(process.cells, depth, process.sources)
            for lwp, cells, sources in threads:
                below = options["tree"] and lwp != process.pid
                yield Row((cells[0], lwp, *cells[1:]), depth + below, sources)


class _Memory(NamedTuple):
    """What a process's threads have in common."""

    vsize: int
    rss: int
    locked: bool
    cmd: Cell


class _Process(NamedTuple):
    pid: int
    ppid: int | None
    cells: tuple[Cell, ...]
    """As `Ps.columns`."""
    memory: _Memory | None
    """None where the process could not be read."""
    sources: tuple[Source, ...] = ()


_SHOWN = (3, 4, 7, 14, 15, 20, 22)
"""Of /proc/PID/stat: state, parent, terminal, times, threads, start."""


def _processes(view: View, pids: list[int]) -> Iterator[_Process]:
    view.kernel.files.expect(files_of(pids, "stat"))
    stats = {pid: _stat(view, pid) for pid in pids}
    own = [pid for pid, found in stats.items() if not isinstance(found, Unavailable) and found[1].vsize]
    view.kernel.files.expect(
        [*files_of(own, "status", "cmdline"), *files_of(set(pids) - set(own), "", kind="lstat")]
    )
    return (_process(view, pid, found) for pid, found in stats.items())


def _stat(view: View, pid: int) -> tuple[bytes, PidStat] | Unavailable:
    path = f"/proc/{pid}/stat"
    try:
        data = view.kernel.files.read(path)
        return data, parse_stat(data)
    except UNREADABLE as error:
        return why(path, error)


def _process(view: View, pid: int, found: tuple[bytes, PidStat] | Unavailable) -> _Process:
    """One process, of which this is the `stat`. A task without memory of its own (a kernel thread, a zombie)
    has an empty cmdline and no Vm lines in its status, so that `stat` and the owner of the directory say
    all."""
    folder = f"/proc/{pid}"
    if isinstance(found, Unavailable):
        return _unreadable(pid, found)
    data, stat = found
    uid: Cell
    cmd: Cell = None
    vsize, rss, locked = stat.vsize, stat.rss * PAGE_SIZE, False
    sources = [*stat_fields(f"{folder}/stat", data, _SHOWN)]
    if stat.vsize == 0:
        uid = _owner(view, folder)
        sources.append(Source(f"lstat {folder}", *LSTAT_UID))
    else:
        try:
            data = view.kernel.files.read(f"{folder}/status")
            status = parse_status(data)
            sources += status_values(f"{folder}/status", data, (b"Uid", b"VmSize", b"VmRSS"))
            if status.tgid != pid:  # /proc/TID exists for every thread, though no listing shows it
                return _unreadable(pid, Unavailable(f"{folder}: a thread of process {status.tgid}"))
            uid, vsize, rss, locked = status.euid, status.vm_size, status.vm_rss, status.vm_locked > 0
        except UNREADABLE as error:
            uid = why(f"{folder}/status", error)
        try:
            cmd = " ".join(parse_cmdline(view.kernel.files.read(f"{folder}/cmdline")))
            sources.append(Source(f"{folder}/cmdline"))
        except UNREADABLE as error:
            cmd = why(f"{folder}/cmdline", error)
    if not cmd:
        cmd = f"[{stat.comm}]"
    if stat.state in "ZX" and isinstance(cmd, str):
        cmd += " <defunct>"
    memory = _Memory(vsize, rss, locked, cmd)
    return _Process(pid, stat.ppid, _cells(view, pid, stat, uid, memory), memory, tuple(sources))


def _unreadable(pid: int, gap: Unavailable) -> _Process:
    return _Process(pid, None, (pid, *[gap] * (len(Ps.columns) - 1)), None)


_Thread = tuple[int, tuple[Cell, ...], tuple[Source, ...]]


def _threads(view: View, process: _Process) -> Iterator[_Thread]:
    """The threads of a process, with their own times and states. Memory and command line are the
    process's."""
    tasks = f"/proc/{process.pid}/task"
    if process.memory is None or process.cells[_NLWP] == 1:
        yield process.pid, process.cells, process.sources
        return
    try:
        tids = numbers(view.kernel.files.listdir(tasks))
    except UNREADABLE as error:
        yield process.pid, process.cells, process.sources
        yield process.pid, (process.pid, *[why(tasks, error)] * (len(Ps.columns) - 1)), ()
        return
    for tid in tids:
        folder = f"{tasks}/{tid}"
        try:
            data = view.kernel.files.read(f"{folder}/stat")
            stat = parse_stat(data)
        except UNREADABLE as error:
            yield tid, (process.pid, *[why(f"{folder}/stat", error)] * (len(Ps.columns) - 1)), ()
            continue
        own = (*stat_fields(f"{folder}/stat", data, _SHOWN), Source(f"lstat {folder}", *LSTAT_UID))
        shared = tuple(source for source in process.sources if source.path == f"/proc/{process.pid}/cmdline")
        yield tid, _cells(view, process.pid, stat, _owner(view, folder), process.memory), own + shared


def _owner(view: View, folder: str) -> Cell:
    """A task's effective user: the owner of its directory (fs/proc/base.c, task_dump_owner)."""
    try:
        return view.kernel.files.stat(folder).uid
    except UNREADABLE as error:
        return why(folder, error)


_NLWP = [column.name for column in Ps.columns].index("NLWP")


def _cells(view: View, pid: int, stat: PidStat, uid: Cell, memory: _Memory) -> tuple[Cell, ...]:
    used = (stat.utime + stat.stime) / USER_HZ
    start = stat.starttime / USER_HZ
    return (
        pid,
        stat.ppid,
        uid,
        view.tty(stat.tty_nr),
        state_letters(pid, stat, memory.locked),
        view.booted if isinstance(view.booted, Unavailable) else view.booted + start,
        used,
        percent(used, view.lived(stat.starttime)),
        percent(memory.rss, view.memory),
        memory.vsize // 1024,
        memory.rss // 1024,
        stat.num_threads,
        stat.comm,
        memory.cmd,
    )


TOOL = Ps()
