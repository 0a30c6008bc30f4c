"""Answers as values of Python, whatever a guest wrote."""

from __future__ import annotations

import datetime
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridbridge_vol.api.table import Table, field_of
from hybridbridge_vol.toolkit.cells import Cell, Unavailable, as_python
from hybridbridge_vol.toolkit.tool import Column, Row

COLUMNS = (
    Column("PID", "int", "a number"),
    Column("ADDR", "hex", "an address"),
    Column("%CPU", "float", "a share"),
    Column("START", "time", "a moment"),
    Column("TIME", "duration", "a while"),
    Column("CMD", "str", "what <it> is"),
)
cells = st.tuples(
    st.integers(-(2**63), 2**64) | st.none(),
    st.integers(0, 2**64 - 1) | st.builds(Unavailable, st.text()),
    st.floats(allow_nan=False) | st.none(),
    st.floats() | st.integers(),
    st.floats() | st.integers(),
    st.text(st.characters()) | st.builds(Unavailable, st.text(st.characters())),
)


def table_of(*rows: tuple[Cell, ...], tree: str | None = None) -> Table[tuple[object, ...]]:
    return Table("ps", COLUMNS, [Row(row, depth) for depth, row in enumerate(rows)], tree)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("PID", "pid"),
        ("%CPU", "pct_cpu"),
        ("RECV-Q", "recv_q"),
        ("KB_READ/S", "kb_read_s"),
        ("IN", "in_"),
        ("COUNT", "count_"),
        ("1MIN", "n1min"),
        ("", "column"),
        ("_X", "x"),
        ("é", "column"),
    ],
)
def test_a_field_is_named_by_the_rule(column: str, field: str) -> None:
    assert field_of(column) == field


@given(st.text(st.characters()))
def test_every_name_becomes_an_identifier(name: str) -> None:
    assert field_of(name).isidentifier()


@settings(max_examples=30)
@given(st.lists(cells, max_size=4))
def test_any_answer_becomes_rows_html_and_a_frame(rows: list[tuple[Cell, ...]]) -> None:
    pandas = pytest.importorskip("pandas")
    table = table_of(*rows)
    assert len(table) == len(rows) == len(table.to_pandas())
    assert list(table.to_pandas().columns)[: len(COLUMNS)] == [column.name for column in COLUMNS]
    assert len(pandas.DataFrame(table)) == len(rows)
    assert table._repr_html_().isprintable()
    assert len(str(table).splitlines()) == len(rows) + 1
    for number, row in enumerate(rows):
        gaps = {
            column.name for column, cell in zip(COLUMNS, row, strict=True) if isinstance(cell, Unavailable)
        }
        assert gaps <= {gap.column for gap in table.unreadable if gap.row == number}


def test_an_unreadable_value_is_none_with_a_reason() -> None:
    table = table_of((1, Unavailable("no page"), 1.5, 0, 61, "sh"), (None, 2**63, None, None, None, None))
    assert table[0] == (
        1,
        None,
        1.5,
        datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(seconds=61),
        "sh",
    )
    assert table[1] == (None, 2**63, None, None, None, None)
    assert table.unreadable == ((0, "ADDR", "no page"),)
    assert not table.complete
    frame = pytest.importorskip("pandas") and table.to_pandas()
    assert [str(kind) for kind in frame.dtypes] == [
        "Int64",
        "UInt64",
        "float64",
        "datetime64[us, UTC]",
        "timedelta64[us]",
        "str",
        "str",
    ]
    assert list(frame["unreadable"].fillna("")) == ["no page", ""]


def test_an_empty_answer_has_columns_and_types_in_pandas() -> None:
    pytest.importorskip("pandas")
    frame = table_of().to_pandas()
    assert [str(kind) for kind in frame.dtypes] == [
        "int64",
        "uint64",
        "float64",
        "datetime64[us, UTC]",
        "timedelta64[us]",
        "str",
    ]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e30, -1e30, 2**62])
def test_a_moment_beyond_pythons_years_is_a_gap(seconds: float) -> None:
    assert isinstance(as_python(seconds, "time"), Unavailable)


@pytest.mark.parametrize("seconds", [float("nan"), float("-inf"), 8_640_000_000_000.5, -(2**62)])
def test_a_while_longer_than_pandas_can_count_is_a_gap(seconds: float) -> None:
    assert isinstance(as_python(seconds, "duration"), Unavailable)
    assert as_python(8_640_000_000_000, "duration") == datetime.timedelta(days=100_000_000)


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert as_python("a\udc80b\udcff\ud800é", "str") == "a\\x80b\\xff\\ud800é"


def test_rows_can_be_pickled() -> None:
    table = table_of((1, 2, 3.0, 4.0, 5.0, "six"))
    copy = pickle.loads(pickle.dumps(table[0]))
    assert copy == table[0]
    assert copy.cmd == "six"


def test_text_of_a_guest_is_never_markup() -> None:
    evil = "<script>alert(1)</script>\"'&\x1b[2J\u202e"
    html = table_of(
        (1, Unavailable(evil), 1.0, 1.0, 1.0, evil), (1, 1, 1.0, 1.0, 1.0, evil), tree="CMD"
    )._repr_html_()
    assert "<script" not in html and "\"'" not in html and "\x1b" not in html and "\u202e" not in html
    assert html.count("&lt;script&gt;") == 3
