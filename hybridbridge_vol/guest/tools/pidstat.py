"""pidstat: what each process used since boot: processors, memory, disks."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.proc_counters import parse_meminfo
from hybridbridge_vol.guest.proc_pid import PAGE_SIZE, USER_HZ, PidStat, parse_stat, parse_status
from hybridbridge_vol.guest.proc_system import parse_uptime
from hybridbridge_vol.guest.processes import PID, chosen
from hybridbridge_vol.guest.tool import (
    UNREADABLE,
    Cell,
    Column,
    Option,
    Options,
    ParseError,
    Row,
    Source,
    Tool,
    why,
)

_HEAD = (Column("UID", "int", "real user id"), Column("PID", "int", "process id"))
_COMMAND = Column("COMMAND", "str", "name of the executable, as the kernel keeps it")
_NANOSECONDS_PER_TICK = 1_000_000_000 // USER_HZ


class Pidstat(Tool):
    name = "pidstat"
    help = "What each process used of the CPUs, of memory and of disks since boot"
    notes = (
        "Reads /proc/PID/stat, status, schedstat and io: the first report of pidstat -p ALL. Shares and rates are of the time since "
        "boot, not since the process began."
    )
    example = "--io"
    options = (
        PID,
        Option("memory", bool, "page faults and memory instead", short="r"),
        Option("io", bool, "reads and writes of disks instead", short="d"),
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

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if options["memory"]:
            return self.memory
        return self.disks if options["io"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        seconds = parse_uptime(kernel.read_file("/proc/uptime"))[0] or 1.0
        total = parse_meminfo(kernel.read_file("/proc/meminfo"))["MemTotal"] if options["memory"] else 0
        width = len(self.columns_for(options)) - 3
        for pid in chosen(kernel, options):
            path = f"/proc/{pid}/stat"
            uid = _uid(kernel, pid)
            try:
                stat = parse_stat(kernel.read_file(path))
            except UNREADABLE as error:
                yield Row((uid, pid, *(why(path, error),) * (width + 1)))
                continue
            if options["memory"]:
                cells = _memory(stat, seconds, total)
            elif options["io"]:
                cells = _disks(kernel, pid, stat, seconds)
            else:
                cells = _cpu(kernel, pid, stat, seconds)
            yield Row((uid, pid, *cells, stat.comm), sources=(Source(path), Source(f"/proc/{pid}/status")))


def _uid(kernel: GuestKernel, pid: int) -> Cell:
    path = f"/proc/{pid}/status"
    try:
        return parse_status(kernel.read_file(path)).uid
    except UNREADABLE as error:
        return why(path, error)


def _cpu(kernel: GuestKernel, pid: int, stat: PidStat, seconds: float) -> tuple[Cell, ...]:
    def share(ticks: int) -> float:
        return 100 * ticks / USER_HZ / seconds

    waited: Cell
    path = f"/proc/{pid}/schedstat"
    try:
        # in whole ticks, as pidstat counts it
        waited = share(parse_schedstat(kernel.read_file(path)) // _NANOSECONDS_PER_TICK)
    except UNREADABLE as error:
        waited = why(path, error)

    user = share(stat.utime - stat.guest_time)
    return user, share(stat.stime), share(stat.guest_time), waited, share(stat.utime + stat.stime), stat.processor


def _memory(stat: PidStat, seconds: float, total: int) -> tuple[Cell, ...]:
    resident = stat.rss * PAGE_SIZE
    share = 100 * resident / total if total else 0.0
    return stat.minflt / seconds, stat.majflt / seconds, stat.vsize // 1024, resident // 1024, share


def _disks(kernel: GuestKernel, pid: int, stat: PidStat, seconds: float) -> tuple[Cell, ...]:
    path = f"/proc/{pid}/io"
    try:
        counts = parse_io(kernel.read_file(path))
        names = ("read_bytes", "write_bytes", "cancelled_write_bytes")
        rates: tuple[Cell, ...] = tuple(counts[name] / 1024 / seconds for name in names)
    except UNREADABLE as error:
        rates = (why(path, error),) * 3
    return (*rates, stat.blkio_ticks)


def parse_schedstat(data: bytes) -> int:
    """/proc/PID/schedstat: nanoseconds that the task waited for a CPU. Raises ParseError."""
    try:
        return int(data.split()[1])
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/PID/schedstat: {data[:40]!r}") from None


def parse_io(data: bytes) -> dict[str, int]:
    """/proc/PID/io (fs/proc/base.c, `do_io_accounting`): counts by name. Raises ParseError."""
    try:
        found = {name.decode(): int(value) for name, value in (line.split(b": ") for line in data.splitlines())}
        if not found.keys() >= {"read_bytes", "write_bytes", "cancelled_write_bytes"}:
            raise ValueError
        return found
    except ValueError:
        raise ParseError(f"not in the form of /proc/PID/io: {data[:40]!r}") from None


TOOL = Pidstat()
