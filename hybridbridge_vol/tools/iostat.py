"""iostat: transfers of disks since boot."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.counters import DiskStat, parse_kernel_stat, per_second
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.system.disks import disks, is_whole, whole_disks

_SECTORS_PER_KB = 2
_SECTORS_PER_MB = 2048


class Iostat(Tool):
    name = "iostat"
    help = "Transfers of disks since boot, in numbers and kilobytes a second"
    notes = (
        "Reads /proc/diskstats and /proc/uptime: the first report of iostat. Partitions and disks that were "
        "never used are left out, unless --all is given (as with iostat -p ALL)."
    )
    example = "--extended"
    options = (
        Option("extended", bool, "queues, merges and waiting times", short="x"),
        Option("kilo", bool, "kilobytes (the default)", short="k"),
        Option("mega", bool, "megabytes (1024 kilobytes) instead of kilobytes", short="m"),
        Option("processors", bool, "CPU times instead", short="c"),
        Option("disks", bool, "only disks (the default)", short="d"),
        Option("all", bool, "also partitions, and disks that were never used"),
        Option("disk", str, "only these disks and partitions", many=True),
    )
    columns = (
        Column("DEVICE", "str", "name of the disk or partition"),
        Column("TPS", "percent", "transfers a second"),
        Column("KB_READ/S", "percent", "kilobytes (1024 bytes) read a second"),
        Column("KB_WRTN/S", "percent", "kilobytes written a second"),
        Column("KB_DSCD/S", "percent", "kilobytes discarded a second"),
        Column("KB_READ", "int", "kilobytes read"),
        Column("KB_WRTN", "int", "kilobytes written"),
        Column("KB_DSCD", "int", "kilobytes discarded"),
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
                ("{}_AWAIT", "milliseconds that one took on average"),
                ("{}AREQ-SZ", "kilobytes of one on average"),
            )
        ),
        Column("F/S", "percent", "flushes a second"),
        Column("F_AWAIT", "percent", "milliseconds that a flush took on average"),
        Column("AQU-SZ", "percent", "requests in flight on average"),
        Column("%UTIL", "percent", "of the time in which any request was in flight"),
    )
    processors = (
        Column("%USER", "percent", "in user mode"),
        Column("%NICE", "percent", "in user mode with a nice priority"),
        Column("%SYSTEM", "percent", "in the kernel, interrupts included"),
        Column("%IOWAIT", "percent", "idle while waiting for a disk"),
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
            yield _cpu_times(kernel.files)
            return
        seconds = parse_uptime(kernel.files.read("/proc/uptime"))[0]
        width = len(self.columns_for(options))
        whole = None if options["all"] or options["disk"] else whole_disks(kernel.files)
        unit = _SECTORS_PER_MB if options["mega"] else _SECTORS_PER_KB
        cells = extended_cells if options["extended"] else simple_cells
        for disk, source in disks(kernel.files):
            if isinstance(disk, Unavailable):
                yield Row((disk,) * width)
            elif _is_wanted(disk, options) and is_whole(disk, whole):
                yield Row((disk.name, *cells(disk, seconds, unit)), sources=(source, Source("/proc/uptime")))


def _cpu_times(files: Files) -> Row:
    times = parse_kernel_stat(files.read("/proc/stat")).total
    system = times.system + times.irq + times.softirq
    parts = (times.user, times.nice, system, times.iowait, times.steal, times.idle)
    return Row(tuple(map(times.share, parts)), sources=(Source("/proc/stat"),))


def _is_wanted(disk: DiskStat, options: Options) -> bool:
    if options["disk"]:
        return disk.name in options["disk"]
    return bool(options["all"] or disk.requests or disk.flushes)


def _in_megabytes(column: Column) -> Column:
    return column._replace(
        name=column.name.replace("KB", "MB"),
        help=column.help.replace("kilobytes (1024 bytes)", "megabytes").replace("kilobytes", "megabytes"),
    )


def simple_cells(disk: DiskStat, seconds: float, unit: int = _SECTORS_PER_KB) -> tuple[float | int, ...]:
    """Transfers a second; then what was read, written and discarded, a second and in total, in units of so
    many sectors."""
    sectors = disk.read_sectors, disk.write_sectors, disk.discard_sectors
    rates = (per_second(count, seconds) / unit for count in sectors)
    return (per_second(disk.requests, seconds), *rates, *(count // unit for count in sectors))


def extended_cells(disk: DiskStat, seconds: float, unit: int = _SECTORS_PER_KB) -> tuple[float, ...]:
    """As sysstat computes them (iostat.c, `write_ext_stat`): rates in units of so many sectors, the size of
    one request in kilobytes."""
    cells: list[float] = []
    for done, merged, sectors, spent in (
        (disk.reads, disk.read_merges, disk.read_sectors, disk.read_ms),
        (disk.writes, disk.write_merges, disk.write_sectors, disk.write_ms),
        (disk.discards, disk.discard_merges, disk.discard_sectors, disk.discard_ms),
    ):
        share = merged / (merged + done) * 100 if merged + done else 0.0
        each = (spent / done, sectors / done / _SECTORS_PER_KB) if done else (0.0, 0.0)
        rates = per_second(done, seconds), per_second(sectors, seconds) / unit, per_second(merged, seconds)
        cells += [*rates, share, *each]
    flush = disk.flush_ms / disk.flushes if disk.flushes else 0.0
    return (
        *cells,
        per_second(disk.flushes, seconds),
        flush,
        per_second(disk.queue_ms, seconds) / 1000,
        per_second(disk.busy_ms, seconds) / 10,
    )


TOOL = Iostat()
