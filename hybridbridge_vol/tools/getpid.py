"""getpid: which process each CPU was running."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.reading import why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import comm_of


class Getpid(Tool):
    name = "getpid"
    help = "The process that each CPU was running at capture time"
    notes = (
        "What getpid(2) and gettid(2) would have returned to the task that was running, by the kernel's own "
        "function. 0: the CPU was idle. A CPU that was serving a debugger or the capture runs the task that "
        "made it."
    )
    columns = (
        Column("CPU", "int", "number of the CPU"),
        Column("PID", "int", "process id; 0 if the CPU was idle"),
        Column("TID", "int", "thread id"),
        Column("COMM", "str", "name of the thread"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for found in kernel.cpus.running():
            if isinstance(found, CallRolledBack):
                yield Row((why(found.call, found),) * len(self.columns))
            elif not found.tgid:
                yield Row((*found, None))
            else:
                folder = f"/proc/{found.tgid}/task/{found.tid}"
                yield Row((*found, comm_of(kernel.files, folder)), sources=(Source(f"{folder}/comm"),))


TOOL = Getpid()
