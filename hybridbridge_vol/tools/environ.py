"""environ: the environment that processes were started with."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ESRCH

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, comm_of, expected


class Environ(Tool):
    name = "environ"
    help = "Environment variables of processes"
    notes = (
        "Reads /proc/PID/environ: the variables that a process was started with, as they are on its stack. "
        "Variables that it set later are elsewhere in its memory. A kernel thread and a zombie have none."
    )
    example = "--pid 1"
    options = (PID,)
    columns = (
        Column("PID", "int", "process id"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("VARIABLE", "str", "name of the variable"),
        Column("VALUE", "str", "its value; nothing where there is no `=`"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        files = kernel.files
        for pid in expected(files, chosen(kernel, options), "environ", "comm"):
            folder = f"/proc/{pid}"
            try:
                data = files.read(f"{folder}/environ")
            except UNREADABLE as error:
                # Linux 6.16 and later say so of a task without memory of its own
                if not isinstance(error, OSError) or error.errno != ESRCH:
                    unread = why(f"{folder}/environ", error)
                    yield Row((pid, comm_of(files, folder), unread, unread))
                continue
            name = comm_of(files, folder) if data.strip(b"\0") else None
            for variable, value, start, end in variables(data):
                sources = Source(f"{folder}/environ", start, end), Source(f"{folder}/comm")
                yield Row((pid, name, variable, value), sources=sources)


def variables(data: bytes) -> Iterator[tuple[str, Cell, int, int]]:
    """`(name, value, start, end)` of each entry of /proc/PID/environ, which a NUL ends; the value is None
    where there is no `=`. Empty entries (of a process that has overwritten its environment) are left out."""
    offset = 0
    for entry in data.split(b"\0"):
        if entry:
            name, equals, value = entry.partition(b"=")
            yield text(name), text(value) if equals else None, offset, offset + len(entry)
        offset += len(entry) + 1


TOOL = Environ()
