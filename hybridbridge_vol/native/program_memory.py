"""Reading and writing the memory of a program that waits for an answer."""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.units import PAGE_SIZE

MAX_PATH = 4096
"""PATH_MAX, include/uapi/linux/limits.h."""
MAX_READ = 4 << 20
"""Bytes that one call may have read or written by the supervisor."""


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_LIBC = ctypes.CDLL(None, use_errno=True)
for _function in (_LIBC.process_vm_readv, _LIBC.process_vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = [
        ctypes.c_int, ctypes.POINTER(_Iovec), ctypes.c_ulong, ctypes.POINTER(_Iovec), ctypes.c_ulong,
        ctypes.c_ulong,
    ]  # fmt: skip
_BUFFER = ctypes.create_string_buffer(MAX_READ)
_BUFFER_AT = ctypes.addressof(_BUFFER)


class ProgramMemory(ABC):
    """What pointers of one call lead to."""

    @abstractmethod
    def read(self, vaddr: int, size: int) -> bytes:
        """Bytes, as many as there are up to the first that is not mapped. OSError EFAULT if there is none,
        EINVAL if they are more than MAX_READ."""

    @abstractmethod
    def write(self, vaddr: int, data: bytes) -> None:
        """OSError EFAULT if it cannot be written as a whole."""

    def read_exactly(self, vaddr: int, size: int) -> bytes:
        """The same as `read`; EFAULT if any of them is missing."""
        data = self.read(vaddr, size)
        if len(data) != size:
            raise failed(errno.EFAULT)
        return data

    def read_path(self, vaddr: int) -> str:
        """A path. OSError EFAULT, ENAMETOOLONG."""
        if not vaddr:
            raise failed(errno.EFAULT)
        found = b""
        while len(found) < MAX_PATH:
            part = self.read(vaddr, min(256, PAGE_SIZE - vaddr % PAGE_SIZE))
            end = part.find(b"\0")
            if end >= 0:
                return os.fsdecode(found + part[:end])
            found += part
            vaddr += len(part)
        raise failed(errno.ENAMETOOLONG)


class ThreadMemory(ProgramMemory):
    """The memory of a thread of this machine's (process_vm_readv(2)).

    The thread may be killed at any moment, and its number be another process's: `is_waiting` tells whether
    it still waits for its answer (seccomp_unotify(2)). Nothing is written otherwise, and what was read then
    counts for nothing: OSError ESRCH.
    """

    def __init__(self, tid: int, is_waiting: Callable[[], bool]) -> None:
        self._tid = tid
        self._is_waiting = is_waiting

    def _check_waiting(self) -> None:
        if not self._is_waiting():
            raise failed(errno.ESRCH)

    def read(self, vaddr: int, size: int) -> bytes:
        check_size(size)
        if not size:
            return b""
        local, remote = _Iovec(_BUFFER_AT, size), _Iovec(vaddr, size)
        count = _LIBC.process_vm_readv(self._tid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        error = ctypes.get_errno()
        self._check_waiting()
        if count < 0:
            raise OSError(error, "process_vm_readv")
        return ctypes.string_at(_BUFFER_AT, count)

    def write(self, vaddr: int, data: bytes) -> None:
        if not data:
            return
        self._check_waiting()
        source = (ctypes.c_char * len(data)).from_buffer_copy(data)
        local, remote = _Iovec(ctypes.addressof(source), len(data)), _Iovec(vaddr, len(data))
        count = _LIBC.process_vm_writev(self._tid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        if count != len(data):
            raise failed(errno.EFAULT)


def check_size(size: int) -> None:
    """OSError EINVAL for more than one call may read."""
    if not 0 <= size <= MAX_READ:
        raise OSError(errno.EINVAL, "more than one call may read")
