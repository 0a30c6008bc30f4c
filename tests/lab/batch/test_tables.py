"""A tool's rows as Parquet and as JSON lines: the same values, whatever the guest has written."""

from __future__ import annotations

import datetime
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hybridbridge_vol import tools
from hybridbridge_vol.lab.batch.tables import DEPTH, UNREADABLE, schema_of, write_table
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Row, Tool

COLUMNS = (
    Column("N", "int", ""), Column("F", "float", ""), Column("P", "percent", ""), Column("A", "hex", ""),
    Column("S", "str", ""), Column("T", "time", ""), Column("D", "duration", ""),
)  # fmt: skip


class AnyTool(Tool):
    name = "any"
    help = ""
    columns = COLUMNS
    tree_column = "S"


def texts() -> st.SearchStrategy[str]:
    """What a guest may have written, bytes that are no UTF-8 included."""
    return st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))


def cells() -> st.SearchStrategy[Any]:
    number = st.integers(-(1 << 65), 1 << 65) | st.floats()
    real = st.floats() | st.integers(-(1 << 40), 1 << 40)
    values: list[st.SearchStrategy[Any]] = [
        st.integers(-(1 << 65), 1 << 65),
        real,
        real,
        st.integers(-5, 1 << 65),
        texts(),
        number,
        real,
    ]
    missing = st.none() | texts().map(Unavailable)
    return st.builds(Row, st.tuples(*(value | missing for value in values)), st.integers(0, 5))


def written(form: Any, rows: list[Row]) -> Path:
    path = Path(tempfile.mkdtemp()) / f"t.{form}"
    write_table(path, form, AnyTool(), COLUMNS, rows)
    return path


def of_parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist(maps_as_pydicts="strict")
    return rows


def of_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    for row in rows:
        if row["T"] is not None:
            row["T"] = datetime.datetime.fromisoformat(row["T"])
    return rows


@settings(deadline=None)
@given(st.lists(cells(), max_size=8))
def test_both_formats_hold_the_same_values(rows: list[Row]) -> None:
    assert of_parquet(written("parquet", rows)) == of_jsonl(written("jsonl", rows))


@settings(deadline=None)
@given(cells())
def test_a_cell_is_kept_or_its_column_says_why_not(row: Row) -> None:
    (kept,) = of_parquet(written("parquet", [row]))
    reasons = kept[UNREADABLE] or {}
    for column, cell in zip(COLUMNS, row.cells, strict=True):
        if kept[column.name] is None:
            assert (column.name in reasons) == (cell is not None)
            continue
        assert column.name not in reasons
        if column.kind == "str":
            assert (
                kept[column.name].encode() == cell.encode("utf-8", "backslashreplace")
                or "\\x" in kept[column.name]
            )
        elif column.kind == "time":
            assert kept["T"].timestamp() * 1000 == math.floor(cast(float, cell) * 1000)
        else:
            assert kept[column.name] == cell
    assert kept[DEPTH] == row.depth


def test_bytes_that_are_not_utf_8_are_written_as_escapes() -> None:
    row = Row((1, 1.0, 1.0, 1, "a\udcffb", 0, 0))
    assert of_parquet(written("parquet", [row]))[0]["S"] == "a\\xffb"


def test_what_a_tool_raises_leaves_the_rows_before_it() -> None:
    def rows() -> Iterator[Row]:
        yield Row((1, 1.0, 1.0, 1, "a", 0, 0))
        raise OSError(5, "Input/output error", "/proc/x")

    path = Path(tempfile.mkdtemp()) / "t.parquet"
    counts = write_table(path, "parquet", AnyTool(), COLUMNS, rows())
    assert counts.rows == 1 and isinstance(counts.error, OSError)
    assert parquet.read_table(path).num_rows == 1


def test_a_table_without_rows_has_its_columns() -> None:
    assert parquet.read_table(written("parquet", [])).schema.equals(schema_of(COLUMNS, tree=True))


def test_no_tool_has_a_column_that_a_table_needs_for_itself() -> None:
    for name in tools.NAMES:
        tool = tools.load(name)
        names = [column.name.lower() for column in tool.columns]
        assert len(set(names)) == len(names), name  # DuckDB does not tell cases apart
        assert not {"image", DEPTH, UNREADABLE}.intersection(names), name
        assert isinstance(schema_of(tool.columns, tool.tree_column is not None), pyarrow.Schema)
