"""Reading, writing and duplicating descriptors, which are those of the process that runs the emulator."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import O_CLOEXEC, failed
from hybridbridge_vol.native.emulated.address_space import PROT_WRITE, AddressSpace
from hybridbridge_vol.native.emulated.local import (
    MAX_TRANSFER,
    Arguments,
    Descriptors,
    Handler,
    answers,
)

_MAX_PARTS = 1024  # UIO_MAXIOV, include/uapi/linux/uio.h
_FLOCK = 32
"""Bytes of a `struct flock`."""
_LOCKS = (5, 6, 7, 36, 37, 38)  # F_GETLK, F_SETLK, F_SETLKW, F_OFD_*
_DUPLICATES = {0: True, 1030: False}
"""F_DUPFD, F_DUPFD_CLOEXEC: whether the copy stays open."""
_GET_FD, _SET_FD, _GET_FLAGS, _SET_FLAGS, _PIPE_SIZE, _SEALS = 1, 2, 3, 4, 1032, 1034
_SETTABLE = os.O_NONBLOCK | os.O_APPEND
_STRUCTURES = {
    0x5401: 36, 0x5402: 36, 0x5403: 36, 0x5404: 36, 0x5405: 18, 0x5406: 18, 0x5407: 18, 0x5408: 18,
    0x540F: 4, 0x5410: 4, 0x5413: 8, 0x5414: 8, 0x541B: 4, 0x5421: 4, 0x5429: 4, 0x5452: 4, 0x80045430: 4,
}  # fmt: skip
"""ioctls of terminals with the size of what their argument leads to (include/uapi/asm-generic/ioctls.h)."""
_NUMBERS = (0x5409, 0x540A, 0x540B)  # TCSBRK, TCXONC, TCFLSH: the argument is a number
_KEPT_ON_EXEC = {0x5450: False, 0x5451: True}  # FIONCLEX, FIOCLEX
_CLOSE_RANGE_CLOEXEC = 4
_MEMFD_FLAGS = 3


class DescriptorCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, space: AddressSpace, descriptors: Descriptors) -> None:
        self._space = space
        self._number = descriptors.number
        self._end = descriptors.first_hidden
        self.handlers: dict[str, Handler] = {
            "read": lambda given: self._read(given, lambda fd, size: os.read(fd, size)),
            "pread64": lambda given: self._read(given, lambda fd, size: os.pread(fd, size, given[3])),
            "readv": lambda given: self._readv(given, lambda fd, size: os.read(fd, size)),
            "preadv": lambda given: self._readv(given, lambda fd, size: os.pread(fd, size, given[3])),
            "write": lambda given: self._write(given, os.write),
            "pwrite64": lambda given: self._write(given, lambda fd, data: os.pwrite(fd, data, given[3])),
            "writev": lambda given: self._writev(given, os.write),
            "pwritev": lambda given: self._writev(given, lambda fd, data: os.pwrite(fd, data, given[3])),
            "lseek": lambda given: os.lseek(self._number(given[0]), _signed64(given[1]), signed32(given[2])),
            "close": self._close,
            "close_range": self._close_range,
            "dup": lambda given: fcntl.fcntl(self._number(given[0]), fcntl.F_DUPFD, 0),
            "dup2": lambda given: self._dup2(given, True),
            "dup3": lambda given: self._dup2(given, not given[2] & O_CLOEXEC),
            "pipe": lambda given: self._pipe(given[0], 0),
            "pipe2": lambda given: self._pipe(given[0], given[1]),
            "fcntl": self._fcntl,
            "ioctl": self._ioctl,
            "memfd_create": self._memfd_create,
            "socketpair": self._socketpair,
            "sendto": lambda given: self._write(given, lambda fd, data: _send(fd, data, signed32(given[3]))),
            "recvfrom": lambda given: self._read(
                given, lambda fd, size: _receive(fd, size, signed32(given[3]))
            ),
            "flock": self._flock,
            "fsync": lambda given: self._sync(given, os.fsync),
            "fdatasync": lambda given: self._sync(given, os.fdatasync),
            "fadvise64": answers(0),
            "readahead": answers(0),
        }

    # --- reading and writing ------------------------------------------------------------------------------

    def _read(self, given: Arguments, read: Callable[[int, int], bytes]) -> int:
        fd, vaddr, size = self._number(given[0]), given[1], min(given[2], MAX_TRANSFER)
        room = self._space.extent(vaddr, size, PROT_WRITE)
        if size and not room:
            raise failed(errno.EFAULT)
        data = read(fd, room)
        self._space.write(vaddr, data)
        return len(data)

    def _parts(self, given: Arguments) -> list[tuple[int, int]]:
        """The parts of a vector, not more of them than one call transfers."""
        if signed32(given[2]) < 0 or given[2] > _MAX_PARTS:
            raise failed(errno.EINVAL)
        parts, total = [], 0
        raw = self._space.read_exactly(given[1], 16 * given[2])
        for vaddr, size in struct.iter_unpack("<QQ", raw):
            size = min(size, MAX_TRANSFER - total)
            total += size
            parts.append((vaddr, size))
        return parts

    def _readv(self, given: Arguments, read: Callable[[int, int], bytes]) -> int:
        fd, parts = self._number(given[0]), self._parts(given)
        for vaddr, size in parts:
            if self._space.extent(vaddr, size, PROT_WRITE) != size:
                raise failed(errno.EFAULT)
        data = read(fd, sum(size for _vaddr, size in parts))
        at = 0
        for vaddr, size in parts:
            self._space.write(vaddr, data[at : at + size])
            at += size
        return len(data)

    def _write(self, given: Arguments, write: Callable[[int, bytes], int]) -> int:
        fd = self._number(given[0])
        return write(fd, self._space.read(given[1], min(given[2], MAX_TRANSFER)))

    def _writev(self, given: Arguments, write: Callable[[int, bytes], int]) -> int:
        fd = self._number(given[0])
        return write(fd, b"".join(self._space.read_exactly(*part) for part in self._parts(given)))

    def _sync(self, given: Arguments, sync: Callable[[int], None]) -> int:
        sync(self._number(given[0]))
        return 0

    # --- descriptors --------------------------------------------------------------------------------------

    def _close(self, given: Arguments) -> int:
        os.close(self._number(given[0]))
        return 0

    def _close_range(self, given: Arguments) -> int:
        first, last, flags = (value & 0xFFFF_FFFF for value in given[:3])
        if last < first:
            raise failed(errno.EINVAL)
        if flags & _CLOSE_RANGE_CLOEXEC:
            return 0  # it executes nothing
        os.closerange(first, min(last + 1, self._end))
        return 0

    def _dup2(self, given: Arguments, stays_open: bool) -> int:
        return os.dup2(self._number(given[0]), self._number(given[1]), inheritable=stays_open)

    def _pipe(self, vaddr: int, flags: int) -> int:
        if self._space.extent(vaddr, 8, PROT_WRITE) != 8:
            raise failed(errno.EFAULT)
        ends = os.pipe2(flags & (O_CLOEXEC | os.O_NONBLOCK))
        self._space.write(vaddr, struct.pack("<ii", *ends))
        return 0

    def _socketpair(self, given: Arguments) -> int:
        """The filter lets unix sockets pass only."""
        if self._space.extent(given[3], 8, PROT_WRITE) != 8:
            raise failed(errno.EFAULT)
        one, other = socket.socketpair(socket.AF_UNIX, signed32(given[1]), signed32(given[2]))
        self._space.write(given[3], struct.pack("<ii", one.detach(), other.detach()))
        return 0

    def _memfd_create(self, given: Arguments) -> int:
        name = self._space.read(given[0], 250).partition(b"\0")[0]
        return os.memfd_create(os.fsdecode(name), given[1] & _MEMFD_FLAGS)

    def _flock(self, given: Arguments) -> int:
        fcntl.flock(self._number(given[0]), signed32(given[1]))
        return 0

    def _fcntl(self, given: Arguments) -> int:
        fd, command, argument = self._number(given[0]), given[1] & 0xFFFF_FFFF, given[2]
        if command in _DUPLICATES:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD, self._number(argument))
            os.set_inheritable(copy, _DUPLICATES[command])
            return copy
        if command in _LOCKS:
            lock = fcntl.fcntl(fd, command, self._space.read_exactly(argument, _FLOCK))
            self._space.write(argument, lock)
            return 0
        if command == _SET_FLAGS:
            before = fcntl.fcntl(fd, _GET_FLAGS)
            return fcntl.fcntl(fd, command, before & ~_SETTABLE | argument & _SETTABLE)
        if command in (_GET_FD, _SET_FD, _GET_FLAGS, _PIPE_SIZE, _SEALS):
            return fcntl.fcntl(fd, command, argument & 1)
        raise failed(errno.EINVAL)

    def _ioctl(self, given: Arguments) -> int:
        fd, command, argument = self._number(given[0]), given[1] & 0xFFFF_FFFF, given[2]
        if command in _KEPT_ON_EXEC:
            os.set_inheritable(fd, not _KEPT_ON_EXEC[command])
            return 0
        if command in _NUMBERS:
            return fcntl.ioctl(fd, command, signed32(argument))
        size = _STRUCTURES.get(command)
        if size is None:
            raise failed(errno.ENOTTY)
        given_bytes = self._space.read(argument, size).ljust(size, b"\0") if argument else bytes(size)
        answer = fcntl.ioctl(fd, command, given_bytes)
        if self._space.extent(argument, size, PROT_WRITE) == size:
            self._space.write(argument, answer)
        return 0


def _send(fd: int, data: bytes, flags: int) -> int:
    """Send to the other end of a pair: the supervisor lets none pass that has an address."""
    with socket.socket(fileno=os.dup(fd)) as end:
        return end.send(data, flags)


def _receive(fd: int, size: int, flags: int) -> bytes:
    with socket.socket(fileno=os.dup(fd)) as end:
        return end.recv(size, flags)


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
