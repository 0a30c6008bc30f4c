"""dmesg on an image in which a page of the kernel's log is zeros."""

from __future__ import annotations

from pathlib import Path

import pytest
from blank_page import blank_copy, kernel_paddr
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.tools.dmesg import _text
from hybridbridge_vol.units import PAGE_SIZE


def messages(session: Session) -> list[tuple[Cell, Cell]]:
    """The time and the text of each line."""
    tool = tools.load("dmesg")
    return [(row.cells[0], row.cells[4]) for row in tool.rows(session, tool.defaults())]


def test_text_that_lay_in_a_page_of_zeros_is_unreadable(lab: Lab, tmp_path: Path) -> None:
    session = lab.session("6.1 two CPUs")
    clean = messages(session)
    start = -(-session.bridge.snapshot("__log_buf") // PAGE_SIZE) * PAGE_SIZE
    copy = blank_copy(session, [kernel_paddr(session, start)], tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        found = messages(other)
    copy.unlink()
    lost = [line for line in found if isinstance(line[1], Unavailable)]
    assert 5 < len(lost) < len(found)
    assert {line for line in found if not isinstance(line[1], Unavailable)} <= set(clean)
    assert len({time for time, _text in clean} - {time for time, _text in found}) == 0


@pytest.mark.parametrize("message", ["", "abc", "serial \0 port", "a\0", "\0\0a"])
def test_what_the_kernel_may_have_logged_is_shown(message: str) -> None:
    assert _text(message) == message


@pytest.mark.parametrize("message", ["\0", "abc\0\0\0\0", "\0\0\0\0\0c"])
def test_a_text_is_unreadable_of_which_an_end_is_zeros(message: str) -> None:
    found = _text(message)
    assert isinstance(found, Unavailable)
    assert found.reason.endswith(message.strip("\0"))
