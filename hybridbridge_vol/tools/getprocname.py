"""getprocname: the name of one process (VIRTUOSO's example)."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool


class Getprocname(Tool):
    name = "getprocname"
    help = "The name of a process"
    example = "1"
    options = (Option("pid", int, "the process", positional=True),)
    columns = (
        Column("PID", "int", "process"),
        Column("NAME", "str", "its name, as /proc/PID/comm has it"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        pid = options["pid"]
        kernel.files.stat(f"/proc/{pid}")
        yield name_row(kernel, pid)


def name_row(kernel: GuestKernel, pid: int) -> Row:
    """A process's number and name."""
    path = f"/proc/{pid}/comm"
    name: Cell
    try:
        name = kernel.files.read(path).removesuffix(b"\n").decode("utf-8", "surrogateescape")
    except (OSError, CallRolledBack) as error:
        name = why(path, error)
    return Row((pid, name), sources=(Source(path),))


TOOL = Getprocname()
