"""The binary records of logins: utmp(5) of glibc on x86-64, and the lastlog of shadow and util-linux."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.file_content import PieceKind
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.host.text_file import Run

_UTMP = struct.Struct("<h2xi32s4s32s256s2hiii16s20x")
"""struct utmp (bits/types/struct_utmp.h, glibc 2.31 to 2.41): type, pid, line, id, user, host, exit
status, session, seconds, microseconds, address."""
_LASTLOG = struct.Struct("<i32s256s")
"""struct lastlog (bits/utmp.h): seconds, line, host. Its number is the uid."""
UTMP_SIZE, LASTLOG_SIZE = _UTMP.size, _LASTLOG.size
MAX_RECORDS = 1 << 18
"""Records of one file: 100 MB of them."""
MAX_LASTLOG_BYTES = 1 << 28
"""Bytes of lastlog that are not holes."""
MAX_LASTLOG = 1 << 16
"""Records of lastlog that are not empty."""
TYPES = (
    "empty", "runlevel", "boot", "new time", "old time", "init", "login prompt", "login", "logout",
    "accounting",
)  # fmt: skip
EMPTY, RUN_LVL, BOOT_TIME, NEW_TIME, OLD_TIME, INIT, LOGIN, USER, DEAD, _ACCOUNTING = range(10)
_SHUTDOWN_LEVELS = "06"
"""Run levels (telinit(8)) in which the machine is going down."""


class Record(NamedTuple):
    """A record of utmp or wtmp. `kind` as last(1) takes it, which may be another than its `type`. `offset` in
    the file, in bytes."""

    offset: int
    type: int
    kind: str
    pid: int
    line: str
    id: str
    user: str
    host: str
    seconds: int
    microseconds: int
    address: str

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self.seconds + self.microseconds / 1e6

    @property
    def is_zeroed(self) -> bool:
        """Whether all of it is zeros: a program that hides logins leaves such records."""
        return not (self.type or self.pid or self.line or self.user or self.host or self.seconds)


class LastLogin(NamedTuple):
    """A record of lastlog."""

    uid: int
    time: int
    line: str
    host: str


def _string(field: bytes) -> str:
    return text(field.split(b"\0", 1)[0])


def parse_records(runs: list[Run]) -> Iterator[Record]:
    """The records of utmp or wtmp that are there as a whole; those that begin in a gap are left out."""
    left = MAX_RECORDS
    for offset, data in runs:
        begin = -offset % UTMP_SIZE
        for at in range(begin, len(data) - UTMP_SIZE + 1, UTMP_SIZE):
            if not left:
                return
            left -= 1
            yield _record(offset + at, data[at : at + UTMP_SIZE])


def _record(offset: int, data: bytes) -> Record:
    kind, pid, line, ident, user, host, _end, _exit, _session, seconds, micros, address = _UTMP.unpack(data)
    record = Record(
        offset, kind, "", pid, _string(line), _string(ident), _string(user), _string(host),
        seconds & 0xFFFFFFFF, micros if 0 <= micros < 1_000_000 else 0, _address(address),
    )  # fmt: skip
    return record._replace(kind=_kind(record))


def _kind(record: Record) -> str:
    """What last(1) takes a record for (login-utils/last.c, process_wtmp_file; util-linux 2.38)."""
    if record.line == "~":
        named = {"shutdown": "shutdown", "reboot": "boot", "runlevel": "runlevel"}.get(record.user)
        if named == "runlevel" or (named is None and record.type == RUN_LVL):
            return "shutdown" if chr(record.pid & 0xFF) in _SHUTDOWN_LEVELS else "runlevel"
        if named is not None:
            return named
    elif record.type == DEAD or (record.type == USER and not record.user):
        return "logout"
    elif record.line and record.user and record.user != "LOGIN" and record.type not in (EMPTY, LOGIN):
        return "login" if record.type in (USER, INIT) else _type(record.type)
    return _type(record.type)


def _type(number: int) -> str:
    return TYPES[number] if 0 <= number < len(TYPES) else f"type {number}"


def _address(data: bytes) -> str:
    """IPv4 in the first four bytes, or IPv6; empty for none."""
    if not any(data):
        return ""
    if any(data[4:]):
        return str(ipaddress.IPv6Address(data))
    return str(ipaddress.IPv4Address(data[:4]))


class Session(NamedTuple):
    """A record, and when what it began ended. `how`: logout, next login, down, crash, open; empty for records
    that begin nothing."""

    record: Record
    end: float | None
    how: str


def pair(records: list[Record]) -> list[Session]:
    """The records in their order, each login with its end and each boot with the time at which the machine
    went down, as last(1) pairs them: by line, and by the next boot or shutdown."""
    found: list[Session] = []
    ends: dict[str, tuple[float, str]] = {}
    down: tuple[float, str] | None = None
    went_down: tuple[float, str] | None = None
    for record in reversed(records):
        end, how = None, ""
        if record.kind == "shutdown":
            went_down = down = record.time, "down"
            ends.clear()
        elif record.kind == "boot":
            end, how = went_down or (None, "open")
            went_down = down = record.time, "crash"
            ends.clear()
        elif record.kind == "login":
            end, how = ends.get(record.line) or down or (None, "open")
            ends[record.line] = record.time, "next login"
        elif (record.kind == "logout" or not record.user) and record.line:
            ends[record.line] = record.time, "logout"
        found.append(Session(record, end, how))
    return found[::-1]


def read_lastlog(files: Files, path: str) -> tuple[list[LastLogin], Unavailable | None]:
    """The records of lastlog that are not empty, by uid; and why these are not all. The file is sparse: holes
    are passed over, however large. OSError, CallRolledBack."""
    found: dict[int, LastLogin] = {}
    missing = read = 0
    pending: bytes | None = b""
    for piece in files.pieces(path):
        if piece.kind is PieceKind.MISSING:
            missing += piece.size
            pending = None
            continue
        data = piece.data
        if piece.kind is PieceKind.HOLE:
            data = bytes(min(piece.size, LASTLOG_SIZE))  # enough to end the record before it
        read += len(data)
        start = piece.offset - len(pending or b"")
        chunk = data[-start % LASTLOG_SIZE :] if pending is None else pending + data
        start += -start % LASTLOG_SIZE
        whole = len(chunk) - len(chunk) % LASTLOG_SIZE
        for at in range(0, whole, LASTLOG_SIZE):
            login = _last_login((start + at) // LASTLOG_SIZE, chunk[at : at + LASTLOG_SIZE])
            if login is not None:
                found[login.uid] = login
        if len(found) > MAX_LASTLOG or read > MAX_LASTLOG_BYTES:
            lack = Unavailable(f"{path}: too large: only its begin was read")
            return _sorted(found)[:MAX_LASTLOG], lack
        pending = bytes(piece.end % LASTLOG_SIZE) if piece.kind is PieceKind.HOLE else chunk[whole:]
    if missing:
        return _sorted(found), Unavailable(f"{path}: {missing:,} of its bytes are not in memory")
    return _sorted(found), None


def _sorted(found: dict[int, LastLogin]) -> list[LastLogin]:
    return [found[uid] for uid in sorted(found)]


def _last_login(uid: int, data: bytes) -> LastLogin | None:
    seconds, line, host = _LASTLOG.unpack(data)
    return LastLogin(uid, seconds & 0xFFFFFFFF, _string(line), _string(host)) if any(data) else None
