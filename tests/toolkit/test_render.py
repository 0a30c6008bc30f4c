"""How answers are written: aligned, complete, and safe whatever a guest named its processes."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.toolkit.cells import Unavailable, duration, utc
from hybridbridge_vol.toolkit.printable import columns_of, cut, printable, safe
from hybridbridge_vol.toolkit.render import WRITERS, Answer, write_text
from hybridbridge_vol.toolkit.tool import Column, Row

COLUMNS = (
    Column("PID", "int", ""),
    Column("WHEN", "time", ""),
    Column("AT", "hex", ""),
    Column("CMD", "str", ""),
)
ROWS = (
    Row((1, 0.5, 0xFFFFFFFF81000000, "/sbin/init")),
    Row((31337, None, 16, "sh -c true"), depth=1),
    Row((7, Unavailable("/proc/7/stat: gone"), Unavailable("/proc/7/stat: gone"), "x")),
)


def written(form: str, rows: Any = ROWS, tree: str | None = None) -> tuple[bool, str]:
    out = io.StringIO()
    complete = WRITERS[form](Answer(COLUMNS, rows, tree), out)
    return complete, out.getvalue()


def test_a_table_is_aligned_numbers_right_text_left() -> None:
    complete, text = written("text", ROWS[:2])
    assert complete
    assert text.splitlines() == [
        "  PID                 WHEN                 AT CMD",
        "    1 1970-01-01 00:00:00Z 0xffffffff81000000 /sbin/init",
        "31337                    -               0x10 sh -c true",
    ]


def test_a_row_that_could_not_be_read_says_why_once() -> None:
    complete, text = written("text")
    assert not complete
    assert text.splitlines()[-1] == "    7                    -                  - x  ! /proc/7/stat: gone"


def test_a_child_is_indented_in_the_tree_column() -> None:
    assert "               0x10  \\_ sh -c true" in written("text", ROWS[:2], tree="CMD")[1]


def test_a_line_is_cut_at_the_terminal_but_never_the_reason() -> None:
    out = io.StringIO()
    write_text(Answer(COLUMNS, (Row((1, 0.0, 1, "y" * 200)), ROWS[2])), out, width=60)
    _, long, gap = out.getvalue().splitlines()
    assert len(long) == 60
    assert gap.endswith("! /proc/7/stat: gone")


def test_a_terminal_too_narrow_for_the_last_column_wraps_instead() -> None:
    out = io.StringIO()
    write_text(Answer(COLUMNS, (Row((1, 0.0, 1, "y" * 200)),)), out, width=30)
    assert "y" * 200 in out.getvalue()


def test_json_keeps_types_and_shows_what_is_missing() -> None:
    complete, text = written("json")
    first, second, third = json.loads(text)
    assert not complete
    assert first == {
        "PID": 1,
        "WHEN": "1970-01-01T00:00:00.500Z",
        "AT": "0xffffffff81000000",
        "CMD": "/sbin/init",
    }
    assert second["depth"] == 1
    assert second["WHEN"] is None
    assert third["unreadable"] == {"WHEN": "/proc/7/stat: gone", "AT": "/proc/7/stat: gone"}


def test_csv_has_one_header_for_complete_and_incomplete_rows() -> None:
    complete, text = written("csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert not complete
    assert [row["unreadable"] for row in rows] == ["", "", "/proc/7/stat: gone"]
    assert rows[1]["CMD"] == "sh -c true"


@pytest.mark.parametrize("form", WRITERS)
def test_an_answer_without_rows_is_well_formed(form: str) -> None:
    complete, text = written(form, ())
    assert complete
    if form == "json":
        assert json.loads(text) == []
    else:
        assert len(text.splitlines()) == 1


@given(st.text())
def test_nothing_unprintable_reaches_a_table_and_no_name_starts_a_line(name: str) -> None:
    for form in ("text", "csv"):
        _, text = written(form, (Row((1, 0, 0, name)),))
        assert text.count("\n") == 2
        assert text.replace("\n", "").isprintable()


@given(st.text(st.characters(codec=None)))
def test_json_gives_back_each_character(name: str) -> None:
    assert json.loads(written("json", (Row((1, 0, 0, name)),))[1])[0]["CMD"] == name


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("größe 漢字", "größe 漢字"),
    ],
)
def test_what_moves_the_cursor_is_escaped_and_what_can_be_read_is_not(raw: str, escaped: str) -> None:
    assert printable(raw) == escaped


def test_bytes_for_a_terminal_keep_lines_and_tabs() -> None:
    assert safe(b"a\tb\n\x1b]0;title\x07\xff\n") == "a\tb\n\\x1b]0;title\\x07\\xff\n"


def test_wide_characters_take_two_columns() -> None:
    assert columns_of("漢字") == 4
    assert cut("漢字x", 3) == "漢"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (59.99, "00:00:59"), (3600, "01:00:00"), (90061, "1-01:01:01")],
)
def test_durations_are_those_of_ps(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_beyond_the_calendar_is_shown_as_a_number() -> None:
    assert utc(1714567890.987, digits=2) == "2024-05-01 12:51:30.98Z"
    assert utc(1e300).startswith("@1000")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_of_seconds_is_written(seconds: float) -> None:
    assert utc(seconds)
    assert utc(seconds, digits=3)
