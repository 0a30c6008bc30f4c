"""What a descriptor of the program's stands for.

A file is a memfd with its whole content, sealed, which the program gets opened read-only: reading, seeking,
mapping and duplicating it then need no supervisor, and it keeps no table. A memfd's inode tells which it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from enum import Enum

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.dirents import dirents, renumbered

_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF  # F_SEAL_SEAL, SHRINK, GROW, WRITE: include/uapi/linux/fcntl.h
NAME = "hb:"
"""The beginning of a memfd's name: the rest is the path that it stands for."""
MAX_NAME = 240
"""Bytes of a memfd's name (mm/memfd.c has MFD_NAME_MAX_LEN, 249)."""
MAX_CONTENT, MAX_OPEN, MAX_NODES = 256 << 20, 384, 1 << 17
"""Bytes in all memfds together; how many there are; nodes that are known."""


class Kind(Enum):
    """What a node is."""

    FILE = "file"
    DIRECTORY = "directory"
    WINDOW = "window"
    """A file that is answered read by read: it has no end, or memory lacks a part of it."""
    NAME = "name"
    """Opened with O_PATH: nothing but a place."""
    OTHER = "other"
    """A socket or another object without a path."""


@dataclass(slots=True)
class Node:
    """`fd` is its memfd's, -1 once it was let go; `path` is the guest's. `follow`: whether the path's last
    link was followed. `error` is the errno that comes after the last byte, if memory lacks what follows."""

    path: str
    kind: Kind
    fd: int
    size: int
    follow: bool = True
    error: int = 0
    host_path: str = ""
    """Of a file of the examiner's machine that the program may have, or of its own process: where it is.
    `path` is the program's name for it."""
    bpf: tuple[str, int] | None = None
    """The eBPF object that it stands for: its kind and its id."""
    fdinfo: bytes = b""
    """What /proc/self/fdinfo says of it beyond what it says of any file."""
    charged: int = 0
    """Bytes of memory that its memfd takes."""

    @property
    def is_host(self) -> bool:
        return bool(self.host_path)

    def opened(self) -> int:
        """A descriptor of its own for reading, with a position of its own."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)


class Nodes:
    """All nodes, by the identity of their inodes; a memfd's is used once only. Those that nobody opened for
    longest lose their memfd when there are many: descriptors of the program stay what they are."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], Node] = {}
        self._open: dict[int, Node] = {}
        self._size = 0

    def make(
        self,
        path: str,
        kind: Kind,
        content: bytes = b"",
        *,
        size: int | None = None,
        follow: bool = True,
        error: int = 0,
        host_path: str = "",
    ) -> Node:
        """A new node. `size` is its size if that is not its content's. OSError."""
        name = os.fsencode(NAME + path)[:MAX_NAME]
        fd = os.memfd_create(os.fsdecode(name), _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            if size is not None:
                os.ftruncate(fd, size)
            fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
        except BaseException:
            os.close(fd)
            raise
        full = len(content) if size is None else size
        return self._add(Node(path, kind, fd, full, follow, error, host_path), len(content))

    def of_host(self, host_path: str, path: str, fd: int) -> Node:
        """A node for a file of the host's that is open as `fd`; the program names it `path`. A folder
        becomes the list of its names: the program gets no descriptor of a folder of the host's. OSError."""
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return self._add(Node(path, Kind.FILE, fd, os.fstat(fd).st_size, host_path=host_path), 0)
        try:
            if not stat.S_ISDIR(mode):
                raise failed(errno.EACCES)
            with os.scandir(fd) as found:
                content = dirents((entry.name, entry.inode(), _mode_of(entry)) for entry in found)
            return self.make(path, Kind.DIRECTORY, renumbered(content), host_path=host_path)
        finally:
            os.close(fd)

    def _add(self, node: Node, size: int) -> Node:
        node.charged = size
        self._size += size
        self._nodes[_identity(node.fd)] = node
        self._open[id(node)] = node
        while len(self._open) > 1 and (len(self._open) > MAX_OPEN or self._size > MAX_CONTENT):
            self._let_go(next(iter(self._open.values())))
        while len(self._nodes) > MAX_NODES:
            del self._nodes[next(iter(self._nodes))]
        return node

    def _let_go(self, node: Node) -> None:
        del self._open[id(node)]
        self._size -= node.charged
        os.close(node.fd)
        node.fd = -1

    def behind(self, tid: int, number: int) -> Node | None:
        """The node behind a descriptor of a thread's; None if it is something else. OSError EBADF."""
        if number < 0:
            raise failed(errno.EBADF)
        try:
            found = os.stat(f"/proc/{tid}/fd/{number}")
        except OSError:
            raise failed(errno.EBADF) from None
        return self._nodes.get((found.st_dev, found.st_ino))

    def close(self) -> None:
        for node in list(self._open.values()):
            self._let_go(node)
        self._nodes.clear()


def _mode_of(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else stat.S_IFREG


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
