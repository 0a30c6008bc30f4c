"""The proxy task's open files: which are open, and the housekeeping that closing them needs.

* A call that is rolled back takes memory back to the mark, and so closes every file opened since. A
  descriptor is open only in the generation (`Caller.generation`) that it was opened in.
* A closed file is freed by delayed work, which never runs by itself here: it is run after every
  `TIDY_AFTER_CLOSES` closed files.
* What waits for an RCU grace period is never freed: after `RENEW_AFTER_CLOSES` closed files, as soon as none
  is open, the session goes back to the mark.
* A program of many calls (`guest.prefetch`) may be rolled back at any time: it is run only while no file is
  open.
"""

from __future__ import annotations

import contextlib
import os
from typing import Self

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.abi import directory_entries
from hybridbridge_vol.guest.proxy_calls import ProxyCalls

TIDY_AFTER_CLOSES = 64
RENEW_AFTER_CLOSES = 4096
LARGEST_READ = 1 << 20
"""Bytes that one read asks for at most."""


class Descriptor:
    """A file descriptor of the proxy task."""

    def __init__(self, caller: Caller, number: int) -> None:
        self.number = number
        self._caller = caller
        self._generation = caller.generation

    @property
    def is_open(self) -> bool:
        """False once a call was rolled back since it was opened."""
        return self._generation == self._caller.generation


class Descriptors:
    """Counts the open files and the closed ones."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._open = self._closes = self._generation = 0
        """The last is the generation that the others were counted in."""
        self._traps = 0
        """How often FAST-BRIDGE had trapped when closed files were freed last."""

    def opened(self, number: int, path: str) -> OpenFile:
        """The file that a call has just opened, which is the caller's to close."""
        self._notice_rollback()
        self._open += 1
        return OpenFile(self._proxy, self, Descriptor(self._proxy.caller, number), path)

    def close(self, descriptor: Descriptor) -> None:
        """Close a file. Harmless where a call that was rolled back has closed it."""
        if not descriptor.is_open:
            return
        self._proxy.raw("close", descriptor.number)
        self._notice_rollback()
        self._open -= 1
        self.count_closed(1)

    @property
    def none_open(self) -> bool:
        self._notice_rollback()
        return self._open == 0

    def count_closed(self, count: int) -> None:
        """So many files were opened and closed again."""
        self._notice_rollback()
        before, self._closes = self._closes, self._closes + count
        # a file whose code was new: what frees it is proven with it, and not when a later session closes more
        is_new = self._traps != len(self._proxy.caller.hybrid.statistics.trapped_in)
        if is_new or before // TIDY_AFTER_CLOSES != self._closes // TIDY_AFTER_CLOSES:
            self._tidy()
        if self._closes >= RENEW_AFTER_CLOSES and self._open == 0:
            self._proxy.caller.roll_back()

    def tidy_now(self) -> None:
        """Free what was closed since the last time, so that a program that follows does not have to."""
        if self._closes % TIDY_AFTER_CLOSES:
            self._tidy()

    def _tidy(self) -> None:
        for name in ("flush_delayed_fput", "task_work_run"):
            with contextlib.suppress(KeyError, CallRolledBack):
                self._proxy.caller.call(self._proxy.bridge.home(name), label=name)
        self._traps = len(self._proxy.caller.hybrid.statistics.trapped_in)

    def _notice_rollback(self) -> None:
        generation = self._proxy.caller.generation
        if self._generation != generation:
            self._open = self._closes = 0
            self._generation = generation


class OpenFile:
    """An open file of the guest."""

    def __init__(
        self, proxy: ProxyCalls, descriptors: Descriptors, descriptor: Descriptor, path: str
    ) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._descriptor = descriptor
        self._closed = False
        self.path = path

    @property
    def number(self) -> int:
        """The descriptor's number. CallRolledBack if a call that was rolled back has closed the file."""
        if not self._descriptor.is_open:
            raise CallRolledBack(self.path, "a call that was rolled back has closed the file")
        return self._descriptor.number

    def read(self, size: int = LARGEST_READ) -> bytes:
        """Up to `size` bytes from the current position; empty at the end."""
        size = min(size, LARGEST_READ)
        count = self._call("read", self._proxy.buffer(), size)
        return self._proxy.answer(self.path, min(count, size), more=True)

    def read_at(self, offset: int, size: int) -> bytes:
        """`pread(2)`: up to `size` bytes from `offset`."""
        size = min(size, LARGEST_READ)
        count = self._call("pread64", self._proxy.buffer(), size, offset)
        return self._proxy.answer(self.path, min(count, size))

    def seek(self, position: int) -> None:
        """Read on from this position."""
        self._call("lseek", position, os.SEEK_SET)

    def entries(self, size: int) -> list[tuple[int, str]]:
        """`(position behind it, name)` of the next entries of a directory, as many as `size` bytes take;
        empty at its end."""
        return list(directory_entries(self.raw_entries(size)))

    def raw_entries(self, size: int) -> bytes:
        """The same as getdents64(2) writes them: `struct linux_dirent64`s."""
        count = self._call("getdents64", self._proxy.buffer(), size)
        return self._proxy.answer(f"getdents64 {self.path}", min(count, size))

    def _call(self, name: str, *arguments: int) -> int:
        return self._proxy.checked(self.path, name, self.number, *arguments)

    def close(self) -> None:
        """Close it. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._descriptors.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
