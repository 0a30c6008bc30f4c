"""lsof against what the guest's own lsof printed, and fdinfo against what kernels write."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_kernel import LiveKernel
from native_truth import in_container

from hybridbridge_vol import tools
from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.fd import parse_fdinfo, socket_inode
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.file_system.open_files import device_text

Lab = Any
LINE = re.compile(
    r"\S+ +(?P<pid>\d+) +(?:(?P<tid>\d+) +\S+ +)?(?P<user>[a-z][\w-]*) +"
    r"(?P<fd>\S+) +(?P<type>\w+) +(?P<rest>.*)"
)
USERS = {
    "root": 0,
    "daemon": 1,
    "www-data": 33,
    "messagebus": 100,
    "postgres": 101,
    "alice": 1000,
    "bob": 1001,
    "carol": 1002,
}


def ask(kernel: GuestKernel, **options: Any) -> list[dict[str, Any]]:
    """The rows of lsof as dictionaries."""
    tool = tools.load("lsof")
    chosen = tool.defaults() | options
    columns = [column.name for column in tool.columns_for(chosen)]
    return [dict(zip(columns, row.cells, strict=True)) for row in tool.rows(kernel, chosen)]


Key = tuple[int, int | None, str]
"""Process, thread and descriptor."""
Line = tuple[int, str, str, str]
"""User id, user, type and the words from DEVICE on."""


def said(text: str) -> dict[Key, list[Line]]:
    """What lsof printed."""
    found: dict[Key, list[Line]] = {}
    for line in text.splitlines()[1:]:
        match = LINE.fullmatch(line)
        assert match, line
        words = " ".join(match["rest"].split())
        tid = int(match["tid"]) if match["tid"] else None
        key = int(match["pid"]), tid, match["fd"].removesuffix("-W")
        found.setdefault(key, []).append((USERS[match["user"]], match["user"], match["type"], words))
    return found


def shown(row: dict[str, Any]) -> Line:
    """A row of ours in the same form."""
    size = (
        None if row["FD"] == "DEL" else row["SIZE/OFF"]
    )  # lsof looks for the file by its name, and finds none
    words = " ".join(
        str(cell) for cell in (row["DEVICE"], size, row["NODE"], row["NAME"]) if cell is not None
    )
    return row["UID"], row["USER"], row["TYPE"], " ".join(words.split())


def test_lsof_shows_what_the_guests_own_lsof_printed(lab: Lab, rich_generation: str) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    printed = said(truth.command("lsof -n -P -w"))
    inside = said(in_container(truth)["lsof -n -P -w"])
    rows: dict[Key, list[Line]] = {}
    stayed = set(truth.processes[:-1])  # the last is the observer, who opened hundreds of files after this
    for row in ask(session, pid=tuple(stayed), tasks=True):
        rows.setdefault((row["PID"], row["TID"], row["FD"]), []).append(shown(row))
    compared = {key for key in printed.keys() | rows.keys() if key[0] in stayed}
    assert len(compared) > 300
    for key in compared:
        ours, theirs = sorted(rows.get(key, [])), sorted(printed.get(key, []))
        if theirs and theirs[0][2].startswith("raw"):  # whose name lsof leaves in hexadecimal
            theirs = [(*line[:3], line[3][: line[3].index(" ", 5)]) for line in theirs]
            ours = [(*line[:3], line[3][: line[3].index(" ", 5)]) for line in ours]
        if theirs and theirs[0][2] == "sock":  # of another network: lsof reads the tables of its own only
            theirs = sorted(inside[innermost(truth, key[0]), key[1] and innermost(truth, key[1]), key[2]])
        assert ours == theirs, key


def innermost(truth: Any, number: int) -> int:
    """A process's or thread's number in its own namespace."""
    paths = (
        f"/proc/{number}/status",
        *(path for path in truth.late if path.endswith(f"/task/{number}/status")),
    )
    status = next(truth.file(path) for path in paths if path in truth.late)
    return int(re.findall(rb"^NSpid:.*\t(\d+)$", status, re.MULTILINE)[0])


def test_lsof_picks_processes_users_sockets_and_deleted_files(lab: Lab) -> None:
    truth, session = lab.sample("6.12").truth, lab.session("6.12")
    users = tuple(truth.processes[-60:-1])
    rows = ask(session, pid=users)
    assert {row["PID"] for row in rows} <= set(users)
    assert ask(session, pid=users, uid=(1001,)) == [row for row in rows if row["UID"] == 1001]
    sockets = ask(session, pid=users, inet=True)
    assert sockets == [row for row in rows if row["TYPE"] in ("IPv4", "IPv6")]
    assert ask(session, pid=users, port=(22,)) == [row for row in sockets if re.search(r":22\b", row["NAME"])]
    unlinked = {row["NAME"] for row in ask(session, pid=users, unlinked=True)}
    assert {
        "/memfd:payload (deleted)",
        "/tmp/.update (deleted)",
        "/srv/data/removed.log (deleted)",
    } <= unlinked
    assert all(name.endswith("(deleted)") or name.startswith("/SYSV") for name in unlinked)


def test_looking_at_open_files_leaves_them_as_they_are(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    first = ask(session, pid=(1,))
    assert [ask(session, pid=(1,)) for _ in range(5)] == [first] * 5


def test_lsof_of_this_machine() -> None:
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("twelve bytes")
        file.flush()
        number = f"{file.fileno()}u"
        (row,) = (row for row in ask(LiveKernel(), pid=(os.getpid(),)) if row["FD"] == number)
        seen = os.stat(file.name)
    assert (row["TYPE"], row["NAME"], row["SIZE/OFF"], row["POS"]) == ("REG", file.name, "12", 12)
    assert (row["NODE"], row["DEVICE"]) == (
        str(seen.st_ino),
        f"{os.major(seen.st_dev)},{os.minor(seen.st_dev)}",
    )


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers_are_those_of_stat(major: int, minor: int) -> None:
    assert device_text(os.makedev(major, minor)) == f"{major},{minor}"


def test_a_descriptor_that_cannot_be_followed_keeps_what_is_known() -> None:
    link = "/proc/self/fd/0"
    kernel = LiveKernel(
        {
            link: CallRolledBack("newfstatat", "page fault"),
            f"readlink {link}": b"",
            "/proc/self/fdinfo/0": b"pos:\t7\nflags:\t0100001\n",
        }
    )
    kernel.files.readlink = lambda path: "/some/file" if path == link else os.readlink(path)  # type: ignore[method-assign]
    (row,) = (row for row in ask(kernel, pid=("self",)) if row["FD"] == "0w")
    assert (row["NAME"], row["POS"]) == ("/some/file", 7)
    assert row["TYPE"] == Unavailable("/proc/self/fd/0: page fault")


FDINFO = b"pos:\t0\nflags:\t02000002\nmnt_id:\t15\nlock:\t1: POSIX  ADVISORY  %s 285 00:02:188 %s\n"


@pytest.mark.parametrize(
    ("data", "letters"),
    [
        (FDINFO % (b"WRITE", b"0 EOF"), "uW"), (FDINFO % (b"READ", b"0 99"), "ur"),
        (FDINFO % (b"READ", b"0 EOF"), "uR"), (b"pos:\t0\nflags:\t012000000\n", ""),
        (b"flags:\t0100000\npos:\t5\n", "r"), (b"pos:\t0\nflags:\t01\n", "w"),
    ],
)  # fmt: skip
def test_access_and_locks_are_lsofs_letters(data: bytes, letters: str) -> None:
    info = parse_fdinfo(data)
    assert info.access + info.lock == letters


def test_what_an_anonymous_inode_refers_to_is_shown() -> None:
    assert (
        parse_fdinfo(
            b"pos:\t0\nflags:\t02\ntfd:        5 events: 19 data: 5\ntfd:       11 events: 1\n"
        ).detail
        == "5,11"
    )
    assert parse_fdinfo(b"pos:\t0\nflags:\t02\neventfd-count:  0\neventfd-id: 3\n").detail == "3"


@given(st.binary(max_size=200))
def test_any_bytes_give_an_fdinfo_or_a_parse_error(data: bytes) -> None:
    try:
        assert parse_fdinfo(data).access in ("", "r", "w", "u")
    except ParseError:
        pass


@given(st.text(max_size=30))
def test_only_sockets_have_an_inode(target: str) -> None:
    assert socket_inode(target) is None or target.startswith("socket:[")
    assert socket_inode("socket:[77]") == 77


def test_a_pipe_of_this_machine_is_a_fifo() -> None:
    read, write = os.pipe()
    try:
        kinds = {row["FD"]: row for row in ask(LiveKernel(), pid=(os.getpid(),))}
        assert (kinds[f"{read}r"]["TYPE"], kinds[f"{write}w"]["NAME"]) == ("FIFO", "pipe")
        assert stat.S_ISFIFO(Path(f"/proc/self/fd/{read}").stat().st_mode)
    finally:
        os.close(read)
        os.close(write)
