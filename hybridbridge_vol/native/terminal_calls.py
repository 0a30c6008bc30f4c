"""Writing to the examiner's terminal."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.notifications import Answer, Call, Special
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.terminal import TerminalText

_MAX_WRITE = 64 << 10
"""Bytes of one write that are taken; the program writes the rest again."""
_MAX_PARTS = 1024  # UIO_MAXIOV, include/uapi/linux/uio.h
_MEM_MAJOR = 1  # Documentation/admin-guide/devices.txt


class TerminalCalls:
    """`handlers`: of the calls that the filter hands over where standard output or error is a terminal."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._text = TerminalText()
        self.handlers: dict[str, Callable[[Call], Answer]] = {"write": self._write, "writev": self._writev}

    def _write(self, call: Call) -> Answer:
        number = signed32(call.arguments[0])
        if not _is_terminal(call.tid, number):
            return Special.CONTINUE
        data = call.memory.read(call.arguments[1], min(call.arguments[2], _MAX_WRITE))
        return self._put(call, number, data)

    def _writev(self, call: Call) -> Answer:
        """Its first part that is not empty: a program writes the rest again."""
        number = signed32(call.arguments[0])
        if not _is_terminal(call.tid, number):
            return Special.CONTINUE
        for part in range(min(call.arguments[2], _MAX_PARTS)):
            raw = call.memory.read_exactly(call.arguments[1] + 16 * part, 16)
            vaddr, size = (int.from_bytes(raw[at : at + 8], "little") for at in (0, 8))
            if size:
                return self._put(call, number, call.memory.read(vaddr, min(size, _MAX_WRITE)))
        return 0

    def _put(self, call: Call, number: int, data: bytes) -> Answer:
        shown = data if self._text.is_clean(data) else self._text.shown(data)
        fd = self._processes.take(call.tid, number)
        try:
            view = memoryview(shown)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        return len(data)


def _is_terminal(tid: int, number: int) -> bool:
    """Whether a descriptor may be a terminal's: a character device, but /dev/null and its like."""
    try:
        found = os.stat(f"/proc/{tid}/fd/{number}")
    except OSError:
        raise failed(errno.EBADF) from None
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) != _MEM_MAJOR
