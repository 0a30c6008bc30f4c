"""How an answer is written: an aligned table, JSON or CSV.

Names and command lines come from the guest and may hold anything. In a table and in CSV they are made
printable; JSON keeps each character, in JSON's own escapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TextIO

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable, as_json, as_text
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.printable import columns_of, cut, printable
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool

LONGEST_PADDED = 80
"""Cells longer than this push their row to the right instead of widening the column for all rows."""
LEAST_OF_LAST = 20
"""Columns of the last cell that must fit a terminal for lines to be cut rather than wrapped."""


class Answer(NamedTuple):
    """A tool's rows with what is needed to write them."""

    columns: Sequence[Column]
    rows: Iterable[Row]
    tree_column: str | None = None


def answer_of(tool: Tool, kernel: GuestKernel, options: Options) -> Answer:
    """A tool's answer, read as it is written."""
    return Answer(tool.columns_for(options), limited_rows(tool, kernel, options), tool.tree_column)


def read_errors(columns: Sequence[Column], row: Row) -> dict[str, str]:
    """Why cells of the row could not be read, by column name; empty for a complete row."""
    return {
        column.name: cell.reason
        for column, cell in zip(columns, row.cells, strict=True)
        if isinstance(cell, Unavailable)
    }


class _Line(NamedTuple):
    """A line of a table; `note` follows it and is never cut."""

    cells: list[str]
    note: str = ""


def write_text(answer: Answer, out: TextIO, width: int | None = None) -> bool:
    """An aligned table. `width` is the terminal's, if there is one: lines are cut there, unless too little of
    the last column would be left to be of use. A row with cells that could not be read ends in `! reason`,
    which is never cut. True if every row was complete."""
    columns = answer.columns
    rows = [_line_of(row, answer) for row in answer.rows]
    table = [_Line([column.name for column in columns]), *rows]
    widths = [_width(table, number) for number in range(len(columns))]
    if width is not None and sum(widths[:-1]) + len(widths) - 1 + LEAST_OF_LAST > width:
        width = None
    for cells, note in table:
        padded = (
            _padded(cell, space, is_left(column))
            for cell, space, column in zip(cells, widths, columns, strict=True)
        )
        line = " ".join(padded).rstrip()
        out.write((line if width is None else cut(line, width)) + note + "\n")
    return not any(line.note for line in rows)


def _line_of(row: Row, answer: Answer) -> _Line:
    names = [column.name for column in answer.columns]
    cells = [as_text(cell, column.kind) for cell, column in zip(row.cells, answer.columns, strict=True)]
    if row.depth and answer.tree_column:
        position = names.index(answer.tree_column)
        cells[position] = " " * (4 * row.depth - 4) + " \\_ " + cells[position]
    reasons = dict.fromkeys(read_errors(answer.columns, row).values())
    return _Line(cells, f"  ! {printable('; '.join(reasons))}" if reasons else "")


def _width(table: Sequence[_Line], number: int) -> int:
    """Of a column of the table: that of its title and of the cells that are not too long to be padded."""
    widths = [columns_of(line.cells[number]) for line in table]
    return max([widths[0], *(width for width in widths if width <= LONGEST_PADDED)])


def _padded(cell: str, space: int, left: bool) -> str:
    blanks = " " * (space - columns_of(cell))
    return cell + blanks if left else blanks + cell


def is_left(column: Column) -> bool:
    """Whether a column is aligned left."""
    return column.kind == "str" if column.left is None else column.left


def write_json(answer: Answer, out: TextIO) -> bool:
    """A list of objects, one a line. A row with cells that could not be read has the reasons under
    `unreadable`, a child row its `depth`. True if every row was complete."""
    complete = True
    separator = "["
    for row in answer.rows:
        record: dict[str, object] = {
            column.name: as_json(cell, column.kind)
            for cell, column in zip(row.cells, answer.columns, strict=True)
        }
        if row.depth:
            record["depth"] = row.depth
        reasons = read_errors(answer.columns, row)
        if reasons:
            complete = False
            record["unreadable"] = reasons
        out.write(separator + "\n " + json.dumps(record))
        separator = ","
    out.write("[]\n" if separator == "[" else "\n]\n")
    return complete


def write_csv(answer: Answer, out: TextIO) -> bool:
    """A line of names, then the rows (RFC 4180, but lines end in a newline). Values are those of JSON, made
    printable; the last column is why cells could not be read. True if every row was complete."""
    complete = True
    import csv  # one of three formats needs it

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in answer.columns] + ["unreadable"])
    for row in answer.rows:
        values = [as_json(cell, column.kind) for cell, column in zip(row.cells, answer.columns, strict=True)]
        reasons = dict.fromkeys(read_errors(answer.columns, row).values())
        complete = complete and not reasons
        writer.writerow(
            [printable(value) if isinstance(value, str) else value for value in values]
            + [printable("; ".join(reasons))]
        )
    return complete


WRITERS: dict[str, Callable[[Answer, TextIO], bool]] = {
    "text": write_text,
    "json": write_json,
    "csv": write_csv,
}
