"""dmesg: the kernel's log."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.kernel_log import FACILITIES, LEVELS, parse_log
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

_READ_ALL = 3  # SYSLOG_ACTION_READ_ALL, include/linux/syslog.h
_BUFFER_SIZE = 16 << 20
"""More than any log; the session gives what it has room for, which are the newest lines."""


class Dmesg(Tool):
    name = "dmesg"
    help = "The kernel's log, with levels, facilities and times of day"
    notes = (
        "Calls syslog(2). WHEN is the time since boot added to the moment of booting, as dmesg -T has it: it is off by "
        "however long the system slept and by what its clock was set."
    )
    example = "--level err --level warn"
    options = (
        Option("level", str, f"only these levels: {', '.join(LEVELS)}", many=True, short="l"),
        Option("facility", str, "only these facilities: kern, user, daemon, ...", many=True, short="f"),
        Option("ctime", bool, "times of day, as is done without it", short="T"),
        Option("decode", bool, "facility and level, as is done without it", short="x"),
    )
    columns = (
        Column("SECONDS", "str", "since boot", left=False),
        Column("WHEN", "time", "by the guest's clock"),
        Column("FACILITY", "str", "who wrote it: kern is the kernel itself"),
        Column("LEVEL", "str", "how bad it is"),
        Column("MESSAGE", "str", "one line of it"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for names, known in ((options["level"], LEVELS), (options["facility"], FACILITIES)):
            for name in names:
                if name not in known:
                    raise OptionError(f"{name}: not one of {', '.join(known)}")
        booted: float | None = None
        reason: Cell = None
        try:
            booted = kernel.clocks.realtime() - kernel.clocks.boottime()
        except UNREADABLE as error:
            reason = why("clock_gettime", error)
        for item in parse_log(kernel.system.syslog(_READ_ALL, _BUFFER_SIZE)):
            if options["level"] and item.level not in options["level"]:
                continue
            if options["facility"] and item.facility not in options["facility"]:
                continue
            seconds = when = None
            if item.seconds is not None:
                seconds = f"{item.seconds:.6f}"
                when = None if booted is None else booted + item.seconds
            shown: Cell = reason if booted is None else when
            yield Row(
                (seconds, shown, item.facility, item.level, item.message),
                sources=(Source("syslog", item.start, item.end),),
            )


TOOL = Dmesg()
