"""uptime: the capture time, how long the system had been up, and its load."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.system import parse_loadavg, parse_uptime
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import attempt, parsed
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

_UPTIME, _LOADAVG = "/proc/uptime", "/proc/loadavg"


class Uptime(Tool):
    name = "uptime"
    help = "Capture time, time since boot, load averages"
    notes = (
        "Reads /proc/uptime, /proc/loadavg and the clock, as the command does. The number of users is not in "
        "the kernel's memory: it is in a file (/run/utmp)."
    )
    options = (
        Option("since", bool, "when the system was started (always shown)", short="s"),
        Option("pretty", bool, "how long the system had been up (always shown)", short="p"),
    )
    columns = (
        Column("NOW", "time", "the guest's clock at capture time"),
        Column("UP", "duration", "time since boot"),
        Column("BOOTED", "time", "NOW less UP"),
        Column("LOAD1", "str", "load average over 1 minute", left=False),
        Column("LOAD5", "str", "load average over 5 minutes", left=False),
        Column("LOAD15", "str", "load average over 15 minutes", left=False),
        Column("RUNNING", "int", "threads that were running or ready to run"),
        Column("THREADS", "int", "all threads"),
    )

    moments = (
        Moment("BOOTED", "created", "booted"),
        Moment("NOW", "created", "captured"),
    )
    moment_text = ("LOAD1", "THREADS")

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        now = attempt("clock_gettime", kernel.clocks.realtime)
        both = parsed(kernel.files, _UPTIME, parse_uptime)
        up = both if isinstance(both, Unavailable) else both[0]
        booted = None if isinstance(now, Unavailable) or isinstance(up, Unavailable) else now - up
        seen = parsed(kernel.files, _LOADAVG, parse_loadavg)
        load: tuple[Cell, ...] = (seen,) * 5 if isinstance(seen, Unavailable) else ()
        if not isinstance(seen, Unavailable):
            averages = (f"{average:.2f}" for average in (seen.load1, seen.load5, seen.load15))
            load = (*averages, seen.running, seen.threads)
        yield Row((now, up, booted, *load), sources=(Source(_UPTIME), Source(_LOADAVG)))


TOOL = Uptime()
