"""The snapshot's sockets, by requests on sock_diag's netlink socket (net/core/sock_diag.c).

What a family's sockets are is known to a module of its own (`unix_diag`, `tcp_diag` ...), which the snapshot
has loaded only if somebody asked. Otherwise it is added (bridge/modules/added_module.py).
"""

from __future__ import annotations

import contextlib
import errno
import os

from hybridbridge_vol.bridge.objects.kernel_sockets import are_kernels
from hybridbridge_vol.bridge.objects.netlink_socket import open_netlink_socket
from hybridbridge_vol.errors import AttachError, CallRolledBack
from hybridbridge_vol.guest.added_modules import AddedModules
from hybridbridge_vol.guest.held_sockets import HeldSockets
from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.guest.netlink_dumps import NetlinkDumps
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, ProxyCalls
from hybridbridge_vol.guest.values import HeldSocket, TlsAnswer
from hybridbridge_vol.netlink.requests import NETLINK_SOCK_DIAG
from hybridbridge_vol.netlink.sock_diag import (
    AF_INET,
    AF_INET6,
    ALL_TABLES,
    SOCK_DIAG_BY_FAMILY,
    Table,
)
from hybridbridge_vol.procfs.net import parse_inet_socket
from hybridbridge_vol.procfs.sources import split_lines


class SnapshotSocketTables:
    """Implements `guest.kernel_network.SocketTables`."""

    def __init__(self, proxy: ProxyCalls, files: Files, modules: AddedModules) -> None:
        self._proxy = proxy
        self._files = files
        self._modules = modules
        self._dumps = NetlinkDumps(proxy, NETLINK_SOCK_DIAG)

    def dump(self, table: Table, net_of: int | None = None) -> bytes:
        """All sockets of a table: the kernel's messages, one after the other. See `guest.kernel`."""
        if not self._may_exist(table):
            return b""
        for module in table.diag_modules:
            self._modules.need(module)
        return self._dumps.dump(table.source(net_of), SOCK_DIAG_BY_FAMILY, table.request, net_of)

    def has_answers(self, table: Table) -> bool:
        """See `guest.kernel_network.SocketTables`."""
        return self._may_exist(table) and all(map(self._modules.has, table.diag_modules))

    def need(self, family: int, protocol: int) -> None:
        """Add the modules that answer for the sockets of a family (AF_*) and, of AF_INET and AF_INET6, a
        protocol, if there can be such sockets. Nothing happens where that fails: the kernel then answers
        that it does not know them. What was added stays; open sockets of the proxy task are closed by it."""
        tables = [table for table in ALL_TABLES if table.family == family]
        if family in (AF_INET, AF_INET6):
            tables = [table for table in tables if table.request[1] == protocol]
        for module in dict.fromkeys(
            module for table in tables if self._may_exist(table) for module in table.diag_modules
        ):
            if not self._modules.is_settled(module):
                self._proxy.caller.roll_back()
                with contextlib.suppress(OSError, CallRolledBack):
                    self._modules.need(module)

    def held(self, pid: int, fd: int) -> HeldSocket:
        """See `guest.kernel_network.SocketTables`."""
        return HeldSockets(self._proxy).ask(pid, fd)

    def namespace(self, pid: int, fd: int) -> str:
        """See `guest.kernel_network.SocketTables`."""
        return HeldSockets(self._proxy).namespace(pid, fd)

    def tls(self, pid: int, fd: int) -> list[TlsAnswer]:
        """See `guest.kernel_network.SocketTables`."""
        return HeldSockets(self._proxy).tls(pid, fd)

    def kernel_inodes(self, path: str) -> set[int]:
        """See `guest.kernel_network.SocketTables`."""
        lines = split_lines(self._files.read(path))[1:]
        fd = self._proxy.checked(path, "openat", AT_FDCWD, self._proxy.put_path(path), os.O_RDONLY, 0)
        try:
            table, own = path.rpartition("/")[2], open_netlink_socket(self._proxy.caller, NETLINK_SOCK_DIAG)
            # one more than there are lines: a list that is longer now is noticed, a cyclic one ends
            kernels = are_kernels(self._proxy.caller, table, fd, own, len(lines) + 1)
            self._proxy.raw("close", own)
        except (KeyError, AttachError) as error:
            raise OSError(errno.EOPNOTSUPP, f"its sockets cannot be walked: {error}", path) from None
        finally:
            self._proxy.raw("close", fd)
        if len(kernels) != len(lines):
            raise OSError(errno.EIO, f"{len(lines)} lines for {len(kernels)} sockets", path)
        pairs = zip(lines, kernels, strict=True)
        return {parse_inet_socket(line).inode for line, is_kernels in pairs if is_kernels}

    def _may_exist(self, table: Table) -> bool:
        """Whether there can be sockets of a table at all. A family is registered in `net_families`
        (net/socket.c)."""
        bridge = self._proxy.bridge
        try:
            bridge.snapshot(table.needs)
            registered = bridge.snapshot("net_families") + 8 * table.family
        except KeyError:
            return False
        if not int.from_bytes(bridge.virtual_memory.read_padded(registered, 8), "little"):
            return False
        return not table.needs_module or self._modules.has(table.needs_module)
