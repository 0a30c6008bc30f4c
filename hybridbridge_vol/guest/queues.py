"""Data that was sent and that nobody has read yet: in sockets, pipes, terminals and message queues.

It is received by the kernel's own code: from a copy of the descriptor that a process holds (as
pidfd_getfd(2) makes it), peeked at where there is a way to peek, else read. What reading takes away is there
again afterwards: the session goes back to before.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.all_files import GuestFiles
from hybridbridge_vol.guest.held_sockets import HeldSockets
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, ProxyCalls
from hybridbridge_vol.guest.queued_together import (
    FIONREAD,
    MSG_DONTWAIT,
    MSG_PEEK,
    NOTHING,
    SO_PEEK_OFF,
    SOL_SOCKET,
    QueuedTogether,
)
from hybridbridge_vol.guest.values import QueuedMessage, QueueEnd

MAX_MESSAGES, MAX_SIZE = 4096, 1 << 20
"""Messages of one queue, and bytes that one read asks for."""
MAX_EMPTY = 64
"""Messages without content that are taken for such in a row: the end of a socket looks alike."""
_SO_TYPE, _SOCK_STREAM, _SOCK_DGRAM = 3, 1, 2
_IPC_NOWAIT, _MSG_NOERROR = 0o4000, 0o10000
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
        self._expected: dict[tuple[int, int], list[QueuedMessage]] = {}

    def expect(self, ends: Sequence[QueueEnd]) -> None:
        """See `guest.kernel_objects.Queues`."""
        self._expected = QueuedTogether(self._proxy, self._files.of_the_kernel).ask(ends)

    def of_descriptor(self, pid: int, fd: int, is_socket: bool) -> list[QueuedMessage]:
        """See `guest.kernel_objects.Queues`."""
        expected = self._expected.get((pid, fd))
        if expected is not None:
            return expected
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
        return self._proxy.raw("setsockopt", copy, SOL_SOCKET, SO_PEEK_OFF, offset, 4, side="twin") == 0

    def _of_socket(self, source: str, copy: int, moves: bool) -> Iterator[QueuedMessage]:
        """A datagram without content is answered as the end of a stream is: 0. The end does not go away, and
        of datagrams the next one is answered then."""
        kind, empty = self._type_of(copy) if moves else _SOCK_STREAM, 0
        for number in range(MAX_MESSAGES):
            count = self._look(copy)
            if not number and -count in _PENDING:  # reported once (include/net/sock.h, `sock_error`)
                count = self._look(copy)
            if not count and kind != _SOCK_STREAM and empty < MAX_EMPTY:
                empty += 1
                continue
            if count:
                yield from [QueuedMessage(None, b"")] * empty
            elif kind == _SOCK_DGRAM:
                reason = f"{MAX_EMPTY} messages without content, or its end: what may follow is not read"
                raise OSError(errno.EIO, reason, source)
            if count <= 0:
                self._check(source, count)
                return
            empty = 0
            yield QueuedMessage(None, self._proxy.caller.get(BUFFER_AT, min(count, MAX_SIZE)))
            if not moves:
                return

    def _look(self, copy: int) -> int:
        """Read into the buffer, and take nothing away."""
        flags = MSG_PEEK | MSG_DONTWAIT
        return self._proxy.raw("recvfrom", copy, self._proxy.buffer(), MAX_SIZE, flags, 0, 0, side="twin")

    def _type_of(self, copy: int) -> int:
        """SOCK_STREAM, SOCK_DGRAM ...; SOCK_STREAM as well where the kernel does not say it."""
        buffer = self._proxy.buffer(struct.pack("<ii", 0, 4))
        answer = self._proxy.raw("getsockopt", copy, SOL_SOCKET, _SO_TYPE, buffer, buffer + 4, side="twin")
        return _SOCK_STREAM if answer else int.from_bytes(self._proxy.caller.get(BUFFER_AT, 4), "little")

    def _of_stream(self, source: str, copy: int) -> Iterator[QueuedMessage]:
        buffer = self._proxy.buffer(bytes(4))
        answer = self._proxy.raw("ioctl", copy, FIONREAD, buffer, side="twin")
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
        if answer < 0 and -answer not in NOTHING:
            raise OSError(-answer, os.strerror(-answer), source)
