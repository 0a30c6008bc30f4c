"""This machine's sockets, as its kernel answers for them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

from live_files import Answering

from hybridbridge_vol.guest.values import HeldSocket, TlsAnswer
from hybridbridge_vol.native.launch import take_descriptor
from hybridbridge_vol.netlink.messages import dump_request, is_last
from hybridbridge_vol.netlink.sock_diag import SOCK_DIAG_BY_FAMILY, Table


class LiveSockets(Answering):
    """This machine's sockets; `answers` by "sock_diag TABLE"."""

    def dump(self, table: Table, net_of: int | None = None) -> bytes:
        content = self.replaced("sock_diag", table.name)
        if content is not None:
            return bytes(content)
        if net_of is not None and os.readlink(f"/proc/{net_of}/ns/net") != os.readlink("/proc/self/ns/net"):
            raise OSError(errno.EPERM, "another network namespace")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:
            link.send(dump_request(SOCK_DIAG_BY_FAMILY, table.request))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)

    def has_answers(self, table: Table) -> bool:
        return False

    def held(self, pid: int, fd: int) -> HeldSocket:
        with socket.socket(fileno=self._copy(pid, fd)) as it:
            is_inet = it.family in (socket.AF_INET, socket.AF_INET6)
            is_tcp = is_inet and it.proto == socket.IPPROTO_TCP
            state = it.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[0] if is_tcp else None
            listens, port = (
                bool(it.getsockopt(1, 30)),
                it.getsockname()[1] if is_inet else None,
            )  # SO_ACCEPTCONN
            return HeldSocket(int(it.family), int(it.type), it.proto, listens, state, port)

    def _copy(self, pid: int, fd: int) -> int:
        with open(os.pidfd_open(pid)) as process:
            return take_descriptor(process.fileno(), fd)

    def namespace(self, pid: int, fd: int) -> str:
        with socket.socket(fileno=self._copy(pid, fd)) as it, open(fcntl.ioctl(it, 0x894C)) as space:
            return os.readlink(f"/proc/self/fd/{space.fileno()}")  # by SIOCGSKNS

    def kernel_inodes(self, path: str) -> set[int]:
        raise OSError(errno.EOPNOTSUPP, "not to be had from outside of the kernel")

    def tls(self, pid: int, fd: int) -> list[TlsAnswer]:
        raise OSError(errno.EPERM, "this machine's keys are nobody's business")
