"""How an answer is written: an aligned table, JSON or CSV.

Names and command lines come from the guest and may hold anything: in a table and in CSV what cannot be
printed is shown as `\\x1b`, `\\udc80` and the like, so that no name can move the cursor or start a line of
its own. JSON keeps each character, in JSON's own escapes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from hybridbridge_vol.toolkit.tool import Cell, Column, Kind, Row, Tool, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PADDED = 80
"""Cells longer than this push their row to the right instead of widening the column for all rows."""
LEAST_OF_LAST = 20
"""Columns of the last cell that must fit a terminal for lines to be cut rather than wrapped."""


class Answer(NamedTuple):
    """A tool's rows with what is needed to write them."""

    columns: Sequence[Column]
    rows: Iterable[Row]
    tree_column: str | None = None


def printable(text: str) -> str:
    """The text with every character that is not printable (control characters, line ends, bidirectional
    marks, lone surrogates) replaced by an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    # surrogateescape keeps a byte that is no UTF-8 as one of these
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


DECIMALS: dict[Kind, int] = {"float": 1, "percent": 2}
"""How many digits behind the point are shown."""


def shown(cell: Cell, kind: Kind) -> str:
    """A cell as text, in one line; `-` where there is nothing or it could not be read."""
    if cell is None or isinstance(cell, Unavailable):
        return "-"
    if isinstance(cell, str):
        return printable(cell)
    if kind == "time":
        return utc(cell)
    if kind == "duration":
        return duration(cell)
    if kind in DECIMALS:
        return f"{cell:.{DECIMALS[kind]}f}"
    if kind == "hex":
        return f"{int(cell):#x}"
    return str(cell)


def utc(seconds: float, digits: int = 0) -> str:
    """Seconds since the epoch as `2024-05-01 12:34:56Z`, cut (not rounded) after `digits` decimals."""
    whole, part = divmod(seconds, 1)
    try:
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(whole))
    except (OverflowError, ValueError, OSError):
        return f"@{seconds:.0f}"
    return then + (f".{int(part * 10**digits):0{digits}d}" if digits else "") + "Z"


def duration(seconds: float) -> str:
    """Seconds as `[days-]hours:minutes:seconds`, cut, as `ps` writes TIME."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02d}:{minute:02d}:{second:02d}"


def gaps(columns: Sequence[Column], row: Row) -> dict[str, str]:
    """Why cells of the row could not be read, by column name; empty for a complete row."""
    return {
        column.name: cell.reason
        for column, cell in zip(columns, row.cells, strict=True)
        if isinstance(cell, Unavailable)
    }


def write_text(answer: Answer, out: TextIO, width: int | None = None) -> bool:
    """An aligned table. `width` is the terminal's, if there is one: lines are cut there, unless too little of
    the last column would be left to be of use. A row with cells that could not be read ends in `! reason`,
    which is never cut. True if every row was complete."""
    columns = answer.columns
    complete = True
    table: list[list[str]] = [[column.name for column in columns]]
    notes: list[str] = [""]
    for row in answer.rows:
        cells = [shown(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True)]
        if row.depth and answer.tree_column:
            place = next(i for i, column in enumerate(columns) if column.name == answer.tree_column)
            cells[place] = " " * (4 * row.depth - 4) + " \\_ " + cells[place]
        reasons = dict.fromkeys(gaps(columns, row).values())
        complete = complete and not reasons
        table.append(cells)
        notes.append(f"  ! {printable('; '.join(reasons))}" if reasons else "")
    lefts = [column.kind == "str" if column.left is None else column.left for column in columns]
    widths = [
        max(
            len(columns[i].name),
            max((w for line in table if (w := columns_of(line[i])) <= LONGEST_PADDED), default=0),
        )
        for i in range(len(columns))
    ]
    if width is not None and sum(widths[:-1]) + len(widths) - 1 + LEAST_OF_LAST > width:
        width = None
    for cells, note in zip(table, notes, strict=True):
        line = " ".join(
            cell + " " * (space - columns_of(cell)) if left else " " * (space - columns_of(cell)) + cell
            for cell, space, left in zip(cells, widths, lefts, strict=True)
        )
        line = line.rstrip()
        out.write((line if width is None else cut(line, width)) + note + "\n")
    return complete


def columns_of(text: str) -> int:
    """How many columns of a terminal the (printable) text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """The beginning of the text that fits `width` columns."""
    if text.isascii():
        return text[:width]
    end = len(text)
    while columns_of(text[:end]) > width:
        end -= 1
    return text[:end]


def plain(cell: Cell, kind: Kind) -> Any:
    """A cell as a value of JSON: times as ISO 8601 in UTC, addresses as hexadecimal strings, durations in
    seconds, None where there is nothing or it could not be read."""
    if cell is None or isinstance(cell, Unavailable):
        return None
    if isinstance(cell, str):
        return cell
    if kind == "time":
        return utc(cell, digits=3).replace(" ", "T")
    if kind == "hex":
        return f"{int(cell):#x}"
    if isinstance(cell, float):
        return round(cell, DECIMALS.get(kind, 3))
    return cell


def write_json(answer: Answer, out: TextIO) -> bool:
    """A list of objects, one a line. A row with cells that could not be read has the reasons under
    `unreadable`, a child row its `depth`. True if every row was complete."""
    import json

    complete = True
    separator = "["
    for row in answer.rows:
        record = {
            column.name: plain(cell, column.kind)
            for cell, column in zip(row.cells, answer.columns, strict=True)
        }
        if row.depth:
            record["depth"] = row.depth
        reasons = gaps(answer.columns, row)
        if reasons:
            complete = False
            record["unreadable"] = reasons
        out.write(separator + "\n " + json.dumps(record))
        separator = ","
    out.write("[]\n" if separator == "[" else "\n]\n")
    return complete


def write_csv(answer: Answer, out: TextIO) -> bool:
    """A line of names, then the rows (RFC 4180, but lines end in a newline). Values are those of JSON, made
    printable; the last column says why cells could not be read. True if every row was complete."""
    import csv

    complete = True
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in answer.columns] + ["unreadable"])
    for row in answer.rows:
        values = [plain(cell, column.kind) for cell, column in zip(row.cells, answer.columns, strict=True)]
        reasons = dict.fromkeys(gaps(answer.columns, row).values())
        complete = complete and not reasons
        writer.writerow(
            [printable(value) if isinstance(value, str) else value for value in values]
            + [printable("; ".join(reasons))]
        )
    return complete


def safe(data: bytes) -> str:
    """Bytes for a terminal: text with every unprintable character but newline and tab escaped."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in text)


WRITERS: dict[str, Callable[[Answer, TextIO], bool]] = {
    "text": write_text,
    "json": write_json,
    "csv": write_csv,
}


def answer_of(tool: Tool, kernel: Any, options: Any) -> Answer:
    """A tool's answer, read as it is written."""
    return Answer(tool.columns_for(options), tool.rows(kernel, options), tool.tree_column)
