"""Shells and interpreters whose standard input and output are a connection of TCP: what a reverse shell is.

Programs that serve others so (sshd, inetd) give them pipes, a terminal or a Unix socket, or are no shell.
"""

from __future__ import annotations

import re

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.net import LISTEN, parse_inet_socket
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.toolkit.reading import read_lines

_SHELLS = re.compile(
    r"(?:.*/)?(?:(?:ba|da|z|k|mk|pdk|c|tc|fi|a)?sh|busybox|python[\d.]*|perl[\d.]*|ruby[\d.]*|php[\d.]*|lua[\d.]*"
    r"|node|awk|gawk|mawk|tclsh[\d.]*|expect)(?: \(deleted\))?"
)
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_TABLES = ("tcp", "tcp6")
MAX_SOCKETS = 1 << 16
"""Lines of a table that are looked at."""


def is_shell(program: str) -> bool:
    """Whether a program, by its path, takes orders from its standard input."""
    return _SHELLS.fullmatch(program) is not None


def connection_of(files: Files, pid: int) -> str:
    """The ends of the connection that is a process's standard input and its output, in words; empty if they
    are none. UNREADABLE where the descriptors cannot be read."""
    links = []
    for number in (0, 1):
        try:
            links.append(files.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            return ""
    found = _SOCKET.fullmatch(links[0])
    if found is None or _SOCKET.fullmatch(links[1]) is None:
        return ""
    return _connection(files, pid, int(found[1]))


def _connection(files: Files, pid: int, inode: int) -> str:
    for table in _TABLES:
        data, _gap = read_lines(files, f"/proc/{pid}/net/{table}")
        for line in split_lines(data)[1 : MAX_SOCKETS + 1]:
            if str(inode).encode() not in line:
                continue
            try:
                socket = parse_inet_socket(line)
            except ParseError:
                continue
            if socket.inode == inode and socket.state != LISTEN:
                return f"{socket.local.text} -> {socket.remote.text}"
    return ""
