"""getpid: which process each CPU was running."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Getpid(Tool):
    name = "getpid"
    help = "The process that each CPU was running at the freeze"
    notes = (
        "What getpid(2) and gettid(2) would have answered to the task that was running, asked of the kernel's own "
        "function. 0: the CPU was idle. A CPU that answers a debugger or the taking of the image runs what took it."
    )
    columns = (
        Column("CPU", "int", "number of the CPU"),
        Column("PID", "int", "process; 0: idle"),
        Column("TID", "int", "thread"),
        Column("COMM", "str", "its name"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for found in kernel.cpus.running():
            if isinstance(found, CallRolledBack):
                yield Row((Unavailable(f"{found.call}: {found.reason}"),) * len(self.columns))
                continue
            comm: Cell = None
            path = f"/proc/{found.tgid}/task/{found.tid}/comm"
            if found.tgid:
                try:
                    comm = kernel.files.read(path).removesuffix(b"\n").decode("utf-8", "surrogateescape")
                except UNREADABLE as error:
                    comm = why(path, error)
            yield Row((found.cpu, found.tgid, found.tid, comm), sources=(Source(path),) if found.tgid else ())


TOOL = Getpid()
