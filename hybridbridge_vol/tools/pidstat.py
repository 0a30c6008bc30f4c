"""pidstat: what each process used since boot: processors, memory, disks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.counters import parse_meminfo
from hybridbridge_vol.procfs.maps import Mapping, entries
from hybridbridge_vol.procfs.pid import POLICIES, USER_HZ, PidStat, PidStatus, parse_stat, parse_status
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, files_of, in_parts, numbers
from hybridbridge_vol.units import PAGE_SIZE

_HEAD = (Column("UID", "int", "real user id"), Column("PID", "int", "process id"))
_THREAD_HEAD = (
    Column("TGID", "int", "process id; none in the row of a thread"),
    Column("TID", "int", "thread id; none in the row of a process"),
)
_COMMAND = Column("COMMAND", "str", "name of the executable, as the kernel keeps it")
_NANOSECONDS_PER_TICK = 1_000_000_000 // USER_HZ


class Pidstat(Tool):
    name = "pidstat"
    help = "What each process used of the CPUs, of memory and of disks since boot"
    notes = (
        "Reads /proc/PID/stat, status, schedstat, io, smaps and fd: the first report of pidstat -p ALL. Shares and rates are of the time since "
        "boot, not since the process began."
    )
    example = "--io"
    options = (
        PID,
        Option("processors", bool, "CPUs, as is done without it", short="u"),
        Option("memory", bool, "page faults and memory instead", short="r"),
        Option("io", bool, "reads and writes of disks instead", short="d"),
        Option("switches", bool, "context switches instead", short="w"),
        Option("priorities", bool, "scheduling policies and real-time priorities instead", short="R"),
        Option("stack", bool, "stacks instead", short="s"),
        Option("tables", bool, "counts of threads and of open files instead", short="v"),
        Option("threads", bool, "below each process its threads, all of them", short="t"),
    )
    columns = (
        *_HEAD,
        Column("%USR", "percent", "of one CPU in user mode"),
        Column("%SYSTEM", "percent", "in the kernel"),
        Column("%GUEST", "percent", "running a guest"),
        Column("%WAIT", "percent", "ready to run, but waiting for a CPU"),
        Column("%CPU", "percent", "user and kernel together"),
        Column("CPU", "int", "the CPU it ran on last"),
        _COMMAND,
    )
    memory = (
        *_HEAD,
        Column("MINFLT/S", "percent", "page faults a second that needed no disk"),
        Column("MAJFLT/S", "percent", "that needed one"),
        Column("VSZ", "int", "KiB of virtual memory"),
        Column("RSS", "int", "KiB resident"),
        Column("%MEM", "percent", "resident, of all memory"),
        _COMMAND,
    )
    disks = (
        *_HEAD,
        Column("KB_RD/S", "percent", "kilobytes a second that it made disks read"),
        Column("KB_WR/S", "percent", "write"),
        Column("KB_CCWR/S", "percent", "writes it made unnecessary"),
        Column("IODELAY", "int", "clock ticks that it waited for disks"),
        _COMMAND,
    )

    switches = (
        *_HEAD,
        Column("CSWCH/S", "percent", "context switches a second of its own will: it waited for something"),
        Column("NVCSWCH/S", "percent", "that it was made to"),
        _COMMAND,
    )
    priorities = (
        *_HEAD,
        Column("PRIO", "int", "real-time priority"),
        Column("POLICY", "str", "NORMAL, FIFO, RR, BATCH, ISO, IDLE or DEADLN"),
        _COMMAND,
    )
    stack = (
        *_HEAD,
        Column("STKSIZE", "int", "KiB that are kept for the stack of the first thread"),
        Column("STKREF", "int", "KiB of it that were used"),
        _COMMAND,
    )
    tables = (*_HEAD, Column("THREADS", "int", "threads"), Column("FD-NR", "int", "open files"), _COMMAND)

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        kinds = (self.memory, self.disks, self.switches, self.priorities, self.stack, self.tables)
        names = ("memory", "io", "switches", "priorities", "stack", "tables")
        columns = next((kind for kind, name in zip(kinds, names, strict=True) if options[name]), self.columns)
        return (columns[0], *_THREAD_HEAD, *columns[2:]) if options["threads"] else columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        seconds = parse_uptime(kernel.files.read("/proc/uptime"))[0] or 1.0
        total = parse_meminfo(kernel.files.read("/proc/meminfo"))["MemTotal"] if options["memory"] else 0
        others = ("memory", "switches", "priorities", "stack", "tables")
        needed = ("io",) if options["io"] else () if any(options[name] for name in others) else ("schedstat",)

        def answer(pids: list[int]) -> list[Row]:
            kernel.files.expect(files_of(pids, "status", "stat", *needed))
            rows = []
            for pid in pids:
                ids = (pid, None) if options["threads"] else (pid,)
                rows.append(self._row(kernel, f"/proc/{pid}", options, seconds, total, ids))
                for tid in _threads(kernel, pid) if options["threads"] else ():
                    rows.append(
                        self._row(kernel, f"/proc/{pid}/task/{tid}", options, seconds, total, (None, tid))
                    )
            return rows

        return chain.from_iterable(kernel.workers.map(answer, in_parts(chosen(kernel, options))))

    def _row(
        self,
        kernel: GuestKernel,
        folder: str,
        options: Options,
        seconds: float,
        total: int,
        ids: tuple[Cell, ...],
    ) -> Row:
        path, status_path = f"{folder}/stat", f"{folder}/status"
        sources = Source(path), Source(status_path)
        status: PidStatus | Unavailable
        try:
            status = parse_status(kernel.files.read(status_path))
        except UNREADABLE as error:
            status = why(status_path, error)
        uid = status if isinstance(status, Unavailable) else status.uid
        try:
            stat = parse_stat(kernel.files.read(path))
        except UNREADABLE as error:
            gaps = (why(path, error),) * (len(self.columns_for(options)) - 1 - len(ids))
            return Row((uid, *ids, *gaps))
        cells: tuple[Cell, ...]
        if options["memory"]:
            cells = _memory(stat, seconds, total)
        elif options["io"]:
            cells = _disks(kernel, folder, stat, seconds)
        elif options["switches"]:
            cells = (status,) * 2 if isinstance(status, Unavailable) else _switches(status, seconds)
        elif options["priorities"]:
            cells = stat.rt_priority, POLICIES.get(stat.policy, str(stat.policy))
        elif options["stack"]:
            cells = _stack(kernel, folder)
        elif options["tables"]:
            cells = stat.num_threads, _open_files(kernel, folder)
        else:
            cells = _cpu(kernel, folder, stat, seconds)
        return Row((uid, *ids, *cells, stat.comm), sources=sources)


def _threads(kernel: GuestKernel, pid: int) -> list[int]:
    """None of a process whose folder cannot be read: its own row says so."""
    try:
        return numbers(kernel.files.listdir(f"/proc/{pid}/task"))
    except UNREADABLE:
        return []


def _switches(status: PidStatus, seconds: float) -> tuple[Cell, ...]:
    return status.voluntary / seconds, status.involuntary / seconds


def _cpu(kernel: GuestKernel, folder: str, stat: PidStat, seconds: float) -> tuple[Cell, ...]:
    def share(ticks: int) -> float:
        return 100 * ticks / USER_HZ / seconds

    waited: Cell
    path = f"{folder}/schedstat"
    try:
        # in whole ticks, as pidstat counts it
        waited = share(parse_schedstat(kernel.files.read(path)) // _NANOSECONDS_PER_TICK)
    except UNREADABLE as error:
        waited = why(path, error)

    user = share(stat.utime - stat.guest_time)
    return (
        user,
        share(stat.stime),
        share(stat.guest_time),
        waited,
        share(stat.utime + stat.stime),
        stat.processor,
    )


def _memory(stat: PidStat, seconds: float, total: int) -> tuple[Cell, ...]:
    resident = stat.rss * PAGE_SIZE
    share = 100 * resident / total if total else 0.0
    return stat.minflt / seconds, stat.majflt / seconds, stat.vsize // 1024, resident // 1024, share


def _disks(kernel: GuestKernel, folder: str, stat: PidStat, seconds: float) -> tuple[Cell, ...]:
    path = f"{folder}/io"
    try:
        counts = parse_io(kernel.files.read(path))
        names = ("read_bytes", "write_bytes", "cancelled_write_bytes")
        rates: tuple[Cell, ...] = tuple(counts[name] / 1024 / seconds for name in names)
    except UNREADABLE as error:
        rates = (why(path, error),) * 3
    return (*rates, stat.blkio_ticks)


def _stack(kernel: GuestKernel, folder: str) -> tuple[Cell, ...]:
    path = f"{folder}/smaps"
    try:
        found = entries(path, kernel.files.read(path))
    except UNREADABLE as error:
        return (why(path, error),) * 2
    sizes = next(
        (
            sizes
            for mapping, sizes, _source in found
            if isinstance(mapping, Mapping) and mapping.path == "[stack]"
        ),
        {},
    )
    return sizes.get("Size", 0), sizes.get("Referenced", 0)


def _open_files(kernel: GuestKernel, folder: str) -> Cell:
    path = f"{folder}/fd"
    try:
        return len(numbers(kernel.files.listdir(path)))
    except UNREADABLE as error:
        return why(path, error)


def parse_schedstat(data: bytes) -> int:
    """/proc/PID/schedstat: nanoseconds that the task waited for a CPU. Raises ParseError."""
    try:
        return int(data.split()[1])
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/PID/schedstat: {data[:40]!r}") from None


def parse_io(data: bytes) -> dict[str, int]:
    """/proc/PID/io (fs/proc/base.c, `do_io_accounting`): counts by name. Raises ParseError."""
    try:
        found = {
            name.decode(): int(value) for name, value in (line.split(b": ") for line in data.splitlines())
        }
        if not found.keys() >= {"read_bytes", "write_bytes", "cancelled_write_bytes"}:
            raise ValueError
        return found
    except ValueError:
        raise ParseError(f"not in the form of /proc/PID/io: {data[:40]!r}") from None


TOOL = Pidstat()
