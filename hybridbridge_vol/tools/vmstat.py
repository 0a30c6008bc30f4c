"""vmstat: processes, memory, swap, disks and CPUs since boot."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.counters import (
    KernelStat,
    available_memory,
    parse_diskstat,
    parse_kernel_stat,
    parse_meminfo,
    parse_vmstat,
)
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.system.disks import DISKSTATS, disks, is_whole, whole_disks
from hybridbridge_vol.units import PAGE_SIZE

_FILES = ("/proc/stat", "/proc/meminfo", "/proc/vmstat")
_SOURCES = tuple(Source(path) for path in _FILES)
UNITS = {"k": 1000, "K": 1024, "m": 1000_000, "M": 1 << 20}
"""Bytes of each unit that memory can be shown in."""
_HZ = 100


class Vmstat(Tool):
    name = "vmstat"
    help = "Processes, memory, swapping, disks and CPUs: averages since boot"
    notes = (
        "Reads /proc/stat, /proc/meminfo and /proc/vmstat: the first report of vmstat. As in vmstat, rates "
        "are computed with the time of all CPUs together. Memory is in KiB. --disks reads /proc/diskstats; "
        "its CUR is the number of requests in flight, which vmstat divides by 1000."
    )
    example = "--counters"
    options = (
        Option("counters", bool, "the counters, one a line", short="s"),
        Option("active", bool, "INACT and ACTIVE instead of BUFF and CACHE", short="a"),
        Option("disks", bool, "transfers of each disk instead", short="d"),
        Option("disksum", bool, "transfers of all disks together instead, one count a line", short="D"),
        Option("unit", str, "unit of memory: k (1000 bytes), K (1024), m (1000 k) or M (1024 K)", short="S"),
        Option("wide", bool, "whole numbers (the default)", short="w"),
    )
    columns = (
        Column("R", "int", "threads running or ready to"),
        Column("B", "int", "threads waiting for a disk"),
        Column("SWPD", "int", "swap in use"),
        Column("FREE", "int", "unused memory"),
        Column("BUFF", "int", "memory of buffers"),
        Column("CACHE", "int", "memory of the page cache and of reclaimable slabs"),
        Column("SI", "int", "KiB swapped in a second"),
        Column("SO", "int", "KiB swapped out a second"),
        Column("BI", "int", "KiB read from disks a second"),
        Column("BO", "int", "KiB written to disks a second"),
        Column("INTR", "int", "interrupts a second (`in` in vmstat; Volatility does not accept that name)"),
        Column("CS", "int", "context switches a second"),
        Column("US", "int", "percent of the CPUs' time in user mode, without that of guests"),
        Column("SY", "int", "percent in the kernel"),
        Column("ID", "int", "percent idle"),
        Column("WA", "int", "percent idle while waiting for a disk"),
        Column("ST", "int", "percent taken by the hypervisor"),
    )
    stats = (Column("VALUE", "int", "since boot"), Column("WHAT", "str", "the count and its unit"))

    activity = (
        *columns[:4],
        Column("INACT", "int", "memory that was not used recently"),
        Column("ACTIVE", "int", "memory that was used recently"),
        *columns[6:],
    )
    disks = (
        Column("DISK", "str", "name"),
        *(
            Column(name.format(letter), "int", help_.format(kind))
            for letter, kind in (("R", "read"), ("W", "write"))
            for name, help_ in (
                ("{}_TOTAL", "{} requests done"),
                ("{}_MERGED", "{} requests merged with others"),
                ("{}_SECTORS", "sectors of 512 bytes, {}"),
                ("{}_MS", "milliseconds that {} requests took"),
            )
        ),
        Column("CUR", "int", "requests in flight"),
        Column("SEC", "int", "seconds in which any request was in flight"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if options["disks"]:
            return self.disks
        if options["counters"] or options["disksum"]:
            return self.stats
        return self.activity if options["active"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        letter = options["unit"] or "K"
        if letter not in UNITS:
            raise OptionError(f"--unit {letter}: give one of {', '.join(UNITS)}")
        if options["disks"]:
            yield from _disks(kernel.files)
        elif options["disksum"]:
            for value, what in disk_sums(kernel.files):
                yield Row((value, what), sources=(Source(DISKSTATS),))
        else:
            yield from _system(kernel.files, options, letter)


def _system(files: Files, options: Options, letter: str) -> Iterator[Row]:
    stat = parse_kernel_stat(files.read(_FILES[0]))
    memory = {name: size // 1024 for name, size in parse_meminfo(files.read(_FILES[1])).items()}
    pages = parse_vmstat(files.read(_FILES[2]))
    if options["counters"]:
        for value, what in counters(stat, memory, pages, letter):
            yield Row((value, what), sources=_SOURCES)
    else:
        caches = ("Inactive", "Active") if options["active"] else ()
        yield Row(averages(stat, memory, pages, UNITS[letter], caches), sources=_SOURCES)


def _disks(files: Files) -> Iterator[Row]:
    whole = whole_disks(files)
    for disk, source in disks(files):
        if isinstance(disk, Unavailable):
            yield Row((disk,) * len(Vmstat.disks))
        elif is_whole(disk, whole):
            yield Row((disk.name, *disk[1:9], disk.in_flight, disk.busy_ms // 1000), sources=(source,))


def disk_sums(files: Files) -> Iterator[tuple[int, str]]:
    """What `vmstat -D` lists, in its order and words. Partitions are counted; their transfers are among those
    of their disks. The last three are the kernel's own numbers: vmstat 4.0.2 divides them by 1000. Raises
    ParseError."""
    whole = whole_disks(files)
    found = [parse_diskstat(line) for line, _source in lines(DISKSTATS, files.read(DISKSTATS))]
    counted = [disk for disk in found if is_whole(disk, whole)]
    yield len(counted), "disks"
    yield len(found) - len(counted), "partitions"
    for field, what in (
        ("reads", "total reads"),
        ("read_merges", "merged reads"),
        ("read_sectors", "read sectors"),
        ("read_ms", "milli reading"),
        ("writes", "writes"),
        ("write_merges", "merged writes"),
        ("write_sectors", "written sectors"),
        ("write_ms", "milli writing"),
        ("in_flight", "inprogress IO"),
        ("busy_ms", "milli spent IO"),
        ("queue_ms", "milli weighted IO"),
    ):
        yield sum(getattr(disk, field) for disk in counted), what


def averages(
    stat: KernelStat,
    memory: dict[str, int],
    pages: dict[str, int],
    unit: int = 1024,
    caches: tuple[str, ...] = (),
) -> tuple[int, ...]:
    """The line of numbers, as procps computes it (src/vmstat.c, `new_format`). `memory` is in KiB; its
    amounts are shown in units of so many bytes. `caches` are two of its names to show instead of buffers and
    page cache."""
    times = stat.total
    user, system = times.user + times.nice, times.system + times.irq + times.softirq
    whole = max(user + system + times.idle + times.iowait + times.steal, 1)
    user = max(user - times.guest - times.guest_nice, 0)

    def rate(count: int) -> int:
        return (count * _HZ + whole // 2) // whole

    shown = [memory.get(name, 0) for name in caches]
    if not caches:
        shown = [memory.get("Buffers", 0), memory.get("Cached", 0) + memory.get("SReclaimable", 0)]
    return (
        stat.counts.get("procs_running", 0),
        stat.counts.get("procs_blocked", 0),
        *(
            kib * 1024 // unit
            for kib in (
                memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
                memory.get("MemFree", 0),
                *shown,
            )
        ),
        rate(pages.get("pswpin", 0) * PAGE_SIZE // unit),
        rate(pages.get("pswpout", 0) * PAGE_SIZE // unit),
        rate(pages["pgpgin"]),
        rate(pages.get("pgpgout", 0)),
        rate(stat.counts.get("intr", 0)),
        rate(stat.counts.get("ctxt", 0)),
        *(
            (100 * part + whole // 2) // whole
            for part in (user, system, times.idle, times.iowait, times.steal)
        ),
    )


def counters(
    stat: KernelStat, memory: dict[str, int], pages: dict[str, int], unit: str = "K"
) -> Iterator[tuple[int, str]]:
    """What `vmstat -s` lists, in its order and words. `memory` is in KiB and shown in the unit of that
    name."""
    for kib, what in (
        (memory["MemTotal"], "total memory"),
        (memory["MemTotal"] - available_memory(memory), "used memory"),
        (memory.get("Active", 0), "active memory"),
        (memory.get("Inactive", 0), "inactive memory"),
        (memory.get("MemFree", 0), "free memory"),
        (memory.get("Buffers", 0), "buffer memory"),
        (memory.get("Cached", 0) + memory.get("SReclaimable", 0), "swap cache"),
        (memory.get("SwapTotal", 0), "total swap"),
        (memory.get("SwapTotal", 0) - memory.get("SwapFree", 0), "used swap"),
        (memory.get("SwapFree", 0), "free swap"),
    ):
        yield kib * 1024 // UNITS[unit], f"{unit} {what}"
    times = stat.total
    for ticks, what in (
        (times.user, "non-nice user cpu ticks"),
        (times.nice, "nice user cpu ticks"),
        (times.system, "system cpu ticks"),
        (times.idle, "idle cpu ticks"),
        (times.iowait, "IO-wait cpu ticks"),
        (times.irq, "IRQ cpu ticks"),
        (times.softirq, "softirq cpu ticks"),
        (times.steal, "stolen cpu ticks"),
        (times.guest, "non-nice guest cpu ticks"),
        (times.guest_nice, "nice guest cpu ticks"),
    ):
        yield ticks, what
    for name, what in (
        ("pgpgin", "K paged in"),
        ("pgpgout", "K paged out"),
        ("pswpin", "pages swapped in"),
        ("pswpout", "pages swapped out"),
    ):
        yield pages.get(name, 0), what
    for name, what in (
        ("intr", "interrupts"),
        ("ctxt", "CPU context switches"),
        ("btime", "boot time"),
        ("processes", "forks"),
    ):
        yield stat.counts.get(name, 0), what


TOOL = Vmstat()
