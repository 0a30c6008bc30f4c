"""The files of a snapshot's /proc and /sys, by their paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from hybridbridge_vol.bridge.run.descriptor_calls import Called, DescriptorCall
from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest import argument_pages, magic_links
from hybridbridge_vol.guest.abi import STAT_SIZE, directory_entries, parse_stat
from hybridbridge_vol.guest.descriptors import LARGEST_READ, Descriptors, OpenFile
from hybridbridge_vol.guest.endless import bounded_entries, joined
from hybridbridge_vol.guest.file_attributes import AT_STATX_DONT_SYNC, STATX_ALL, STATX_SIZE
from hybridbridge_vol.guest.file_content import IncompleteDirectory
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.open_descriptors import OpenDescriptors
from hybridbridge_vol.guest.prefetch import Prefetch
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, ProxyCalls
from hybridbridge_vol.guest.records import read_other_records
from hybridbridge_vol.guest.unlistable import listable_entries
from hybridbridge_vol.guest.values import OpenDescriptor, Question, Stat
from hybridbridge_vol.procfs.pid import parse_status

READ_SIZES = (16 << 10, 64 << 10, 256 << 10, LARGEST_READ)
"""Bytes asked for by the first, second ... read of a file: some files clear a buffer of that size first."""
_DIRENTS_SIZE = 256 << 10
MAX_REASONS = 4
"""Reasons why a directory is not whole that are said."""
_LONGEST_LINK = 4096
SOCKET_PROTOCOL = "system.sockprotoname"
_VALUE_AT, _LONGEST_PROTOCOL = 64, 256

_O_RDONLY, _O_DIRECTORY = 0, 0o200000
_AT_SYMLINK_NOFOLLOW = 0x100


class SnapshotFiles:
    """Implements `guest.kernel.Files`."""

    def __init__(self, proxy: ProxyCalls, descriptors: Descriptors, mounts: Mounts) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._mounts = mounts
        self._prefetch = Prefetch(proxy, descriptors, mounts)
        self._open_descriptors = OpenDescriptors(proxy)

    # --- primitives: one system call each -----------------------------------------------------------------

    def open(self, path: str, flags: int = _O_RDONLY) -> OpenFile:
        """Open a file for reading. OSError with the guest's errno; CallRolledBack."""
        self._proxy.show_no_own_sockets(path)
        if magic_links.is_link(path):
            magic_links.check_mode(path, self.stat(path, follow=True).mode)
        name = self._named(path)
        number = self._proxy.checked(path, "openat", AT_FDCWD, name, flags, 0)
        return self._descriptors.opened(number, path)

    def readlink(self, path: str) -> str:
        """The target of a symbolic link, as `readlink(2)` reports it."""
        expected = self._prefetch.find("readlink", path)
        if expected is not None:
            return os.fsdecode(expected)
        name, buffer = self._named(path), self._proxy.buffer()
        count = self._proxy.checked(path, "readlinkat", AT_FDCWD, name, buffer, _LONGEST_LINK)
        return os.fsdecode(self._proxy.answer(f"readlink {path}", min(count, _LONGEST_LINK)))

    def stat(self, path: str, follow: bool = False) -> Stat:
        """`lstat(2)`; with `follow` `stat(2)`, by the twin's code: the end of the path is then the
        snapshot's, and no reference to it may be taken or dropped by the trusted kernel."""
        call, side, flags = (
            ("stat", "twin", AT_STATX_DONT_SYNC) if follow else ("lstat", "home", _AT_SYMLINK_NOFOLLOW)
        )
        expected = self._prefetch.find("stat" if follow else "lstat", path)
        if expected is not None:
            return parse_stat(expected)
        name, buffer = self._named(path), self._proxy.buffer()
        self._proxy.checked(path, "newfstatat", AT_FDCWD, name, buffer, flags, side=side)
        return parse_stat(self._proxy.answer(f"{call} {path}", STAT_SIZE))

    def statx(self, path: str, follow: bool) -> bytes:
        """The same as statx(2) has it: a `struct statx`."""
        side, flags = ("twin", AT_STATX_DONT_SYNC) if follow else ("home", _AT_SYMLINK_NOFOLLOW)
        name, buffer = self._named(path), self._proxy.buffer()
        self._proxy.checked(path, "statx", AT_FDCWD, name, flags, STATX_ALL, buffer, side=side)
        return self._proxy.answer(f"statx {path}", STATX_SIZE)

    def socket_protocol(self, path: str) -> bytes:
        """What sockfs says of the protocol of a socket that a link of /proc/PID/fd leads to, which is its
        only extended attribute (net/socket.c, `sockfs_xattr_get`). OSError, CallRolledBack."""
        name_vaddr, buffer = self._named(path), self._proxy.buffer(SOCKET_PROTOCOL.encode() + b"\0")
        value_vaddr = buffer + _VALUE_AT
        count = self._proxy.checked(
            path, "getxattr", name_vaddr, buffer, value_vaddr, _LONGEST_PROTOCOL, side="twin"
        )
        return self._proxy.answer(f"getxattr {path}", _VALUE_AT + min(count, _LONGEST_PROTOCOL))[_VALUE_AT:]

    def _named(self, path: str) -> int:
        """Put a path that may be looked up into user memory, and mount what it leads through; its virtual
        address."""
        magic_links.check_name(path)
        self._mounts.reach(path)
        return self._proxy.put_path(path)

    # --- what is made of them -----------------------------------------------------------------------------

    def expect(self, questions: Iterable[Question]) -> None:
        """See `guest.kernel.Files`. Without effect under taint and while a file is open."""
        self._prefetch.ask(questions)

    def forget_expected(self) -> None:
        """Let the answers go that `expect` has got: what is asked again is answered by the kernel again."""
        self._prefetch.forget()

    def inode_offset(self) -> int:
        """See `OpenDescriptors`."""
        return self._open_descriptors.inode_offset()

    def descriptors(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], OpenDescriptor]:
        """See `guest.kernel.Files`. Empty under taint and while a file is open, as for `expect`."""
        return self._open_descriptors.descriptors(wanted) if self.may_ask_together else {}

    def programs(self, pids: Iterable[int]) -> dict[int, OpenDescriptor]:
        """See `guest.kernel.Files`. Empty where `descriptors` is."""
        return self._open_descriptors.programs(pids) if self.may_ask_together else {}

    def descriptor_numbers(self, pids: Iterable[int]) -> dict[int, list[int]]:
        """See `guest.kernel.Files`. Empty where `descriptors` is."""
        return self._open_descriptors.numbers(pids) if self.may_ask_together else {}

    def call_each(
        self, calls: Sequence[DescriptorCall], room: int, prove: Callable[[DescriptorCall], bool]
    ) -> Sequence[Called | None]:
        """See `OpenDescriptors`. None for all where `descriptors` is empty."""
        may = self.may_ask_together
        return self._open_descriptors.call_each(calls, room, prove) if may else [None] * len(calls)

    @property
    def may_ask_together(self) -> bool:
        """Whether several calls may be made in one program: not under taint, and not while a file is open,
        which rolling back would close."""
        return not self._proxy.under_taint and self._descriptors.none_open

    def read(self, path: str) -> bytes:
        """The whole content of a file: open, read to the end, close. EndlessFile, MissingRecords. OSError if
        it is of arguments of a process that the image lacks: `argument_pages`."""
        data = self._prefetch.find("read", path)
        if data is None:
            with self._opened(path, _O_RDONLY) as file:
                try:
                    data = joined(path, _parts(file), self._proxy.patience)
                except CallRolledBack as error:
                    raise read_other_records(self._proxy, path, partial(self.open, path), error) from None
        argument_pages.check(path, data, argument_pages.Ask(self.read, self.read_at))
        return data

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """`pread(2)`: up to `size` bytes, at most a MiB, from `offset` of a file."""
        with self._opened(path, _O_RDONLY) as file:
            return file.read_at(offset, size)

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order.

        A process that the kernel cannot list in /proc is named nonetheless: reading its files shows what is
        wrong with it. Of those whose table of ids is not in memory nobody knows which there are: they are not
        named. IncompleteDirectory, with all names, if there may be others.
        """
        try:
            entries = self._entries(path)
        except CallRolledBack:
            if path.rstrip("/") != "/proc":
                raise
            lost: list[str] = []
            names = _without_dots(listable_entries(self._entries_of_proc, self._has_process, lost.append))
            if lost:
                raise IncompleteDirectory(path, names, _together(lost)) from None
            return names
        return _without_dots(entries)

    @contextlib.contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[OpenFile]:
        """An open file that is closed when the block ends; its answer begins anew."""
        with self.open(path, flags) as file:
            self._proxy.labels.forget(path)
            yield file

    def open_directory(self, path: str) -> OpenFile:
        """Open a directory to list it. Errors as for `open`."""
        return self.open(path, _O_RDONLY | _O_DIRECTORY)

    def _entries(self, path: str) -> list[tuple[int, str]]:
        """All entries of a directory, each with the position behind it."""
        expected = self._prefetch.find("listdir", path)
        if expected is not None:
            return list(directory_entries(expected))
        with self._opened(path, _O_RDONLY | _O_DIRECTORY) as file:
            return bounded_entries(path, lambda: file.entries(_DIRENTS_SIZE), self._proxy.patience)

    def _entries_of_proc(self, position: int, size: int) -> list[tuple[int, str]] | None:
        """Entries of /proc from a position on, as many as one buffer of `size` bytes takes; None if the call
        was rolled back."""
        try:
            with self._opened("/proc", _O_RDONLY | _O_DIRECTORY) as file:
                file.seek(position)
                return file.entries(size)
        except CallRolledBack:
            return None

    def _has_process(self, pid: int) -> bool | str:
        """Whether there is a process of that id; why its look-up was rolled back. A thread's id can be
        looked up as well (fs/proc/base.c, `proc_pid_lookup`); it is none, and is not listed."""
        try:
            self.stat(f"/proc/{pid}")
        except FileNotFoundError:
            return False
        except CallRolledBack as error:
            return error.reason
        except OSError:
            return True
        with contextlib.suppress(OSError, CallRolledBack, ParseError):
            return parse_status(self.read_at(f"/proc/{pid}/status", 0, LARGEST_READ)).tgid == pid
        return True


def _without_dots(entries: Iterable[tuple[int, str]]) -> list[str]:
    """The names of a directory's entries but for `.` and `..`."""
    return [name for _next, name in entries if name not in (".", "..")]


def _together(reasons: list[str]) -> str:
    """Several reasons as one: each once, the first and the last ones where there are many."""
    each = list(dict.fromkeys(reasons))
    if len(each) > MAX_REASONS:
        each = [*each[: MAX_REASONS - 1], f"{len(each) - MAX_REASONS:,} more", each[-1]]
    return "; ".join(each)


def _parts(file: OpenFile) -> Iterator[bytes]:
    number = 0
    while part := file.read(READ_SIZES[min(number, len(READ_SIZES) - 1)]):
        yield part
        number += 1
