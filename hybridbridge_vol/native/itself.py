"""What the program asks about its own process: /proc/self/fd, maps, exe and their like."""

from __future__ import annotations

import errno
import os
import stat
import struct

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.dirents import dirents, renumbered
from hybridbridge_vol.native.nodes import NAME, Kind, Node, Nodes
from hybridbridge_vol.native.notifications import Call
from hybridbridge_vol.native.processes import Processes

_SELF = "/proc/self/"
_DELETED = b" (deleted)"
_MEMFD = b"/memfd:" + NAME.encode()


class Itself:
    """Paths are below /proc/self, as `places` gives them."""

    def __init__(self, nodes: Nodes, processes: Processes) -> None:
        self._nodes = nodes
        self._processes = processes

    def node(self, call: Call, path: str) -> Node:
        """A node with the content of a file or directory. OSError."""
        real = self._real(call, path)
        if path in ("/proc/self/fd", "/proc/self/fdinfo"):
            kind = stat.S_IFLNK if path.endswith("fd") else stat.S_IFREG
            numbers = sorted(self._processes.descriptors(call.tid))
            content = renumbered(dirents((str(number), number + 2, kind) for number in numbers))
            return self._nodes.make(path, Kind.DIRECTORY, content, host_path=real)
        if path == "/proc/self/exe":
            raise failed(errno.EACCES)
        content = self._processes.own_file(call.tid, path.removeprefix(_SELF))
        if path.startswith("/proc/self/fdinfo/"):
            opened = self._nodes.behind(call.tid, int(path.rpartition("/")[2]))
            content += b"" if opened is None else opened.fdinfo
        return self._nodes.make(path, Kind.FILE, content, host_path=real)

    def stat(self, call: Call, path: str) -> bytes:
        """Its `struct stat`."""
        seen = os.lstat(self._real(call, path))
        return struct.pack(
            "<QQQIII4xQqqq48x24x", seen.st_dev, seen.st_ino, seen.st_nlink, seen.st_mode, 0, 0, 0,
            seen.st_size, 1024, 0,
        )  # fmt: skip

    def readlink(self, call: Call, path: str) -> bytes:
        """Where a link leads: a node of the image's, to its path there."""
        if path == "/proc/self/cwd":
            return os.fsencode(self._processes.of(call.tid).folder)
        target = self._processes.own_link(call.tid, path.removeprefix(_SELF))
        if target.startswith(_MEMFD):
            return target[len(_MEMFD) :].removesuffix(_DELETED)
        return target

    def _real(self, call: Call, path: str) -> str:
        return f"/proc/{self._processes.of(call.tid).pid}{path.removeprefix('/proc/self')}"
