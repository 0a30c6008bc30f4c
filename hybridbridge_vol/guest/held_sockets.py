"""The state of a socket that a process holds, by system calls on a copy of its descriptor.

The file is taken from the process as pidfd_getfd(2) does it (kernel/pid.c, fs/file.c), by the twin's
functions, and becomes a descriptor of the proxy task's; the twin's `getsockopt` and `getsockname` ask its
protocol. Nothing is sent, received or changed.
"""

from __future__ import annotations

import errno
import os
import struct

from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, ProxyCalls
from hybridbridge_vol.guest.values import HeldSocket, TlsAnswer
from hybridbridge_vol.netlink.tls_info import HEAD_SIZE, size_of
from hybridbridge_vol.units import U64

_SOL_SOCKET, _SO_TYPE, _SO_ACCEPTCONN, _SO_PROTOCOL, _SO_DOMAIN = 1, 3, 30, 38, 39
_SOL_TCP, _TCP_INFO, _TCP_INFO_SIZE = 6, 11, 104
"""include/uapi/asm-generic/socket.h, include/uapi/linux/tcp.h; the state is the first byte of tcp_info."""
_SOL_TLS, _TLS_TX, _TLS_RX = 282, 1, 2
"""include/linux/socket.h, include/uapi/linux/tls.h."""
_AF_INET, _AF_INET6, _AF_NETLINK, _AF_VSOCK = 2, 10, 16, 40
_SIOCGSKNS = 0x894C
"""include/uapi/linux/sockios.h."""
_STAT_SIZE, _STAT_INO = 144, 8
"""struct stat (arch/x86/include/uapi/asm/stat.h)."""
_NAME_SIZE = 128
_SIZE_AT = 1024
"""Behind the buffer's beginning: where the size of an answer stands."""


class HeldSockets:
    """Sockets by the process and the descriptor that hold them."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def ask(self, pid: int, fd: int) -> HeldSocket:
        """See `guest.kernel_network.SocketTables.held`."""
        copy = self.copy(pid, fd)
        try:
            return self._state(copy)
        finally:
            self._proxy.raw("close", copy)

    def namespace(self, pid: int, fd: int) -> str:
        """See `guest.kernel_network.SocketTables.namespace`: what the kernel gives for SIOCGSKNS
        (net/socket.c)."""
        source = f"socket {pid}/{fd}"
        copy = self.copy(pid, fd)
        try:
            opened = self._proxy.checked(source, "ioctl", copy, _SIOCGSKNS, 0, side="twin")
            try:
                self._proxy.checked(source, "newfstat", opened, self._proxy.buffer(bytes(_STAT_SIZE)))
                number = self._proxy.caller.get(BUFFER_AT + _STAT_INO, 8)
                return f"net:[{int.from_bytes(number, 'little')}]"
            finally:
                self._proxy.raw("close", opened)
        finally:
            self._proxy.raw("close", copy)

    def tls(self, pid: int, fd: int) -> list[TlsAnswer]:
        """See `guest.kernel_network.SocketTables.tls`. See
        net/tls/tls_main.c, `do_tls_getsockopt`: EBUSY says that a direction is not encrypted, another error
        that none is; 5.10 does not give the keys of what is received."""
        copy = self.copy(pid, fd)
        try:
            sent, error = self._asked(copy, _SOL_TLS, _TLS_TX, HEAD_SIZE)
            if error not in (0, errno.EBUSY):
                return []
            received, received_error = self._asked(copy, _SOL_TLS, _TLS_RX, HEAD_SIZE)
            found = [] if error else [TlsAnswer(True, self._whole(copy, _TLS_TX, sent))]
            if received_error != errno.EBUSY:
                found.append(TlsAnswer(False, self._whole(copy, _TLS_RX, received)))
            return found
        finally:
            self._proxy.raw("close", copy)

    def _whole(self, copy: int, direction: int, head: bytes) -> bytes:
        """The structure that begins so, or what there is of it."""
        size = size_of(head) if head else None
        return head if size is None else self._answer(copy, _SOL_TLS, direction, size) or head

    def copy(self, pid: int, fd: int) -> int:
        """A descriptor of the proxy task's for the file that a process has open. OSError if there is none."""
        try:
            task = self._proxy.function("find_task_by_vpid", pid) & U64
            file = self._proxy.function("fget_task", task, fd) & U64 if task else 0
            if not self._proxy.bridge.may_be_snapshot(file):
                raise OSError(errno.EBADF, os.strerror(errno.EBADF), f"{pid}/{fd}")
            return self._proxy.install(file, f"{pid}/{fd}")
        except KeyError as error:
            raise OSError(errno.EOPNOTSUPP, f"this kernel has no symbol {error}") from None

    def _state(self, copy: int) -> HeldSocket:
        domain, kind, protocol, listens = (
            self._option(copy, _SOL_SOCKET, name)
            for name in (_SO_DOMAIN, _SO_TYPE, _SO_PROTOCOL, _SO_ACCEPTCONN)
        )
        info = (
            self._answer(copy, _SOL_TCP, _TCP_INFO, _TCP_INFO_SIZE)
            if domain in (_AF_INET, _AF_INET6)
            else b""
        )
        return HeldSocket(
            domain, kind, protocol, bool(listens), info[0] if info else None, self._port(copy, domain)
        )

    def _option(self, copy: int, level: int, name: int) -> int:
        return int.from_bytes(self._answer(copy, level, name, 4), "little")

    def _answer(self, copy: int, level: int, name: int, size: int) -> bytes:
        """What an option is; empty if the socket has no such option."""
        return self._asked(copy, level, name, size)[0]

    def _asked(self, copy: int, level: int, name: int, size: int) -> tuple[bytes, int]:
        """What an option is, and 0; nothing, and the kernel's errno."""
        buffer = self._proxy.buffer(bytes(size))
        size_vaddr = self._proxy.caller.put(struct.pack("<I", size), BUFFER_AT + _SIZE_AT)
        answer = self._proxy.raw("getsockopt", copy, level, name, buffer, size_vaddr, side="twin")
        return (b"", -answer) if answer < 0 else (self._proxy.caller.get(BUFFER_AT, size), 0)

    def _port(self, copy: int, domain: int) -> int | None:
        """The port that it is bound to, 0 if to none; None for a family without ports."""
        buffer = self._proxy.buffer(bytes(_NAME_SIZE))
        size_vaddr = self._proxy.caller.put(struct.pack("<I", _NAME_SIZE), BUFFER_AT + _SIZE_AT)
        if self._proxy.raw("getsockname", copy, buffer, size_vaddr, side="twin") < 0:
            return None
        name = self._proxy.caller.get(BUFFER_AT, _NAME_SIZE)
        if domain in (_AF_INET, _AF_INET6):
            return int.from_bytes(name[2:4], "big")
        return int.from_bytes(name[4:8], "little") if domain in (_AF_NETLINK, _AF_VSOCK) else None
