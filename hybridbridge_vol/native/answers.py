"""What the image answers, each question asked once: the guest stands still."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar, cast

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.file_attributes import FileAttributes, parse_statx
from hybridbridge_vol.guest.file_content import IncompleteDirectory, PieceKind
from hybridbridge_vol.guest.folder_names import why_it_ends
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.guest.values import EndlessFile, MissingRecords, Question
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.dirents import dirents, renumbered
from hybridbridge_vol.native.nodes import Kind, Node, Nodes
from hybridbridge_vol.native.stat_forms import MODE_AT, stat_of_statx, stat_of_values, statx_of_stat

T = TypeVar("T")

MAX_ANSWERS = 1 << 18
"""Answers that are kept; then all are forgotten, and asked again."""
MAX_WHOLE = 16 << 20
"""Bytes of a file of the guest's file systems that is read as a whole when it is opened."""
MAX_DIRECTORY = 32 << 20
"""Bytes of a directory, as getdents64(2) writes it: one of more is cyclic, and listed in part."""
WINDOW_BLOCK = 1 << 20
"""Bytes of a window that one read gives at most."""
EXPECTED_AT_ONCE = 40
"""Processes whose file of the same name is asked for together, once a program has read `ASKED_ONE_BY_ONE` of
them."""
ASKED_ONE_BY_ONE = 2
_WINDOWS = frozenset(("mem", "pagemap", "kcore", "kpagecount", "kpageflags", "kpagecgroup"))
_OF_A_PROCESS = re.compile(r"/proc/([0-9]+)(/(?!fd/|map_files/|task/|ns/).*)?")
_ASKED_OF_MANY = re.compile(r"/proc/[0-9]+/(stat|status|cmdline)")
"""Files that tools open of every process. Below net/ a directory has the first name, too."""
_BELOW_A_PROCESS = re.compile(r"/proc/(self|[0-9]+)(/|$)")
_BLOCK_OF_PROC = 1024
"""Of st_blksize: PROC_BLOCK_SIZE, fs/proc/inode.c."""
_NAMESPACE = re.compile(r"/proc/(self|[0-9]+)(/task/[0-9]+)?/ns/[a-z_]+")
_NAMESPACE_MODE = 0o444
"""Of each file of nsfs (fs/nsfs.c)."""
_NSFS_MAGIC = (0x6E736673).to_bytes(8, "little")
"""include/uapi/linux/magic.h, as statfs(2) has it."""
_MAX_REASONS = 64
_REGISTERS = "no image has them: read as zeros, so what a driver counts there may be wrong"
_COUNTERS_OF_DEVICES = "/net/dev"
"""Of all network interfaces, whose drivers may ask their devices."""


def of_the_kernel(path: str) -> bool:
    """Whether a path is in /proc or /sys, which the guest's kernel writes."""
    return path in ("/proc", "/sys") or path.startswith(("/proc/", "/sys/"))


class Answers:
    """Raw answers of a session. All methods raise OSError with the guest's errno; EIO for a call that was
    rolled back, whose reason is then among `failures`."""

    def __init__(self, session: Session, nodes: Nodes) -> None:
        self.session = session
        self.nodes = nodes
        self.failures: dict[str, str] = {}
        """Why questions could not be answered, by what was asked."""
        self._kept: dict[tuple[object, ...], object] = {}
        self._asked: dict[str, int] = {}
        self._expected: dict[str, int] = {}

    @cached_property
    def _places(self) -> dict[int, int]:
        """The processes that /proc lists, in its order."""
        return {pid: place for place, pid in enumerate(self._pids)}

    def lists(self, pid: int) -> bool:
        """Whether /proc lists a process."""
        return pid in self._places

    def once(self, key: tuple[object, ...], ask: Callable[[], T]) -> T:
        """The answer to a question, or the OSError that it ended with, as it was the first time."""
        if key not in self._kept:
            if len(self._kept) >= MAX_ANSWERS:
                self._kept.clear()
            self._kept[key] = self._asked_now(str(key), ask)
        found = self._kept[key]
        if isinstance(found, OSError):
            raise OSError(found.errno, found.strerror)
        return cast(T, found)

    def keep(self, key: tuple[object, ...], answer: object) -> None:
        """What another question has answered, too."""
        self._kept.setdefault(key, answer)

    def _asked_now(self, question: str, ask: Callable[[], T]) -> T | OSError:
        self.session.devices.refuse()
        try:
            return ask()
        except OSError as error:
            return error if error.errno else OSError(errno.EIO, str(error))
        except CallRolledBack as error:
            self.note(error.call, error.reason)
        except HybridBridgeError as error:
            self.note(question, str(error))
            return OSError(errno.ENOSYS, str(error))
        return OSError(errno.EIO, "rolled back")

    def with_devices(self, ask: Callable[[], T]) -> T:
        """The answer to a question that a driver may ask its device for, but of which most is in memory: with
        zeros in the device's registers then, which is among `failures`. CallRolledBack, MissingRecords."""
        try:
            return ask()
        except (CallRolledBack, MissingRecords):
            if not self.session.devices.answer():
                raise
        self.note("registers of devices", _REGISTERS)
        return ask()

    def note(self, asked: str, reason: str) -> None:
        """Something could not be answered."""
        if len(self.failures) < _MAX_REASONS:
            self.failures.setdefault(asked, reason)

    # --- attributes ---------------------------------------------------------------------------------------

    def statx(self, path: str, follow: bool) -> bytes:
        """The `struct statx` of what a path leads to."""
        return self.once(("statx", path, follow), lambda: self._statx(path, follow))

    def _statx(self, path: str, follow: bool) -> bytes:
        try:
            return self.session.files.statx(path, follow)
        except OSError:
            if not _BELOW_A_PROCESS.match(path):
                raise
            # a link to a device or a socket, which is not opened
            return statx_of_stat(stat_of_values(self.session.files.stat(path, follow), _BLOCK_OF_PROC))

    def attributes(self, path: str, follow: bool = True) -> FileAttributes:
        """The same as a value."""
        return parse_statx(self.statx(path, follow))

    def stat(self, path: str, follow: bool) -> bytes:
        """Its `struct stat`."""
        return self.once(("stat", path, follow), lambda: self._stat(path, follow))

    def _stat(self, path: str, follow: bool) -> bytes:
        if not _BELOW_A_PROCESS.match(path):
            return stat_of_statx(self.statx(path, follow))
        self._expect(path, "stat" if follow else "lstat")
        seen = self.session.files.stat(path, follow)
        if follow and stat.S_ISREG(seen.mode) and magic_links.is_link(path):
            return stat_of_statx(self.statx(path, follow))
        return stat_of_values(seen, _BLOCK_OF_PROC)

    def mode(self, path: str, follow: bool = True) -> int:
        """Its mode."""
        return int(struct.unpack_from("<I", self.stat(path, follow), MODE_AT)[0])

    def readlink(self, path: str) -> bytes:
        """Where a symbolic link leads."""
        if not stat.S_ISLNK(self.mode(path, False)):
            raise failed(errno.EINVAL)
        return self.once(("readlink", path), lambda: os.fsencode(self.session.files.readlink(path)))

    def statfs(self, path: str) -> bytes:
        """The `struct statfs` of its file system."""
        return self.once(("statfs", path), lambda: self.session.files.statfs(path))

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of what a path leads to."""
        return self.once(("xattrs", path), lambda: self.session.files.xattrs(path))

    def is_namespace(self, path: str) -> bool:
        """Whether a path leads to a namespace: those of processes, and files that one is mounted on (ip
        netns) or that are open."""
        if _NAMESPACE.fullmatch(path):
            return True
        return stat.S_IMODE(self.mode(path)) == _NAMESPACE_MODE and self.statfs(path)[:8] == _NSFS_MAGIC

    def process_in_network(self, inode: int) -> int | None:
        """A process in the network namespace with an inode number; None if there is none."""
        wanted = f"net:[{inode}]".encode()
        for pid in self._pids:
            with contextlib.suppress(OSError):
                if self.readlink(f"/proc/{pid}/ns/net") == wanted:
                    return pid
        return None

    # --- content ------------------------------------------------------------------------------------------

    def node(self, path: str, follow: bool = True) -> Node:
        """A node for a file or a directory, with its content."""
        return self.node_once(("node", path, follow), lambda: self._node(path, follow))

    def node_once(self, key: tuple[object, ...], make: Callable[[], Node]) -> Node:
        """The node that was made before, unless it was let go."""
        node = self.once(key, make)
        if node.fd < 0:
            del self._kept[key]
            node = self.once(key, make)
        return node

    def name(self, path: str, follow: bool) -> Node:
        """A node for what O_PATH opens."""
        self.stat(path, follow)
        key = ("name", path, follow)
        return self.node_once(key, lambda: self.nodes.make(path, Kind.NAME, follow=follow))

    def _node(self, path: str, follow: bool) -> Node:
        mode = self._mode_to_open(path, follow)
        if stat.S_ISLNK(mode):
            raise failed(errno.ELOOP)
        if stat.S_ISDIR(mode):
            return self._directory(path)
        if not stat.S_ISREG(mode):
            raise failed(errno.ENXIO)
        if not of_the_kernel(path) or "/fd/" in path or "/map_files/" in path or path.endswith("/exe"):
            if self.is_namespace(path):
                return self.nodes.make(path, Kind.NAME)
            return self._file_of_a_disk(path)
        if _NAMESPACE.fullmatch(path):
            return self.nodes.make(path, Kind.NAME)
        if path.rpartition("/")[2] in _WINDOWS:
            return self.nodes.make(path, Kind.WINDOW, size=0)
        self._expect(path, "read")
        try:
            return self.nodes.make(path, Kind.FILE, self._read(path))
        except EndlessFile as error:
            self.note(path, error.strerror or "")
            return self.nodes.make(path, Kind.WINDOW, size=0)
        except MissingRecords as error:
            self.note(path, error.strerror or "")
            return self.nodes.make(path, Kind.FILE, error.partial)

    def _read(self, path: str) -> bytes:
        def read() -> bytes:
            return self.session.files.read(path)

        return self.with_devices(read) if path.endswith(_COUNTERS_OF_DEVICES) else read()

    def _mode_to_open(self, path: str, follow: bool) -> int:
        """The mode; that of the files of processes that are opened most needs no question."""
        if _ASKED_OF_MANY.fullmatch(path):
            return stat.S_IFREG
        return self.mode(path, follow)

    def _file_of_a_disk(self, path: str) -> Node:
        size = self.attributes(path).size
        if size > MAX_WHOLE:
            return self.nodes.make(path, Kind.WINDOW, size=size)
        pieces = list(self.session.files.pieces(path))
        if any(piece.kind is PieceKind.MISSING for piece in pieces):
            return self.nodes.make(path, Kind.WINDOW, size=size)
        content = b"".join(piece.data or bytes(piece.size) for piece in pieces)
        return self.nodes.make(path, Kind.FILE, content)

    def _directory(self, path: str) -> Node:
        data = bytearray()
        failed = 0
        try:
            for part in self.session.files.directory(path):
                data += part
                if len(data) > MAX_DIRECTORY:
                    raise OSError(errno.EIO, "it does not end")
        except (OSError, CallRolledBack) as error:
            if path == "/proc":
                names, failed = self._names_of_proc()
                data = bytearray(dirents((name, 1, stat.S_IFDIR) for name in names))
            elif isinstance(error, OSError) and not data and error.errno != errno.ENOMEM:
                raise
            else:
                self.note(path, f"listed in part: {why_it_ends(error)}")
                failed = errno.EIO
        return self.nodes.make(path, Kind.DIRECTORY, renumbered(data), error=failed)

    def _names_of_proc(self) -> tuple[list[str], int]:
        """As far as it can be listed, and how listing it ends: 0, or EIO. OSError, CallRolledBack."""
        try:
            return self.session.files.listdir("/proc"), 0
        except IncompleteDirectory as error:
            self.note("/proc", str(error.strerror))
            return error.names, errno.EIO

    def window(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a window; fewer at its end, or where a part is missing. OSError EIO if the first of them
        is missing."""
        parts = bytearray()
        for piece in self.session.files.window(path, offset, min(size, WINDOW_BLOCK)):
            if piece.kind is PieceKind.MISSING:
                if parts:
                    break
                self.note(path, f"bytes at {piece.offset:,}: {piece.reason}")
                raise OSError(errno.EIO, piece.reason)
            parts += piece.data or bytes(piece.size)
        return bytes(parts)

    # --- what is asked next -------------------------------------------------------------------------------

    @cached_property
    def _pids(self) -> list[int]:
        try:
            return [int(name) for name in self._names_of_proc()[0] if name.isdecimal()]
        except (OSError, HybridBridgeError):
            return []

    def _expect(self, path: str, kind: str) -> None:
        """A program that reads a file of one process after the other will read those of the next."""
        found = _OF_A_PROCESS.fullmatch(path)
        if found is None or int(found[1]) not in self._places:
            return
        rest = found[2] or ""
        seen = self._asked[rest + kind] = self._asked.get(rest + kind, 0) + 1
        if seen <= ASKED_ONE_BY_ONE:
            return
        here = self._places[int(found[1])]
        if here < self._expected.get(rest + kind, -1):
            return
        following = self._pids[here : here + EXPECTED_AT_ONCE]
        self._expected[rest + kind] = here + len(following)
        self.session.files.expect(Question(kind, f"/proc/{pid}{rest}") for pid in following)  # type: ignore[arg-type]
