"""getprocname: the name of one process (VIRTUOSO's example)."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import comm_of

COLUMNS = (
    Column("PID", "int", "process id"),
    Column("NAME", "str", "name of the executable, as the kernel stores it"),
)


class Getprocname(Tool):
    name = "getprocname"
    help = "The name of a process"
    notes = "Reads /proc/PID/comm."
    example = "1"
    options = (Option("pid", int, "process id", positional=True),)
    columns = COLUMNS

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        kernel.files.stat(f"/proc/{options['pid']}")
        yield name_row(kernel.files, options["pid"])


def name_row(files: Files, pid: int) -> Row:
    """A process's id and name, as in `COLUMNS`."""
    return Row((pid, comm_of(files, f"/proc/{pid}")), sources=(Source(f"/proc/{pid}/comm"),))


TOOL = Getprocname()
