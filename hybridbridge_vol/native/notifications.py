"""The supervisor's end of seccomp user notification (seccomp_unotify(2))."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol

from hybridbridge_vol.native.abi import O_CLOEXEC
from hybridbridge_vol.native.program_memory import ProgramMemory, ThreadMemory

_RECEIVE, _SEND, _ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_ADD_FD, _SET_FLAGS = 0x40182103, 0x40082104  # SECCOMP_IOCTL_NOTIF_*, include/uapi/linux/seccomp.h
_NOTIFICATION = struct.Struct("<QIIiIQ6Q")
_RESPONSE = struct.Struct("<QqiI")
_ADDED_FD = struct.Struct("<QIIII")
_FLAG_CONTINUE, _ADDFD_FLAG_SETFD, _ADDFD_FLAG_SEND = 1, 1, 2
_SYNC_WAKE_UP = 1


class Call(NamedTuple):
    """A system call that waits for its answer. `tid` is the thread, `pc` where its next instruction is,
    `memory` what its pointers lead to."""

    id: int
    tid: int
    number: int
    pc: int
    arguments: tuple[int, ...]
    memory: ProgramMemory


class Special(Enum):
    """Answers that are no value."""

    CONTINUE = 1
    """The host's kernel makes the call, whose arguments are in registers only."""


@dataclass(frozen=True, slots=True)
class NewDescriptor:
    """The answer is a new descriptor of the program's: a copy of `fd`, which is closed afterwards. `number`
    is the one it gets, or None for the lowest that is free."""

    fd: int
    close_on_exec: bool
    number: int | None = None


Answer = int | Special | NewDescriptor
"""What a call is answered with: a value, or -errno; or one of the other kinds."""


class CallSource(Protocol):
    """Where calls arrive. `fd` can be read when one has."""

    @property
    def fd(self) -> int: ...

    def receive(self) -> Call | None:
        """The next call; None if there is none after all."""

    def answer(self, call: Call, answer: Answer) -> None:
        """End the call. Nothing happens if its thread has gone."""


class Listener:
    """The descriptor on which calls arrive."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(_NOTIFICATION.size)
        with contextlib.suppress(OSError):  # Linux 6.6
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)

    def receive(self) -> Call | None:
        """The next call; None if its thread has ended or was interrupted meanwhile."""
        self._buffer[:] = bytes(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, self._buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        ident, tid, _flags, number, _arch, pc, *arguments = _NOTIFICATION.unpack(self._buffer)
        memory = ThreadMemory(tid, partial(self._is_waiting, ident))
        return Call(ident, tid, number, pc, tuple(arguments), memory)

    def _is_waiting(self, ident: int) -> bool:
        """Whether a call still waits: its thread exists, and its number is not another process's."""
        try:
            fcntl.ioctl(self.fd, _ID_VALID, struct.pack("<Q", ident))
        except OSError:
            return False
        return True

    def answer(self, call: Call, answer: Answer) -> None:
        """End the call. Nothing happens if its thread has gone."""
        if isinstance(answer, NewDescriptor):
            self._add(call, answer)
            return
        value, error, flags = 0, 0, 0
        if answer is Special.CONTINUE:
            flags = _FLAG_CONTINUE
        elif isinstance(answer, int) and answer < 0:
            error = answer
        elif isinstance(answer, int):
            value = answer
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self.fd, _SEND, _RESPONSE.pack(call.id, value, error, flags))

    def _add(self, call: Call, new: NewDescriptor) -> None:
        flags = _ADDFD_FLAG_SEND | (0 if new.number is None else _ADDFD_FLAG_SETFD)
        descriptor_flags = O_CLOEXEC if new.close_on_exec else 0
        request = _ADDED_FD.pack(call.id, flags, new.fd, new.number or 0, descriptor_flags)
        try:
            fcntl.ioctl(self.fd, _ADD_FD, request)
        except FileNotFoundError:
            pass
        except OSError as error:  # the program may have no room for it (EMFILE)
            self.answer(call, -(error.errno or errno.EIO))
        finally:
            os.close(new.fd)

    def close(self) -> None:
        os.close(self.fd)
