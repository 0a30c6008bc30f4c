"""Questions for the number that a network namespace has in another one (RTM_GETNSID).

A program names the namespace by a descriptor of its own, which the guest's kernel does not know; it knows the
processes there."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.netlink.messages import HEADER

_RTM_GETNSID = 90
_NETNSA_PID, _NETNSA_FD = 2, 3
"""include/uapi/linux/rtnetlink.h, net_namespace.h."""
_ATTRIBUTES_AT = HEADER.size + 4
"""Behind a `struct rtgenmsg`, which takes four bytes."""
_ATTRIBUTE = struct.Struct("<HHi")
"""The head of an attribute of four bytes, and its value."""


def by_process(message: bytes, process_in: Callable[[int], int | None]) -> bytes:
    """The message with a process (its number there) in the place of a descriptor; as it is if it asks for
    something else, or `process_in` knows no process in the namespace behind the descriptor."""
    if len(message) < _ATTRIBUTES_AT + _ATTRIBUTE.size or HEADER.unpack_from(message)[1] != _RTM_GETNSID:
        return message
    size, kind, fd = _ATTRIBUTE.unpack_from(message, _ATTRIBUTES_AT)
    pid = process_in(fd) if (size, kind) == (_ATTRIBUTE.size, _NETNSA_FD) else None
    if pid is None:
        return message
    named = _ATTRIBUTE.pack(_ATTRIBUTE.size, _NETNSA_PID, pid)
    return message[:_ATTRIBUTES_AT] + named + message[_ATTRIBUTES_AT + _ATTRIBUTE.size :]


def process_behind(answers: Answers, tid: int, fd: int) -> int | None:
    """A process of the guest's in the network namespace behind a descriptor of the program's; None if there
    is none."""
    with contextlib.suppress(OSError):
        node = answers.nodes.behind(tid, fd)
        if node is not None and not node.is_host:
            return answers.process_in_network(answers.attributes(node.path).ino)
    return None
