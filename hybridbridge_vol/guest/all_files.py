"""Every file of the guest by its path: /proc and /sys as its kernel writes them, the rest from its file
systems."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.descriptors import OpenFile
from hybridbridge_vol.guest.file_attributes import FileAttributes, parse_statx
from hybridbridge_vol.guest.file_content import IncompleteFile, Piece, PieceKind, merged
from hybridbridge_vol.guest.file_extents import Extent
from hybridbridge_vol.guest.file_reader import FileReader
from hybridbridge_vol.guest.files import SnapshotFiles
from hybridbridge_vol.guest.root_files import RootFiles
from hybridbridge_vol.guest.values import EndlessFile, Question, Stat
from hybridbridge_vol.guest.windows import window

_OF_THE_KERNEL = re.compile(r"/(?:proc|sys)(?:/.*)?", re.DOTALL)
_BELOW_A_LINK = re.compile(
    r"(/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:cwd|root|fd/[0-9]+))/(.+)", re.DOTALL
)
_O_PATH, _O_NOFOLLOW = 0o10000000, 0o400000
_DIRENTS_SIZE = 64 << 10
MAX_CONTENT_SIZE = 1 << 30
"""Bytes of a file that `read` gives as one value; `pieces` has no such limit."""


class GuestFiles:
    """Implements `guest.kernel.Files`. `root` is the link to the directory that paths begin at."""

    def __init__(
        self,
        kernel_files: SnapshotFiles,
        root_files: RootFiles,
        reader: FileReader,
        root: str = "/proc/self/root",
    ) -> None:
        self._kernel_files = kernel_files
        self._root_files = root_files
        self._reader = reader
        self._root = root

    def _route(self, path: str) -> tuple[str, str] | None:
        """The root and the path in it of a file of the guest's file systems; None for one of /proc or
        /sys."""
        below = _BELOW_A_LINK.fullmatch(path)
        if below is not None:
            return below[1], below[2]
        clean = posixpath.normpath("/" + path.lstrip("/")) if ".." in path else path
        return None if _OF_THE_KERNEL.fullmatch(clean) else (self._root, path)

    def open(self, path: str) -> OpenFile:
        """Open a regular file for reading. OSError with the guest's errno, CallRolledBack."""
        routed = self._route(path)
        return self._kernel_files.open(path) if routed is None else self._root_files.open(*routed)

    def read(self, path: str) -> bytes:
        """See `guest.kernel.Files`. IncompleteFile, with what there is, if memory does not hold all of it."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.read(path)
        pieces: list[Piece] = []
        size = 0
        for piece in self._root_files.pieces(*routed):
            pieces.append(piece)
            size += piece.size
            if size > MAX_CONTENT_SIZE:
                raise EndlessFile(path, b"")
        if any(piece.kind is PieceKind.MISSING for piece in pieces):
            raise IncompleteFile(path, pieces)
        return b"".join(piece.data or bytes(piece.size) for piece in pieces)

    def pieces(self, path: str) -> Iterator[Piece]:
        """The content of a file in order: data, holes, and what is missing."""
        routed = self._route(path)
        if routed is not None:
            yield from self._root_files.pieces(*routed)
            return
        if magic_links.is_link(path):
            yield from self._reader.pieces(lambda: self._kernel_files.open(path))
            return
        data = self._kernel_files.read(path)
        yield Piece(PieceKind.DATA, 0, len(data), data)

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        if routed is not None:
            return merged(self._root_files.pieces(*routed, offset, offset + size))
        if magic_links.is_link(path):
            return merged(self._reader.pieces(lambda: self._kernel_files.open(path), offset, offset + size))
        return merged(window(partial(self._kernel_files.read_at, path), offset, size))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.read_at(path, offset, size)
        with self._root_files.open(*routed) as file:
            return file.read_at(offset, size)

    def listdir(self, path: str) -> list[str]:
        """See `guest.kernel.Files`. IncompleteDirectory, with what there is, if memory does not hold all."""
        routed = self._route(path)
        return self._kernel_files.listdir(path) if routed is None else self._root_files.listdir(*routed)

    def readlink(self, path: str) -> str:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        return self._kernel_files.readlink(path) if routed is None else self._root_files.readlink(*routed)

    def stat(self, path: str, follow: bool = False) -> Stat:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.stat(path, follow)
        return self._root_files.attributes(*routed, follow).as_stat()

    def cached_bytes(self, path: str) -> int:
        """See `guest.kernel.Files`. Before Linux 6.5, which can be asked, the file is read."""
        with self._opened(path) as file:
            cached = self._reader.cached_bytes(file, self._reader.attributes(file).size)
        if cached is not None:
            return cached
        return sum(piece.size for piece in self.pieces(path) if piece.kind is not PieceKind.MISSING)

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """See `guest.kernel.Files`."""
        with self._opened(path) as file:
            return self._reader.read_range(file, offset, size)

    def extents(self, path: str) -> list[Extent]:
        """See `guest.kernel.Files`."""
        with self._opened(path) as file:
            return self._reader.extents(file, self._reader.attributes(file).size)

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        """See `guest.kernel.Files`."""
        return parse_statx(self.statx(path, follow))

    def statx(self, path: str, follow: bool = False) -> bytes:
        """The attributes as the kernel writes them: a `struct statx`."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.statx(path, follow)
        with self._named(path, follow) as file:
            return self._reader.statx(file)

    def statfs(self, path: str) -> bytes:
        """statfs(2): the `struct statfs` of the file system that a path leads to."""
        with self._named(path, True) as file:
            return self._reader.statfs(file)

    def directory(self, path: str) -> Iterator[bytes]:
        """A directory as getdents64(2) writes it, in parts. OSError or CallRolledBack in the middle if
        memory does not hold all of it."""
        routed = self._route(path)
        opened: AbstractContextManager[OpenFile] = (
            self._kernel_files.open_directory(path)
            if routed is None
            else self._root_files.opened_to_read(*routed)
        )
        with opened as file:
            while part := file.raw_entries(_DIRENTS_SIZE):
                yield part

    @contextlib.contextmanager
    def _named(self, path: str, follow: bool) -> Iterator[OpenFile]:
        """What a path leads to, as O_PATH opens it."""
        routed, flags = self._route(path), _O_PATH | (0 if follow else _O_NOFOLLOW)
        if routed is None:
            with self._kernel_files.open(path, flags) as file:
                yield file
        else:
            with self._root_files.open(*routed, flags) as file:
                yield file

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[OpenFile]:
        """A regular file, open to be read."""
        routed = self._route(path)
        if routed is not None:
            with self._root_files.opened_to_read(*routed) as file:
                yield file
        else:
            with self._kernel_files.open(path) as file:
                yield file

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of a file; none of those of /proc and /sys."""
        routed = self._route(path)
        return {} if routed is None else self._root_files.xattrs(*routed)

    def expect(self, questions: Iterable[Question]) -> None:
        """See `guest.kernel.Files`. Questions about the guest's file systems are not asked together."""
        self._kernel_files.expect(question for question in questions if self._route(question.path) is None)
