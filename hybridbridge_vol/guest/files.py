"""The files of a snapshot's /proc and /sys, read by system calls of the proxy task: what any session does all
the time."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator
from typing import Self

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.abi import STAT_SIZE, directory_entries, parse_stat
from hybridbridge_vol.guest.answer_labels import Traces
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.prefetch import Prefetch
from hybridbridge_vol.guest.unlistable import entries_around_holes
from hybridbridge_vol.toolkit.guest_kernel import EndlessFile, Question, Stat
from hybridbridge_vol.units import U64

MAX_FILE_SIZE = 64 << 20
"""Bytes `read_file` takes from one file: three times the largest text of /proc (kallsyms); beyond lie only
windows on memory (kcore) and lists that never end."""

MAX_FILE_SECONDS = 20.0
"""Time for one file, four times that under taint: the longest honest one takes two seconds."""

TIDY_AFTER_CLOSES = 64
"""Closed files are freed by work that never runs by itself here; it is run after so many."""

RENEW_AFTER_CLOSES = 4096
"""What waits for an RCU grace period is never freed: after so many files the session starts afresh."""

_PATH_AT = 0
BUFFER_AT = 64 << 10
READ_SIZES = (16 << 10, 64 << 10, 256 << 10, 1 << 20)
"""Bytes asked for by the first, second ... read of a file: some files clear a buffer of that size first."""
_DIRENTS_SIZE = 256 << 10

_AT_FDCWD = -100 & U64
_O_RDONLY, _O_DIRECTORY = 0, 0o200000
_AT_SYMLINK_NOFOLLOW = 0x100


class GuestFile:
    """An open file of the guest."""

    def __init__(self, files: Files, fd: int, path: str) -> None:
        self._files = files
        self._generation = files.generation
        self.fd = fd
        self.path = path

    def read(self, size: int = READ_SIZES[-1]) -> bytes:
        """Up to `size` bytes from the current position; empty at the end."""
        return self._files._read(self.fd, size, self.path)

    def close(self) -> None:
        """Close it. Closing twice is harmless, and so is closing what a call that was rolled back has
        closed."""
        if self.fd >= 0 and self._generation == self._files.generation:
            self._files._close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Files:
    """Files of /proc and /sys by their paths, as `guest.kernel.GuestKernel` has them."""

    def __init__(self, bridge: Bridge, mode: Mode) -> None:
        self.bridge = bridge
        self._caller = Caller(bridge, mode)
        self._mounts = Mounts(self._caller)
        self._prefetch = Prefetch(self._caller)
        self._open_files = self._closes = self._counted_in = 0
        """The last is the generation that the others were counted in."""
        self.traces: Traces | None = None
        """Where answers came from, once `trace` was called."""

    def trace(self) -> Traces:
        """From here on remember where the bytes of answers come from. Only in mode `slow`: labels are
        SLOW's."""
        if self.traces is None:
            engine = self._caller.hybrid.slow.engine
            self.traces = Traces(engine.origins, self.bridge.image.offset_of)
        return self.traces

    def _checked(self, answer: int, path: str) -> int:
        if answer < 0:
            raise magic_links.not_cached(path, -answer) or OSError(-answer, os.strerror(-answer), path)
        return answer

    def _path(self, path: str) -> int:
        encoded = os.fsencode(path)
        if len(encoded) >= 4096 or b"\0" in encoded:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        magic_links.check_name(path)
        if self._mounts.reach(path):
            self._caller.mark()
        return self._caller.put(encoded + b"\0", _PATH_AT)

    def open(self, path: str, flags: int = _O_RDONLY) -> GuestFile:
        """Open a file of the snapshot for reading. OSError with the guest's errno; CallRolledBack."""
        if magic_links.is_link(path):
            magic_links.check_mode(path, self.stat(path, follow=True).mode)
        name = self._path(path)
        fd = self._checked(self._syscall("openat", path, _AT_FDCWD, name, flags, 0), path)
        self._notice_rollback()
        self._open_files += 1
        return GuestFile(self, fd, path)

    def _syscall(self, name: str, path: str, *arguments: int, side: str = "home") -> int:
        return self._caller.syscall(name, *arguments, side=side, label=f"{name} {path}".rstrip())

    @property
    def generation(self) -> int:
        """See `Caller`: a descriptor of an earlier one is not open."""
        return self._caller.generation

    def _notice_rollback(self) -> None:
        if self._counted_in != self.generation:
            self._open_files = self._closes = 0
            self._counted_in = self.generation

    def _read(self, fd: int, size: int, path: str) -> bytes:
        size = min(size, READ_SIZES[-1])
        buffer = self._caller.put(b"", BUFFER_AT)
        count = self._checked(self._syscall("read", path, fd, buffer, size), path)
        return self._answer(path, min(count, size), more=True)

    def _answer(self, source: str, size: int, more: bool = False) -> bytes:
        """What a call left in the buffer; its labels are kept under `source` (added to those there if
        `more`)."""
        if self.traces is not None:
            self.traces.keep(source, self._caller.labels(BUFFER_AT, size), more)
        return self._caller.get(BUFFER_AT, size)

    def _close(self, fd: int) -> None:
        self._syscall("close", "", fd)
        self._notice_rollback()
        self._open_files -= 1
        self._closed(1)

    def _closed(self, count: int) -> None:
        self._notice_rollback()
        before, self._closes = self._closes, self._closes + count
        if before // TIDY_AFTER_CLOSES != self._closes // TIDY_AFTER_CLOSES:
            self._tidy()
        if self._closes >= RENEW_AFTER_CLOSES and self._open_files == 0:
            self._caller.roll_back()

    def _tidy(self) -> None:
        for name in ("flush_delayed_fput", "task_work_run"):
            with contextlib.suppress(KeyError, CallRolledBack):
                self._caller.call(self.bridge.home(name), label=name)

    def expect(self, questions: Iterable[Question]) -> None:
        """See `GuestKernel`. Without effect under taint, where each answer has a label of its own, and while
        a file is open, which rolling back would close."""
        self._notice_rollback()
        if self._caller.hybrid.mode is Mode.SLOW or self._open_files:
            return
        wanted = list(questions)
        for question in wanted:
            if self._mounts.reach(question.path):
                self._caller.mark()
        if self._closes % TIDY_AFTER_CLOSES:
            self._tidy()  # now, so that its code is proven: what is rolled back with a program never runs
        for closed in self._prefetch.ask(wanted):
            self._closed(closed)

    @contextlib.contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[GuestFile]:
        """An open file that is closed when the block ends."""
        with self.open(path, flags) as file:
            if self.traces is not None:
                self.traces.forget(path)
            yield file

    def read_file(self, path: str) -> bytes:
        """The whole content of a file. EndlessFile if it goes on beyond `MAX_FILE_SIZE` or
        `MAX_FILE_SECONDS`."""
        expected = self._prefetch.find("read", path)
        if expected is not None:
            return expected
        parts: list[bytes] = []
        total = 0
        end = self._deadline()
        with self._opened(path, _O_RDONLY) as file:
            while part := file.read(READ_SIZES[min(len(parts), len(READ_SIZES) - 1)]):
                parts.append(part)
                total += len(part)
                if total > MAX_FILE_SIZE or time.monotonic() > end:
                    raise EndlessFile(path, b"".join(parts))
        return b"".join(parts)

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """`pread(2)`: up to `size` bytes, at most a MiB, from `offset` of a file."""
        size = min(size, READ_SIZES[-1])
        with self._opened(path, _O_RDONLY) as file:
            buffer = self._caller.put(b"", BUFFER_AT)
            count = self._checked(self._syscall("pread64", path, file.fd, buffer, size, offset), path)
            return self._answer(path, min(count, size))

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order.

        In /proc a process that the kernel cannot list is passed over and named nonetheless: reading its files
        tells what is wrong with it.
        """
        try:
            entries = self._entries(path)
        except CallRolledBack:
            if path.rstrip("/") != "/proc":
                raise
            entries = list(entries_around_holes(self._entries_from, self._has_process))
        return [name for _next, name in entries if name not in (".", "..")]

    def _entries(self, path: str) -> list[tuple[int, str]]:
        """All entries of a directory, each with the position behind it."""
        expected = self._prefetch.find("listdir", path)
        if expected is not None:
            return list(directory_entries(expected))
        entries: list[tuple[int, str]] = []
        with self._opened(path, _O_RDONLY | _O_DIRECTORY) as file:
            while part := self._next_entries(file, _DIRENTS_SIZE):
                entries += part
        return entries

    def _next_entries(self, file: GuestFile, size: int) -> list[tuple[int, str]]:
        buffer = self._caller.put(b"", BUFFER_AT)
        count = self._checked(self._syscall("getdents64", file.path, file.fd, buffer, size), file.path)
        return list(directory_entries(self._answer(f"getdents64 {file.path}", min(count, size))))

    def _entries_from(self, position: int, size: int) -> list[tuple[int, str]] | None:
        """Entries of /proc from a position on, as many as one buffer of `size` bytes takes; None if it was
        rolled back."""
        try:
            with self._opened("/proc", _O_RDONLY | _O_DIRECTORY) as file:
                self._checked(self._syscall("lseek", file.path, file.fd, position, os.SEEK_SET), file.path)
                return self._next_entries(file, size)
        except CallRolledBack:
            return None

    def _has_process(self, pid: int) -> bool:
        try:
            self.stat(f"/proc/{pid}")
        except FileNotFoundError:
            return False
        except (OSError, CallRolledBack):
            return True
        return True

    def readlink(self, path: str) -> str:
        """Where a symbolic link points, as `readlink(2)` tells it."""
        expected = self._prefetch.find("readlink", path)
        if expected is not None:
            return os.fsdecode(expected)
        name, buffer = self._path(path), self._caller.put(b"", BUFFER_AT)
        arguments = (_AT_FDCWD, name, buffer, 4096)
        count = self._checked(self._syscall("readlinkat", path, *arguments), path)
        return os.fsdecode(self._answer(f"readlink {path}", min(count, 4096)))

    def stat(self, path: str, follow: bool = False) -> Stat:
        """`lstat(2)`, with `follow` `stat(2)`: by the twin's code, since the end of the path is the
        snapshot's, no reference to which is taken or dropped."""
        expected = self._prefetch.find("stat" if follow else "lstat", path)
        if expected is not None:
            return parse_stat(expected)
        name, buffer = self._path(path), self._caller.put(b"", BUFFER_AT)
        arguments = (_AT_FDCWD, name, buffer, 0 if follow else _AT_SYMLINK_NOFOLLOW)
        self._checked(self._syscall("newfstatat", path, *arguments, side="twin" if follow else "home"), path)
        return parse_stat(self._answer(f"{'stat' if follow else 'lstat'} {path}", STAT_SIZE))

    def _deadline(self) -> float:
        return time.monotonic() + MAX_FILE_SECONDS * (4 if self._caller.hybrid.mode is Mode.SLOW else 1)
