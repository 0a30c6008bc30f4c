"""`ps --columns` against what the guest's own ps printed of the same columns."""

from __future__ import annotations

import re
from typing import Any

import pytest
from live_kernel import LiveClocks, LiveKernel

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.file_content import IncompleteFile, Piece, PieceKind
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import USER_HZ
from hybridbridge_vol.toolkit.cells import Unavailable, as_text
from hybridbridge_vol.tools.file_system.accounts import Accounts
from hybridbridge_vol.tools.process.machine import Machine, percent
from hybridbridge_vol.tools.process.ps_columns import FIELDS, fields_named
from hybridbridge_vol.tools.ps import TOOL

Lab = Any

_AT_WORK = re.compile("observer|kworker|rcu_|ksoftirqd|migration|init$")
"""Those that did something between the reading of ps and the freeze."""
_MOVING = {"S", "STAT", "PSR", "RSS"}
"""What a look by others may move: of kernel threads and orphans."""


def ask(kernel: GuestKernel, fields: str, **options: Any) -> list[dict[str, str]]:
    """The rows, as text, by their columns' names."""
    given = TOOL.defaults() | options | {"columns": fields}
    columns = TOOL.columns_for(given)
    return [
        {column.name: as_text(cell, column.kind) for cell, column in zip(row.cells, columns, strict=True)}
        for row in TOOL.rows(kernel, given)
    ]


def is_said(ours: str, native: str, header: str) -> bool:
    """Whether ps printed this: a name that is too long for its column ends in `+`."""
    if header.endswith(("USER", "GROUP")) and native.endswith("+"):
        return ours.startswith(native.removesuffix("+"))
    return ours == native


@pytest.mark.parametrize(
    ("command", "names", "threads"),
    [
        (
            "ps -eLww -o pid,tid,cls,rtprio,psr,f,s,sz,ruser,euser,suid,fsuid,rgid,egid,"
            + "pending,blocked,ignored,caught,ucmd",
            "PID TID CLS RTPRIO PSR F S SZ RUSER EUSER SUID FSUID RGID EGID _ BLOCKED IGNORED CAUGHT COMM",
            True,
        ),
        (
            "ps -eww -o pid,tpgid,pgrp,sess,nlwp,ppid,rss,vsz,pmem,tname,uid,gid,group,rgroup,"
            + "label,netns,pidns,mntns,cgroup:200",
            "PID TPGID PGID SID NLWP PPID RSS VSZ %MEM TTY EUID EGID EGROUP RGROUP LABEL NETNS PIDNS MNTNS _",
            False,
        ),
        (
            "ps -eww -o pid,ppid,pgid,sid,tty,stat,uid,user,ni,pri,nlwp,comm,args",
            "PID PPID PGID SID TTY STAT EUID EUSER NI PRI NLWP _",
            False,
        ),
    ],
    ids=["threads", "ids", "states"],
)
def test_every_column_is_what_the_guests_ps_printed(
    lab: Lab, rich_generation: str, command: str, names: str, threads: bool
) -> None:
    keywords = {field.column.name: keyword for keyword, field in FIELDS.items()}
    headers = names.split()
    session = lab.session(rich_generation)
    wanted = ",".join(["comm", *(keywords[header] for header in headers if header != "_")])
    ours = {(row["PID"], row.get("TID")): row for row in ask(session, wanted, threads=threads)}
    compared = 0
    for line in lab.sample(rich_generation).truth.command(command).splitlines()[1:]:
        said = dict(zip(headers, line.split(None, len(headers) - 1), strict=False))
        row = ours.get((said["PID"], said.get("TID")))
        if row is None or _AT_WORK.match(row["COMM"]):
            continue
        compared += 1
        differing = {
            header
            for header, value in said.items()
            if header != "_" and not is_said(row[header], value.rstrip(), header)
        }
        assert differing <= _MOVING, (line, row)
        assert not differing or threads or said["PPID"] in ("0", "1", "2")
    assert compared > 40


class Clocks(LiveClocks):
    def __init__(self, boottime: float) -> None:
        self._boottime = boottime

    def boottime(self) -> float:
        return self._boottime


@pytest.mark.parametrize(
    ("starttime", "ticks", "lived", "said"),
    [(2153, 16, 0.28, 57.1), (2154, 7, 0.28, 25.0), (2082, 33, 1.0, 33.0), (2182, 5, 0.0, 0.0)],
)
def test_a_life_is_counted_in_ticks_as_procps_counts_it(
    starttime: int, ticks: int, lived: float, said: float
) -> None:
    """The first is what a guest's ps 4.0.2 printed: 16 of the 28 ticks that it makes of 29."""
    kernel = LiveKernel()
    kernel.clocks = Clocks(21.824)
    machine = Machine(kernel)
    assert machine.lived(starttime) == lived
    assert percent(ticks / USER_HZ, lived) == said


def test_exe_and_wchan_are_shown(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    (row,) = ask(session, "exe wchan,cgroup", pid=(1,))
    assert row["EXE"] == session.files.readlink("/proc/1/exe")
    assert row["WCHAN"] == lab.sample(rich_generation).truth.file("/proc/1/wchan").decode().replace("0", "-")
    assert row["CGROUP"] == session.files.read("/proc/1/cgroup").decode().strip().replace("\n", ",")


def test_an_id_without_a_name_is_marked() -> None:
    kernel = LiveKernel({
        "/proc/1/status": b"Name:\tx\nUid:\t7\t8\t9\t10\nGid:\t7\t8\t9\t10\n",
        "/etc/passwd": b"\n:\nseven:x:7:\n8:",
        "/etc/group": FileNotFoundError(2, "No such file or directory"),
    })  # fmt: skip
    (row,) = ask(kernel, "ruser,euser,egroup", pid=(1,))
    assert row == {"RUSER": "seven", "EUSER": "#8", "EGROUP": "#8"}


def test_of_a_file_that_memory_holds_in_part_whole_lines_are_names() -> None:
    pieces = [
        Piece(PieceKind.DATA, 0, 22, b"root:x:0:\nbin:x:2:\nuu"),
        Piece(PieceKind.MISSING, 22, 10, reason="not in memory"),
        Piece(PieceKind.DATA, 32, 20, b"cut:x:7:\nsshd:x:9:\nx"),
    ]
    kernel = LiveKernel({"/etc/passwd": IncompleteFile("/etc/passwd", pieces)})
    accounts = Accounts(kernel.files)
    assert [accounts.user(uid) for uid in (0, 2, 7, 9)] == ["root", "bin", "#7", "sshd"]


def test_terminals_have_the_names_that_the_kernel_gave_their_devices(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    machine = Machine(session)
    compared = 0
    for device in session.files.listdir("/sys/dev/char"):
        link = session.files.readlink(f"/sys/dev/char/{device}")
        if "/tty/" in link:
            major, minor = map(int, device.split(":"))
            assert machine.tty(major << 8 | minor) == link.rpartition("/")[2], device
            compared += 1
    assert compared > 60
    assert machine.tty(0) == "?" and machine.tty(136 << 8 | 3) == "pts/3"


def test_an_unknown_column_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="--columns colour: no such column; there are pid tid ppid"):
        fields_named("pid,colour")


def test_keywords_that_mean_the_same_give_one_column() -> None:
    assert [field.column.name for field in fields_named("tid,lwp,uid,%cpu")] == ["TID", "EUID", "%CPU"]


def test_a_file_that_cannot_be_read_costs_its_own_column_only() -> None:
    kernel = LiveKernel({"/proc/1/wchan": PermissionError(13, "Permission denied")})
    given = TOOL.defaults() | {
        "columns": "pid,comm,wchan",
        "pid": (1,),
    }
    (row,) = TOOL.rows(kernel, given)
    assert row.cells[0] == 1
    assert isinstance(row.cells[1], str)
    assert row.cells[2] == Unavailable("/proc/1/wchan: Permission denied")


def test_tree_and_columns_exclude_each_other() -> None:
    given = TOOL.defaults() | {"columns": "pid", "tree": True}
    with pytest.raises(OptionError, match="--tree and --columns"):
        list(TOOL.rows(LiveKernel(), given))
