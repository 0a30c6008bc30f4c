"""The format of /proc/keys and /proc/key-users (security/keys/proc.c, `proc_keys_show`,
`proc_key_users_show`; Linux 5.10 to 7.2)."""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text

_LINE = re.compile(
    rb"([0-9a-f]{8}) ([IRDQUNi-]{7}) +(\d+) +(\S+) ([0-9a-f]{8}) +(-?\d+) +(-?\d+) (.{9}) (.*)", re.DOTALL
)


class Key(NamedTuple):
    """A line of /proc/keys. `type` is cut at 9 characters; `description` may end with what its type adds."""

    serial: int
    flags: str
    """I instantiated, R revoked, D dead, Q in a user's quota, U under construction, N negative, i
    invalidated."""
    usage: int
    expires: str
    """What is left: `perm`, `expd`, or a number and its unit."""
    permissions: int
    uid: int
    gid: int
    type: str
    description: str


def parse_key(line: bytes) -> Key:
    """A line without its newline. ParseError."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ParseError(f"not in the form of /proc/keys: {line[:60]!r}")
    serial, flags, usage, expires, permissions, uid, gid, kind, description = found.groups()
    return Key(
        int(serial, 16), text(flags), int(usage), text(expires), int(permissions, 16), int(uid), int(gid),
        text(kind.rstrip()), text(description),
    )  # fmt: skip


def key_owners(data: bytes) -> list[int]:
    """The users that /proc/key-users lists."""
    return [int(found[1]) for found in re.finditer(rb"^ *(\d+):", data, re.MULTILINE)]
