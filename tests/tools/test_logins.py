"""logins: equal to last, lastb, who and lastlog in the guest (samples/guest/people_logins.sh)."""

from __future__ import annotations

import contextlib
import datetime
import re
import sqlite3
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import ask
from live_files import LiveFiles

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_content import Piece, PieceKind
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.toolkit.cells import Cell, Unavailable, utc
from hybridbridge_vol.tools.host.login_databases import lastlog2_rows, wtmpdb_rows
from hybridbridge_vol.tools.host.login_records import (
    LASTLOG_SIZE,
    UTMP_SIZE,
    Record,
    pair,
    parse_records,
    read_lastlog,
)
from hybridbridge_vol.tools.host.logins import logins
from hybridbridge_vol.tools.host.sqlite_question import MAX_ROWS
from hybridbridge_vol.tools.host.text_file import Run
from samples.truth import Truth

ISO = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\+00:00"


def iso(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)[:-1].replace(" ", "T")


def of(session: Session, source: str) -> list[dict[str, Any]]:
    return [row for row in ask(session, "logins", source=(source,)) if row["KIND"] != "file"]


def native(text: str) -> list[tuple[str, str, str, str | None, str]]:
    """User, line, begin, end, and what stands for an end, of `last --time-format=iso -w`."""
    found = []
    for line in text.splitlines():
        match = re.match(rf"(\S+)\s+(system boot|\S+)\s.*?{ISO}\s+(?:- |)\s*(?:{ISO}|(.*))", line)
        if match and not line.startswith(("wtmp begins", "btmp begins")):
            found.append((match[1], match[2], match[3], match[4], (match[5] or "").strip()))
    return found


def test_logins_and_their_ends_are_those_of_last(people_session: Session, people_truth: Truth) -> None:
    words = {"down": "down", "crash": "crash", "still logged in": "open", "gone - no logout": "gone"}
    printed = native(people_truth.command("last -w --time-format=iso"))
    logins = [row for row in of(people_session, "wtmp") if row["KIND"] == "login"][::-1]
    expected = [item for item in printed if item[1] != "system boot"]
    assert len(expected) == 5
    shown = [(row["USER"], row["TTY"], iso(row["START"])) for row in logins]
    assert shown == [item[:3] for item in expected]
    for row, (_user, _line, _begin, end, text) in zip(logins, expected, strict=True):
        word = next((ours for theirs, ours in words.items() if text.startswith(theirs)), None)
        if word is not None:
            assert row["HOW"] == word, row
        else:
            assert iso(row["END"]) == end and row["HOW"] in ("logout", "next login"), row
    boots = [row for row in of(people_session, "wtmp") if row["KIND"] == "boot"][::-1]
    assert [iso(row["START"]) for row in boots] == [item[2] for item in printed if item[1] == "system boot"]
    assert [row["HOW"] for row in boots] == ["open", "crash", "down"]


def test_failed_logins_are_those_of_lastb(people_session: Session, people_truth: Truth) -> None:
    printed = native(people_truth.command("lastb -w --time-format=iso"))
    rows = of(people_session, "btmp")[::-1]
    assert {row["KIND"] for row in rows} == {"failed"} and len(rows) == 2
    assert [(row["USER"], row["TTY"], iso(row["START"])) for row in rows] == [item[:3] for item in printed]
    assert {row["ADDRESS"] for row in rows} == {"203.0.113.9"}


def test_who_is_logged_in_is_what_who_printed(people_session: Session, people_truth: Truth) -> None:
    rows = [row for row in of(people_session, "utmp") if row["KIND"] == "login"]
    shown = [
        (row["USER"], row["TTY"], time.strftime("%b %e %H:%M", time.gmtime(row["START"])), row["HOST"])
        for row in rows
    ]
    printed = [
        re.fullmatch(r"(\S+)\s+(\S+)\s+(\w+ +\d+ \S+) \((.*)\)", line).groups()  # type: ignore[union-attr]
        for line in people_truth.command("who").splitlines()
    ]
    assert shown == printed and shown


def test_last_logins_are_those_of_lastlog(people_session: Session, people_truth: Truth) -> None:
    rows = {row["USER"]: row for row in of(people_session, "lastlog")}
    shown: dict[str, float] = {}
    known = 0
    for line in people_truth.command("lastlog").splitlines()[1:]:
        match = re.search(r"(\w{3} +\d+ \d\d:\d\d:\d\d \+0000 \d{4})$", line)
        if match is None:
            continue
        moment = datetime.datetime.strptime(match[1], "%b %d %H:%M:%S %z %Y").timestamp()
        shown.setdefault(line.split()[0], moment)  # a host name with a newline made a second line of root
        known += 1
    assert known >= 3
    assert {name: rows[name]["START"] for name in shown if name in rows} == {
        name: moment for name, moment in shown.items() if name in rows
    }
    assert {"alice", "root"} <= set(rows)
    old = rows["bob"]
    assert (
        old["TTY"] == "pts/9"
        and old["HOST"].startswith("198.51.100.7\nroot")
        and old["FILE"] == "/var/log/lastlog"
    )


def test_a_session_of_logind_is_shown(people_session: Session) -> None:
    (row,) = of(people_session, "session")
    assert (row["USER"], row["TTY"], row["HOST"], row["PID"]) == ("alice", "pts/3", "192.0.2.44", 1)
    assert row["START"] == 1795608000.25 and row["HOW"] == "active"


def test_a_user_is_chosen_and_a_source_refused(people_session: Session) -> None:
    assert {row["USER"] for row in ask(people_session, "logins", user="toor")} == {"toor"}
    with pytest.raises(OptionError, match="there are utmp"):
        ask(people_session, "logins", source=("nothing",))


def record(kind: int, user: str, line: str, seconds: int, pid: int = 1) -> bytes:
    return struct.pack(
        "<h2xi32s4s32s256s2hiii16s20x",
        kind,
        pid,
        line.encode(),
        b"",
        user.encode(),
        b"",
        0,
        0,
        0,
        seconds,
        0,
        b"",
    )


def parsed(*records: bytes) -> list[Record]:
    return list(parse_records([Run(0, b"".join(records))]))


def test_records_are_paired_by_line_and_by_boot() -> None:
    records = parsed(
        record(2, "reboot", "~", 100), record(7, "a", "t1", 110), record(7, "b", "t1", 120),
        record(8, "", "t1", 130), record(7, "c", "t2", 140), record(1, "shutdown", "~", 150),
        record(2, "reboot", "~", 160), record(7, "d", "t1", 170), record(2, "reboot", "~", 180),
        record(7, "e", "t1", 190),
    )  # fmt: skip
    ends = {item.record.user: (item.end, item.how) for item in pair(records) if item.record.kind == "login"}
    assert ends == {
        "a": (120, "next login"), "b": (130, "logout"), "c": (150, "down"), "d": (180, "crash"),
        "e": (None, "open"),
    }  # fmt: skip


def test_records_behind_a_gap_are_found_at_their_offsets() -> None:
    data = b"".join(record(7, name, "t", 100) for name in "abcdefghijklmnopqrstuvwxyz")
    found = list(parse_records([Run(0, data[:1000]), Run(4096, data[4096:])]))
    assert [item.user for item in found][:2] == ["a", "b"]
    assert found[2].offset % UTMP_SIZE == 0 and found[2].offset >= 4096 and found[2].user == "l"
    assert list(parse_records([Run(0, b"x" * 383)])) == []


def test_a_zeroed_record_is_seen() -> None:
    (zeroed,) = parsed(bytes(UTMP_SIZE))
    assert zeroed.is_zeroed and not parsed(record(7, "a", "t", 1))[0].is_zeroed


class OneFile:
    """Gives the pieces of one file."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces

    def pieces(self, _path: str) -> list[Piece]:
        return self._pieces


def test_lastlog_is_read_around_holes_and_gaps() -> None:
    whole = bytearray(LASTLOG_SIZE * 100)
    for uid in (0, 14, 60, 99):
        struct.pack_into("<i32s", whole, uid * LASTLOG_SIZE, 1000 + uid, b"pts/%d" % uid)
    page = 4096
    pieces = [
        Piece(PieceKind.DATA, 0, 2 * page, bytes(whole[: 2 * page])),
        Piece(PieceKind.HOLE, 2 * page, 2 * page),
        Piece(PieceKind.DATA, 4 * page, page, bytes(whole[4 * page : 5 * page])),
        Piece(PieceKind.MISSING, 5 * page, page, reason="not in the page cache"),
        Piece(PieceKind.DATA, 6 * page, len(whole) - 6 * page, bytes(whole[6 * page :])),
    ]
    found, lack = read_lastlog(OneFile(pieces), "/x")  # type: ignore[arg-type]
    assert [(item.uid, item.time) for item in found] == [(0, 1000), (14, 1014), (60, 1060), (99, 1099)]
    assert isinstance(lack, Unavailable) and "4,096" in lack.reason


def database(*statements: str) -> bytes:
    connection = sqlite3.connect(":memory:")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    return bytes(connection.serialize())


WTMP = (
    "CREATE TABLE wtmp(ID INTEGER PRIMARY KEY, Type INTEGER, User TEXT NOT NULL, Login INTEGER, "
    "Logout INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT) STRICT"
)


def test_databases_of_logins_are_read() -> None:
    data = database(
        WTMP,
        "INSERT INTO wtmp VALUES(1, 1, 'reboot', 1700000000000000, 1700000900000000, '~', '6.12', NULL)",
        "INSERT INTO wtmp VALUES(2, 3, 'alice', 1700000100500000, NULL, 'pts/0', '192.0.2.1', 'sshd')",
    )
    assert list(wtmpdb_rows(data)) == [
        ("boot", "reboot", 1700000000.0, 1700000900.0, "~", "6.12", ""),
        ("login", "alice", 1700000100.5, None, "pts/0", "192.0.2.1", "sshd"),
    ]
    assert len(list(wtmpdb_rows(data[:18] + b"\2\2" + data[20:]))) == 2  # kept with a write-ahead log
    data = database(
        "CREATE TABLE Lastlog2(Name TEXT PRIMARY KEY, Time INTEGER, TTY TEXT, RemoteHost TEXT, Service TEXT)",
        "INSERT INTO Lastlog2 VALUES('bob', 1700000000, 'tty1', '', 'login')",
    )
    assert list(lastlog2_rows(data)) == [("last", "bob", 1700000000.0, None, "tty1", "", "login")]


@pytest.mark.parametrize("at", range(0, 8192, 401))
def test_a_damaged_database_is_an_error_or_rows(at: int) -> None:
    rows = (f"INSERT INTO wtmp VALUES({number}, 3, 'u', {number}, 0, '', '', '')" for number in range(1, 80))
    data = bytearray(database(WTMP, *rows))
    data[at : at + 300] = b"\xa5" * len(data[at : at + 300])
    with contextlib.suppress(sqlite3.Error):
        assert all(isinstance(row.user, str) for row in wtmpdb_rows(bytes(data)))


def test_a_database_that_asks_for_endless_work_ends() -> None:
    endless = (
        "WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n) SELECT x ID, 3 Type, '' User, "
        "x Login, 0 Logout, '' TTY, '' RemoteHost, '' Service FROM n"
    )
    assert len(list(wtmpdb_rows(database(f"CREATE VIEW wtmp AS {endless}")))) == MAX_ROWS
    with pytest.raises(sqlite3.Error, match="interrupted"):
        list(wtmpdb_rows(database(f"CREATE VIEW wtmp AS {endless} WHERE x < 0")))
    with pytest.raises(sqlite3.Error):
        list(wtmpdb_rows(b"not a database"))


class _Below(LiveFiles):
    """The files below a folder, as a guest's."""

    def __init__(self, top: Path) -> None:
        super().__init__({})
        self._top = str(top)

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        return super().attributes(self._top + path, follow)

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        data = self.read(path)[offset : offset + size]
        yield Piece(PieceKind.DATA, offset, len(data), data)

    def read(self, path: str) -> bytes:
        return super().read(self._top + path)

    def listdir(self, path: str) -> list[str]:
        return super().listdir(self._top + path)


def _databases_below(top: Path) -> list[tuple[str, str, Cell, Cell]]:
    rows = logins(_Below(top))
    return [(row.kind, row.path, row.user, row.how) for row in rows if row.path.endswith(".db")]


def test_a_database_that_a_link_leads_to_is_read_once(tmp_path: Path) -> None:
    """Debian has /var/lib/wtmpdb/wtmp.db as a link to /var/log/wtmp.db."""
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/lib/wtmpdb").mkdir(parents=True)
    login = "INSERT INTO wtmp VALUES(1, 3, 'alice', 1700000100500000, NULL, 'pts/0', '', '')"
    content = database(WTMP, login)
    (tmp_path / "var/log/wtmp.db").write_bytes(content)
    link = tmp_path / "var/lib/wtmpdb/wtmp.db"
    link.symlink_to("../../log/wtmp.db")
    assert _databases_below(tmp_path) == [("login", "/var/lib/wtmpdb/wtmp.db", "alice", "open")]
    link.unlink()
    link.write_bytes(content)
    assert len(_databases_below(tmp_path)) == 2


def test_a_database_without_a_byte_is_empty_and_not_unreadable(tmp_path: Path) -> None:
    (tmp_path / "var/lib/lastlog").mkdir(parents=True)
    (tmp_path / "var/lib/lastlog/lastlog2.db").touch()
    assert _databases_below(tmp_path) == [("file", "/var/lib/lastlog/lastlog2.db", None, "empty")]
