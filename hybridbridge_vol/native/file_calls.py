"""System calls that name files, or ask for what a descriptor stands for."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native import kernel_log
from hybridbridge_vol.native.abi import (
    AT_FDCWD,
    FIRST_WINDOW,
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_PATH,
    O_TMPFILE,
    O_TRUNC,
    failed,
)
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.dirents import whole_entries
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.itself import Itself
from hybridbridge_vol.native.kernel_log import KernelLog
from hybridbridge_vol.native.nodes import Kind, Node, Nodes
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor, Special
from hybridbridge_vol.native.places import Place, Places, Where
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.program_memory import MAX_READ

_LAST_WINDOW = 1023
"""Programs that use select(2) have no room for higher numbers (FD_SETSIZE)."""
_PROT_EXEC = 0x4
_WRITABLE = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")


class FileCalls:
    """`handlers`: by the name of the system call."""

    def __init__(
        self, answers: Answers, nodes: Nodes, places: Places, host: HostFiles, processes: Processes
    ) -> None:
        self._answers = answers
        self._nodes = nodes
        self._places = places
        self._host = host
        self._processes = processes
        self._itself = Itself(nodes, processes)
        self._log = KernelLog(answers)
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "open": lambda call: self._open(call, AT_FDCWD, *call.arguments[:2]),
            "openat": lambda call: self._open(call, signed32(call.arguments[0]), *call.arguments[1:3]),
            "getdents64": self._getdents64,
            "getcwd": self._getcwd,
            "chdir": self._chdir,
            "fchdir": self._fchdir,
            "execve": self._execve,
            "mmap": self._mmap,
            "read": lambda call: self._read(call, None),
            "pread64": lambda call: self._read(call, call.arguments[3]),
            "readv": self._vector_read,
            "preadv": self._vector_read,
            "preadv2": self._vector_read,
        }

    # --- open ---------------------------------------------------------------------------------------------

    def _open(self, call: Call, folder: int, path_at: int, flags: int) -> Answer:
        path = call.memory.read_path(path_at)
        follow = not flags & O_NOFOLLOW
        place = self._places.of(call, folder, path, follow)
        close_on_exec = bool(flags & O_CLOEXEC)
        if place.where is Where.DEVICE:
            return self._device(place.path, flags)
        if place.where is Where.DESCRIPTOR:
            opened = self._nodes.behind(call.tid, int(place.path))
            copy = self._processes.take(call.tid, int(place.path))
            return NewDescriptor(copy, close_on_exec, self._number_for(call, opened))
        if flags & (O_ACCMODE | O_CREAT | O_TRUNC) or flags & O_TMPFILE == O_TMPFILE:
            raise failed(errno.EROFS)
        node = self._node(call, place, flags, follow)
        if flags & O_DIRECTORY and not self._is_folder(node):
            raise failed(errno.ENOTDIR)
        return NewDescriptor(node.opened(), close_on_exec, self._number_for(call, node))

    def _node(self, call: Call, place: Place, flags: int, follow: bool) -> Node:
        if place.where is Where.HOST:
            return self._host_node(place.path)
        if place.where is Where.ITSELF:
            return self._itself.node(call, place.path)
        if flags & O_PATH:
            return self._answers.name(place.path, follow)
        if self._log.is_at(place.path):
            return self._answers.node_once(
                ("kmsg",), lambda: self._nodes.make(place.path, Kind.WINDOW, size=0)
            )
        return self._answers.node(place.path, follow)

    def _is_folder(self, node: Node) -> bool:
        if node.kind is Kind.NAME:
            return stat.S_ISDIR(self._answers.mode(node.path, node.follow))
        return node.kind is Kind.DIRECTORY

    def _host_node(self, path: str) -> Node:
        """A file of the host's that the program may have, as a node: its descriptor leads nowhere else."""
        return self._answers.node_once(("host", path), lambda: self._new_host_node(path))

    def _new_host_node(self, path: str) -> Node:
        if not self._host.is_readable(path):
            raise failed(errno.EACCES)
        return self._nodes.of_host(path, self._host.prefix + path, self._host.open(path))

    def _device(self, path: str, flags: int) -> Answer:
        writes = flags & O_ACCMODE
        if writes and path not in _WRITABLE and not path.startswith("/dev/pts/"):
            raise failed(errno.EACCES)
        allowed = O_ACCMODE | os.O_NONBLOCK | os.O_APPEND
        return NewDescriptor(
            os.open(path, flags & allowed | os.O_NOCTTY | os.O_CLOEXEC), bool(flags & O_CLOEXEC)
        )

    def _number_for(self, call: Call, node: Node | None) -> int | None:
        """The number that a new descriptor must have; None: any."""
        if node is None or node.kind is not Kind.WINDOW:
            return None
        folder = f"/proc/{call.tid}/fd"
        for number in range(FIRST_WINDOW, _LAST_WINDOW + 1):
            if not os.path.lexists(f"{folder}/{number}"):
                return number
        raise failed(errno.EMFILE)

    # --- directories --------------------------------------------------------------------------------------

    def _getdents64(self, call: Call) -> Answer:
        node = self._nodes.behind(call.tid, signed32(call.arguments[0]))
        if node is None:
            return Special.CONTINUE
        if node.kind is not Kind.DIRECTORY:
            raise failed(errno.ENOTDIR)
        room = min(call.arguments[2] & 0xFFFF_FFFF, MAX_READ)
        fd = self._processes.take(call.tid, signed32(call.arguments[0]))
        try:
            position = os.lseek(fd, 0, os.SEEK_CUR)
            data = os.pread(fd, room, position)
            size = whole_entries(data)
            if data and not size:
                raise failed(errno.EINVAL)
            if not data and node.error:
                raise failed(node.error)
            call.memory.write(call.arguments[1], data[:size])
            os.lseek(fd, position + size, os.SEEK_SET)
        finally:
            os.close(fd)
        return size

    def _getcwd(self, call: Call) -> Answer:
        data = os.fsencode(self._processes.of(call.tid).folder) + b"\0"
        if len(data) > call.arguments[1]:
            raise failed(errno.ERANGE)
        call.memory.write(call.arguments[0], data)
        return len(data)

    def _chdir(self, call: Call) -> Answer:
        place = self._places.of(call, AT_FDCWD, call.memory.read_path(call.arguments[0]))
        if place.where is Where.HOST:
            folder = self._host.prefix + place.path
            mode = os.stat(place.path).st_mode
        elif place.where is Where.IMAGE:
            folder, mode = place.path, self._answers.mode(place.path)
        else:
            raise failed(errno.EACCES)
        if not stat.S_ISDIR(mode):
            raise failed(errno.ENOTDIR)
        self._processes.of(call.tid).folder = folder
        return 0

    def _fchdir(self, call: Call) -> Answer:
        self._processes.of(call.tid).folder = self._places.folder(call, signed32(call.arguments[0]))
        return 0

    # --- running ------------------------------------------------------------------------------------------

    def _execve(self, call: Call) -> Answer:
        """A program is the host's, always: one by an absolute path, or below the prefix. The kernel reads the
        path again: whatever it is then, Landlock lets only tools be executed."""
        path = call.memory.read_path(call.arguments[0])
        below = self._host.below_prefix(path)
        if below is None and not path.startswith("/"):
            raise failed(errno.EACCES)
        resolved = self._host.resolved(path if below is None else below)
        if not self._host.is_tool(resolved):
            raise failed(errno.EACCES)
        head = _beginning(resolved)
        if below is None and head.startswith(b"#!"):
            raise failed(errno.EACCES)  # its interpreter would look for it in the image
        if head.startswith(b"\x7fELF\x01") or b"/ld-musl-" in head:
            raise failed(errno.ENOEXEC)  # 32-bit: all its calls are refused; musl: its linker is its library
        self._processes.becomes_another(call.tid)
        return Special.CONTINUE

    def _mmap(self, call: Call) -> Answer:
        """Of a file, executable, or of standard input: nothing of the image's is executed, and a window's
        memfd holds nothing."""
        node = self._nodes.behind(call.tid, signed32(call.arguments[4]))
        if node is not None and node.kind is Kind.WINDOW:
            raise failed(errno.ENODEV)
        if node is not None and not node.is_host and call.arguments[2] & _PROT_EXEC:
            raise failed(errno.EACCES)
        return Special.CONTINUE

    # --- windows ------------------------------------------------------------------------------------------

    def _read(self, call: Call, offset: int | None) -> Answer:
        number = signed32(call.arguments[0])
        node = self._nodes.behind(call.tid, number)
        if node is None or node.kind is not Kind.WINDOW:
            return Special.CONTINUE
        fd = self._processes.take(call.tid, number)
        try:
            start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
            room = min(call.arguments[2], MAX_READ)
            is_log = node.path == kernel_log.PATH  # whose position counts records
            data = (
                self._log.record(start, room, bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK))
                if is_log
                else self._answers.window(node.path, start, room)
            )
            call.memory.write(call.arguments[1], data)
            if offset is None:
                os.lseek(fd, start + (bool(data) if is_log else len(data)), os.SEEK_SET)
        finally:
            os.close(fd)
        return len(data)

    def _vector_read(self, call: Call) -> Answer:
        node = self._nodes.behind(call.tid, signed32(call.arguments[0]))
        if node is None or node.kind is not Kind.WINDOW:
            return Special.CONTINUE
        raise failed(errno.EOPNOTSUPP)


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError:
        return b""
