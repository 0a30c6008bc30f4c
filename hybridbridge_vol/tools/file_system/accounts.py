"""Names of users and groups, by the /etc/passwd and /etc/group that the guest's memory holds.

Only these files: a name that the guest took from a directory service is not there. An id without a name is
shown as `#ID`, which can be no name (useradd(8)).
"""

from __future__ import annotations

from functools import cached_property

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.reading import UNREADABLE

MAX_ACCOUNTS = 1 << 16
"""Lines of a file that are read."""
_NAME, _ID = 0, 2
"""Fields of passwd(5) and group(5)."""


class Accounts:
    """The names, read when one is first asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def user(self, uid: int) -> str:
        """A user's name, or `#UID`."""
        return self._users.get(uid, f"#{uid}")

    def group(self, gid: int) -> str:
        """A group's name, or `#GID`."""
        return self._groups.get(gid, f"#{gid}")

    @cached_property
    def _users(self) -> dict[int, str]:
        return self._names("/etc/passwd")

    @cached_property
    def _groups(self) -> dict[int, str]:
        return self._names("/etc/group")

    def _names(self, path: str) -> dict[int, str]:
        try:
            return parse_accounts(self._files.read(path))
        except UNREADABLE:
            return {}  # not in memory as a whole


def parse_accounts(data: bytes) -> dict[int, str]:
    """Names by id, of passwd(5) or group(5). The first line for an id counts, as for getpwuid(3); lines that
    are none are passed over."""
    names: dict[int, str] = {}
    for line in data.split(b"\n", MAX_ACCOUNTS)[:MAX_ACCOUNTS]:
        fields = line.split(b":")
        if len(fields) > _ID and fields[_NAME] and fields[_ID].isdigit() and len(fields[_ID]) <= 10:
            names.setdefault(int(fields[_ID]), fields[_NAME].decode("utf-8", "surrogateescape"))
    return names
