"""Questions for the number that a network namespace has in another one (RTM_GETNSID).

A program names the namespace by a descriptor of its own, which the guest's kernel does not know; it knows the
processes there, and the descriptors of the proxy task."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.nodes import Node
from hybridbridge_vol.netlink.messages import HEADER

_RTM_GETNSID = 90
_NETNSA_PID, _NETNSA_FD = 2, 3
"""include/uapi/linux/rtnetlink.h, net_namespace.h."""
_ATTRIBUTES_AT = HEADER.size + 4
"""Behind a `struct rtgenmsg`, which takes four bytes."""
_ATTRIBUTE = struct.Struct("<HHi")
"""The head of an attribute of four bytes, and its value."""


def descriptor_in(message: bytes) -> int | None:
    """The descriptor by which a question names a network namespace; None if it asks for something else."""
    if len(message) < _ATTRIBUTES_AT + _ATTRIBUTE.size or HEADER.unpack_from(message)[1] != _RTM_GETNSID:
        return None
    size, kind, fd = _ATTRIBUTE.unpack_from(message, _ATTRIBUTES_AT)
    return int(fd) if (size, kind) == (_ATTRIBUTE.size, _NETNSA_FD) else None


def by_process(message: bytes, pid: int) -> bytes:
    """The question with a process (its number there) in the place of the descriptor."""
    return _renamed(message, _NETNSA_PID, pid)


def by_descriptor(message: bytes, number: int) -> bytes:
    """The question with a descriptor of the proxy task in the place of the program's."""
    return _renamed(message, _NETNSA_FD, number)


def _renamed(message: bytes, kind: int, number: int) -> bytes:
    named = _ATTRIBUTE.pack(_ATTRIBUTE.size, kind, number)
    return message[:_ATTRIBUTES_AT] + named + message[_ATTRIBUTES_AT + _ATTRIBUTE.size :]


@contextlib.contextmanager
def named_there(message: bytes, answers: Answers, tid: int) -> Iterator[bytes]:
    """The message as the guest's kernel understands it, as long as the block lasts: a namespace is named by a
    process in it, or, where none is left, by a descriptor of the proxy task."""
    node = _node_behind(answers, tid, descriptor_in(message))
    with contextlib.ExitStack() as opened:
        if node is not None:
            with contextlib.suppress(OSError, CallRolledBack):
                pid = answers.process_in_network(answers.attributes(node.path).ino)
                if pid is not None:
                    message = by_process(message, pid)
                else:
                    file = opened.enter_context(answers.session.files.open(node.path))
                    message = by_descriptor(message, file.number)
        yield message


def _node_behind(answers: Answers, tid: int, fd: int | None) -> Node | None:
    if fd is not None:
        with contextlib.suppress(OSError):
            node = answers.nodes.behind(tid, fd)
            return None if node is None or node.is_host else node
    return None
