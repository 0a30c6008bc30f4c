"""Events from every tool that says which of its columns are times, and from the histories of shells."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hybridbridge_vol import tools
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Cell, Unavailable, as_text
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Moment, MomentKind, Row, Tool
from hybridbridge_vol.tools.events.histories import commands

HISTORY = "history"
LETTERS: dict[MomentKind, str] = {"modified": "m", "accessed": "a", "changed": "c", "created": "b"}
"""As The Sleuth Kit's mactime writes them, in this order."""
_KINDS: tuple[MomentKind, ...] = ("modified", "accessed", "changed", "created")
MAX_EVENTS = 8_000_000
"""Events of one timeline: they are sorted in memory."""
MAX_TEXT = 8192
"""Characters of one event's text."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a body file has of a file; `mode` as `ls -l` writes it."""

    path: str
    inode: int = 0
    mode: str = ""
    uid: int = 0
    gid: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one time (in seconds), of one row of a tool: of a file up to four kinds at
    once. Without a time it says what could not be read."""

    time: Cell
    kinds: tuple[MomentKind, ...]
    source: str
    event: str
    text: str
    user: Cell = None
    file: FileFacts | None = None

    @property
    def letters(self) -> str:
        """`m.c.`"""
        return "".join(LETTERS[kind] if kind in self.kinds else "." for kind in _KINDS)


def sources() -> list[str]:
    """The names of the tools that know times, and `history`."""
    return [*(name for name in tools.NAMES if tools.load(name).moments), HISTORY]


def collect(kernel: GuestKernel, wanted: tuple[str, ...]) -> Iterator[Event]:
    """All events of these sources, not sorted."""
    left = MAX_EVENTS
    for source in wanted:
        for event in _of_source(kernel, source):
            if not left:
                yield Event(Unavailable(f"more than {MAX_EVENTS:,} events"), (), source, "not all", "")
                return
            left -= 1
            yield event


def _of_source(kernel: GuestKernel, source: str) -> Iterator[Event]:
    try:
        yield from _of_histories(kernel) if source == HISTORY else of_tool(kernel, tools.load(source))
    except (*UNREADABLE, HybridBridgeError) as error:
        yield Event(why(source, error), (), source, "not read", "")


def _of_histories(kernel: GuestKernel) -> Iterator[Event]:
    for command in commands(kernel.files):
        text = f"{command.text} ({command.path}{'' if command.line is None else f', line {command.line}'})"
        time: Cell = command.seconds if command.lack is None else command.lack
        yield Event(
            time, ("created",) if command.lack is None else (), HISTORY, "command typed", text, command.user
        )


def of_tool(kernel: GuestKernel, tool: Tool) -> Iterator[Event]:
    """The events of one tool's rows."""
    options = tool.defaults()
    columns = tool.columns_for(options)
    place = {column.name: at for at, column in enumerate(columns)}
    for row in tool.rows(kernel, options):
        yield from events_of(tool, columns, place, row)


def events_of(tool: Tool, columns: tuple[Column, ...], place: Mapping[str, int], row: Row) -> Iterator[Event]:
    """The events of one row: times of one moment together."""
    at: dict[float, list[Moment]] = {}
    lack: Unavailable | None = None
    for moment in tool.moments:
        cell = row.cells[place[moment.column]]
        if isinstance(cell, Unavailable):
            lack = lack or cell
        elif isinstance(cell, int | float):
            at.setdefault(cell, []).append(moment)
    if not at and lack is None:
        return
    file = _file_of(place, row) if tool.name == "files" else None
    text = file.path if file is not None else _text_of(tool, columns, place, row)
    user = row.cells[place["USER"]] if "USER" in place else None
    for time, moments in at.items():
        kinds = tuple(moment.kind for moment in moments)
        names = ", ".join(dict.fromkeys(_event(moment, place, row) for moment in moments))
        yield Event(time, kinds, tool.name, names, text, user, file)
    if lack is not None and not at:
        yield Event(lack, (), tool.name, "not read", text, None, file)


def _event(moment: Moment, place: Mapping[str, int], row: Row) -> str:
    """What happened: in the moment's words, `{COLUMN}` replaced by the cell."""
    name, opened, rest = moment.event.partition("{")
    column, closed, end = rest.partition("}")
    if not opened or not closed:
        return moment.event
    return f"{name}{as_text(row.cells[place[column]], 'str')}{end}"


def _text_of(tool: Tool, columns: tuple[Column, ...], place: Mapping[str, int], row: Row) -> str:
    parts = []
    for name in tool.moment_text:
        column = columns[place[name]]
        cell = row.cells[place[name]]
        if cell is not None and not isinstance(cell, Unavailable) and cell != "":
            shown = cell if isinstance(cell, str) else as_text(cell, column.kind)
            parts.append(shown if len(tool.moment_text) == 1 else f"{name}={shown}")
    return " ".join(parts)[:MAX_TEXT]


def _file_of(place: Mapping[str, int], row: Row) -> FileFacts:
    def number(name: str) -> int:
        cell = row.cells[place[name]]
        return cell if isinstance(cell, int) else 0

    mode, path, target = (row.cells[place[name]] for name in ("MODE", "PATH", "TARGET"))
    state = row.cells[place["STATE"]]
    name = str(path) + (f" ({state})" if isinstance(state, str) else "")
    if isinstance(mode, str) and mode.startswith("l") and isinstance(target, str):
        name += f" -> {target}"
    return FileFacts(
        name, number("INODE"), mode if isinstance(mode, str) else stat.filemode(0), number("UID"),
        number("GID"), number("SIZE"),
    )  # fmt: skip
