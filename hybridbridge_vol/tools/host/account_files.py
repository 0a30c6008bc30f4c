"""The tables of accounts: passwd(5), group(5), shadow(5). Lines that are not of their form are kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.tools.host.text_file import Line

DAY = 86_400
"""Seconds; shadow(5) counts days since the epoch."""
_MAX_ID_DIGITS = 10
_MAX_DAYS = 10_000_000
"""Days of shadow(5) that are taken for a date, or an age: beyond them lies no year of ours."""
_PASSWD, _GROUP, _SHADOW = 7, 4, 9
"""Fields of a line."""
_HASHES = (
    (r"\$1\$", "md5crypt"), (r"\$2[abxy]?\$", "bcrypt"), (r"\$3\$", "NT"), (r"\$5\$", "sha256crypt"),
    (r"\$6\$", "sha512crypt"), (r"\$7\$", "scrypt"), (r"\$md5[,$]", "sunmd5"), (r"\$sha1\$", "sha1crypt"),
    (r"\$gy\$", "gost-yescrypt"), (r"\$y\$", "yescrypt"), (r"_[./0-9A-Za-z]{19}$", "bsdicrypt"),
    (r"[./0-9A-Za-z]{13}$", "descrypt"),
)  # fmt: skip
"""The methods of crypt(5)."""


class Account(NamedTuple):
    """A line of passwd(5)."""

    name: str
    password: str
    uid: int
    gid: int
    gecos: str
    home: str
    shell: str
    line: Line


class Group(NamedTuple):
    """A line of group(5)."""

    name: str
    password: str
    gid: int
    members: tuple[str, ...]
    line: Line


class Shadow(NamedTuple):
    """A line of shadow(5). Times in seconds since the epoch, spans in days; None where the field is empty or
    no number."""

    name: str
    password: str
    changed: int | None
    minimum: int | None
    maximum: int | None
    warn: int | None
    inactive: int | None
    expires: int | None
    line: Line


class Malformed(NamedTuple):
    """A line that is not of the file's form."""

    text: str
    line: Line


def _records(lines: Iterable[Line]) -> Iterator[tuple[Line, list[str]]]:
    """The lines that say something (nss_files passes over empty ones and comments), and their fields."""
    for line in lines:
        stripped = line.text.lstrip(" \t")
        if stripped and not stripped.startswith("#"):
            yield line, stripped.split(":")


def _id(field: str) -> int | None:
    if field.isascii() and field.isdigit() and len(field) <= _MAX_ID_DIGITS and int(field) < 1 << 32:
        return int(field)
    return None


def parse_passwd(lines: Iterable[Line]) -> Iterator[Account | Malformed]:
    """Accounts in the file's order."""
    for line, fields in _records(lines):
        uid, gid = (_id(fields[at]) if len(fields) > at else None for at in (2, 3))
        if len(fields) != _PASSWD or uid is None or gid is None or not fields[0] or fields[0][0] in "+-":
            yield Malformed(line.text, line)
        else:
            name, password, _uid, _gid, gecos, home, shell = fields
            yield Account(name, password, uid, gid, gecos, home, shell, line)


def parse_group(lines: Iterable[Line]) -> Iterator[Group | Malformed]:
    """Groups in the file's order."""
    for line, fields in _records(lines):
        gid = _id(fields[2]) if len(fields) == _GROUP else None
        if gid is None or not fields[0] or fields[0][0] in "+-":
            yield Malformed(line.text, line)
        else:
            members = tuple(filter(None, fields[3].split(",")))
            yield Group(fields[0], fields[1], gid, members, line)


def parse_shadow(lines: Iterable[Line]) -> Iterator[Shadow | Malformed]:
    """Passwords in the file's order."""
    for line, fields in _records(lines):
        if len(fields) != _SHADOW or not fields[0]:
            yield Malformed(line.text, line)
            continue
        changed, minimum, maximum, warn, inactive, expires = map(_days, fields[2:8])
        yield Shadow(
            fields[0], fields[1], _moment(changed), minimum, maximum, warn, inactive, _moment(expires),
            line,
        )  # fmt: skip


def _days(field: str) -> int | None:
    return int(field) if re.fullmatch(r"[0-9]{1,8}", field) and int(field) <= _MAX_DAYS else None


def _moment(days: int | None) -> int | None:
    return None if days is None else days * DAY


class Password(NamedTuple):
    """What a password field says. `method` is crypt(5)'s name of the hash; empty where there is none."""

    locked: bool
    empty: bool
    method: str

    def __str__(self) -> str:
        if self.empty:
            return "none"
        if not self.locked:
            return self.method
        return f"locked ({self.method})" if self.method else "locked"


def describe_password(field: str) -> Password:
    """The state of a password, by its field of shadow(5): `!` and `*` in front of it lock it."""
    locked = field[:1] in ("!", "*")
    rest = field.lstrip("!*")
    method = next(
        (name for pattern, name in _HASHES if re.match(pattern, rest)), "unknown hash" if rest else ""
    )
    return Password(locked, not field, method)
