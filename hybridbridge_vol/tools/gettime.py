"""gettime: the guest's clocks at the freeze."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Gettime(Tool):
    name = "gettime"
    help = "The guest's clocks at the freeze"
    notes = (
        "Calls clock_gettime(2). The counter that clocks go on by between two ticks of the timer is in the processor, not "
        "in memory: they stand at the last tick before the freeze."
    )
    columns = (
        Column("CLOCK", "str", "the clock's name"),
        Column("SECONDS", "str", "what it showed", left=False),
        Column("TIME", "time", "the same as a date, of the clock that has one"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for name, clock in (
            ("CLOCK_REALTIME", kernel.clocks.realtime),
            ("CLOCK_MONOTONIC", kernel.clocks.monotonic),
            ("CLOCK_BOOTTIME", kernel.clocks.boottime),
        ):
            shown: tuple[Cell, Cell]
            try:
                seconds = clock()
                shown = (f"{seconds:.6f}", seconds if name == "CLOCK_REALTIME" else None)
            except UNREADABLE as error:
                shown = (why("clock_gettime", error), None)
            yield Row((name, *shown), sources=(Source("clock_gettime"),))


TOOL = Gettime()
