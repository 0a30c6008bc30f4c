"""gettime: the guest's clocks at capture time."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import attempt
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Gettime(Tool):
    name = "gettime"
    help = "The guest's clocks at capture time"
    notes = (
        "Calls clock_gettime(2). Between two ticks of the timer clocks advance by a counter of the "
        "processor, which is not in memory: they show the last tick before the capture."
    )
    columns = (
        Column("CLOCK", "str", "the clock's name"),
        Column("SECONDS", "str", "what it showed", left=False),
        Column("TIME", "time", "the same as a date, for the clock that has one"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        clocks = kernel.clocks
        for name, clock in (
            ("CLOCK_REALTIME", clocks.realtime),
            ("CLOCK_MONOTONIC", clocks.monotonic),
            ("CLOCK_BOOTTIME", clocks.boottime),
        ):
            seconds = attempt("clock_gettime", clock)
            shown = seconds if isinstance(seconds, Unavailable) else f"{seconds:.6f}"
            is_date = name == "CLOCK_REALTIME" and not isinstance(seconds, Unavailable)
            yield Row((name, shown, seconds if is_date else None), sources=(Source("clock_gettime"),))


TOOL = Gettime()
