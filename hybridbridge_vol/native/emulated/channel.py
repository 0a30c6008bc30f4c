"""The line between an emulated program's process and its supervisor: frames on a stream socket.

The program's process sends a call, and then serves the supervisor's requests (memory, descriptors, files of
its own) until the answer comes. Neither side trusts a frame's size, and the supervisor waits for a part of
one no longer than `PATIENCE`.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
import time
from enum import IntEnum
from typing import NamedTuple

from hybridbridge_vol.native.program_memory import MAX_READ

PATIENCE = 30.0
"""Seconds that a program's process, which waits for an answer, may need to serve a request."""
_HEAD = struct.Struct("<BI")
_MAX_FRAME = MAX_READ + 64
"""Bytes of a frame."""
_ONE_DESCRIPTOR = socket.CMSG_LEN(array.array("i").itemsize)
"""Room for one descriptor, and not for the second that CMSG_SPACE would leave."""


class Kind(IntEnum):
    """What a frame is. Of the program's process: CALL, NOTE, REPLY; all others are the supervisor's."""

    CALL = 1
    """`CALL_FORM`: number, pc, six arguments."""
    NOTE = 2
    """Something was not answered: what, a zero byte, why."""
    REPLY = 3
    """`ERROR_FORM`, then the data."""
    READ = 4
    """`RANGE_FORM`: address, size."""
    WRITE = 5
    """The address, then the data."""
    TAKE = 6
    """`NUMBER_FORM`: the number of a descriptor, a copy of which is asked for."""
    FILE = 7
    """The name of a file below /proc/self."""
    VALUE = 8
    """The answer to the call, as it comes into RAX: `VALUE_FORM`."""
    CONTINUE = 9
    """The answer: the program's own kernel makes the call."""
    DESCRIPTOR = 10
    """The answer: a new descriptor. `DESCRIPTOR_FORM`: its number or -1, whether it closes on exec."""


CALL_FORM, ERROR_FORM, RANGE_FORM = struct.Struct("<8Q"), struct.Struct("<i"), struct.Struct("<QQ")
VALUE_FORM = ADDRESS_FORM = struct.Struct("<Q")
NUMBER_FORM, DESCRIPTOR_FORM = struct.Struct("<q"), struct.Struct("<q?")


class Frame(NamedTuple):
    """`fd` is the descriptor that came with it; -1: none."""

    kind: Kind
    data: bytes
    fd: int = -1


class Channel:
    """One end. All methods raise OSError if the other one has gone or does not speak as it should."""

    def __init__(self, end: socket.socket, patience: float | None = None) -> None:
        """`patience`: seconds that a frame may take; None: any."""
        self._end = end
        self._patience = patience
        end.settimeout(patience)

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self._end.fileno()

    def send(self, kind: Kind, data: bytes = b"", fd: int = -1) -> None:
        """Send a frame; with a copy of the descriptor `fd`."""
        rights = [] if fd < 0 else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        whole = _HEAD.pack(kind, len(data)) + data
        sent = self._end.sendmsg([whole], rights)
        if sent < len(whole):
            self._end.sendall(memoryview(whole)[sent:])

    def receive(self) -> Frame:
        """The next frame. EOFError if the other end is closed."""
        head, fd = self._head()
        try:
            kind, size = _HEAD.unpack(head)
            if size > _MAX_FRAME:
                raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
            return Frame(Kind(kind), self._exactly(size), fd)
        except (OSError, EOFError, ValueError) as error:
            if fd >= 0:
                os.close(fd)
            if isinstance(error, ValueError):
                raise OSError(errno.EPROTO, os.strerror(errno.EPROTO)) from None
            raise

    def _head(self) -> tuple[bytes, int]:
        data, rights, _flags, _address = self._end.recvmsg(_HEAD.size, _ONE_DESCRIPTOR)
        fd = -1
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fd = array.array("i", content)[0]
        if not data:
            raise EOFError
        return data + self._exactly(_HEAD.size - len(data)), fd

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        end = None if self._patience is None else time.monotonic() + self._patience
        while len(parts) < size:
            part = self._end.recv(size - len(parts))
            if not part:
                raise EOFError
            parts += part
            if end is not None and time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return bytes(parts)

    def hang_up(self) -> None:
        """Both ends see an end of file from now on."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The other end sees an end of file."""
        self._end.close()
