"""Reading and writing the memory of a program that waits for an answer."""

from __future__ import annotations

import ctypes
import errno
import os

from hybridbridge_vol.native.abi import failed

MAX_PATH = 4096
"""PATH_MAX, include/uapi/linux/limits.h."""
MAX_READ = 4 << 20
"""Bytes that one call may have read or written by the supervisor."""
_PAGE = 4096


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


def read(tid: int, vaddr: int, size: int) -> bytes:
    """Bytes of a thread's memory, as many as there are up to the first that is not mapped. OSError EFAULT if
    there is none, EINVAL if they are more than MAX_READ."""
    if not 0 <= size <= MAX_READ:
        raise OSError(errno.EINVAL, "more than one call may read")
    if not size:
        return b""
    local, remote = _Iovec(_BUFFER_AT, size), _Iovec(vaddr, size)
    count = _LIBC.process_vm_readv(tid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if count < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return ctypes.string_at(_BUFFER_AT, count)


def read_exactly(tid: int, vaddr: int, size: int) -> bytes:
    """The same; EFAULT if any of them is missing."""
    data = read(tid, vaddr, size)
    if len(data) != size:
        raise failed(errno.EFAULT)
    return data


def read_path(tid: int, vaddr: int) -> str:
    """A path. OSError EFAULT, ENAMETOOLONG."""
    if not vaddr:
        raise failed(errno.EFAULT)
    found = b""
    while len(found) < MAX_PATH:
        part = read(tid, vaddr, min(256, _PAGE - vaddr % _PAGE))
        end = part.find(b"\0")
        if end >= 0:
            return os.fsdecode(found + part[:end])
        found += part
        vaddr += len(part)
    raise failed(errno.ENAMETOOLONG)


def write(tid: int, vaddr: int, data: bytes) -> None:
    """OSError EFAULT if it cannot be written as a whole."""
    if not data:
        return
    source = (ctypes.c_char * len(data)).from_buffer_copy(data)
    local, remote = _Iovec(ctypes.addressof(source), len(data)), _Iovec(vaddr, len(data))
    count = _LIBC.process_vm_writev(tid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if count != len(data):
        raise failed(errno.EFAULT)
