"""epoll(7), by the C library's functions: the program's structures are copied, never passed on."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import O_CLOEXEC, failed
from hybridbridge_vol.native.emulated.address_space import AddressSpace
from hybridbridge_vol.native.emulated.local import Arguments, Descriptors, Handler

_EVENT = struct.Struct("<IQ")
"""struct epoll_event of x86-64, which is packed (include/uapi/linux/eventpoll.h)."""
_DELETE = 2
_MAX_EVENTS = 1024


class _HostEvent(ctypes.Structure):
    _pack_ = 1 if os.uname().machine == "x86_64" else 8
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


class EpollCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, space: AddressSpace, descriptors: Descriptors) -> None:
        self._space = space
        self._number = descriptors.number
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.handlers: dict[str, Handler] = {
            "epoll_create": lambda _given: self._create(0),
            "epoll_create1": lambda given: self._create(given[0]),
            "epoll_ctl": self._control,
            "epoll_wait": self._wait,
            "epoll_pwait": self._wait,
        }

    def _checked(self, answer: int) -> int:
        if answer < 0:
            raise failed(ctypes.get_errno())
        return answer

    def _create(self, flags: int) -> int:
        return self._checked(self._libc.epoll_create1(flags & O_CLOEXEC))

    def _control(self, given: Arguments) -> int:
        queue, number = self._number(given[0]), self._number(given[2])
        operation = signed32(given[1])
        asked = (
            (0, 0) if operation == _DELETE else _EVENT.unpack(self._space.read_exactly(given[3], _EVENT.size))
        )
        event = _HostEvent(*asked)
        return self._checked(self._libc.epoll_ctl(queue, operation, number, ctypes.byref(event)))

    def _wait(self, given: Arguments) -> int:
        queue, count = self._number(given[0]), signed32(given[2])
        if count <= 0:
            raise failed(errno.EINVAL)
        events = (_HostEvent * min(count, _MAX_EVENTS))()
        found = self._checked(self._libc.epoll_wait(queue, events, len(events), signed32(given[3])))
        data = b"".join(_EVENT.pack(event.events, event.data) for event in events[:found])
        self._space.write(given[1], data)
        return found
