"""vmstat: processes, memory, swap, disks and CPUs since boot."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.proc_counters import KernelStat, parse_kernel_stat, parse_meminfo, parse_vmstat
from hybridbridge_vol.guest.tool import Column, Option, Options, Row, Source, Tool

_FILES = ("/proc/stat", "/proc/meminfo", "/proc/vmstat")
_SOURCES = tuple(Source(path) for path in _FILES)
_PAGE_KIB = 4
_HZ = 100


class Vmstat(Tool):
    name = "vmstat"
    help = "Processes, memory, swapping, disks and CPUs: averages since boot"
    notes = (
        "Reads /proc/stat, /proc/meminfo and /proc/vmstat: the first report of vmstat, whose rates count from the CPUs' time "
        "taken together, as vmstat's do. Memory is in KiB."
    )
    example = "--counters"
    options = (Option("counters", bool, "the counters themselves, one a line", short="s"),)
    columns = (
        Column("R", "int", "threads running or ready to"),
        Column("B", "int", "threads waiting for a disk"),
        Column("SWPD", "int", "swap in use"),
        Column("FREE", "int", "memory used for nothing"),
        Column("BUFF", "int", "memory of buffers"),
        Column("CACHE", "int", "memory of the page cache and slabs that can be freed"),
        Column("SI", "int", "KiB swapped in a second"),
        Column("SO", "int", "KiB swapped out a second"),
        Column("BI", "int", "KiB read from disks a second"),
        Column("BO", "int", "KiB written to disks a second"),
        Column("INTR", "int", "interrupts a second (vmstat's `in`, which Volatility takes for no name)"),
        Column("CS", "int", "context switches a second"),
        Column("US", "int", "percent of the CPUs' time in user mode, without that of guests"),
        Column("SY", "int", "in the kernel"),
        Column("ID", "int", "idle"),
        Column("WA", "int", "idle while a disk was waited for"),
        Column("ST", "int", "taken by the hypervisor"),
    )
    stats = (Column("VALUE", "int", "since boot"), Column("WHAT", "str", "what was counted, and its unit"))

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self.stats if options["counters"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        stat = parse_kernel_stat(kernel.read_file(_FILES[0]))
        memory = {name: size // 1024 for name, size in parse_meminfo(kernel.read_file(_FILES[1])).items()}
        pages = parse_vmstat(kernel.read_file(_FILES[2]))
        if options["counters"]:
            for value, what in counters(stat, memory, pages):
                yield Row((value, what), sources=_SOURCES)
        else:
            yield Row(averages(stat, memory, pages), sources=_SOURCES)


def averages(stat: KernelStat, memory: dict[str, int], pages: dict[str, int]) -> tuple[int, ...]:
    """The line of numbers, as procps computes it (src/vmstat.c, `new_format`)."""
    times = stat.total
    user, system = times.user + times.nice, times.system + times.irq + times.softirq
    whole = max(user + system + times.idle + times.iowait + times.steal, 1)
    user = max(user - times.guest - times.guest_nice, 0)

    def rate(count: int, unit: int = 1) -> int:
        return (count * unit * _HZ + whole // 2) // whole

    return (
        stat.counts.get("procs_running", 0),
        stat.counts.get("procs_blocked", 0),
        memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        memory.get("MemFree", 0),
        memory.get("Buffers", 0),
        memory.get("Cached", 0) + memory.get("SReclaimable", 0),
        rate(pages.get("pswpin", 0), _PAGE_KIB),
        rate(pages.get("pswpout", 0), _PAGE_KIB),
        rate(pages["pgpgin"]),
        rate(pages.get("pgpgout", 0)),
        rate(stat.counts.get("intr", 0)),
        rate(stat.counts.get("ctxt", 0)),
        *((100 * part + whole // 2) // whole for part in (user, system, times.idle, times.iowait, times.steal)),
    )


def counters(stat: KernelStat, memory: dict[str, int], pages: dict[str, int]) -> Iterator[tuple[int, str]]:
    """What `vmstat -s` lists, in its order and words."""
    available = memory.get("MemAvailable", memory.get("MemFree", 0))
    yield memory["MemTotal"], "K total memory"
    yield memory["MemTotal"] - available, "K used memory"
    yield memory.get("Active", 0), "K active memory"
    yield memory.get("Inactive", 0), "K inactive memory"
    yield memory.get("MemFree", 0), "K free memory"
    yield memory.get("Buffers", 0), "K buffer memory"
    yield memory.get("Cached", 0) + memory.get("SReclaimable", 0), "K swap cache"
    yield memory.get("SwapTotal", 0), "K total swap"
    yield memory.get("SwapTotal", 0) - memory.get("SwapFree", 0), "K used swap"
    yield memory.get("SwapFree", 0), "K free swap"
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
