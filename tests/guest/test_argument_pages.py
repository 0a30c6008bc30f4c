"""Arguments and environments whose page is zeros in the image are not taken for empty ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blank_page import blank_copy, process_page
from generations import Lab

from hybridbridge_vol import tools
from hybridbridge_vol.guest.argument_pages import SWAPPED, UNMAPPED, ZEROS, Ask, check
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import PAGE_SIZE

NAME = "6.1 two CPUs"
FRAME = (1 << 55) - 1
START = 0x7FFF0000
STAT = b"7 (a (b) c) " + b" ".join(
    str(number).encode()
    for number in [*range(45), START + 100, START + 2 * PAGE_SIZE, START + 2 * PAGE_SIZE, START + 9000, 0]
)


def rows_of(session: Session, name: str, **options: Any) -> list[tuple[Any, ...]]:
    """The rows of a tool."""
    tool = tools.load(name)
    return [row.cells for row in tool.rows(session, tool.defaults() | options)]


def stack_page(session: Session, pid: int, field: int) -> int:
    """The physical address of the page where something of a process's begins, by the place in its `stat`."""
    stat = session.files.read(f"/proc/{pid}/stat")
    vaddr = int(stat[stat.rfind(b")") + 1 :].split()[field])
    return process_page(session, pid, vaddr)


def test_a_process_whose_arguments_are_zeros_in_the_image_is_not_shown_without_arguments(
    lab: Lab, tmp_path: Path
) -> None:
    session = lab.session(NAME)
    clean = {row[0]: row for row in rows_of(session, "ps")}
    page = stack_page(session, 1, 45)
    copy = blank_copy(session, [page], tmp_path / "blank.raw")
    with open_session(copy, lab.store.root) as other:
        rows = {row[0]: row for row in rows_of(other, "ps")}
        assert rows.keys() == clean.keys()
        assert isinstance(rows[1][-1], Unavailable)
        assert ZEROS in rows[1][-1].reason
        assert not any(isinstance(row[-1], Unavailable) for pid, row in rows.items() if pid != 1)
        variables = [row for row in rows_of(other, "environ", pid=[1])]
        assert [row[0] for row in variables] == [1]
        assert isinstance(variables[0][2], Unavailable)
    copy.unlink()


def test_no_process_of_a_whole_image_lacks_its_arguments(lab: Lab) -> None:
    session = lab.session(NAME)
    assert not [row for row in rows_of(session, "ps") if isinstance(row[-1], Unavailable)]
    assert not [row for row in rows_of(session, "environ") if isinstance(row[2], Unavailable)]


@pytest.mark.parametrize(
    ("data", "second_page", "entry", "lacks"),
    [
        (b"sh\0-c\0", 0, 0, ""),
        (b"sh\0" + bytes(PAGE_SIZE + 200), 0, 1 << 63, ZEROS),
        (b"sh\0" + bytes(PAGE_SIZE + 200), 1, 1 << 63, ""),
        (b"sh\0" + bytes(PAGE_SIZE + 200), 1, 0, UNMAPPED),
        (b"sh" * 1500 + b"\0\0", 0, 0, ""),
        (b"", 0, 0, UNMAPPED),
        (b"", 0, 1 << 62, SWAPPED),
        (b"", 1, 1 << 63, ""),
        (b"x" * (PAGE_SIZE - 100), 0, 1 << 62, SWAPPED),
        (b"x" * (PAGE_SIZE - 200), 0, 1 << 62, ""),
    ],
)
def test_only_pages_that_are_not_there_or_zeros_from_the_first_byte_to_the_last_count(
    data: bytes, second_page: int, entry: int, lacks: str
) -> None:
    """What a process itself has cleared lies beside what it has not."""

    def read_at(path: str, offset: int, size: int) -> bytes:
        if path == "/proc/7/pagemap":
            return entry.to_bytes(size, "little")
        assert (path, size) == ("/proc/7/mem", PAGE_SIZE)
        return bytes([1 if offset == START else second_page]) + bytes(PAGE_SIZE - 1)

    ask = Ask(lambda _path: STAT, read_at)
    if lacks:
        with pytest.raises(OSError, match=lacks):
            check("/proc/7/cmdline", data, ask)
    else:
        check("/proc/7/cmdline", data, ask)
    check("/proc/7/status", data, ask)
