"""What waits in many pipes and sockets, asked in few programs (bridge/run/descriptor_calls.py).

Of most ends the answer is that nothing waits. Where that is certain, and where a pipe's data is little, the
answer is taken from a program; all else (an error, a socket that has something, code without a memo) is left
out, and is to be asked singly. What the programs change is rolled back once, at their end.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from functools import partial

from hybridbridge_vol.bridge.run.descriptor_calls import Called, DescriptorCall
from hybridbridge_vol.errors import BootError, CallRolledBack
from hybridbridge_vol.guest.files import SnapshotFiles
from hybridbridge_vol.guest.held_sockets import HeldSockets
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import QueuedMessage, QueueEnd

FIONREAD = 0x541B  # include/uapi/asm-generic/ioctls.h
MSG_PEEK, MSG_DONTWAIT = 0x2, 0x40
SOL_SOCKET, SO_PEEK_OFF = 1, 42
NOTHING = (
    errno.EAGAIN, errno.ENOTCONN, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.ENOTTY, errno.EIO,
    errno.EADDRNOTAVAIL, errno.ENXIO,
)  # fmt: skip
"""What a kernel says of an end from which nothing can be read: none is there, it listens, it is for writing,
its other end is gone, it has no address (of CAN ISO-TP, QRTR and XDP: net/can/isotp.c, net/qrtr/af_qrtr.c,
net/xdp/xsk.c)."""
_LITTLE, _MOST_READ = 16, 3888
"""Bytes of room to ask whether something waits, and to read it."""
_COUNT = struct.Struct("<i")
_ROUNDS = 3
"""How often pipes are read: one whose first descriptor is for writing is read by the next."""


class QueuedTogether:
    """Asks once about some ends."""

    def __init__(self, proxy: ProxyCalls, files: SnapshotFiles) -> None:
        self._proxy = proxy
        self._files = files
        self._answers: dict[tuple[int, int], list[QueuedMessage]] = {}

    def ask(self, ends: Sequence[QueueEnd]) -> dict[tuple[int, int], list[QueuedMessage]]:
        """What waits at ends, by process and descriptor, as far as it can be asked so."""
        if not self._files.may_ask_together:
            return {}
        try:
            self._peek([end for end in ends if end.kind == "socket"])
            waiting = self._count([end for end in ends if end.kind != "socket"])
            self._read([(end, size) for end, size in waiting if end.kind == "pipe" and size <= _MOST_READ])
        finally:
            self._proxy.caller.roll_back()
        return self._answers

    def _peek(self, sockets: Sequence[QueueEnd]) -> None:
        """The sockets in which nothing waits. Each look begins at the first byte."""
        calls: list[DescriptorCall] = []
        for end in sockets:
            calls.append(DescriptorCall(end.pid, end.fd, "setsockopt", _from_the_first))
            calls.append(DescriptorCall(end.pid, end.fd, "recvfrom", _peeking))
        answers = self._files.call_each(calls, _LITTLE, self._prove)
        for end, begins, called in zip(sockets, answers[::2], answers[1::2], strict=True):
            if begins is not None:
                self._note_if_empty(end, called)

    def _count(self, ends: Sequence[QueueEnd]) -> list[tuple[QueueEnd, int]]:
        """Those at which something waits, and how many bytes."""
        calls = [DescriptorCall(end.pid, end.fd, "ioctl", _counting) for end in ends]
        answers = self._files.call_each(calls, _LITTLE, self._prove)
        waiting: list[tuple[QueueEnd, int]] = []
        for end, called in zip(ends, answers, strict=True):
            count = _COUNT.unpack_from(called.room)[0] if called and not called.answer else 0
            if count > 0:
                waiting.append((end, count))
            elif not count:
                self._note_if_empty(end, called)
        return waiting

    def _read(self, waiting: Iterable[tuple[QueueEnd, int]]) -> None:
        """What waits in pipes: each is read by one descriptor, and by the next where that gives nothing."""
        left: dict[str, list[tuple[QueueEnd, int]]] = {}
        for end, size in waiting:
            left.setdefault(end.queue, []).append((end, size))
        for _ in range(_ROUNDS):
            firsts = [others.pop(0) for others in left.values() if others]
            calls = [DescriptorCall(end.pid, end.fd, "read", partial(_reading, size)) for end, size in firsts]
            if not calls:
                return
            self._proxy.caller.roll_back()  # a program before this one may have read them
            answers = self._files.call_each(calls, _MOST_READ, self._prove)
            for (end, size), called in zip(firsts, answers, strict=True):
                if called is not None and 0 < called.answer <= size:
                    self._answers[end.pid, end.fd] = [QueuedMessage(None, called.room[: called.answer])]
                    left[end.queue].clear()
                else:
                    self._note_if_empty(end, called)

    def _note_if_empty(self, end: QueueEnd, called: Called | None) -> None:
        """Keep that the kernel says that nothing waits there."""
        if called is None or not self._proxy.bridge.may_be_snapshot(called.file_vaddr):
            return
        is_none = (
            not called.answer and end.kind != "socket"
        )  # of a socket, it may be a message without content
        if is_none or -called.answer in NOTHING:
            self._answers[end.pid, end.fd] = []

    def _prove(self, call: DescriptorCall) -> bool:
        """Make a call singly, so that its code is proven; then go back to before it."""
        try:
            copy = HeldSockets(self._proxy).copy(call.pid, call.fd)
            arguments = call.arguments(self._proxy.buffer(bytes(_LITTLE)))
            self._proxy.raw(call.name, copy, *arguments, side="twin")
        except (OSError, BootError, CallRolledBack):
            return False
        finally:
            self._proxy.caller.roll_back()
        return True


def _from_the_first(room: int) -> tuple[int, ...]:
    """SO_PEEK_OFF 0, as the room is zeros."""
    return SOL_SOCKET, SO_PEEK_OFF, room, 4


def _peeking(room: int) -> tuple[int, ...]:
    return room, _LITTLE, MSG_PEEK | MSG_DONTWAIT, 0, 0


def _counting(room: int) -> tuple[int, ...]:
    return FIONREAD, room


def _reading(size: int, room: int) -> tuple[int, ...]:
    return room, size
