"""What a path of the program's means: where its question goes."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from enum import Enum
from typing import NamedTuple

from hybridbridge_vol.native.abi import AT_FDCWD, failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.host_files import HostFiles, is_library_name
from hybridbridge_vol.native.links import without_links
from hybridbridge_vol.native.nodes import Kind, Nodes
from hybridbridge_vol.native.notifications import Call
from hybridbridge_vol.native.processes import Processes

_SOURCES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_DEVICES = (*_SOURCES, "/dev/tty")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_OWN_FD = re.compile(r"/dev/fd/([0-9]{1,9})")
_OF_ITSELF = re.compile(r"/proc/(self|thread-self|[0-9]+)(/.*)?", re.DOTALL)
_OWN_FILES = re.compile(r"/(?:fd|fdinfo)(?:/[0-9]{1,9})?|/(?:exe|maps|auxv|smaps|smaps_rollup)")
_FD_AND_MORE = re.compile(r"/fd/([0-9]{1,9})/(.+)", re.DOTALL)


class Where(Enum):
    """Who answers."""

    IMAGE = 1
    """The image's kernel. The path has no links but those of /proc and /sys."""
    HOST = 2
    """The allow-list of the host's files. The path is the host's, without links."""
    ITSELF = 3
    """The program's own process: its descriptors, mappings. The path is below /proc/self."""
    DEVICE = 4
    """A device that is the program's own: /dev/null and its like, and its terminal."""
    DESCRIPTOR = 5
    """A descriptor of the program's, whose number the path is."""


class Place(NamedTuple):
    """Where a question about a path goes."""

    where: Where
    path: str


def _not_found() -> OSError:
    return failed(errno.ENOENT)


class Places:
    """Finds places of paths. `terminals` are the paths of the program's own terminal."""

    def __init__(
        self, answers: Answers, host: HostFiles, nodes: Nodes, processes: Processes, terminals: frozenset[str]
    ) -> None:
        self._answers = answers
        self._host = host
        self._nodes = nodes
        self._processes = processes
        self._terminals = terminals

    def of(self, call: Call, folder: int, path: str, follow: bool = True) -> Place:
        """The place of a path that is relative to the descriptor `folder`, or to the current directory.
        `follow`: its last part may be a link. OSError."""
        if not path:
            raise _not_found()
        if not path.startswith("/"):
            path = posixpath.join(self.folder(call, folder), path)
        below = self._host.below_prefix(path)
        if below is not None:
            return Place(Where.HOST, self._host.resolved(below, follow))
        if self._processes.is_loader(call) and not path.startswith("/proc/"):
            resolved = self._host.resolved(posixpath.normpath(path), follow)
            # folders: one without a library that it needed is passed over from then on, unless it is there
            # (elf/dl-load.c, `open_path`)
            if not is_library_name(path) and not self._host.is_folder(resolved):
                raise _not_found()  # /etc/ld.so.preload: what is loaded is not the image's to say
            return Place(Where.HOST, resolved)
        return self._of_image(call, path, follow)

    def folder(self, call: Call, number: int) -> str:
        """The directory that relative paths begin at."""
        if number == AT_FDCWD:
            return self._processes.of(call.tid).folder
        node = self._nodes.behind(call.tid, number)
        if node is None or node.kind not in (Kind.DIRECTORY, Kind.NAME):
            raise failed(errno.ENOTDIR)
        return node.path

    def _of_image(self, call: Call, path: str, follow: bool) -> Place:
        """What is the program's own is so by the path that the program gave: no link of the image's leads to
        the program's descriptors or to its terminal."""
        clean = posixpath.normpath(path)
        for _ in range(2):
            own = self._own(call, clean, follow)
            if isinstance(own, Place):
                return own
            if own is None:
                break
            path = clean = own
        resolved = self._without_links(path, follow)
        return Place(Where.DEVICE if resolved in _SOURCES else Where.IMAGE, resolved)

    def _own(self, call: Call, path: str, follow: bool) -> Place | str | None:
        """What is the program's own; or another path that means the same; None: neither."""
        if path in _DEVICES or path in self._terminals:
            return Place(Where.DEVICE, path)
        found = _OWN_FD.fullmatch(path)
        number = _STANDARD.get(path) if found is None else int(found[1])
        if number is not None and follow:
            return Place(Where.DESCRIPTOR, str(number))
        if path == "/dev/fd":
            return "/proc/self/fd"
        process = _OF_ITSELF.fullmatch(path)
        if process is None or not self.is_itself(call, process[1]):
            return None
        return self._of_itself(call, process[1], process[2] or "", follow)

    def is_itself(self, call: Call, name: str) -> bool:
        """Whether a name below /proc is the program's own process: no process of the image's has its
        number."""
        if not name.isdecimal():
            return True
        return int(name) == self._processes.of(call.tid).pid and not self._answers.lists(int(name))

    def _of_itself(self, call: Call, name: str, rest: str, follow: bool) -> Place | str | None:
        rest = posixpath.normpath(rest) if rest else ""
        if _OWN_FILES.fullmatch(rest):
            if rest.startswith("/fd/") and follow:
                return Place(Where.DESCRIPTOR, rest.rpartition("/")[2])
            return Place(Where.ITSELF, "/proc/self" + rest)
        below = _FD_AND_MORE.fullmatch(rest)
        if below is not None:
            return posixpath.join(self.folder(call, int(below[1])), below[2])
        if rest == "/cwd" and not follow:
            return Place(Where.ITSELF, "/proc/self/cwd")
        if rest == "/cwd" or rest.startswith("/cwd/"):
            return self._processes.of(call.tid).folder + rest[4:]
        return "/proc/self" + rest if name.isdecimal() else None

    def _without_links(self, path: str, follow: bool) -> str:
        """A path of the image's file systems without links and dots; from /proc and /sys on as it is."""
        return without_links(path, follow, self._link, ("/proc", "/sys"))

    def _link(self, path: str) -> str | None:
        """Where a link of the image's leads; None if it is none, or nothing is known of it."""
        try:
            if not stat.S_ISLNK(self._answers.mode(path, False)):
                return None
            return os.fsdecode(self._answers.readlink(path))
        except OSError:
            return None
