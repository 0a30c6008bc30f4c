"""A tool's rows as a file: Parquet or JSON lines, with the types that the tool's columns have.

| kind of column | Parquet | JSON lines |
|---|---|---|
| int | int64 | number |
| float, percent, duration (seconds) | double | number |
| time | timestamp[ms, UTC] | ISO 8601 with milliseconds and `Z` |
| hex (an address) | uint64 | number |
| str | string | string |

Bytes of the guest that are no UTF-8 are written as `\\xff`. A cell that could not be read is null, and
`unreadable`, a map from the column's name to the reason, tells so; it is null where the row is complete.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hybridbridge_vol.toolkit.tool import Cell, Column, Kind, Row, Tool, Unavailable

if TYPE_CHECKING:
    import pyarrow

    from hybridbridge_vol.lab.batch.dataset import Format

DEPTH, UNREADABLE = "depth", "unreadable"
ROWS_AT_ONCE = 8192
"""Rows held in memory; a table is written in groups of so many."""

_INT64, _UINT64 = range(-(1 << 63), 1 << 63), range(1 << 64)
_YEAR_10000 = 253402300800
_SURROGATE = re.compile("[\ud800-\udfff]")


def schema_of(columns: Sequence[Column], tree: bool) -> pyarrow.Schema:
    """The Arrow schema of a tool's table; `tree` if its rows have depths."""
    import pyarrow

    types: dict[Kind, Any] = {
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "percent": pyarrow.float64(),
        "hex": pyarrow.uint64(),
        "str": pyarrow.string(),
        "time": pyarrow.timestamp("ms", "UTC"),
        "duration": pyarrow.float64(),
    }
    fields = [pyarrow.field(column.name, types[column.kind]) for column in columns]
    if tree:
        fields.append(pyarrow.field(DEPTH, pyarrow.int32()))
    fields.append(pyarrow.field(UNREADABLE, pyarrow.map_(pyarrow.string(), pyarrow.string())))
    return pyarrow.schema(fields)


def value_of(cell: Cell, kind: Kind) -> int | float | str | None | Unavailable:
    """A cell as the table keeps it: a time in whole milliseconds, an Unavailable where it does not fit its
    type."""
    if cell is None or isinstance(cell, Unavailable):
        return cell
    if kind == "str":
        return escaped(str(cell))
    if isinstance(cell, str):
        return Unavailable(f"not a number: {escaped(cell)[:40]!r}")
    if kind in ("int", "hex"):
        number = int(cell)
        return (
            number
            if number in (_INT64 if kind == "int" else _UINT64)
            else Unavailable(f"out of range: {number:#x}")
        )
    if not math.isfinite(cell):
        return Unavailable(f"not a number: {cell}")
    if kind == "time":
        return math.floor(cell * 1000) if 0 <= cell < _YEAR_10000 else Unavailable(f"not a time: {cell:g}")
    return float(cell)


def escaped(text: str) -> str:
    """The text with what stands for bytes that are no UTF-8 (lone surrogates) as `\\xff`."""
    return _SURROGATE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def write_table(
    path: Path, form: Format, tool: Tool, columns: Sequence[Column], rows: Iterable[Row]
) -> Counts:
    """Write the rows into a file that nobody else looks at yet. What `rows` raises is told in the answer; the
    file is whole as far as it got. OSError if it cannot be written."""
    counts = Counts()
    tree = tool.tree_column is not None
    with (_Parquet if form == "parquet" else _JsonLines)(path, columns, tree) as out:
        batch: list[dict[str, Any]] = []
        try:
            for row in rows:
                record = _record(columns, row, tree)
                counts.rows += 1
                counts.incomplete += record[UNREADABLE] is not None
                batch.append(record)
                if len(batch) == ROWS_AT_ONCE:
                    out.write(batch)
                    batch = []
        except Exception as error:  # noqa: BLE001  a tool's bug costs this table only
            counts.error = error
        if batch:
            out.write(batch)
    return counts


class Counts:
    """How many rows a table has, how many of them are incomplete, and what ended it early."""

    def __init__(self) -> None:
        self.rows = self.incomplete = 0
        self.error: Exception | None = None


def _record(columns: Sequence[Column], row: Row, tree: bool) -> dict[str, Any]:
    record: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for column, cell in zip(columns, row.cells, strict=True):
        value = value_of(cell, column.kind)
        if isinstance(value, Unavailable):
            reasons[column.name] = escaped(value.reason)
            value = None
        record[column.name] = value
    if tree:
        record[DEPTH] = row.depth
    record[UNREADABLE] = reasons or None
    return record


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[Column], tree: bool) -> None:
        from pyarrow import parquet

        self._schema = schema_of(columns, tree)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, batch: list[dict[str, Any]]) -> None:
        import pyarrow

        for record in batch:
            if record[UNREADABLE] is not None:
                record[UNREADABLE] = list(record[UNREADABLE].items())
        arrays = [
            pyarrow.array([record[field.name] for record in batch], field.type, from_pandas=False)
            for field in self._schema
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, path: Path, columns: Sequence[Column], tree: bool) -> None:
        self._times = [column.name for column in columns if column.kind == "time"]
        self._stream = open(path, "x", encoding="utf-8")  # noqa: SIM115

    def write(self, batch: list[dict[str, Any]]) -> None:
        for record in batch:
            for name in self._times:
                if record[name] is not None:
                    record[name] = iso(record[name])
            self._stream.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stream.close()


def iso(milliseconds: int) -> str:
    """`2026-11-23T05:30:44.123Z` for milliseconds since the epoch."""
    from hybridbridge_vol.toolkit.render import utc

    return f"{utc(milliseconds // 1000)[:-1].replace(' ', 'T')}.{milliseconds % 1000:03d}Z"
