"""tinyps: numbers and names of processes, nothing else (VIRTUOSO's own smallest tool)."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool
from hybridbridge_vol.tools.getprocname import name_row
from hybridbridge_vol.tools.process.listing import expected


class Tinyps(Tool):
    name = "tinyps"
    help = "Number and name of each process"
    columns = (
        Column("PID", "int", "process"),
        Column("NAME", "str", "its name, as /proc/PID/comm has it"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        pids = [int(name) for name in kernel.files.listdir("/proc") if name.isdecimal()]
        for pid in expected(kernel, pids, "comm"):
            yield name_row(kernel, pid)


TOOL = Tinyps()
