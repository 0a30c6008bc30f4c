"""System calls that Python has no function for, by the C library's `syscall`."""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALL = _LIBC.syscall
_SYSCALL.restype = ctypes.c_long


def syscall(name: str, number: int, *arguments: int | bytes | None) -> int:
    """Make a system call of the host's. OSError with its errno, and `name` as the filename.

    Integers are passed in 64 bits: `c_long`, as the C library's variadic function takes them.
    """
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    answer: int = _SYSCALL(ctypes.c_long(number), *converted)
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return answer
