"""ioctls on namespaces (ioctl_nsfs(2)): their owners, parents and kinds, as lsns asks."""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterator

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.nodes import Kind, Node, Nodes
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor
from hybridbridge_vol.native.stat_forms import STAT_SIZE

_GET_USERNS, _GET_PARENT, _GET_KIND, _GET_OWNER = 0xB701, 0xB702, 0xB703, 0xB704
"""NS_GET_*, include/uapi/linux/nsfs.h."""
_STEP = "//"
"""Between a namespace's path, which has no such thing in it, and the ioctls that lead from it to another."""
_MAX_STEPS = 64
"""Namespaces in each other: 32 at most (kernel/user_namespace.c), and their owners."""


class NamespaceCalls:
    """Answers ioctls on descriptors of namespaces."""

    def __init__(self, session: Session, answers: Answers, nodes: Nodes) -> None:
        self._proxy = session.proxy
        self._files = session.files
        self._answers = answers
        self._nodes = nodes

    def ioctl(self, call: Call) -> Answer | None:
        """The answer to an ioctl; None if it is none of these."""
        command = call.arguments[1] & 0xFFFF_FFFF
        if command not in (_GET_USERNS, _GET_PARENT, _GET_KIND, _GET_OWNER):
            return None
        node = self._nodes.behind(call.tid, signed32(call.arguments[0]))
        if node is None or node.kind is not Kind.NAME:
            raise failed(errno.ENOTTY)
        if _STEP not in node.path and not self._answers.is_namespace(node.path):
            raise failed(errno.ENOTTY)
        identity = struct.unpack_from("<QQ", self._answers.stat(node.path, True))
        key = ("namespace", identity, command)
        if command == _GET_KIND:
            return self._answers.once(key, lambda: self._ask(node, command, 0))
        if command == _GET_OWNER:
            call.memory.write(call.arguments[2], self._answers.once(key, lambda: self._owner(node)))
            return 0
        seen = self._answers.once(key, lambda: self._other(node, command))
        path = f"{node.path}{_STEP}{command:x}"
        self._answers.keep(("stat", path, True), seen)
        made = self._answers.node_once(("namespace", path), lambda: self._nodes.make(path, Kind.NAME))
        return NewDescriptor(made.opened(), True)

    def _owner(self, node: Node) -> bytes:
        self._ask(node, _GET_OWNER, self._proxy.buffer(bytes(4)))
        return self._proxy.answer("ioctl", 4)

    def _ask(self, node: Node, command: int, argument: int) -> int:
        with self._opened(node.path) as number:
            return self._proxy.checked(node.path, "ioctl", number, command, argument, side="twin")

    def _other(self, node: Node, command: int) -> bytes:
        """The `struct stat` of the namespace that an ioctl leads to."""
        with self._opened(f"{node.path}{_STEP}{command:x}") as number:
            self._proxy.checked(node.path, "newfstat", number, self._proxy.buffer(), side="twin")
            return self._proxy.answer("newfstat", STAT_SIZE)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """The proxy task's descriptor of a namespace: its path, and ioctls that lead on from there."""
        first, *steps = path.split(_STEP)
        if len(steps) > _MAX_STEPS:
            raise failed(errno.ELOOP)
        with self._files.open(first) as file:
            number, opened = file.number, list[int]()
            try:
                for step in steps:
                    number = self._proxy.checked(first, "ioctl", number, int(step, 16), 0, side="twin")
                    opened.append(number)
                yield number
            finally:
                for descriptor in opened:
                    self._proxy.raw("close", descriptor)
