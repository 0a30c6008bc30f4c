"""System calls on sockets: netlink requests that ask, and the ioctls of netdevice(7). Nothing else: there is
no network."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native import interface_calls
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.namespace_calls import NamespaceCalls
from hybridbridge_vol.native.namespace_ids import named_there
from hybridbridge_vol.native.netlink_requests import only_asks
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor, Special
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.program_memory import MAX_READ
from hybridbridge_vol.native.sockets import ProgramSocket, Received
from hybridbridge_vol.netlink.generic import FAMILIES, family_names
from hybridbridge_vol.netlink.requests import NETLINK_ROUTE

_SOCK_TYPE = 0xF
_MAX_IOVECS = 64
_MSG_DONTWAIT = 0x40
_SOL_SOCKET, _SOL_NETLINK = 1, 270
_SO_TYPE, _SO_ERROR, _SO_SNDBUF, _SO_RCVBUF, _SO_PROTOCOL, _SO_DOMAIN = 3, 4, 7, 8, 38, 39
_FILTER_LEVELS: dict[int, int] = {socket.AF_INET: socket.SOL_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
_FIRST_FILTER_OPTION = 64
"""IPT_BASE_CTL, IP6T_BASE_CTL: include/uapi/linux/netfilter_ipv4/ip_tables.h."""
_BUFFER = 212992  # net.core.rmem_default
MAX_SOCKETS = 128


class SocketCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, answers: Answers, processes: Processes, namespaces: NamespaceCalls) -> None:
        self._answers = answers
        self._session = answers.session
        self._namespaces = namespaces
        self._processes = processes
        self._sockets: dict[tuple[int, int], ProgramSocket] = {}
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "socket": self._socket,
            "bind": self._bind,
            "connect": self._connect,
            "getsockname": self._getsockname,
            "getpeername": self._getpeername,
            "setsockopt": self._setsockopt,
            "getsockopt": self._getsockopt,
            "sendto": self._sendto,
            "sendmsg": self._sendmsg,
            "recvfrom": self._recvfrom,
            "recvmsg": self._recvmsg,
            "ioctl": self._ioctl,
        }

    def _behind(self, call: Call) -> ProgramSocket | None:
        """The socket behind the first argument; None if it is another descriptor."""
        try:
            found = os.stat(f"/proc/{call.tid}/fd/{signed32(call.arguments[0])}")
        except OSError:
            raise failed(errno.EBADF) from None
        return self._sockets.get((found.st_dev, found.st_ino))

    def _netlink(self, call: Call) -> ProgramSocket:
        found = self._behind(call)
        if found is None or not found.is_netlink:
            raise failed(errno.EACCES)
        return found

    # --- making and naming --------------------------------------------------------------------------------

    def _socket(self, call: Call) -> Answer:
        family, kind, protocol = (value & 0xFFFF_FFFF for value in call.arguments[:3])
        if family not in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            raise failed(errno.EAFNOSUPPORT)
        only_asked = kind & _SOCK_TYPE in (socket.SOCK_DGRAM, socket.SOCK_STREAM)  # by ioctls
        asks_filters = (kind & _SOCK_TYPE, protocol) == (socket.SOCK_RAW, socket.IPPROTO_RAW)
        if family != socket.AF_NETLINK and not only_asked and not asks_filters:
            raise failed(errno.EACCES)
        if len(self._sockets) >= MAX_SOCKETS:
            self._forget_closed()
        self._renew()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | kind & socket.SOCK_NONBLOCK)
        try:
            made = ProgramSocket(self._session, family, protocol, ours)
            made.number()
            found = os.fstat(theirs.fileno())
            self._sockets[found.st_dev, found.st_ino] = made
            return NewDescriptor(os.dup(theirs.fileno()), bool(kind & socket.SOCK_CLOEXEC))
        finally:
            theirs.close()

    def _renew(self) -> None:
        """Make the sockets again that a call which was rolled back has closed, before another socket can take
        their addresses."""
        if any(known.is_lost for known in self._sockets.values()):
            self._forget_hung_up()
            for known in self._sockets.values():
                with contextlib.suppress(OSError, CallRolledBack):  # said when it is used
                    self._answers.with_devices(known.number)

    def _forget_closed(self) -> None:
        """Let those go that the program has closed. OSError EMFILE if too many are left."""
        self._forget_hung_up()
        if len(self._sockets) >= MAX_SOCKETS:
            raise failed(errno.EMFILE)

    def _forget_hung_up(self) -> None:
        """Sockets that the program has closed: their other end has no peer any more."""
        for key, known in list(self._sockets.items()):
            if known.has_hung_up:
                known.close()
                del self._sockets[key]

    def _bind(self, call: Call) -> Answer:
        self._renew()
        address = call.memory.read_exactly(call.arguments[1], min(call.arguments[2] & 0xFFFF_FFFF, 128))
        return self._netlink(call).set("bind", address)

    def _connect(self, call: Call) -> Answer:
        found = self._behind(call)
        if found is None or not found.is_netlink:
            raise failed(errno.ENETUNREACH)
        return 0  # to the kernel, whom everything is sent to

    def _getsockname(self, call: Call) -> Answer:
        name = self._netlink(call).name()
        room = struct.unpack("<i", call.memory.read_exactly(call.arguments[2], 4))[0]
        call.memory.write(call.arguments[1], name[: max(room, 0)])
        call.memory.write(call.arguments[2], struct.pack("<i", len(name)))
        return 0

    def _getpeername(self, call: Call) -> Answer:
        self._behind(call)
        raise failed(errno.ENOTCONN)

    def _setsockopt(self, call: Call) -> Answer:
        found = self._behind(call)
        level, option, pointer, size = (value & 0xFFFF_FFFF_FFFF_FFFF for value in call.arguments[1:5])
        if found is None:
            raise failed(errno.ENOTSOCK)
        if level != _SOL_NETLINK or not found.is_netlink:
            return 0
        value = call.memory.read_exactly(pointer, min(size & 0xFFFF_FFFF, 64))
        return found.set("setsockopt", value, (level, option))

    def _getsockopt(self, call: Call) -> Answer:
        found = self._behind(call)
        if found is None:
            raise failed(errno.ENOTSOCK)
        if call.arguments[1] & 0xFFFF_FFFF == _FILTER_LEVELS.get(found.family):
            return self._filter_option(call, found)
        values = {
            _SO_TYPE: socket.SOCK_RAW if found.is_netlink else socket.SOCK_DGRAM, _SO_ERROR: 0,
            _SO_SNDBUF: _BUFFER, _SO_RCVBUF: _BUFFER, _SO_PROTOCOL: found.protocol, _SO_DOMAIN: found.family,
        }  # fmt: skip
        value = values.get(call.arguments[2] & 0xFFFF_FFFF)
        if call.arguments[1] & 0xFFFF_FFFF != _SOL_SOCKET or value is None:
            raise failed(errno.ENOPROTOOPT)
        call.memory.write(call.arguments[3], struct.pack("<i", value))
        call.memory.write(call.arguments[4], struct.pack("<i", 4))
        return 0

    def _filter_option(self, call: Call, found: ProgramSocket) -> Answer:
        """A question of iptables or ip6tables, whose buffer says what is asked for."""
        option = call.arguments[2] & 0xFFFF_FFFF
        if option < _FIRST_FILTER_OPTION:
            raise failed(errno.ENOPROTOOPT)
        size = struct.unpack("<I", call.memory.read_exactly(call.arguments[4], 4))[0]
        content = call.memory.read_exactly(call.arguments[3], size)
        data = self._session.packet_tables.option(found.family, option, content, size)
        call.memory.write(call.arguments[3], data)
        call.memory.write(call.arguments[4], struct.pack("<I", len(data)))
        return 0

    # --- messages -----------------------------------------------------------------------------------------

    def _sendto(self, call: Call) -> Answer:
        found = self._behind(call)
        if found is None:  # one of a pair of its own: without an address it can lead nowhere else
            if call.arguments[4]:
                raise failed(errno.EACCES)
            return Special.CONTINUE
        size = min(call.arguments[2], MAX_READ)
        return self._request(call, found, call.memory.read_exactly(call.arguments[1], size))

    def _sendmsg(self, call: Call) -> Answer:
        found = self._netlink(call)
        _name, _size, iovecs, count, *_rest = self._header(call)
        return self._request(call, found, b"".join(self._gather(call, iovecs, count)))

    def _request(self, call: Call, found: ProgramSocket, message: bytes) -> int:
        if not found.is_netlink:
            raise failed(errno.ENETUNREACH)
        self._renew()
        refused = len(message) >= 16 and not only_asks(found.protocol, message, self._families)
        sent = found.refuse(message) if refused else self._sent(call, found, message)
        if not found.announced:
            found.announced = True
            with contextlib.suppress(BlockingIOError):
                found.ours.send(b"\0", _MSG_DONTWAIT)
        return sent

    def _sent(self, call: Call, found: ProgramSocket, message: bytes) -> int:
        if found.protocol != NETLINK_ROUTE:
            return self._answers.with_devices(lambda: found.send(message))
        with named_there(message, self._answers, call.tid) as named:
            return self._answers.with_devices(lambda: found.send(named))

    def _families(self) -> dict[int, bytes]:
        return family_names(self._session.netlink.dump(FAMILIES))

    def _header(self, call: Call) -> tuple[int, ...]:
        data = call.memory.read_exactly(call.arguments[1], 56)
        return struct.unpack("<QI4xQQQQi4x", data)

    def _gather(self, call: Call, iovecs: int, count: int) -> list[bytes]:
        parts, total = [], 0
        for vaddr, size in self._iovecs(call, iovecs, count):
            total += size
            if total > MAX_READ:
                raise failed(errno.EMSGSIZE)
            parts.append(call.memory.read_exactly(vaddr, size))
        return parts

    def _iovecs(self, call: Call, vaddr: int, count: int) -> list[tuple[int, int]]:
        if count > _MAX_IOVECS:
            raise failed(errno.EMSGSIZE)
        return list(struct.iter_unpack("<QQ", call.memory.read_exactly(vaddr, 16 * count)))

    def _take_written(self, call: Call, found: ProgramSocket) -> None:
        """Send the requests that a program has written with write(2), as busybox does: its own kernel has put
        them into the pair."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while found.is_netlink and (message := found.ours.recv(MAX_READ, _MSG_DONTWAIT)):
                self._request(call, found, message)

    def _received(self, call: Call, found: ProgramSocket, size: int, flags: int) -> Received | None:
        self._take_written(call, found)
        try:
            return self._answers.with_devices(lambda: found.receive(size, flags))
        except BlockingIOError:
            fd = self._processes.take(call.tid, signed32(call.arguments[0]))
            try:
                waits = not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK and not flags & _MSG_DONTWAIT
                if found.announced:
                    found.announced = False
                    _take_announcement(fd)
            finally:
                os.close(fd)
            if waits:
                return None  # nothing will ever come
            raise

    def _recvfrom(self, call: Call) -> Answer:
        found = self._behind(call)
        if found is None:
            return Special.CONTINUE
        if not found.is_netlink:
            raise failed(errno.EAGAIN)
        got = self._received(call, found, call.arguments[2], call.arguments[3])
        if got is None:
            return 0
        call.memory.write(call.arguments[1], got.data[: call.arguments[2]])
        if call.arguments[4] and call.arguments[5]:
            room = struct.unpack("<i", call.memory.read_exactly(call.arguments[5], 4))[0]
            call.memory.write(call.arguments[4], got.name[: max(room, 0)])
            call.memory.write(call.arguments[5], struct.pack("<i", len(got.name)))
        return got.size

    def _recvmsg(self, call: Call) -> Answer:
        found = self._behind(call)
        if found is None:
            return Special.CONTINUE
        if not found.is_netlink:
            raise failed(errno.EAGAIN)
        name, name_room, iovecs, count, control, control_room, _flags = self._header(call)
        parts = self._iovecs(call, iovecs, count)
        got = self._received(call, found, sum(size for _vaddr, size in parts), call.arguments[2])
        if got is None:
            return 0
        at = 0
        for vaddr, size in parts:
            call.memory.write(vaddr, got.data[at : at + size])
            at += size
        if name:
            call.memory.write(name, got.name[:name_room])
            call.memory.write(call.arguments[1] + 8, struct.pack("<I", len(got.name)))
        told = got.control[:control_room] if control else b""
        if told:
            call.memory.write(control, told)
        call.memory.write(call.arguments[1] + 40, struct.pack("<Qi", len(told), got.flags))
        return got.size

    # --- ioctls -------------------------------------------------------------------------------------------

    def _ioctl(self, call: Call) -> Answer:
        answer = self._namespaces.ioctl(call)
        return interface_calls.ask(self._answers, call, self._behind(call)) if answer is None else answer

    def close(self) -> None:
        """Let all of them go: the snapshot's tables forget them."""
        if self._sockets:
            self._session.proxy.caller.roll_back()
        for known in self._sockets.values():
            known.close()
        self._sockets.clear()


def _take_announcement(fd: int) -> None:
    """Read what was announced on the program's end, unless the program has."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as theirs:
        theirs.recv(1, _MSG_DONTWAIT)
