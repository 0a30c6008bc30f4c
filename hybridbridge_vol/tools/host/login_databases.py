"""Logins in databases of SQLite: wtmpdb and lastlog2, which take the place of wtmp and lastlog where records
with 32 bits for a time are not kept any more (Debian 13).

Sources: wtmpdb 0.13 (lib/sqlite.c: table wtmp, microseconds; include/wtmpdb.h: types), util-linux 2.41
(liblastlog2/src/lastlog2.c: table Lastlog2, seconds).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

MAX_SIZE = 1 << 28
"""Bytes of a database."""
MAX_ROWS = 1 << 18
"""Rows of one table."""
MAX_STEPS = 20_000_000
"""Instructions of SQLite's machine for one question: a forged schema may ask for endless work."""
_AT_ONCE = 10_000
TYPES = {1: "boot", 2: "runlevel", 3: "login"}
"""wtmpdb.h: BOOT_TIME, RUNLEVEL, USER_PROCESS."""


class DatabaseRow(NamedTuple):
    """A login. Times in seconds; None where the database has none, or no number."""

    kind: str
    user: str
    start: float | None
    end: float | None
    tty: str
    host: str
    service: str


def wtmpdb_rows(data: bytes) -> Iterator[DatabaseRow]:
    """The rows of wtmpdb. sqlite3.Error if the data is no such database."""
    wanted = "SELECT Type, User, Login, Logout, TTY, RemoteHost, Service FROM wtmp"
    for kind, user, login, logout, tty, host, service in _asked(data, wanted):
        name = TYPES.get(kind, f"type {kind}") if isinstance(kind, int) else "type unknown"
        yield DatabaseRow(
            name,
            _text(user),
            _seconds(login, 1e6),
            _seconds(logout, 1e6),
            _text(tty),
            _text(host),
            _text(service),
        )


def lastlog2_rows(data: bytes) -> Iterator[DatabaseRow]:
    """The rows of lastlog2. sqlite3.Error if the data is no such database."""
    wanted = "SELECT Name, Time, TTY, RemoteHost, Service FROM Lastlog2"
    for user, time, tty, host, service in _asked(data, wanted):
        yield DatabaseRow(
            "last", _text(user), _seconds(time, 1), None, _text(tty), _text(host), _text(service)
        )


def _asked(data: bytes, question: str) -> Iterator[tuple[object, ...]]:
    """The answer of a database in memory: nothing of it is trusted, and its work is bounded."""
    connection = sqlite3.connect(":memory:")
    steps = 0

    def is_enough() -> int:
        nonlocal steps
        steps += _AT_ONCE
        return steps > MAX_STEPS

    try:
        connection.deserialize(_without_log(data))
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        connection.set_progress_handler(is_enough, _AT_ONCE)
        connection.execute("PRAGMA trusted_schema = OFF")
        yield from connection.execute(f"{question} LIMIT {MAX_ROWS}")
    finally:
        connection.close()


def _without_log(data: bytes) -> bytes:
    """A database that is kept with a write-ahead log (bytes 18 and 19 are 2; SQLite's file format, 1.3.3) as
    one without: the log is a file of its own, and is not read."""
    return data[:18] + b"\1\1" + data[20:] if data[18:20] == b"\2\2" else data


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object, parts: float) -> float | None:
    """A time that is set, in seconds."""
    return value / parts if isinstance(value, int) and value > 0 else None
