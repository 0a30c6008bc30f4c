"""A cell of each kind in each form in which answers leave the program."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hybridbridge_vol.guest.abi import seconds_of
from hybridbridge_vol.toolkit.cells import (
    Kind,
    Unavailable,
    as_json,
    as_python,
    as_stored,
    as_text,
    iso,
    without_surrogates,
)

ADDRESS = 0xFFFFFFFF81000000
MOMENT = datetime.datetime(2024, 5, 1, 12, 51, 30, 987654, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("kind", "cell", "text", "json", "python", "stored"),
    [
        ("int", 31337, "31337", 31337, 31337, 31337),
        ("float", 2.25, "2.2", 2.2, 2.25, 2.25),
        ("percent", 2.125, "2.12", 2.12, 2.125, 2.125),
        ("hex", ADDRESS, "0xffffffff81000000", "0xffffffff81000000", ADDRESS, ADDRESS),
        ("str", "a\n\udcff", r"a\n\xff", "a\n\udcff", "a\n\\xff", "a\n\\xff"),
        (
            "time", 1714567890.987654, "2024-05-01 12:51:30Z", "2024-05-01T12:51:30.987Z", MOMENT,
            1714567890987,
        ),
        ("duration", 90061.5, "1-01:01:01", 90061.5, datetime.timedelta(seconds=90061.5), 90061.5),
    ],
)  # fmt: skip
def test_a_cell_in_every_form(kind: Kind, cell: Any, text: str, json: Any, python: Any, stored: Any) -> None:
    assert as_text(cell, kind) == text
    assert as_json(cell, kind) == json
    assert as_python(cell, kind) == python
    assert as_stored(cell, kind) == stored


@pytest.mark.parametrize("kind", ["int", "float", "percent", "hex", "str", "time", "duration"])
def test_nothing_and_what_could_not_be_read(kind: Kind) -> None:
    unread = Unavailable("/proc/1/stat: page fault")
    for form in (as_json, as_python, as_stored):
        assert form(None, kind) is None
    assert as_text(None, kind) == as_text(unread, kind) == "-"
    assert as_json(unread, kind) is None
    assert as_python(unread, kind) == as_stored(unread, kind) == unread


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        ("int", 1 << 63, "out of range: 0x8000000000000000"),
        ("hex", 1 << 64, "out of range: 0x10000000000000000"),
        ("hex", -1, "out of range: -0x1"),
        ("float", float("nan"), "not a number: nan"),
        ("time", -1.0, "not a time: -1"),
        ("time", 1e300, "not a time: 1e+300"),
        ("time", float("inf"), "not a number: inf"),
        ("duration", float("inf"), "not a number: inf"),
        ("int", "12 kB\udcff", r"not a number: '12 kB\\xff'"),
    ],
)
def test_what_a_table_file_cannot_hold_is_unavailable_there(kind: Kind, cell: Any, reason: str) -> None:
    assert as_stored(cell, kind) == Unavailable(reason)


@given(st.floats(allow_nan=False), st.sampled_from(["float", "percent", "time", "duration"]))
def test_no_number_of_the_guest_stops_an_answer(cell: float, kind: Kind) -> None:
    if kind != "duration" or abs(cell) < 1e18:
        assert as_text(cell, kind).isprintable()
        as_json(cell, kind)
    as_python(cell, kind)
    as_stored(cell, kind)


@given(st.text(st.characters(codec=None)))
def test_no_text_of_the_guest_breaks_an_encoding(text: str) -> None:
    assert without_surrogates(text).encode().decode() == without_surrogates(text)


@given(st.integers(0, 253402300799999))
def test_milliseconds_are_those_of_the_calendar(milliseconds: int) -> None:
    moment = datetime.datetime.fromtimestamp(milliseconds // 1000, datetime.UTC)
    assert iso(milliseconds) == f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z".zfill(24)


@given(st.integers(-(2**32), 2**32 - 1), st.integers(0, 999_999_999))
@example(2**32 - 1, 3_185_000)
def test_a_time_of_a_file_is_the_same_moment_in_every_form(seconds: int, nanoseconds: int) -> None:
    cell = seconds_of(seconds, nanoseconds)
    moment = as_python(cell, "time")
    assert moment == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
        seconds=seconds, microseconds=nanoseconds // 1000
    )
    milliseconds = seconds * 1000 + nanoseconds // 1_000_000
    assert as_stored(cell, "time") == milliseconds or seconds < 0
    assert as_json(cell, "time") == iso(milliseconds)
