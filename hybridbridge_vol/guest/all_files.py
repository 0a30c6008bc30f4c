"""Every file of the guest by its path: /proc and /sys as its kernel writes them, pseudo file systems such as
tracefs as it had them, the rest from its file systems."""

from __future__ import annotations

import errno
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.descriptors import Descriptors, OpenFile
from hybridbridge_vol.guest.file_attributes import FileAttributes, parse_statx
from hybridbridge_vol.guest.file_content import IncompleteDirectory, IncompleteFile, Piece, PieceKind, merged
from hybridbridge_vol.guest.file_extents import Extent
from hybridbridge_vol.guest.file_reader import FileReader, Opener
from hybridbridge_vol.guest.files import SOCKET_PROTOCOL, SnapshotFiles
from hybridbridge_vol.guest.inode_paths import vaddr_of
from hybridbridge_vol.guest.inodes import SnapshotInodes
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.pseudo_file_systems import PseudoFileSystems
from hybridbridge_vol.guest.root_files import RootFiles
from hybridbridge_vol.guest.served_mounts import ServedMounts
from hybridbridge_vol.guest.values import EndlessFile, OpenDescriptor, Question, Stat, Unmounted
from hybridbridge_vol.guest.windows import window

_OF_THE_KERNEL = re.compile(r"/(?:proc|sys)(?:/.*)?", re.DOTALL)
_BELOW_A_LINK = re.compile(
    r"(/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/(?:cwd|root|fd/[0-9]+))/(.+)", re.DOTALL
)
_O_PATH, _O_NOFOLLOW, _O_NONBLOCK = 0o10000000, 0o400000, 0o4000
_DIRENTS_SIZE = 64 << 10
MAX_CONTENT_SIZE = 1 << 30
"""Bytes of a file that `read` gives as one value; `pieces` has no such limit."""


class GuestFiles:
    """Implements `guest.kernel.Files`. `process` is the folder of the process at whose root paths begin."""

    def __init__(
        self,
        kernel_files: SnapshotFiles,
        root_files: RootFiles,
        pseudo: PseudoFileSystems,
        inodes: SnapshotInodes,
        reader: FileReader,
        process: str,
    ) -> None:
        self._kernel_files = self.of_the_kernel = kernel_files
        self._root_files = root_files
        self._pseudo = pseudo
        self._inodes = inodes
        self._reader = reader
        self._served = ServedMounts(kernel_files, process)
        self.process = process
        self._root = f"{process}/root"
        # a method of ours would be a cycle, and a closed session is to go at once
        self._explained = partial(_explained, self._served, self._root)
        root_files.explain_by(self._explained)

    def _route(self, path: str) -> tuple[str, str] | None:
        """The root and the path in it of a file of the guest's file systems; None for one of /proc or
        /sys."""
        return self._pseudo.route(path) or self._own(path)

    def _own(self, path: str) -> tuple[str, str] | None:
        """The same of a file that is none of a pseudo file system."""
        below = _BELOW_A_LINK.fullmatch(path)
        if below is not None:
            return below[1], below[2]
        clean = posixpath.normpath("/" + path.lstrip("/")) if ".." in path else path
        return None if _OF_THE_KERNEL.fullmatch(clean) else (self._root, path)

    def _opener(self, path: str) -> Opener | None:
        """Opens a file whose content is the guest's own; None for one that the kernel makes up."""
        return None if self._pseudo.route(path) else self._opener_of(path, self._own(path))

    def _opener_of(self, path: str, routed: tuple[str, str] | None) -> Opener | None:
        inode = vaddr_of(path)
        if routed is not None:
            return partial(self._root_files.opened_to_read, *routed)
        if inode is not None:
            return partial(self._inodes.opened_to_read, inode)
        return partial(self._kernel_files.open, path) if magic_links.is_link(path) else None

    def open(self, path: str) -> OpenFile:
        """Open a regular file for reading. OSError with the guest's errno, CallRolledBack."""
        routed = self._route(path)
        return self._kernel_files.open(path) if routed is None else self._root_files.open(*routed)

    def open_path(self, path: str) -> OpenFile:
        """A file of the guest's own file systems as O_PATH opens it: nothing of it is asked. OSError, with
        EOPNOTSUPP for a file of /proc or /sys; CallRolledBack."""
        routed = self._route(path)
        if routed is None:
            raise OSError(errno.EOPNOTSUPP, "a file that the kernel makes up", path)
        return self._root_files.open(*routed, _O_PATH)

    def read(self, path: str) -> bytes:
        """See `guest.kernel.Files`. IncompleteFile, with what there is, if memory does not hold all of it."""
        pseudo = self._pseudo.route(path)
        if pseudo:
            return self._root_files.read_to_end(*pseudo)
        routed = self._own(path)
        is_own = routed is not None or vaddr_of(path) is not None
        opener = self._opener_of(path, routed) if is_own else None
        if opener is None:
            return self._kernel_files.read(path)
        pieces: list[Piece] = []
        size = 0
        for piece in self._reader.pieces(opener):
            pieces.append(piece)
            size += piece.size
            if size > MAX_CONTENT_SIZE:
                raise EndlessFile(path, b"")
        if any(piece.kind is PieceKind.MISSING for piece in pieces):
            raise IncompleteFile(path, pieces)
        return b"".join(piece.data or bytes(piece.size) for piece in pieces)

    def pieces(self, path: str, size: int | None = None) -> Iterator[Piece]:
        """The content of a file in order: data, holes, and what is missing. `size` is that of a regular file
        which is known to be one: it is not asked for again."""
        opener = self._opener(path) if size is None else partial(self._opened_regular, path)
        if opener is not None:
            yield from self._reader.pieces(opener, size=size)
            return
        data = self.read(path)
        yield Piece(PieceKind.DATA, 0, len(data), data)

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        """See `guest.kernel.Files`."""
        opener = self._opener(path)
        if opener is not None:
            return merged(self._reader.pieces(opener, offset, offset + size))
        return merged(window(partial(self.read_at, path), offset, size))

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.read_at(path, offset, size)
        with self._root_files.open(*routed) as file:
            return file.read_at(offset, size)

    def listdir(self, path: str) -> list[str]:
        """See `guest.kernel.Files`. IncompleteDirectory, with what there is, if memory does not hold all, or
        where a pseudo file system that the guest had not mounted is not known."""
        routed = self._route(path)
        if routed is not None:
            return self._root_files.listdir(*routed)
        names = self._kernel_files.listdir(path)
        pseudo = None if names else self._pseudo.at(path)
        if pseudo is not None and pseudo.missing and pseudo.place == path.rstrip("/"):
            raise IncompleteDirectory(path, [], pseudo.missing)
        return names

    def unmounted(self, path: str) -> Unmounted | None:
        """See `guest.kernel.Files`."""
        return self._pseudo.at(path)

    def all_unmounted(self) -> list[Unmounted]:
        """See `guest.kernel.Files`."""
        return self._pseudo.unmounted

    def readlink(self, path: str) -> str:
        """See `guest.kernel.Files`."""
        routed, inode = self._route(path), vaddr_of(path)
        if inode is not None:
            return self._inodes.readlink(inode)
        return self._kernel_files.readlink(path) if routed is None else self._root_files.readlink(*routed)

    def stat(self, path: str, follow: bool = False) -> Stat:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        if routed is None:
            return self._kernel_files.stat(path, follow)
        return self._root_files.attributes(*routed, follow).as_stat()

    def cached_bytes(self, path: str, size: int | None = None, by_reading: bool = False) -> int:
        """See `guest.kernel.Files`. Before Linux 6.5, which can be asked, the file is read."""
        try:
            with self._opened_regular(path) as file:
                size = self._reader.attributes(file).size if size is None else size
                cached = None if by_reading else self._reader.cached_bytes(file, size)
                return self._reader.present_bytes(file, size) if cached is None else cached
        except CallRolledBack:
            return sum(piece.size for piece in self.pieces(path) if piece.kind is not PieceKind.MISSING)

    def _opened_regular(self, path: str) -> OpenFile:
        """A file that is known to be a regular one, open to be read."""
        routed, inode = self._route(path), vaddr_of(path)
        if inode is not None:
            return self._inodes.open(inode, _O_NONBLOCK)
        return self._kernel_files.open(path) if routed is None else self._root_files.open(*routed)

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """See `guest.kernel.Files`."""
        if self._pseudo.route(path):
            return self.read(path)[offset : offset + size]
        with self._opened(path) as file:
            return self._reader.read_range(file, offset, size)

    def extents(self, path: str) -> list[Extent]:
        """See `guest.kernel.Files`."""
        with self._opened(path) as file:
            return self._reader.extents(file, self._reader.attributes(file).size)

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        """See `guest.kernel.Files`."""
        inode = vaddr_of(path)
        return parse_statx(self.statx(path, follow)) if inode is None else self._inodes.attributes(inode)

    def statx(self, path: str, follow: bool = False) -> bytes:
        """The attributes as the kernel writes them: a `struct statx`."""
        if self._route(path) is None:
            return self._kernel_files.statx(path, follow)
        with self._named(path, follow) as file:
            return self._reader.statx(file)

    def statfs(self, path: str) -> bytes:
        """statfs(2): the `struct statfs` of the file system that a path leads to."""
        try:
            with self._named(path, True) as file:
                return self._reader.statfs(file)
        except CallRolledBack as error:
            raise self._explained(self._root, path, error) from None

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

    def open_device(self, path: str) -> OpenFile:
        """A device of the guest's, open: its driver's own function opens it. Only for drivers that do not
        touch what is no memory. OSError, CallRolledBack."""
        return self._root_files.open(self._root, path)

    def _named(self, path: str, follow: bool) -> OpenFile:
        """What a path leads to, as O_PATH opens it."""
        routed, flags = self._route(path), _O_PATH | (0 if follow else _O_NOFOLLOW)
        if routed is None:
            return self._kernel_files.open(path, flags)
        return self._root_files.open(*routed, flags)

    def attributes_in(self, path: str, names: Iterable[str]) -> dict[str, FileAttributes]:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        return {} if routed is None else self._root_files.attributes_in(*routed, names)

    def whole_in(self, path: str, sizes: Mapping[str, int]) -> set[str]:
        """See `guest.kernel.Files`."""
        routed = self._route(path)
        return set() if routed is None else self._root_files.whole_in(*routed, sizes)

    def _opened(self, path: str) -> AbstractContextManager[OpenFile]:
        """A regular file, open to be read."""
        opener = self._opener(path)
        return self.open(path) if opener is None else opener()

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of a file; of those of /proc and /sys only of sockets that a link leads
        to."""
        routed = self._route(path)
        if routed is not None:
            return self._root_files.xattrs(*routed)
        if not magic_links.is_link(path) or not stat.S_ISSOCK(self._kernel_files.stat(path, True).mode):
            return {}
        return {SOCKET_PROTOCOL: self._kernel_files.socket_protocol(path)}

    def has_size(self, path: str) -> bool:
        """See `guest.kernel.Files`."""
        return self._pseudo.route(path) is None and self._own(path) is not None

    def expect(self, questions: Iterable[Question]) -> None:
        """See `guest.kernel.Files`. Questions about the guest's file systems are not asked together."""
        self._kernel_files.expect(question for question in questions if self._route(question.path) is None)

    def descriptors(self, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], OpenDescriptor]:
        """See `guest.kernel.Files`."""
        return self._kernel_files.descriptors(wanted)

    def programs(self, pids: Iterable[int]) -> Mapping[int, OpenDescriptor]:
        """See `guest.kernel.Files`."""
        return self._kernel_files.programs(pids)

    def descriptor_numbers(self, pids: Iterable[int]) -> Mapping[int, list[int]]:
        """See `guest.kernel.Files`."""
        return self._kernel_files.descriptor_numbers(pids)


def assemble_files(proxy: ProxyCalls, mounts: Mounts, process: str) -> tuple[GuestFiles, SnapshotInodes]:
    """The files of a session, and the inodes, which share its open descriptors."""
    descriptors, reader = Descriptors(proxy), FileReader(proxy)
    kernel_files = SnapshotFiles(proxy, descriptors, mounts)
    root_files = RootFiles(proxy, descriptors, mounts, reader)
    pseudo = PseudoFileSystems(proxy, kernel_files, root_files, process)
    inodes = SnapshotInodes(proxy, descriptors, reader)
    return GuestFiles(kernel_files, root_files, pseudo, inodes, reader, process), inodes


def _explained(
    served: ServedMounts, guests_root: str, root: str, path: str, error: CallRolledBack
) -> CallRolledBack:
    """Why what a path below a root leads to could not be asked."""
    return served.explained(path, error) if root == guests_root else error
