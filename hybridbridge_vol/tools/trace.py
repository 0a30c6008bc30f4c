"""trace: the kernel's trace buffers."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.procfs.trace import Entry, parse_trace
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, read_lines, why
from hybridbridge_vol.toolkit.tool import Column, Moment, Options, Row, Tool

_TRACING = "/sys/kernel/tracing"
_INSTANCES = f"{_TRACING}/instances"


class Trace(Tool):
    name = "trace"
    help = "The kernel's trace buffers: events, functions and notes that were recorded"
    notes = (
        "Reads `trace` of tracefs and of each of its instances, whether the guest had it mounted or not. "
        "WHEN is SECONDS added to the time of booting, which is right for the trace clocks local and global, "
        "as far as they keep time, and wrong by the time that the system slept; with another clock (tsc, "
        "counter) SECONDS alone is right. A line that is no event of one moment (a graph of functions, a "
        "stack, a note about lost events) is shown in TEXT as it is."
    )
    columns = (
        Column("BUFFER", "str", "the instance; empty: the kernel's own buffer"),
        Column("SECONDS", "str", "time by the buffer's clock", left=False),
        Column("WHEN", "time", "time of day by the guest's clock"),
        Column("CPU", "int", "the CPU that recorded it"),
        Column("PID", "int", "thread id"),
        Column("COMM", "str", "name of the thread, as the kernel had kept it"),
        Column("EVENT", "str", "name of the event; empty for the function tracer"),
        Column("TEXT", "str", "what was recorded"),
    )
    moments = (Moment("WHEN", "created", "traced: {EVENT}"),)
    moment_text = ("BUFFER", "PID", "COMM", "TEXT")

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        clocks, files = kernel.clocks, kernel.files
        booted = attempt("clock_gettime", lambda: clocks.realtime() - clocks.boottime())
        yield from self._buffer(files, "", f"{_TRACING}/trace", booted)
        try:
            names = sorted(files.listdir(_INSTANCES))
        except UNREADABLE as error:
            if not isinstance(error, OSError) or error.errno != ENOENT:
                yield Row((why(_INSTANCES, error),) * len(self.columns))
            return
        for name in names:
            yield from self._buffer(files, name, f"{_INSTANCES}/{name}/trace", booted)

    def _buffer(self, files: Files, name: str, path: str, booted: float | Unavailable) -> Iterator[Row]:
        data, read_error = read_lines(files, path)
        for entry in parse_trace(data):
            cells = (name or None, *_cells(entry, booted))
            yield Row(cells, sources=(Source(path, entry.start, entry.end),))
        if read_error:
            yield Row((name or None, *[read_error] * (len(self.columns) - 1)))


def _cells(entry: Entry, booted: float | Unavailable) -> tuple[Cell, ...]:
    seconds: Cell = None
    when: Cell = None
    if entry.seconds is not None:
        seconds = f"{entry.seconds:.6f}"
        when = booted if isinstance(booted, Unavailable) else booted + entry.seconds
    return (seconds, when, entry.cpu, entry.pid, entry.task, entry.event, entry.text)


TOOL = Trace()
