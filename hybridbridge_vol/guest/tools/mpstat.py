"""mpstat: what each CPU spent its time on since boot."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.proc_counters import CpuTimes, parse_kernel_stat
from hybridbridge_vol.guest.tool import Column, Option, Options, Row, Source, Tool

_PATH = "/proc/stat"


class Mpstat(Tool):
    name = "mpstat"
    help = "What each CPU spent its time on since boot, in percent"
    notes = "Reads /proc/stat: the first report of mpstat -P ALL. CPUs that were offline are not in it."
    example = "--cpu 0"
    options = (Option("cpu", int, "only these CPUs", many=True, short="P"),)
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

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        stat = parse_kernel_stat(kernel.read_file(_PATH))
        everyone = CpuTimes(*map(sum, zip(*stat.cpus.values(), strict=True))) if stat.cpus else stat.total
        if not options["cpu"]:
            yield Row(("all", *_shares(everyone)), sources=(Source(_PATH),))
        for number, times in sorted(stat.cpus.items()):
            if not options["cpu"] or number in options["cpu"]:
                yield Row((str(number), *_shares(times)), sources=(Source(_PATH),))


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
