"""Data that was sent and that nobody has read yet: in sockets, pipes, terminals and message queues.

It is received by the kernel's own code: from a copy of the descriptor that a process holds (as
pidfd_getfd(2) makes it), peeked at where there is a way to peek, else read. What reading takes away is there
again afterwards: the session goes back to before.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.all_files import GuestFiles
from hybridbridge_vol.guest.held_sockets import HeldSockets
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, ProxyCalls
from hybridbridge_vol.guest.values import QueuedMessage

MAX_MESSAGES, MAX_SIZE = 4096, 1 << 20
"""Messages of one queue, and bytes that one read asks for."""
_FIONREAD = 0x541B  # include/uapi/asm-generic/ioctls.h
_MSG_PEEK, _MSG_DONTWAIT = 0x2, 0x40
_SOL_SOCKET, _SO_PEEK_OFF = 1, 42
_IPC_NOWAIT, _MSG_NOERROR = 0o4000, 0o10000
_NOTHING = (
    errno.EAGAIN, errno.ENOTCONN, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.ENOTTY, errno.EIO,
    errno.EADDRNOTAVAIL, errno.ENXIO,
)  # fmt: skip
"""What a kernel says of an end from which nothing can be read: none is there, it listens, it is for writing,
its other end is gone, it has no address (of CAN ISO-TP, QRTR and XDP: net/can/isotp.c, net/qrtr/af_qrtr.c,
net/xdp/xsk.c)."""
_PENDING = (
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EPIPE,
    errno.EPROTO, errno.ENOBUFS, errno.ENETDOWN, errno.EHOSTDOWN,
)  # fmt: skip
"""Errors that wait in a socket to be reported to who asks next."""
_ATTRIBUTES = struct.Struct("<8q")
_PRIORITY_AT = 2 * MAX_SIZE


class SnapshotQueues:
    """Implements `guest.kernel_objects.Queues`."""

    def __init__(self, proxy: ProxyCalls, files: GuestFiles) -> None:
        self._proxy = proxy
        self._files = files

    def of_descriptor(self, pid: int, fd: int, is_socket: bool) -> list[QueuedMessage]:
        """See `guest.kernel_objects.Queues`."""
        source = f"/proc/{pid}/fd/{fd}"
        try:
            copy = HeldSockets(self._proxy).copy(pid, fd)
            if not is_socket:
                return list(self._of_stream(source, copy))
            try:
                return list(self._of_socket(source, copy, self._peeks_on(copy)))
            except CallRolledBack:  # and with it the copy: only the first message, without an option
                copy = HeldSockets(self._proxy).copy(pid, fd)
                return list(self._of_socket(source, copy, moves=False))
        finally:
            self._proxy.caller.roll_back()

    def _peeks_on(self, copy: int) -> bool:
        """Have each look at a socket begin where the one before ended; whether it can."""
        offset = self._proxy.buffer(struct.pack("<i", 0))
        return self._proxy.raw("setsockopt", copy, _SOL_SOCKET, _SO_PEEK_OFF, offset, 4, side="twin") == 0

    def _of_socket(self, source: str, copy: int, moves: bool) -> Iterator[QueuedMessage]:
        for number in range(MAX_MESSAGES):
            buffer, flags = self._proxy.buffer(), _MSG_PEEK | _MSG_DONTWAIT
            count = self._proxy.raw("recvfrom", copy, buffer, MAX_SIZE, flags, 0, 0, side="twin")
            if not number and -count in _PENDING:  # reported once (include/net/sock.h, `sock_error`)
                count = self._proxy.raw("recvfrom", copy, buffer, MAX_SIZE, flags, 0, 0, side="twin")
            if count <= 0:
                self._check(source, count)
                return
            yield QueuedMessage(None, self._proxy.caller.get(BUFFER_AT, min(count, MAX_SIZE)))
            if not moves:
                return

    def _of_stream(self, source: str, copy: int) -> Iterator[QueuedMessage]:
        buffer = self._proxy.buffer(bytes(4))
        answer = self._proxy.raw("ioctl", copy, _FIONREAD, buffer, side="twin")
        waiting = int.from_bytes(self._proxy.caller.get(BUFFER_AT, 4), "little")
        if answer < 0 or not waiting:
            self._check(source, answer)
            return
        size = min(waiting, MAX_SIZE)  # no more: a read that asks for more may wait
        count = self._proxy.raw("read", copy, self._proxy.buffer(), size, side="twin")
        self._check(source, count)
        if count > 0:
            yield QueuedMessage(None, self._proxy.caller.get(BUFFER_AT, min(count, size)))

    def system_v(self, identifier: int, count: int) -> list[QueuedMessage]:
        """See `guest.kernel_objects.Queues`."""
        source, found = f"msgrcv {identifier}", []
        # not MSG_COPY: from Linux 6.11 on it allocates from caches of its own (ipc/msgutil.c, `msg_buckets`)
        flags = _IPC_NOWAIT | _MSG_NOERROR
        try:
            for _ in range(min(count, MAX_MESSAGES)):
                buffer = self._proxy.buffer()
                size = self._proxy.checked(
                    source, "msgrcv", identifier, buffer, MAX_SIZE, 0, flags, side="twin"
                )
                data = self._proxy.caller.get(BUFFER_AT, 8 + min(size, MAX_SIZE))
                found.append(QueuedMessage(int.from_bytes(data[:8], "little"), data[8:]))
        finally:
            self._proxy.caller.roll_back()
        return found

    def posix(self, path: str) -> list[QueuedMessage]:
        """See `guest.kernel_objects.Queues`."""
        found: list[QueuedMessage] = []
        try:
            with self._files.open(path) as file:
                buffer = self._proxy.buffer(bytes(_ATTRIBUTES.size))
                self._proxy.checked(path, "mq_getsetattr", file.number, 0, buffer, side="twin")
                _flags, _most, size, count, *_rest = _ATTRIBUTES.unpack(
                    self._proxy.caller.get(BUFFER_AT, _ATTRIBUTES.size)
                )
                for _ in range(min(count, MAX_MESSAGES)):
                    buffer = self._proxy.buffer()
                    answer = self._proxy.checked(
                        path, "mq_timedreceive", file.number, buffer, min(size, MAX_SIZE),
                        buffer + _PRIORITY_AT, 0, side="twin",
                    )  # fmt: skip
                    priority = self._proxy.caller.get(BUFFER_AT + _PRIORITY_AT, 4)
                    data = self._proxy.caller.get(BUFFER_AT, min(answer, MAX_SIZE))
                    found.append(QueuedMessage(int.from_bytes(priority, "little"), data))
        finally:
            self._proxy.caller.roll_back()
        return found

    @staticmethod
    def _check(source: str, answer: int) -> None:
        if answer < 0 and -answer not in _NOTHING:
            raise OSError(-answer, os.strerror(-answer), source)
