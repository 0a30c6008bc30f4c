"""dmesg: the kernel's log."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.kernel_log import FACILITIES, LEVELS, Message, parse_log
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import attempt
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

_READ_ALL = 3  # SYSLOG_ACTION_READ_ALL, include/linux/syslog.h
_BUFFER_SIZE = 16 << 20
"""More than any log has. The session gives the newest lines that it has room for."""
_ZEROS = "\0" * 4


class Dmesg(Tool):
    name = "dmesg"
    help = "The kernel's log, with levels, facilities and times of day"
    notes = (
        "Calls syslog(2). WHEN is the time since boot added to the time of booting, as in dmesg -T: it is "
        "wrong by the time that the system slept and by changes of its clock."
    )
    example = "--level err --level warn"
    options = (
        Option("level", str, f"only these levels: {', '.join(LEVELS)}", many=True, short="l"),
        Option("facility", str, "only these facilities: kern, user, daemon, ...", many=True, short="f"),
        Option("ctime", bool, "times of day (the default)", short="T"),
        Option("decode", bool, "facility and level (the default)", short="x"),
    )
    columns = (
        Column("SECONDS", "str", "time since boot", left=False),
        Column("WHEN", "time", "time of day by the guest's clock"),
        Column("FACILITY", "str", "who wrote it: kern is the kernel itself"),
        Column("LEVEL", "str", "severity"),
        Column("MESSAGE", "str", "one line of the message"),
    )
    moments = (Moment("WHEN", "created", "logged by {FACILITY}"),)
    moment_text = ("MESSAGE",)

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for names, known in ((options["level"], LEVELS), (options["facility"], FACILITIES)):
            for name in names:
                if name not in known:
                    raise OptionError(f"{name}: not one of {', '.join(known)}")
        clocks = kernel.clocks
        booted = attempt("clock_gettime", lambda: clocks.realtime() - clocks.boottime())
        for message in parse_log(kernel.system.syslog(_READ_ALL, _BUFFER_SIZE)):
            if _is_wanted(message, options):
                yield _row(message, booted)


def _is_wanted(message: Message, options: Options) -> bool:
    if options["level"] and message.level not in options["level"]:
        return False
    return not options["facility"] or message.facility in options["facility"]


def _row(message: Message, booted: float | Unavailable) -> Row:
    seconds: Cell = None
    when: Cell = booted if isinstance(booted, Unavailable) else None
    if message.seconds is not None:
        seconds = f"{message.seconds:.6f}"
        when = booted if isinstance(booted, Unavailable) else booted + message.seconds
    cells = (seconds, when, message.facility, message.level, _text(message.message))
    return Row(cells, sources=(Source("syslog", message.start, message.end),))


def _text(message: str) -> Cell:
    """A message. The kernel may log a NUL, but not several at its begin or its end: a page of its log is
    zeros then."""
    rest = message.strip("\0")
    if (rest or not message) and not message.startswith(_ZEROS) and not message.endswith(_ZEROS):
        return message
    return Unavailable(
        f"zeros in the image, which may not have been read when it was made{': ...' if rest else ''}{rest}"
    )


TOOL = Dmesg()
