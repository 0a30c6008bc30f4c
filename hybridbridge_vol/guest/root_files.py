"""The guest's own file systems: any path, as seen from a process's root.

A path is looked up by the snapshot's kernel in its own dcache: openat2(2) on the twin side, from the
descriptor of a link such as `/proc/1/root`, with RESOLVE_IN_ROOT (Linux 5.6), so that no link leads out of
that root. File systems need no code of ours: ext4, xfs, btrfs, overlay answer as they did on the machine,
from what the guest's memory holds of them. What it does not hold is an error, which names it; no disk is
asked (see the policy, "block devices").
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.abi import how_in_root
from hybridbridge_vol.guest.descriptors import Descriptor, Descriptors, OpenFile
from hybridbridge_vol.guest.endless import joined
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_reader import FileReader
from hybridbridge_vol.guest.folder_names import listed
from hybridbridge_vol.guest.folder_scan import FolderScan
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, ProxyCalls
from hybridbridge_vol.guest.records import read_other_records

O_PATH, O_DIRECTORY, _O_NOFOLLOW, _O_NONBLOCK = 0o10000000, 0o200000, 0o400000, 0o4000
_HOW_AT = 8192
"""Where `struct open_how` is stored in user memory: behind the path."""
_MAY_BE_READ = 0o444
_CONSUMED = "trace_pipe"
"""How the names of files begin that give each event once (kernel/trace/trace.c, `tracing_pipe_fops`,
`tracing_buffers_fops`)."""
_IN_WORDS = {
    errno.ENOMEM: "its inode is not in memory",
    errno.EIO: "the directory's block with its name is not in memory",
}
"""What errors of a path walk mean: see the rules for inodes and block devices in symbols/linux.toml."""
_DIRENTS_SIZE = 64 << 10
MAX_XATTR_SIZE = 64 << 10
"""XATTR_SIZE_MAX and XATTR_LIST_MAX, include/uapi/linux/limits.h."""


Explain = Callable[[str, str, CallRolledBack], CallRolledBack]
"""Of a root, a path in it and the error: the same, or one that says more."""


class RootFiles:
    """Files by paths inside of a root. `link` names the root: `/proc/PID/root`, or another link of /proc to a
    directory. Paths are relative to it; a leading slash means the same."""

    def __init__(
        self, proxy: ProxyCalls, descriptors: Descriptors, mounts: Mounts, reader: FileReader
    ) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._mounts = mounts
        self._reader = reader
        self._scan = FolderScan(proxy, descriptors)
        self._roots: dict[str, Descriptor] = {}
        self._openers: dict[str, Callable[[], int]] = {}
        self._help: Callable[[], object] | None = None
        self._explain: Explain = lambda _link, _path, error: error

    def add_root(self, name: str, opener: Callable[[], int]) -> None:
        """A root that no link leads to: `opener` gives a descriptor of it each time it is called. OSError,
        CallRolledBack."""
        self._openers[name] = opener

    def explain_by(self, explain: Explain) -> None:
        """Who knows more of why a path could not be looked up."""
        self._explain = explain

    def if_not_found(self, help_: Callable[[], object]) -> None:
        """What to do once, before a path that was not found is looked up again."""
        self._help = help_

    # --- primitives ---------------------------------------------------------------------------------------

    def open(self, link: str, path: str, flags: int = 0) -> OpenFile:
        """Open what a path leads to, for reading. OSError with the guest's errno, CallRolledBack."""
        try:
            return self._open(link, path, flags)
        except CallRolledBack as error:
            raise self._explain(link, path, error) from None
        except OSError as error:
            if self._help is None or error.errno not in (errno.ENOENT, errno.ENOMEM):
                raise
        help_, self._help = self._help, None
        help_()
        return self._open(link, path, flags)

    def _open(self, link: str, path: str, flags: int) -> OpenFile:
        root = self._root(link)
        name = self._proxy.put_path(path.lstrip("/") or ".")
        how = how_in_root(flags | _O_NONBLOCK * (not flags & O_PATH))
        how_vaddr = self._proxy.caller.put(how, _HOW_AT)
        try:
            number = self._proxy.checked(path, "openat2", root.number, name, how_vaddr, len(how), side="twin")
        except OSError as error:
            raise OSError(error.errno, _IN_WORDS.get(error.errno or 0, error.strerror), path) from None
        return self._descriptors.opened(number, path)

    def attributes(self, link: str, path: str, follow: bool = False) -> FileAttributes:
        """statx(2); of a symbolic link itself, unless `follow`."""
        with self.open(link, path, O_PATH | (0 if follow else _O_NOFOLLOW)) as file:
            return self._reader.attributes(file)

    def readlink(self, link: str, path: str) -> str:
        """The target of a symbolic link."""
        with self.open(link, path, O_PATH | _O_NOFOLLOW) as file:
            return self._reader.link_target(file)

    def xattrs(self, link: str, path: str) -> dict[str, bytes]:
        """The extended attributes of a file or directory; empty where the file system has none. OSError for
        a symbolic link: the kernel lists those of what it leads to."""
        mode = self.attributes(link, path).mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.EOPNOTSUPP, "a symbolic link: its own attributes cannot be asked for", path)
        with self._opened(link, path, mode) as file:
            try:
                names = self._xattr_call(file, "flistxattr")
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    return {}
                raise
            found = {}
            for name in names.split(b"\0")[:-1]:
                name_vaddr = self._proxy.caller.put(name + b"\0", 0)
                found[os.fsdecode(name)] = self._xattr_call(file, "fgetxattr", name_vaddr)
            return found

    def _xattr_call(self, file: OpenFile, call: str, *arguments: int) -> bytes:
        buffer = self._proxy.buffer()
        count = self._proxy.checked(
            file.path, call, file.number, *arguments, buffer, MAX_XATTR_SIZE, side="twin"
        )
        return self._proxy.answer(f"{call} {file.path}", min(count, MAX_XATTR_SIZE))

    def _root(self, link: str) -> Descriptor:
        """The descriptor of a root, opened anew where a call that was rolled back has closed it."""
        known = self._roots.get(link)
        if known is not None and known.is_open:
            return known
        if link in self._openers:
            number = self._openers[link]()
        else:
            self._mounts.reach(link)
            number = self._proxy.checked(
                link, "openat", AT_FDCWD, self._proxy.put_path(link), O_PATH | O_DIRECTORY, 0
            )
        self._roots[link] = Descriptor(self._proxy.caller, number)
        return self._roots[link]

    @contextlib.contextmanager
    def opened_to_read(self, link: str, path: str) -> Iterator[OpenFile]:
        """A regular file or a directory, open. A device is not opened: its driver would be run."""
        with self._opened(link, path, self.attributes(link, path, follow=True).mode) as file:
            yield file

    @contextlib.contextmanager
    def _opened(self, link: str, path: str, mode: int) -> Iterator[OpenFile]:
        """The same, of a file whose mode is known."""
        magic_links.check_mode(path, mode)
        with self.open(link, path, O_DIRECTORY if stat.S_ISDIR(mode) else 0) as file:
            self._proxy.labels.forget(path)
            yield file

    # --- what is made of them -----------------------------------------------------------------------------

    def listdir(self, link: str, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order. IncompleteDirectory,
        with the names up to there, if a part of it is not in memory."""
        with self.opened_to_read(link, path) as file:
            return listed(path, lambda: file.entries(_DIRENTS_SIZE))

    def read_to_end(self, link: str, path: str) -> bytes:
        """The content of a file whose size says nothing: read until it ends, or would wait. What reading
        takes away is there again for the next one. EndlessFile, MissingRecords."""
        mode = self.attributes(link, path, follow=True).mode
        if not mode & _MAY_BE_READ:
            raise OSError(errno.EACCES, "a file to be written to: opening it acts", path)
        try:
            with self._opened(link, path, mode) as file:
                try:
                    return joined(path, _until_it_would_wait(file), self._proxy.patience)
                except CallRolledBack as error:
                    raise read_other_records(
                        self._proxy, path, partial(self.open, link, path), error
                    ) from None
        finally:
            if path.rpartition("/")[2].startswith(_CONSUMED):
                self._proxy.caller.roll_back()

    def attributes_in(self, link: str, path: str, names: Iterable[str]) -> dict[str, FileAttributes]:
        """Those of entries of a directory, as `attributes` gives them, asked together; some may be left
        out."""
        return self._scan.attributes(lambda: self.open(link, path, O_PATH | O_DIRECTORY), names)

    def whole_in(self, link: str, path: str, sizes: Mapping[str, int]) -> set[str]:
        """Those of the regular files of these sizes in a directory of which memory holds every byte; some may
        be left out."""
        return self._scan.whole(lambda: self.open(link, path, O_PATH | O_DIRECTORY), sizes)


def _until_it_would_wait(file: OpenFile) -> Iterator[bytes]:
    """The parts of a file. OSError with EAGAIN if there is nothing to begin with."""
    some = False
    while True:
        try:
            part = file.read()
        except OSError as error:
            if error.errno == errno.EAGAIN and some:
                return
            raise
        if not part:
            return
        yield part
        some = True
