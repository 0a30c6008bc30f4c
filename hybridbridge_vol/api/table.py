"""A tool's answer as typed Python values: what the methods of `Snapshot` return.

A row is a named tuple whose fields are named after the tool's columns by one rule, `field_of`: lower case,
`%` becomes `pct_`, any other character that is not a letter or digit becomes `_`, and a name that Python uses
itself gets a trailing `_`. Tools that can show a tree have an additional field `depth`.

    %CPU -> pct_cpu    RECV-Q -> recv_q    KB_READ/S -> kb_read_s    CMD -> cmd

Values by the column's kind: int and hex are int, float and percent are float, str is str (a byte of the guest
that is not UTF-8 is written as `\\x80`), time is datetime in UTC, duration is timedelta. None: there is no
value, or it could not be read; `Table.unreadable` lists the values that could not be read, with the reasons.
"""

from __future__ import annotations

import keyword
import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from hybridbridge_vol.toolkit.cells import (
    Kind,
    PythonValue,
    Unavailable,
    as_python,
    as_text,
    without_surrogates,
)
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.render import Answer, read_errors, write_text
from hybridbridge_vol.toolkit.tool import Column, Row

if TYPE_CHECKING:
    import pandas

R_co = TypeVar("R_co", bound=tuple[Any, ...], covariant=True)

PYTHON_TYPES: dict[Kind, str] = {
    "int": "int",
    "hex": "int",
    "float": "float",
    "percent": "float",
    "str": "str",
    "time": "datetime.datetime",
    "duration": "datetime.timedelta",
}
"""The Python type of a value of each kind, if it is not None."""

SHOWN_IN_HTML = 500
"""Rows of a table that a notebook shows."""

_INT64, _UINT64 = 1 << 63, 1 << 64


def field_of(column: str) -> str:
    """The name of a column's field in a row."""
    text = re.sub(r"[^0-9a-z]+", "_", column.lower().replace("%", " pct ")).strip("_") or "column"
    if text[0].isdecimal():
        text = f"n{text}"
    return f"{text}_" if keyword.iskeyword(text) or hasattr(tuple, text) else text


@cache
def row_type(tool: str, columns: tuple[Column, ...], tree: bool = False) -> type[tuple[Any, ...]]:
    """The named tuple class of these columns; `tree` adds `depth`. Its rows can be pickled."""
    fields = [field_of(column.name) for column in columns] + ["depth"] * tree
    made: Any = namedtuple(tool.capitalize(), fields)  # type: ignore[misc]
    made.__doc__ = f"A row of `{tool}`."
    made.__module__ = __name__
    for field, column in zip(fields, columns, strict=False):
        getattr(made, field).__doc__ = column.help
    setattr(made, "__reduce__", lambda row: (_remade, (tool, columns, tree, tuple(row))))  # noqa: B010
    row: type[tuple[Any, ...]] = made
    return row


def _remade(
    tool: str, columns: tuple[Column, ...], tree: bool, values: tuple[PythonValue, ...]
) -> tuple[Any, ...]:
    made: Any = row_type(tool, columns, tree)
    row: tuple[Any, ...] = made(*values)
    return row


class Gap(NamedTuple):
    """A value that could not be read: the number of its row, its column's name, and the reason."""

    row: int
    column: str
    reason: str


class Table(Sequence[R_co], Generic[R_co]):
    """The rows of one answer, in the tool's order; `pandas.DataFrame(table)` accepts it as it is.

    `tool`: the tool's name. `columns`: its columns, with their names, kinds and help. `row_type`: the class
    of the rows. `unreadable`: the values that could not be read; empty for a complete answer.
    """

    tool: str
    columns: tuple[Column, ...]
    row_type: type[Any]
    unreadable: tuple[Gap, ...]

    def __init__(
        self, tool: str, columns: Sequence[Column], rows: Iterable[Row], tree_column: str | None = None
    ) -> None:
        self.tool, self.columns = tool, tuple(columns)
        self._tree_column = tree_column
        tree = tree_column is not None
        make: Any = row_type(tool, self.columns, tree)
        self.row_type = make
        kinds = [column.kind for column in self.columns]
        table: list[R_co] = []
        answer: list[Row] = []
        unreadable: list[Gap] = []
        for number, row in enumerate(rows):
            values = list(map(as_python, row.cells, kinds))
            missing = [
                Gap(number, column.name, value.reason)
                for column, value in zip(self.columns, values, strict=True)
                if isinstance(value, Unavailable)
            ]
            if missing:
                unreadable += missing
                cells = zip(row.cells, values, strict=True)
                row = row._replace(
                    cells=tuple(v if isinstance(v, Unavailable) else cell for cell, v in cells)
                )
                values = [None if isinstance(value, Unavailable) else value for value in values]
            table.append(make(*values, row.depth) if tree else make(*values))
            answer.append(row)
        self._rows, self._answer = tuple(table), tuple(answer)
        self.unreadable = tuple(unreadable)

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not self.unreadable

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> R_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[R_co, ...]: ...
    def __getitem__(self, index: int | slice) -> R_co | tuple[R_co, ...]:
        return self._rows[index]

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with the tool's own column names. Integers stay integers where values are missing
        (Int64, UInt64).

        Tools that can show a tree have an additional column `depth`; an incomplete answer has a column
        `unreadable` with the reasons. ImportError without pandas.
        """
        import pandas  # an optional package

        parts: dict[str, Any] = {
            column.name: pandas.Series([row[i] for row in self._rows], dtype=self._dtype(i, column.kind))
            for i, column in enumerate(self.columns)
        }
        if self._tree_column is not None:
            parts["depth"] = pandas.Series([row.depth for row in self._answer], dtype="int32")
        if self.unreadable:
            why: list[dict[str, None]] = [{} for _ in self._rows]
            for gap in self.unreadable:
                why[gap.row][without_surrogates(gap.reason)] = None
            parts["unreadable"] = pandas.Series(["; ".join(reasons) or None for reasons in why], dtype="str")
        return pandas.DataFrame(parts)

    def _dtype(self, place: int, kind: Kind) -> str:
        values = [row[place] for row in self._rows]
        if any(isinstance(value, str) for value in values):
            return "str"
        if kind in ("int", "hex"):
            numbers = [value for value in values if value is not None]
            signed = "UInt64" if kind == "hex" or any(number >= _INT64 for number in numbers) else "Int64"
            if any(not (0 if signed == "UInt64" else -_INT64) <= number < _UINT64 for number in numbers):
                return "object"
            return signed if len(numbers) < len(values) else signed.lower()
        return {"str": "str", "time": "datetime64[us, UTC]", "duration": "timedelta64[us]"}.get(
            kind, "float64"
        )

    def __str__(self) -> str:
        """As `hb run` writes it."""
        out = StringIO()
        write_text(Answer(self.columns, self._answer, self._tree_column), out)
        return out.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        incomplete = f", {self._incomplete()} incomplete" if self.unreadable else ""
        names = ", ".join(column.name for column in self.columns)
        return f"<Table {self.tool}: {len(self)} rows{incomplete}: {names}>"

    def _incomplete(self) -> int:
        return len({gap.row for gap in self.unreadable})

    def _repr_html_(self) -> str:
        """For notebooks. What the guest wrote is shown as text, never as markup."""

        def words(text: str) -> str:
            return escape(printable(text), quote=True)

        head = "".join(
            f'<th title="{words(column.help)}">{words(column.name)}</th>' for column in self.columns
        )
        lines = []
        for row in self._answer[:SHOWN_IN_HTML]:
            reasons = read_errors(self.columns, row)
            cells = []
            for cell, column in zip(row.cells, self.columns, strict=True):
                left = column.kind == "str" if column.left is None else column.left
                style = f"text-align:{'left' if left else 'right'};white-space:pre-wrap"
                if row.depth and column.name == self._tree_column:
                    style += f";padding-left:{min(row.depth, 40)}em"
                why = f' title="{words(reasons[column.name])}"' if column.name in reasons else ""
                cells.append(
                    f'<td style="{style}"{why}>{escape(as_text(cell, column.kind), quote=True)}</td>'
                )
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = len(self) - SHOWN_IN_HTML
        notes = [f"{more} more rows"] * (more > 0) + [f"{self._incomplete()} rows are incomplete"] * bool(
            self.unreadable
        )
        foot = f"<p>{words('; '.join(notes))}</p>" if notes else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{foot}"
