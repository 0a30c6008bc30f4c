"""Sockets of the program's: each is one of the trusted kernel's, moved to the snapshot.

A call that is rolled back closes them. Each keeps what was set on it, so that it can be made again.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.inet_socket import open_inet_socket, socket_ioctl
from hybridbridge_vol.bridge.objects.netlink_socket import open_netlink_socket
from hybridbridge_vol.errors import AttachError, kernel_error
from hybridbridge_vol.guest.descriptors import Descriptor
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.netlink_requests import needed_for
from hybridbridge_vol.netlink.messages import HEADER, NLMSG_DONE, NLMSG_ERROR
from hybridbridge_vol.netlink.requests import NETLINK_SOCK_DIAG
from hybridbridge_vol.netlink.sock_diag import SOCK_DIAG_BY_FAMILY

_MSG_DONTWAIT, _MSG_PEEK, _MSG_TRUNC = 0x40, 0x2, 0x20
_MAX_REFUSALS = 64
_NLM_F_MULTI = 0x2
MAX_REPLAYED = 1 << 12
"""Calls on a socket that are made again when a call that was rolled back has closed it: the parts of a long
answer. What is left of a longer one is lost then."""
MAX_MESSAGE = 1 << 20
"""Bytes of one message."""
_HEADER = struct.Struct("<QI4xQQQQi4x")
"""struct msghdr: name, its size, iovecs, their number, control, its size, flags."""
_NAME_AT, _IOVEC_AT, _CONTROL_AT, _DATA_AT = 256, 512, 1024, 4096
_NAME_SIZE, _CONTROL_SIZE = 128, 512
_IFCONF, _MAX_IFCONF = 0x8912, 64 << 10
_REQUEST_AT = 64
"""Of ethtool's request, behind a `struct ifreq`."""


class Received:
    """A message: its bytes, its sender's address, control messages, flags (MSG_*)."""

    def __init__(self, size: int, data: bytes, name: bytes, control: bytes, flags: int) -> None:
        self.size, self.data, self.name, self.control, self.flags = size, data, name, control, flags


class ProgramSocket:
    """A socket. `ours` is the other end of the pair of which the program has one: that can be polled."""

    def __init__(self, session: Session, family: int, protocol: int, ours: socket.socket) -> None:
        self.family = family
        self.protocol = protocol
        self.ours = ours
        self.announced = False
        """Whether the program's end can be read, so that poll(2) says that there are messages."""
        self._refusals: list[bytes] = []
        self._session = session
        self._proxy = session.proxy
        self._descriptor: Descriptor | None = None
        self._set: list[Callable[[int], int]] = []
        self._open_requests: list[Callable[[int], object]] = []
        """What was sent and received since the last time that no answer was outstanding, the first
        `MAX_REPLAYED` calls."""
        self._outstanding = 0

    @property
    def is_netlink(self) -> bool:
        return self.family == socket.AF_NETLINK

    @property
    def has_hung_up(self) -> bool:
        """Whether the program has closed its end."""
        poll = select.poll()
        poll.register(self.ours, 0)
        return bool(poll.poll(0))

    @property
    def is_lost(self) -> bool:
        """Whether a call that was rolled back has closed the proxy task's descriptor."""
        return self._descriptor is not None and not self._descriptor.is_open

    def number(self) -> int:
        """The proxy task's descriptor, made again if a call that was rolled back has closed it. OSError."""
        if self._descriptor is None or not self._descriptor.is_open:
            caller = self._proxy.caller
            try:
                opened = (
                    open_netlink_socket(caller, self.protocol)
                    if self.is_netlink
                    else open_inet_socket(caller)
                )
            except AttachError as error:
                raise OSError(errno.EPROTONOSUPPORT, str(error)) from None
            self._descriptor = Descriptor(caller, opened)
            caller.opened_socket()
            for setting in self._set:
                setting(opened)
            for again in self._open_requests:
                again(opened)
        return self._descriptor.number

    def set(self, call: str, value: bytes, before: tuple[int, ...] = ()) -> int:
        """bind(2) or setsockopt(2). An address that the kernel chose is kept."""

        def setting(number: int, value: bytes = value) -> int:
            return self._proxy.raw(call, number, *before, self._proxy.buffer(value), len(value))

        answer = setting(self.number())
        if answer >= 0:
            self._set.append(partial(setting, value=self.name()) if call == "bind" else setting)
        return answer

    def name(self) -> bytes:
        """getsockname(2)."""
        number, vaddr = self.number(), self._proxy.buffer(bytes(_NAME_AT) + struct.pack("<i", _NAME_SIZE))
        self._proxy.checked("getsockname", "getsockname", number, vaddr, vaddr + _NAME_AT)
        data = self._proxy.answer("getsockname", _NAME_AT + 4)
        return data[: min(struct.unpack_from("<i", data, _NAME_AT)[0], _NAME_SIZE)]

    def send(self, message: bytes) -> int:
        """A request. The module that answers it is added first, if the snapshot has not loaded it."""
        self._need_modules(message)
        number = self.number()
        sent = self._send(message, number)
        self._outstanding += len(_messages(message))
        self._keep(partial(self._send, message))
        return sent

    def _keep(self, call: Callable[[int], object]) -> None:
        if len(self._open_requests) < MAX_REPLAYED:
            self._open_requests.append(call)

    def _send(self, message: bytes, number: int) -> int:
        vaddr = self._proxy.buffer(message)
        return self._proxy.checked("netlink", "sendto", number, vaddr, len(message), 0, 0, 0)

    def _need_modules(self, message: bytes) -> None:
        if self.protocol == NETLINK_SOCK_DIAG:
            if len(message) >= 18 and struct.unpack_from("<H", message, 4)[0] == SOCK_DIAG_BY_FAMILY:
                self._session.sockets.need(message[16], message[17])
        elif (request := needed_for(self.protocol, message)) is not None:
            self._session.netlink.prepare(request)

    def refuse(self, message: bytes) -> int:
        """Answer a request as a kernel does that does not permit it: NLMSG_ERROR with the request's head."""
        if len(self._refusals) >= _MAX_REFUSALS:
            raise failed(errno.ENOBUFS)
        _size, _kind, _flags, sequence, port = HEADER.unpack_from(message)
        body = struct.pack("<i", -errno.EPERM) + message[: HEADER.size]
        head = HEADER.pack(HEADER.size + len(body), NLMSG_ERROR, 0, sequence, port or self._port())
        self._refusals.append(head + body)
        return len(message)

    def _port(self) -> int:
        return int(struct.unpack_from("<I", self.name().ljust(8, b"\0"), 4)[0])

    def receive(self, size: int, flags: int) -> Received:
        """recvmsg(2), without waiting. OSError EAGAIN if there is no message."""
        size = min(size, MAX_MESSAGE)
        if self._refusals:
            data = self._refusals[0] if flags & _MSG_PEEK else self._refusals.pop(0)
            return Received(len(data), data[:size], struct.pack("<HHII", socket.AF_NETLINK, 0, 0, 0), b"", 0)
        number = self.number()
        try:
            received = self._receive(size, flags, number)
        except BlockingIOError:
            self._settle(self._outstanding)
            raise
        if not flags & _MSG_PEEK:
            self._keep(partial(self._receive, size, flags))
            self._settle(sum(map(_ends_an_answer, _messages(received.data))))
        return received

    def _settle(self, answers: int) -> None:
        """So many requests are answered; when none is left, nothing has to be made again."""
        self._outstanding = max(self._outstanding - answers, 0)
        if not self._outstanding:
            self._open_requests.clear()

    def _receive(self, size: int, flags: int, number: int) -> Received:
        vaddr = self._proxy.buffer()
        header = _HEADER.pack(
            vaddr + _NAME_AT, _NAME_SIZE, vaddr + _IOVEC_AT, 1, vaddr + _CONTROL_AT, _CONTROL_SIZE, 0
        )
        iovec = struct.pack("<QQ", vaddr + _DATA_AT, size)
        self._proxy.buffer(header.ljust(_IOVEC_AT, b"\0") + iovec)
        flags = flags & (_MSG_PEEK | _MSG_TRUNC) | _MSG_DONTWAIT
        count = self._proxy.checked("netlink", "recvmsg", number, vaddr, flags)
        data = self._proxy.answer("netlink", _DATA_AT + min(count, size))
        _name, name_size, _iovecs, _count, _control, control_size, out = _HEADER.unpack_from(data)
        return Received(
            count,
            data[_DATA_AT:],
            data[_NAME_AT : _NAME_AT + min(name_size, _NAME_SIZE)],
            data[_CONTROL_AT : _CONTROL_AT + min(control_size, _CONTROL_SIZE)],
            out & ~_MSG_DONTWAIT,
        )

    def ioctl(self, command: int, argument: bytes) -> bytes:
        """A question of netdevice(7); its argument afterwards. OSError."""
        number, vaddr = self.number(), self._proxy.buffer(argument)
        self._ioctl(number, command, vaddr)
        return self._proxy.answer("ioctl", len(argument))

    def ethtool(self, command: int, name: bytes, request: bytes) -> bytes:
        """SIOCETHTOOL about an interface; its request afterwards. OSError."""
        number, vaddr = self.number(), self._proxy.buffer()
        question = struct.pack("<16sQ", name, vaddr + _REQUEST_AT).ljust(_REQUEST_AT, b"\0")
        self._proxy.buffer(question + request)
        self._ioctl(number, command, vaddr)
        return self._proxy.answer("ioctl", _REQUEST_AT + len(request))[_REQUEST_AT:]

    def interfaces(self, room: int | None) -> bytes:
        """SIOCGIFCONF: `struct ifreq`s, as many as there is room for; None: only their size."""
        room_given = _MAX_IFCONF if room is None else min(room, _MAX_IFCONF)
        number, vaddr = self.number(), self._proxy.buffer()
        request = struct.pack("<i4xQ", room_given, 0 if room is None else vaddr + _NAME_AT)
        self._proxy.buffer(request)
        self._ioctl(number, _IFCONF, vaddr)
        data = self._proxy.answer("ioctl", _NAME_AT + room_given)
        size = min(max(struct.unpack_from("<i", data)[0], 0), room_given)
        return bytes(size) if room is None else data[_NAME_AT : _NAME_AT + size]

    def _ioctl(self, number: int, command: int, vaddr: int) -> None:
        answer = socket_ioctl(self._proxy.caller, number, command, vaddr)
        if answer < 0:
            raise kernel_error(answer)

    def close(self) -> None:
        self.ours.close()


class _Message(NamedTuple):
    """The head of a message of netlink: its NLMSG_* or the family's own kind, and its NLM_F_*."""

    kind: int
    flags: int


def _messages(data: bytes) -> list[_Message]:
    """The messages in what one call sends or receives."""
    found, at = [], 0
    while at + HEADER.size <= len(data):
        size, kind, flags, _sequence, _port = HEADER.unpack_from(data, at)
        found.append(_Message(kind, flags))
        at += max(size + 3 & ~3, HEADER.size)
    return found


def _ends_an_answer(message: _Message) -> bool:
    """Whether nothing follows: it ends a list, is an error or an acknowledgement, or stands alone."""
    return message.kind in (NLMSG_DONE, NLMSG_ERROR) or not message.flags & _NLM_F_MULTI
