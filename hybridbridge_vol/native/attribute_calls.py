"""System calls that ask for attributes of files: stat and its like, links, file systems, extended
attributes."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.itself import Itself
from hybridbridge_vol.native.nodes import Kind, Node, Nodes
from hybridbridge_vol.native.notifications import Answer, Call
from hybridbridge_vol.native.places import Place, Places, Where
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.program_memory import MAX_PATH
from hybridbridge_vol.native.stat_forms import MODE_AT, stat_of_host, statx_of_stat

_MAX_XATTR = 64 << 10  # XATTR_SIZE_MAX, include/uapi/linux/limits.h


class AttributeCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, answers: Answers, nodes: Nodes, places: Places, processes: Processes) -> None:
        self._answers = answers
        self._nodes = nodes
        self._places = places
        self._processes = processes
        self._itself = Itself(nodes, processes)
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "stat": lambda call: self._stat(call, AT_FDCWD, call.arguments[:2], 0),
            "lstat": lambda call: self._stat(call, AT_FDCWD, call.arguments[:2], AT_SYMLINK_NOFOLLOW),
            "fstat": lambda call: self._fstat(call, signed32(call.arguments[0]), call.arguments[1]),
            "newfstatat": lambda call: self._stat(
                call, signed32(call.arguments[0]), call.arguments[1:3], call.arguments[3]
            ),
            "statx": self._statx,
            "access": lambda call: self._access(call, AT_FDCWD, call.arguments[:2], 0),
            "faccessat": lambda call: self._access(call, signed32(call.arguments[0]), call.arguments[1:3], 0),
            "faccessat2": lambda call: self._access(
                call, signed32(call.arguments[0]), call.arguments[1:3], call.arguments[3]
            ),
            "readlink": lambda call: self._readlink(call, AT_FDCWD, call.arguments[:3]),
            "readlinkat": lambda call: self._readlink(call, signed32(call.arguments[0]), call.arguments[1:4]),
            "statfs": self._statfs,
            "fstatfs": self._fstatfs,
            "getxattr": lambda call: self._xattr(call, True, True),
            "lgetxattr": lambda call: self._xattr(call, False, True),
            "fgetxattr": lambda call: self._xattr(call, None, True),
            "listxattr": lambda call: self._xattr(call, True, False),
            "llistxattr": lambda call: self._xattr(call, False, False),
            "flistxattr": lambda call: self._xattr(call, None, False),
        }

    # --- stat ---------------------------------------------------------------------------------------------

    def _stat(self, call: Call, folder: int, pointers: tuple[int, ...], flags: int) -> Answer:
        path_at, buffer = pointers
        path = call.memory.read_path(path_at) if path_at else ""
        if not path:
            if not flags & AT_EMPTY_PATH:
                raise failed(errno.ENOENT)
            if folder != AT_FDCWD:
                return self._fstat(call, folder, buffer)
            path = "."
        follow = not flags & AT_SYMLINK_NOFOLLOW
        data = self._stat_of(call, self._places.of(call, folder, path, follow), follow)
        call.memory.write(buffer, data)
        return 0

    def _stat_of(self, call: Call, place: Place, follow: bool) -> bytes:
        if place.where is Where.IMAGE:
            return self._answers.stat(place.path, follow)
        if place.where is Where.DESCRIPTOR:
            return self._stat_of_descriptor(call, int(place.path))
        if place.where is Where.ITSELF:
            return self._itself.stat(call, place.path)
        return stat_of_host(os.stat(place.path, follow_symlinks=False))

    def _fstat(self, call: Call, number: int, buffer: int) -> Answer:
        call.memory.write(buffer, self._stat_of_descriptor(call, number))
        return 0

    def _stat_of_descriptor(self, call: Call, number: int) -> bytes:
        node = self._nodes.behind(call.tid, number)
        if node is None or node.kind is Kind.OTHER:
            return stat_of_host(os.stat(f"/proc/{call.tid}/fd/{number}"))
        return self._stat_of_node(node)

    def _stat_of_node(self, node: Node) -> bytes:
        if node.is_host:
            return stat_of_host(os.stat(node.host_path, follow_symlinks=False))
        return self._answers.stat(node.path, node.follow)

    def _statx(self, call: Call) -> Answer:
        folder, path_at, flags, _mask, buffer = call.arguments[:5]
        path = call.memory.read_path(path_at) if path_at else ""
        follow = not flags & AT_SYMLINK_NOFOLLOW
        if path or signed32(folder) == AT_FDCWD:
            place = self._places.of(call, signed32(folder), path or ".", follow)
            if place.where is Where.IMAGE:
                call.memory.write(buffer, self._answers.statx(place.path, follow))
                return 0
            data = self._stat_of(call, place, follow)
        else:
            if not flags & AT_EMPTY_PATH:
                raise failed(errno.ENOENT)
            node = self._nodes.behind(call.tid, signed32(folder))
            if node is not None and not node.is_host and node.kind is not Kind.OTHER:
                call.memory.write(buffer, self._answers.statx(node.path, node.follow))
                return 0
            data = self._stat_of_descriptor(call, signed32(folder))
        call.memory.write(buffer, statx_of_stat(data))
        return 0

    # --- others -------------------------------------------------------------------------------------------

    def _access(self, call: Call, folder: int, arguments: tuple[int, ...], flags: int) -> Answer:
        path_at, mode = arguments
        follow = not flags & AT_SYMLINK_NOFOLLOW
        place = self._places.of(call, folder, call.memory.read_path(path_at), follow)
        seen = struct.unpack_from("<I", self._stat_of(call, place, follow), MODE_AT)[0]
        executable = stat.S_ISDIR(seen) or seen & 0o111
        if mode & os.X_OK and not executable or mode & os.W_OK and place.where is Where.HOST:
            raise failed(errno.EACCES)
        return 0  # the program is root

    def _readlink(self, call: Call, folder: int, arguments: tuple[int, ...]) -> Answer:
        path_at, buffer, size = arguments
        path = call.memory.read_path(path_at)
        if not path:
            node = self._nodes.behind(call.tid, folder)
            if node is None or node.kind is not Kind.NAME:
                raise failed(errno.EINVAL)
            place = Place(Where.IMAGE, node.path)
        else:
            place = self._places.of(call, folder, path, False)
        if place == Place(Where.IMAGE, "/proc/self"):
            target = str(self._processes.of(call.tid).pid).encode()
        elif place.where is Where.IMAGE:
            target = self._answers.readlink(place.path)
        elif place.where is Where.ITSELF:
            target = self._itself.readlink(call, place.path)
        elif place.where is Where.HOST:
            target = os.fsencode(os.readlink(place.path))
        else:
            raise failed(errno.EINVAL)
        target = target[: min(size, MAX_PATH)]
        call.memory.write(buffer, target)
        return len(target)

    def _statfs(self, call: Call) -> Answer:
        place = self._places.of(call, AT_FDCWD, call.memory.read_path(call.arguments[0]))
        if place.where is not Where.IMAGE:
            raise failed(errno.ENOSYS)
        call.memory.write(call.arguments[1], self._answers.statfs(place.path))
        return 0

    def _fstatfs(self, call: Call) -> Answer:
        node = self._nodes.behind(call.tid, signed32(call.arguments[0]))
        if node is None or node.is_host or node.kind is Kind.OTHER:
            raise failed(errno.ENOSYS)
        call.memory.write(call.arguments[1], self._answers.statfs(node.path))
        return 0

    def _xattr(self, call: Call, follow: bool | None, one: bool) -> Answer:
        """getxattr and listxattr: by a path, whose last link is followed or not, or by a descriptor."""
        if follow is None:
            node = self._nodes.behind(call.tid, signed32(call.arguments[0]))
            if node is None or node.is_host or node.kind is Kind.OTHER:
                raise failed(errno.EOPNOTSUPP)
            path = node.path
        else:
            place = self._places.of(call, AT_FDCWD, call.memory.read_path(call.arguments[0]), follow)
            if place.where is not Where.IMAGE:
                raise failed(errno.EOPNOTSUPP)
            path = place.path
        found = self._answers.xattrs(path)
        if one:
            name = call.memory.read_path(call.arguments[1])
            if name not in found:
                raise failed(errno.ENODATA)
            data, buffer, room = found[name], *call.arguments[2:4]
        else:
            data = b"".join(os.fsencode(name) + b"\0" for name in found)
            buffer, room = call.arguments[1:3]
        if not room:
            return len(data)
        if len(data) > min(room, _MAX_XATTR):
            raise failed(errno.ERANGE)
        call.memory.write(buffer, data)
        return len(data)
