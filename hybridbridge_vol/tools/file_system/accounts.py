"""Names of users and groups, by the /etc/passwd and /etc/group that the guest's memory holds.

Only these files: a name that the guest took from a directory service is not there. An id without a name is
shown as `#ID`, which can be no name (useradd(8)). Of a file that memory holds in part, whole lines count.
"""

from __future__ import annotations

from functools import cached_property

from hybridbridge_vol.guest.file_content import IncompleteFile, PieceKind
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.toolkit.tool import Column

MAX_ACCOUNTS = 1 << 16
"""Lines of a file that are read."""
_NAME, _ID = 0, 2
"""Fields of passwd(5) and group(5)."""
USER = Column("USER", "str", "owner's name in the guest's own files; #ID where there is none")
GROUP = Column("GROUP", "str", "group's name, the same way")


class Accounts:
    """The names, read when one is first asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def read_users(self) -> None:
        """Read the users' names now: before the work is shared out to other processes."""
        _ = self._users

    def user_cell(self, uid: Cell, numeric: bool = False) -> Cell:
        """The name for a cell with an id in it, with `numeric` the id; what is none stays as it is."""
        if not isinstance(uid, int):
            return uid
        return str(uid) if numeric else self.user(uid)

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
        except IncompleteFile as error:
            return parse_accounts(whole_lines(error))
        except UNREADABLE:
            return {}


def parse_accounts(data: bytes) -> dict[int, str]:
    """Names by id, of passwd(5) or group(5). The first line for an id counts, as for getpwuid(3); lines that
    are none are passed over."""
    names: dict[int, str] = {}
    for line in data.split(b"\n", MAX_ACCOUNTS)[:MAX_ACCOUNTS]:
        fields = line.split(b":")
        if len(fields) > _ID and fields[_NAME] and fields[_ID].isdigit() and len(fields[_ID]) <= 10:
            names.setdefault(int(fields[_ID]), fields[_NAME].decode("utf-8", "surrogateescape"))
    return names


def whole_lines(file: IncompleteFile) -> bytes:
    """The lines of a file that memory holds from their beginning to their end."""
    parts = (piece.data if piece.kind is PieceKind.DATA else b"\0" for piece in file.pieces)
    lines = b"".join(parts).split(b"\n")  # a line of these files has no NUL
    return b"\n".join(line for line in lines if b"\0" not in line)
