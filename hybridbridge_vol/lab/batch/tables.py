"""A tool's rows as a file: Parquet or JSON lines, with the types that the tool's columns have.

| kind of column | Parquet | JSON lines |
|---|---|---|
| int | int64 | number |
| float, percent, duration (seconds) | double | number |
| time | timestamp[ms, UTC] | ISO 8601 with milliseconds and `Z` |
| hex (an address) | uint64 | number |
| str | string | string |

Bytes of the guest that are not UTF-8 are written as `\\xff`. A cell that could not be read is null, and the
column `unreadable` maps the column's name to the reason; it is null where the row is complete.

pyarrow is imported late because it is optional: JSON lines do without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hybridbridge_vol.toolkit.cells import Kind, Unavailable, as_stored, iso, without_surrogates
from hybridbridge_vol.toolkit.tool import Column, Row, Tool

if TYPE_CHECKING:
    import pyarrow

    from hybridbridge_vol.lab.batch.dataset import Format

DEPTH, UNREADABLE = "depth", "unreadable"
ROWS_AT_ONCE = 8192
"""Rows that are held in memory: a table is written in groups of this size."""


def schema_of(columns: Sequence[Column], tree: bool) -> pyarrow.Schema:
    """The Arrow schema of a tool's table; `tree`: its rows have a depth."""
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


def write_table(
    path: Path, form: Format, tool: Tool, columns: Sequence[Column], rows: Iterable[Row]
) -> Written:
    """Write the rows into a file that nobody else reads yet. What `rows` raises is in the result, and the
    file holds the rows up to there. OSError if it cannot be written."""
    written = Written()
    tree = tool.tree_column is not None
    with (_Parquet if form == "parquet" else _JsonLines)(path, columns, tree) as out:
        batch: list[dict[str, object]] = []
        try:
            for row in rows:
                record = _record(columns, row, tree)
                written.rows += 1
                written.incomplete += record[UNREADABLE] is not None
                batch.append(record)
                if len(batch) == ROWS_AT_ONCE:
                    out.write(batch)
                    batch = []
        except Exception as error:  # noqa: BLE001  a bug of one tool ends its table only
            written.error = error
        if batch:
            out.write(batch)
    return written


@dataclass
class Written:
    """How many rows a table has, how many of them are incomplete, and what ended it early."""

    rows: int = 0
    incomplete: int = 0
    error: Exception | None = None


def _record(columns: Sequence[Column], row: Row, tree: bool) -> dict[str, object]:
    record: dict[str, object] = {}
    reasons: dict[str, str] = {}
    for column, cell in zip(columns, row.cells, strict=True):
        value = as_stored(cell, column.kind)
        if isinstance(value, Unavailable):
            reasons[column.name] = without_surrogates(value.reason)
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

    def write(self, batch: list[dict[str, object]]) -> None:
        import pyarrow

        for record in batch:
            reasons = record[UNREADABLE]
            if isinstance(reasons, dict):
                record[UNREADABLE] = list(reasons.items())
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

    def write(self, batch: list[dict[str, object]]) -> None:
        for record in batch:
            for name in self._times:
                moment = record[name]
                if isinstance(moment, int):
                    record[name] = iso(moment)
            self._stream.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stream.close()
