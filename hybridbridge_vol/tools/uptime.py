"""uptime: the moment of the freeze, how long the system had been up, and its load."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_loadavg, parse_uptime
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool


class Uptime(Tool):
    name = "uptime"
    help = "Time of the freeze, time since boot, load averages"
    notes = (
        "Reads /proc/uptime, /proc/loadavg and the clock, as the command does. How many users were logged in "
        "stands in a file (/run/utmp), which the kernel does not know."
    )
    options = (
        Option("since", bool, "when it was started, as is told without it", short="s"),
        Option("pretty", bool, "how long it had been up, as is told without it", short="p"),
    )
    columns = (
        Column("NOW", "time", "the guest's clock at the freeze"),
        Column("UP", "duration", "time since boot"),
        Column("BOOTED", "time", "NOW less UP"),
        Column("LOAD1", "str", "load average over 1 minute", left=False),
        Column("LOAD5", "str", "over 5 minutes", left=False),
        Column("LOAD15", "str", "over 15 minutes", left=False),
        Column("RUNNING", "int", "threads that were running or ready to"),
        Column("THREADS", "int", "all threads"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        now: Cell
        up: Cell
        try:
            now = kernel.clocks.realtime()
        except UNREADABLE as error:
            now = why("clock_gettime", error)
        try:
            up = parse_uptime(kernel.files.read("/proc/uptime"))[0]
        except UNREADABLE as error:
            up = why("/proc/uptime", error)
        booted = now - up if isinstance(now, float) and isinstance(up, float) else None
        load: tuple[Cell, ...]
        try:
            seen = parse_loadavg(kernel.files.read("/proc/loadavg"))
            averages = (f"{average:.2f}" for average in (seen.load1, seen.load5, seen.load15))
            load = (*averages, seen.running, seen.threads)
        except UNREADABLE as error:
            load = (why("/proc/loadavg", error),) * 5
        yield Row((now, up, booted, *load), sources=(Source("/proc/uptime"), Source("/proc/loadavg")))


TOOL = Uptime()
