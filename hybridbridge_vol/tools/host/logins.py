"""Every login that the guest's records name, in the order of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.file_system.accounts import Accounts
from hybridbridge_vol.tools.host import login_records
from hybridbridge_vol.tools.host.account_files import Account, parse_passwd
from hybridbridge_vol.tools.host.key_values import parse_key_values
from hybridbridge_vol.tools.host.text_file import is_absent, list_folder, read_runs, read_text

SOURCES = ("utmp", "wtmp", "btmp", "lastlog", "session")
_FILES = (
    ("utmp", ("/run/utmp", "/var/run/utmp")),
    ("wtmp", ("/var/log/wtmp.1",)),
    ("wtmp", ("/var/log/wtmp",)),
    ("btmp", ("/var/log/btmp.1",)),
    ("btmp", ("/var/log/btmp",)),
)
"""Of each source the paths, of which the first that is there counts."""
_LASTLOG = "/var/log/lastlog"
_DATABASES = (
    ("lastlog", "/var/lib/lastlog/lastlog2.db"),
    ("wtmp", "/var/lib/wtmpdb/wtmp.db"),
    ("wtmp", "/var/log/wtmp.db"),
)
"""SQLite, by pam_lastlog2 and wtmpdb."""
_SESSIONS = "/run/systemd/sessions"
_ROTATED = ("/var/log/wtmp.1", "/var/log/btmp.1")
MOST_BYTES = login_records.MAX_RECORDS * login_records.UTMP_SIZE
MAX_SESSIONS = 1 << 14
"""Sessions of systemd-logind that are read."""
SLACK = 120.0
"""Seconds by which a record may be older than the one before it: programs write theirs when they get to
it."""


@dataclass(frozen=True)
class Login:
    """A row of `logins`; its fields are the columns."""

    source: str
    kind: str
    path: str
    offset: int | None = None
    size: int = 0
    user: Cell = None
    tty: Cell = None
    host: Cell = None
    address: Cell = None
    pid: Cell = None
    start: Cell = None
    end: Cell = None
    how: Cell = None
    marks: tuple[str, ...] = ()


def logins(files: Files) -> Iterator[Login]:
    """All of them."""
    for source, paths in _FILES:
        yield from _records(files, source, paths)
    yield from _last_logins(files)
    met: set[tuple[int, int]] = set()
    for source, path in _DATABASES:
        yield from _of_database(files, source, path, met)
    yield from _sessions(files)


def _records(files: Files, source: str, paths: tuple[str, ...]) -> Iterator[Login]:
    for path in paths:
        try:
            size = files.attributes(path, follow=True).size
            runs, missing = read_runs(files, path, size, MOST_BYTES)
        except UNREADABLE as error:
            if is_absent(error):
                continue
            yield Login(source, "file", path, user=why(path, error))
            return
        yield from _of_records(files, source, path, list(login_records.parse_records(runs)))
        yield from _lacks(source, path, size, missing, bool(runs))
        return
    if paths[0] not in _ROTATED:
        yield Login(source, "file", paths[0], how="there is no such file")


def _lacks(source: str, path: str, size: int, missing: int, some: bool) -> Iterator[Login]:
    if missing:
        part = f"{missing:,} of its {size:,} bytes are " if some else ""
        yield Login(source, "file", path, user=Unavailable(f"{path}: {part}not in memory"))
    if size > MOST_BYTES:
        yield Login(
            source, "file", path, user=Unavailable(f"{path}: of {size:,} bytes {MOST_BYTES:,} are read")
        )
    if size % login_records.UTMP_SIZE:
        rest = size % login_records.UTMP_SIZE
        yield Login(
            source, "file", path, user=Unavailable(f"{path}: ends in {rest} bytes that are not a record")
        )


def _of_records(files: Files, source: str, path: str, records: list[login_records.Record]) -> Iterator[Login]:
    before = 0.0
    uids = _uids(files)
    for record, end, ended in _paired(source, records):
        marks: tuple[str, ...] = ("zeroed record",) if record.is_zeroed else ()
        if source == "wtmp" and record.seconds and record.time + SLACK < before:
            marks = (*marks, "older than the record before")
        before = max(before, record.time)
        is_gone = ended == "open" and record.kind == "login" and _is_gone(files, record, uids)
        how = "gone" if is_gone else ended or None
        yield replace(_of_record(source, path, record), end=end, how=how, marks=marks)


def _of_record(source: str, path: str, record: login_records.Record) -> Login:
    kind = "failed" if source == "btmp" and not record.is_zeroed else record.kind
    time = record.time if record.seconds else None
    return Login(
        source, kind, path, record.offset, login_records.UTMP_SIZE, record.user or None, record.line or None,
        record.host or None, record.address or None, record.pid, time,
    )  # fmt: skip


def _paired(source: str, records: list[login_records.Record]) -> Iterator[login_records.Session]:
    """The records; those of wtmp with their ends."""
    if source == "wtmp":
        yield from login_records.pair(records)
    else:
        yield from (login_records.Session(record, None, "") for record in records)


def _is_gone(files: Files, record: login_records.Record, uids: dict[str, int]) -> bool:
    """Whether the process of an open login is not there any more, or is one of another login, as last(1) sees
    it (login-utils/last.c, `is_phantom`). If that cannot be said, it is there."""
    path = f"/proc/{record.pid}/loginuid"
    try:
        loginuid = files.read(path)
    except UNREADABLE as error:
        return is_absent(error)
    return record.user not in uids or loginuid.strip() != str(uids[record.user]).encode()


def _uids(files: Files) -> dict[str, int]:
    found = read_text(files, "/etc/passwd")
    accounts = parse_passwd(found.lines) if found is not None else ()
    uids: dict[str, int] = {}
    for account in accounts:
        if isinstance(account, Account):
            uids.setdefault(account.name, account.uid)
    return uids


def _last_logins(files: Files) -> Iterator[Login]:
    try:
        found, lack = login_records.read_lastlog(files, _LASTLOG)
    except UNREADABLE as error:
        missing = Login("lastlog", "file", _LASTLOG, how="there is no such file")
        yield missing if is_absent(error) else Login("lastlog", "file", _LASTLOG, user=why(_LASTLOG, error))
        return
    accounts = Accounts(files)
    for record in found:
        yield Login(
            "lastlog", "last", _LASTLOG, record.uid * login_records.LASTLOG_SIZE, login_records.LASTLOG_SIZE,
            accounts.user(record.uid), record.line or None, record.host or None, start=record.time,
        )  # fmt: skip
    if lack is not None:
        yield Login("lastlog", "file", _LASTLOG, user=lack)


def _of_database(files: Files, source: str, path: str, met: set[tuple[int, int]]) -> Iterator[Login]:
    """Those that are in a database, which has to be in memory as a whole. `met`: device and inode of those
    before: Debian has a link to the old place of one."""
    import sqlite3  # few guests have one

    from hybridbridge_vol.tools.host.login_databases import lastlog2_rows, wtmpdb_rows
    from hybridbridge_vol.tools.host.sqlite_question import MAX_SIZE

    try:
        seen = files.attributes(path, follow=True)
        if (seen.dev, seen.ino) in met:
            return
        met.add((seen.dev, seen.ino))
        size = seen.size
        if not size:
            yield Login(source, "file", path, how="empty")
            return
        runs, missing = read_runs(files, path, size, MAX_SIZE)
        if missing or size > MAX_SIZE or not runs:
            lack = f"{missing:,} of its {size:,} bytes are not in memory" if missing else f"{size:,} bytes"
            yield Login(source, "file", path, user=Unavailable(f"{path}: a database, not read: {lack}"))
            return
        for row in (wtmpdb_rows if source == "wtmp" else lastlog2_rows)(runs[0].data):
            yield Login(
                source, row.kind, path, user=row.user or None, tty=row.tty or None, host=row.host or None,
                start=row.start, end=row.end, how=_how(row.kind, row.end is None),
            )  # fmt: skip
    except UNREADABLE as error:
        if not is_absent(error):
            yield Login(source, "file", path, user=why(path, error))
    except sqlite3.Error as error:
        yield Login(source, "file", path, user=Unavailable(f"{path}: not a database of logins: {error}"))


def _how(kind: str, is_open: bool) -> str | None:
    """How what a database says ended."""
    if kind not in ("boot", "login"):
        return None
    return "open" if is_open else "down" if kind == "boot" else "logout"


def _sessions(files: Files) -> Iterator[Login]:
    folder = list_folder(files, _SESSIONS)
    if folder is None:
        return
    for path in list(folder.paths())[:MAX_SESSIONS]:
        if path.endswith(".ref"):
            continue
        found = read_text(files, path)
        if found is None:
            continue
        values = parse_key_values(found.lines)
        began, leader = values.get("REALTIME", ""), values.get("LEADER", "")
        start = int(began) / 1e6 if began.isdecimal() and len(began) < 18 else None
        pid = int(leader) if leader.isdecimal() and len(leader) < 10 else None
        lack = found.lack
        yield Login(
            "session", "session", path, user=values.get("USER") or lack or None,
            tty=values.get("TTY") or lack, host=values.get("REMOTE_HOST"), pid=pid, start=start,
            how=values.get("STATE") or lack,
        )  # fmt: skip
    if folder.lack is not None:
        yield Login("session", "file", _SESSIONS, user=folder.lack)
