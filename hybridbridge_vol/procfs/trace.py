"""The trace buffer as tracefs shows it (`trace`; kernel/trace/trace_output.c, `trace_print_context`): pure
functions on its text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE = re.compile(
    rb"^ *(?P<task>.*)-(?P<pid>\d+) +(?:\( *(?P<group>\d+|-+)\) +)?\[(?P<cpu>\d+)\] +(?P<flags>\S{3,5})? +"
    rb"(?P<time>\d+(?:\.\d+)?): (?P<event>[\w.-]+(?:/\w+)?)?(?P<rest>.*)$"
)


class Entry(NamedTuple):
    """A line of the buffer, from `start` to `end` of the file. One of another form (a graph of functions, a
    stack, a note about lost events) has its text only. `seconds` are by the buffer's clock, since boot."""

    start: int
    end: int
    task: str | None
    pid: int | None
    cpu: int | None
    seconds: float | None
    event: str | None
    text: str


def parse_trace(data: bytes) -> Iterator[Entry]:
    """The lines of a trace buffer but for its heading."""
    start = 0
    for line in data.split(b"\n"):
        end = start + len(line)
        if line and not line.startswith(b"#"):
            yield _entry(line, start, end)
        start = end + 1


def _entry(line: bytes, start: int, end: int) -> Entry:
    found = _LINE.match(line)
    if found is None:
        return Entry(start, end, None, None, None, None, None, os.fsdecode(line.strip()))
    event, rest = found["event"], found["rest"]
    if event is None or not rest.startswith(b":"):
        # a function of the function tracer has no colon behind it: `name <-caller`
        event, rest = None, (event or b"") + rest
    else:
        rest = rest[1:]
    seconds = float(found["time"]) if b"." in found["time"] else None
    return Entry(
        start, end, os.fsdecode(found["task"]), int(found["pid"]), int(found["cpu"]), seconds,
        None if event is None else os.fsdecode(event), os.fsdecode(rest.strip()),
    )  # fmt: skip
