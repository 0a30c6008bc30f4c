"""tinyps: ids and names of processes (VIRTUOSO's own smallest tool)."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Options, Row, Tool
from hybridbridge_vol.tools.getprocname import COLUMNS, name_row
from hybridbridge_vol.tools.process.listing import expected, processes


class Tinyps(Tool):
    name = "tinyps"
    help = "Id and name of each process"
    notes = "Reads /proc/PID/comm."
    columns = COLUMNS

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        pids = processes(kernel)
        return (name_row(kernel.files, pid) for pid in expected(kernel.files, pids, "comm"))


TOOL = Tinyps()
