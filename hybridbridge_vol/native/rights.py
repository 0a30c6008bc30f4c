"""Giving up rights for good: what a process does before it runs what others wrote."""

from __future__ import annotations

import ctypes
import os
import resource
import struct

from hybridbridge_vol.native.libc import syscall

_SECCOMP, _SET_MODE_FILTER = 317, 1  # include/uapi/linux/seccomp.h; the number is x86-64's
_PR_SET_NO_NEW_PRIVS = 38  # include/uapi/linux/prctl.h
_CAPABILITY_VERSION_3, _CAPABILITIES_SIZE = 0x20080522, 24  # include/uapi/linux/capability.h
_LIBC = ctypes.CDLL(None, use_errno=True)
"""Its functions, where there are any: an emulated program's process runs on any processor."""


def no_new_rights() -> None:
    """No program that is executed from now on brings rights of its own (no_new_privs), and no core dump is
    written. OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _check("prctl", _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def no_capabilities() -> None:
    """OSError."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _check("capset", _LIBC.capset(header, bytes(_CAPABILITIES_SIZE)))


def _check(name: str, answer: int) -> None:
    if answer:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)


class Filter:
    """A seccomp program that is ready to be installed: of struct sock_filter, as `filter` makes them."""

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        self._header = struct.pack("<H6xQ", len(program) // 8, ctypes.addressof(self._program))

    def install(self, flags: int = 0) -> None:
        """From now on it decides about the system calls of this process (SECCOMP_FILTER_FLAG_*). OSError."""
        syscall("seccomp", _SECCOMP, _SET_MODE_FILTER, flags, self._header)
