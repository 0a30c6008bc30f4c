"""iostat: what disks did since boot."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.counters import DiskStat, parse_diskstat, parse_kernel_stat
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.system.disks import whole_disks

_PATH = "/proc/diskstats"
_SECTORS_PER_KB = 2
_SECTORS_PER_MB = 2048


class Iostat(Tool):
    name = "iostat"
    help = "What disks did since boot: transfers and kilobytes a second"
    notes = (
        "Reads /proc/diskstats and /proc/uptime: the first report of iostat. Partitions and disks that were never used are "
        "left out, unless --all (as iostat -p ALL)."
    )
    example = "--extended"
    options = (
        Option("extended", bool, "queues, merges and waiting times", short="x"),
        Option("kilo", bool, "kilobytes, as is done without it", short="k"),
        Option("mega", bool, "megabytes (1024 kilobytes) instead of kilobytes", short="m"),
        Option("processors", bool, "what the CPUs spent their time on instead", short="c"),
        Option("disks", bool, "only disks, as is done without it", short="d"),
        Option("all", bool, "partitions, and disks that were never used, too"),
        Option("disk", str, "only these", many=True),
    )
    columns = (
        Column("DEVICE", "str", "name of the disk or partition"),
        Column("TPS", "percent", "transfers a second"),
        Column("KB_READ/S", "percent", "kilobytes (1024 bytes) read a second"),
        Column("KB_WRTN/S", "percent", "written"),
        Column("KB_DSCD/S", "percent", "discarded"),
        Column("KB_READ", "int", "kilobytes read"),
        Column("KB_WRTN", "int", "written"),
        Column("KB_DSCD", "int", "discarded"),
    )
    extended = (
        columns[0],
        *(
            Column(name.format(letter), "percent", f"{help_}, of {kind}")
            for letter, kind in (("R", "reads"), ("W", "writes"), ("D", "discards"))
            for name, help_ in (
                ("{}/S", "requests a second"),
                ("{}KB/S", "kilobytes a second"),
                ("{}RQM/S", "merged requests a second"),
                ("%{}RQM", "merged requests in percent"),
                ("{}_AWAIT", "milliseconds that one took"),
                ("{}AREQ-SZ", "kilobytes of one"),
            )
        ),
        Column("F/S", "percent", "flushes a second"),
        Column("F_AWAIT", "percent", "milliseconds that one took"),
        Column("AQU-SZ", "percent", "requests under way, on average"),
        Column("%UTIL", "percent", "of the time in which any was"),
    )
    processors = (
        Column("%USER", "percent", "in user mode"),
        Column("%NICE", "percent", "in user mode with a nice priority"),
        Column("%SYSTEM", "percent", "in the kernel, interrupts included"),
        Column("%IOWAIT", "percent", "idle while a disk was waited for"),
        Column("%STEAL", "percent", "taken by the hypervisor"),
        Column("%IDLE", "percent", "idle"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if options["processors"]:
            return self.processors
        columns = self.extended if options["extended"] else self.columns
        return tuple(_in_megabytes(column) for column in columns) if options["mega"] else columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        if options["processors"]:
            times = parse_kernel_stat(kernel.files.read("/proc/stat")).total
            system = times.system + times.irq + times.softirq
            parts = (times.user, times.nice, system, times.iowait, times.steal, times.idle)
            yield Row(tuple(map(times.share, parts)), sources=(Source("/proc/stat"),))
            return
        seconds = parse_uptime(kernel.files.read("/proc/uptime"))[0] or 1.0
        width = len(self.columns_for(options))
        whole = None if options["all"] or options["disk"] else whole_disks(kernel.files)
        for line, source in lines(_PATH, kernel.files.read(_PATH)):
            try:
                disk = parse_diskstat(line)
            except ParseError as error:
                yield Row((Unavailable(f"{_PATH}: {error}"),) * width)
                continue
            if options["disk"] and disk.name not in options["disk"]:
                continue
            if not (options["all"] or options["disk"] or disk.requests or disk.flushes):
                continue
            if whole is not None and disk.name.replace("/", "!") not in whole:
                continue
            unit = _SECTORS_PER_MB if options["mega"] else _SECTORS_PER_KB
            cells = (
                extended_cells(disk, seconds, unit)
                if options["extended"]
                else simple_cells(disk, seconds, unit)
            )
            yield Row((disk.name, *cells), sources=(source, Source("/proc/uptime")))


def _in_megabytes(column: Column) -> Column:
    return column._replace(
        name=column.name.replace("KB", "MB"), help=column.help.replace("kilobytes (1024 bytes)", "megabytes")
    )


def simple_cells(disk: DiskStat, seconds: float, unit: int = _SECTORS_PER_KB) -> tuple[float | int, ...]:
    """Transfers, and what was read, written and discarded, a second and together, in units of so many
    sectors."""
    sectors = disk.read_sectors, disk.write_sectors, disk.discard_sectors
    rates = (count / unit / seconds for count in sectors)
    return (disk.requests / seconds, *rates, *(count // unit for count in sectors))


def extended_cells(disk: DiskStat, seconds: float, unit: int = _SECTORS_PER_KB) -> tuple[float, ...]:
    """As sysstat computes them (iostat.c, `write_ext_stat`): a second in units of so many sectors, one
    request in kilobytes."""
    cells: list[float] = []
    for done, merged, sectors, spent in (
        (disk.reads, disk.read_merges, disk.read_sectors, disk.read_ms),
        (disk.writes, disk.write_merges, disk.write_sectors, disk.write_ms),
        (disk.discards, disk.discard_merges, disk.discard_sectors, disk.discard_ms),
    ):
        kilobytes = sectors / _SECTORS_PER_KB
        share = 100 * merged / (merged + done) if merged + done else 0.0
        each = (spent / done, kilobytes / done) if done else (0.0, 0.0)
        cells += [done / seconds, sectors / unit / seconds, merged / seconds, share, *each]
    flush = disk.flush_ms / disk.flushes if disk.flushes else 0.0
    return (
        *cells,
        disk.flushes / seconds,
        flush,
        disk.queue_ms / 1000 / seconds,
        disk.busy_ms / 10 / seconds,
    )


TOOL = Iostat()
