"""Logins in databases of SQLite: wtmpdb and lastlog2, which take the place of wtmp and lastlog where records
with 32 bits for a time are not kept any more (Debian 13).

Sources: wtmpdb 0.13 (lib/sqlite.c: table wtmp, microseconds; include/wtmpdb.h: types), util-linux 2.41
(liblastlog2/src/lastlog2.c: table Lastlog2, seconds).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.tools.host.sqlite_question import asked

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
    for kind, user, login, logout, tty, host, service in asked(data, wanted):
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
    for user, time, tty, host, service in asked(data, wanted):
        yield DatabaseRow(
            "last", _text(user), _seconds(time, 1), None, _text(tty), _text(host), _text(service)
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object, parts: float) -> float | None:
    """A time that is set, in seconds."""
    return value / parts if isinstance(value, int) and value > 0 else None
