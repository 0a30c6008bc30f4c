"""mpstat: what each CPU spent its time on since boot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.counters import (
    CpuTimes,
    Interrupt,
    KernelStat,
    parse_interrupts,
    parse_kernel_stat,
    per_second,
)
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_uptime
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

_STAT, _UPTIME, _CPUS = "/proc/stat", "/proc/uptime", "/sys/devices/system/cpu"
_KINDS = {"SUM": "/proc/interrupts", "CPU": "/proc/interrupts", "SCPU": "/proc/softirqs"}
_MOST_CPUS = 8192  # CONFIG_NR_CPUS of distributions


class Mpstat(Tool):
    name = "mpstat"
    help = "What each CPU spent its time on since boot, in percent"
    notes = (
        "Reads /proc/stat: the first report of mpstat -P ALL. CPUs that were offline are not in it. "
        "--interrupts reads /proc/interrupts or /proc/softirqs and gives a row for each CPU and interrupt; "
        "an interrupt that is counted for the whole machine has no CPU."
    )
    example = "--cpu 0"
    options = (
        Option("cpu", str, "only these CPUs, by their numbers; ALL is the default", many=True, short="P"),
        Option("processors", bool, "what CPUs spent their time on (the default)", short="u"),
        Option(
            "interrupts", str,
            "interrupts instead: SUM of all, CPU for each of /proc/interrupts, SCPU for software interrupts",
            short="I", examples=("SUM", "CPU"),
        ),
    )  # fmt: skip
    columns = (
        Column("CPU", "str", "number of the CPU, or all", left=False),
        Column("%USR", "percent", "in user mode"),
        Column("%NICE", "percent", "in user mode with a nice priority"),
        Column("%SYS", "percent", "in the kernel, without interrupts"),
        Column("%IOWAIT", "percent", "idle while waiting for a disk"),
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
        Column("NAME", "str", "controller, trigger and driver, or a description"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if not options["interrupts"]:
            return self.columns
        return self.sums if options["interrupts"].upper() == "SUM" else self.each

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        cpus = chosen_cpus(options["cpu"])
        if options["interrupts"]:
            return _interrupts(kernel.files, options["interrupts"].upper(), cpus)
        return _times(kernel.files, cpus)


def chosen_cpus(given: Iterable[str | int]) -> set[int]:
    """The CPUs of `-P 0 2`, `-P 0,2-3`; none for ALL, which means all of them. OptionError for a word that is
    not a number."""
    found: set[int] = set()
    for word in ",".join(map(str, given)).split(","):
        first, dash, last = word.partition("-")
        if word.upper() == "ALL" or not word:
            return set()
        if not first.isdecimal() or dash and not last.isdecimal():
            raise OptionError(f"--cpu {word}: give numbers of CPUs, or ALL")
        found.update(range(int(first), min(int(last or first), int(first) + _MOST_CPUS) + 1))
    return found


def _times(files: Files, cpus: set[int]) -> Iterator[Row]:
    stat = parse_kernel_stat(files.read(_STAT))
    if not cpus:
        yield Row(("all", *_shares(_together(files, stat))), sources=(Source(_STAT),))
    for number, times in sorted(stat.cpus.items()):
        if not cpus or number in cpus:
            yield Row((str(number), *_shares(times)), sources=(Source(_STAT),))


def _together(files: Files, stat: KernelStat) -> CpuTimes:
    """The time of all CPUs, as sysstat has it (mpstat.c, `get_global_cpu_statistics`): the sum of those that
    are online; on a machine with one CPU the kernel's own sum, which it made a moment before it read the
    CPU's time."""
    try:
        present = sum(re.fullmatch(r"cpu\d+", name) is not None for name in files.listdir(_CPUS))
    except UNREADABLE:
        present = len(stat.cpus)
    if present < 2 or not stat.cpus:
        return stat.total
    return CpuTimes(*map(sum, zip(*stat.cpus.values(), strict=True)))


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


def _interrupts(files: Files, kind: str, cpus: set[int]) -> Iterator[Row]:
    """As `mpstat -I`. Interrupts that are counted for the whole machine (ERR, MIS) are in no sum, as in
    mpstat's."""
    if kind not in _KINDS:
        raise OptionError(f"--interrupts {kind}: give SUM, CPU or SCPU")
    path = _KINDS[kind]
    seconds = parse_uptime(files.read(_UPTIME))[0]
    lines = parse_interrupts(files.read(path))
    if kind != "SUM":
        yield from _each(lines, cpus, seconds, path)
        return
    if not cpus:
        count = parse_kernel_stat(files.read(_STAT)).counts.get("intr", 0)
        yield Row(("all", per_second(count, seconds), count), sources=(Source(_STAT), Source(_UPTIME)))
    for cpu in sorted({cpu for line in lines for cpu in line.counts if not cpus or cpu in cpus}):
        count = sum(line.counts.get(cpu, 0) for line in lines)
        yield Row((str(cpu), per_second(count, seconds), count), sources=(Source(path), Source(_UPTIME)))


def _each(lines: list[Interrupt], cpus: set[int], seconds: float, path: str) -> Iterator[Row]:
    for line in lines:
        counts: list[tuple[str | None, int]] = [
            (str(cpu), count) for cpu, count in line.counts.items() if not cpus or cpu in cpus
        ]
        if not line.counts and not cpus:
            counts = [(None, line.total)]
        for cpu, count in counts:
            cells = (cpu, line.name, per_second(count, seconds), count, line.what)
            yield Row(cells, sources=(Source(path), Source(_UPTIME)))


TOOL = Mpstat()
