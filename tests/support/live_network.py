"""The sockets and tables of the network of the machine the tests run on, as a guest's."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket

from live_files import Answering

from hybridbridge_vol.guest.values import HeldSocket, TlsAnswer
from hybridbridge_vol.netlink.messages import dump_request, is_last
from hybridbridge_vol.netlink.requests import NETLINK_AUDIT, NetlinkRequest
from hybridbridge_vol.netlink.sock_diag import SOCK_DIAG_BY_FAMILY, Table


class LiveRoutes(Answering):
    """This machine's routing tables; `answers` by "rtnetlink KIND"."""

    def dump(self, kind: int, body: bytes) -> bytes:
        content = self.replaced("rtnetlink", str(kind))
        if content is not None:
            return bytes(content)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            link.send(dump_request(kind, body))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)


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

    @staticmethod
    def _copy(pid: int, fd: int) -> int:
        process = os.pidfd_open(pid)
        copy = ctypes.CDLL(None, use_errno=True).syscall(438, process, fd, 0)
        os.close(process)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return int(copy)

    def held(self, pid: int, fd: int) -> HeldSocket:
        with socket.socket(fileno=self._copy(pid, fd)) as it:
            is_inet = it.family in (socket.AF_INET, socket.AF_INET6)
            is_tcp = is_inet and it.proto == socket.IPPROTO_TCP
            state = it.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[0] if is_tcp else None
            listens = bool(it.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            port = it.getsockname()[1] if is_inet else None
            return HeldSocket(int(it.family), int(it.type), it.proto, listens, state, port)

    def namespace(self, pid: int, fd: int) -> str:
        with socket.socket(fileno=self._copy(pid, fd)) as it, open(fcntl.ioctl(it, 0x894C)) as space:
            return os.readlink(f"/proc/self/fd/{space.fileno()}")  # by SIOCGSKNS

    def kernel_inodes(self, path: str) -> set[int]:
        raise OSError(errno.EOPNOTSUPP, "not to be had from outside of the kernel")

    def tls(self, pid: int, fd: int) -> list[TlsAnswer]:
        raise OSError(errno.EPERM, "this machine's keys are nobody's business")


class LiveNetlink(Answering):
    """Any netlink protocol of this machine; `answers` by "netlink SOURCE"."""

    def dump(self, request: NetlinkRequest, net_of: int | None = None) -> bytes:
        content = self.replaced("netlink", request.source)
        if content is not None:
            return bytes(content)
        if request.protocol == NETLINK_AUDIT:  # the kernel answers without an end to wait for
            raise OSError(errno.EPROTONOSUPPORT, "this machine's audit is not its tests' affair")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, request.protocol) as link:
            link.send(dump_request(request.kind, request.body))
            parts: list[bytes] = []
            while not parts or not is_last(parts[-1]):
                parts.append(link.recv(1 << 20))
            return b"".join(parts)


class LivePacketTables:
    """This machine's tables are not its tests' affair."""

    def option(self, family: int, name: int, content: bytes, size: int, net_of: int | None = None) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "not asked of this machine")
