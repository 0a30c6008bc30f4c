"""Lists of options that a kernel cuts at their commas while it boots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.check.cut_strings import accept_cut_strings

LINKED = b"\0words, with a comma\0!cmt,!mbmtotal,!mbmlocal,!l3cat\0!cmt,\0"


def test_a_list_is_accepted_with_its_commas_cut() -> None:
    expected = bytearray(LINKED)
    cut = LINKED.replace(b",!", b"\0!")
    accept_cut_strings(expected, cut, 0, len(cut))
    assert expected == cut


@given(st.integers(0, len(LINKED) - 1), st.integers(0, 255))
def test_nothing_else_is_accepted(place: int, byte: int) -> None:
    found = bytearray(LINKED)
    found[place] = byte
    expected = bytearray(LINKED)
    accept_cut_strings(expected, found, 0, len(found))
    is_cut = LINKED[place : place + 2] == b",!" and byte == 0
    assert (expected == found) == (is_cut or found == LINKED)


def test_what_was_found_may_be_short() -> None:
    expected = bytearray(LINKED)
    accept_cut_strings(expected, LINKED[:25], 0, len(LINKED))
    assert expected == LINKED
