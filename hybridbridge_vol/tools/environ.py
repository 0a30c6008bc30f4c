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
from hybridbridge_vol.tools.process.listing import PID, chosen, expected, name_of


class Environ(Tool):
    name = "environ"
    help = "Environment variables of processes"
    notes = (
        "Reads /proc/PID/environ: the variables a process was started with, as its stack holds them now. What it set "
        "later is elsewhere in its memory. A kernel thread and a zombie have none."
    )
    example = "--pid 1"
    options = (PID,)
    columns = (
        Column("PID", "int", "process id"),
        Column("COMM", "str", "name of the executable, as the kernel keeps it"),
        Column("VARIABLE", "str", "name"),
        Column("VALUE", "str", "what it is set to; nothing where there is no `=`"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for pid in expected(kernel, chosen(kernel, options), "environ", "comm"):
            path = f"/proc/{pid}/environ"
            try:
                data = kernel.files.read(path)
            except UNREADABLE as error:
                if (
                    isinstance(error, OSError) and error.errno == ESRCH
                ):  # newer kernels say so where there is no memory
                    continue
                gap = why(path, error)
                yield Row((pid, name_of(kernel, pid), gap, gap))
                continue
            name = name_of(kernel, pid) if data.strip(b"\0") else None
            for variable, value, start, end in variables(data):
                yield Row(
                    (pid, name, variable, value),
                    sources=(Source(path, start, end), Source(f"/proc/{pid}/comm")),
                )


def variables(data: bytes) -> Iterator[tuple[str, Cell, int, int]]:
    """`(name, value, start, end)` of each entry of /proc/PID/environ, which a NUL ends; the value is None
    where there is no `=`. Empty entries (a process that has overwritten its environment) are left out."""
    place = 0
    for entry in data.split(b"\0"):
        if entry:
            name, equals, value = entry.partition(b"=")
            yield text(name), text(value) if equals else None, place, place + len(entry)
        place += len(entry) + 1


TOOL = Environ()
