"""mpstat: what each CPU spent its time on since boot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.counters import (
    CpuTimes,
    KernelStat,
    parse_interrupts,
    parse_kernel_stat,
    per_second,
)
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.tool import UNREADABLE, Column, Option, Options, Row, Tool

_PATH = "/proc/stat"
_CPUS = "/sys/devices/system/cpu"
_MOST_CPUS = 8192  # CONFIG_NR_CPUS of distributions


class Mpstat(Tool):
    name = "mpstat"
    help = "What each CPU spent its time on since boot, in percent"
    notes = (
        "Reads /proc/stat: the first report of mpstat -P ALL. CPUs that were offline are not in it. --interrupts reads "
        "/proc/interrupts or /proc/softirqs and gives a row for each CPU and interrupt; what is of no CPU has none."
    )
    example = "--cpu 0"
    options = (
        Option("cpu", str, "only these CPUs, by their numbers; ALL, as is done without it", many=True, short="P"),
        Option("processors", bool, "what CPUs spent their time on, as is done without it", short="u"),
        Option(
            "interrupts", str, "interrupts instead: SUM of all, CPU for each of /proc/interrupts, SCPU for software interrupts",
            short="I", examples=("SUM", "CPU"),
        ),
    )  # fmt: skip
    columns = (
        Column("CPU", "str", "number, or all together", left=False),
        Column("%USR", "percent", "in user mode"),
        Column("%NICE", "percent", "in user mode with a nice priority"),
        Column("%SYS", "percent", "in the kernel, without interrupts"),
        Column("%IOWAIT", "percent", "idle while a disk was waited for"),
        Column("%IRQ", "percent", "in hardware interrupts"),
        Column("%SOFT", "percent", "in software interrupts"),
        Column("%STEAL", "percent", "taken by the hypervisor"),
        Column("%GUEST", "percent", "running guests"),
        Column("%GNICE", "percent", "running guests with a nice priority"),
        Column("%IDLE", "percent", "idle"),
    )

    sums = (
        columns[0],
        Column("INTR/S", "percent", "interrupts a second"),
        Column("COUNT", "int", "interrupts since boot"),
    )
    each = (
        columns[0],
        Column("INTR", "str", "number or short name of the interrupt"),
        *sums[1:],
        Column("NAME", "str", "what it is of: controller, trigger and driver, or in words"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if not options["interrupts"]:
            return self.columns
        return self.sums if options["interrupts"].upper() == "SUM" else self.each

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        chosen = chosen_cpus(options["cpu"])
        if options["interrupts"]:
            yield from _interrupts(kernel, options["interrupts"].upper(), chosen)
            return
        stat = parse_kernel_stat(kernel.files.read(_PATH))
        if not chosen:
            yield Row(("all", *_shares(_together(kernel, stat))), sources=(Source(_PATH),))
        for number, times in sorted(stat.cpus.items()):
            if not chosen or number in chosen:
                yield Row((str(number), *_shares(times)), sources=(Source(_PATH),))


def chosen_cpus(given: Iterable[str | int]) -> set[int]:
    """The CPUs of `-P 0 2`, `-P 0,2-3`; none for ALL, which is all of them. OptionError for what is no
    number."""
    found: set[int] = set()
    for word in ",".join(map(str, given)).split(","):
        first, dash, last = word.partition("-")
        if word.upper() == "ALL" or not word:
            return set()
        if not first.isdecimal() or dash and not last.isdecimal():
            raise OptionError(f"--cpu {word}: give numbers of CPUs, or ALL")
        found.update(range(int(first), min(int(last or first), int(first) + _MOST_CPUS) + 1))
    return found


def _interrupts(kernel: GuestKernel, kind: str, cpus: set[int]) -> Iterator[Row]:
    """As `mpstat -I`; those that are of no CPU (ERR, MIS) are in no sum, as in mpstat's."""
    if kind not in ("SUM", "CPU", "SCPU"):
        raise OptionError(f"--interrupts {kind}: give SUM, CPU or SCPU")
    path = "/proc/softirqs" if kind == "SCPU" else "/proc/interrupts"
    seconds = parse_uptime(kernel.files.read("/proc/uptime"))[0]
    lines = parse_interrupts(kernel.files.read(path))
    sources = Source(path), Source("/proc/uptime")
    if kind == "SUM":
        if not cpus:
            count = parse_kernel_stat(kernel.files.read(_PATH)).counts.get("intr", 0)
            yield Row(("all", per_second(count, seconds), count), sources=(Source(_PATH), sources[1]))
        for cpu in sorted({cpu for line in lines for cpu in line.counts}):
            if not cpus or cpu in cpus:
                count = sum(line.counts.get(cpu, 0) for line in lines)
                yield Row((str(cpu), per_second(count, seconds), count), sources=sources)
        return
    for line in lines:
        for cpu, count in line.counts.items():
            if not cpus or cpu in cpus:
                yield Row(
                    (str(cpu), line.name, per_second(count, seconds), count, line.what), sources=sources
                )
        if not line.counts and not cpus:
            yield Row(
                (None, line.name, per_second(line.total, seconds), line.total, line.what), sources=sources
            )


def _together(kernel: GuestKernel, stat: KernelStat) -> CpuTimes:
    """The time of all CPUs, as sysstat has it (mpstat.c, `get_global_cpu_statistics`): the sum of those online,
    but on a machine with one CPU what the kernel has summed up, a moment before it read the CPU's own time."""
    try:
        there = sum(re.fullmatch(r"cpu\d+", name) is not None for name in kernel.files.listdir(_CPUS))
    except UNREADABLE:
        there = len(stat.cpus)
    return (
        CpuTimes(*map(sum, zip(*stat.cpus.values(), strict=True))) if stat.cpus and there > 1 else stat.total
    )


def _shares(times: CpuTimes) -> Iterator[float]:
    for ticks in (
        times.user - times.guest,
        times.nice - times.guest_nice,
        times.system,
        times.iowait,
        times.irq,
        times.softirq,
        times.steal,
        times.guest,
        times.guest_nice,
        times.idle,
    ):
        yield times.share(ticks)


TOOL = Mpstat()
