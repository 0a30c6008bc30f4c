"""Who has a socket open: the processes whose descriptors lead to its inode, as netstat and ss find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.fd import socket_inode
from hybridbridge_vol.procfs.pid import parse_cmdline, parse_stat
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.tools.process.descriptors import taken


class Holder(NamedTuple):
    """A descriptor of a process."""

    pid: int
    fd: int

    @property
    def source(self) -> Source:
        return Source(f"readlink /proc/{self.pid}/fd/{self.fd}")


class SocketOwners:
    """All descriptors of all processes that are sockets, by the socket's inode; read once."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._names: dict[tuple[str, int], str] = {}
        self._holders: dict[int, list[Holder]] = {}
        self.gap: Unavailable | None = None
        """Why descriptors of some process are missing, if they are."""
        for found, gap in taken(kernel, socket_inode):
            self.gap = self.gap or gap
            for pid, fd, inode in found:
                self._holders.setdefault(inode, []).append(Holder(pid, fd))

    def of(self, inode: int) -> list[Holder]:
        """Descriptors of a socket, by process; none for one that belongs to no process (inode 0)."""
        return self._holders.get(inode, []) if inode else []

    def all(self) -> dict[int, list[Holder]]:
        """Every socket that a descriptor leads to, by inode."""
        return self._holders

    def missing(self, inode: int) -> Unavailable | None:
        """Why a socket that some process must have open has no known holder, if descriptors could not be
        read."""
        return self.gap if inode and not self.of(inode) else None

    def name(self, pid: int) -> str:
        """The name the kernel keeps for a process; empty if it cannot be read."""
        return self._once("stat", pid, lambda data: parse_stat(data).comm)

    def program(self, pid: int) -> str:
        """A process's first argument, without its folders if it is an absolute path; its name if there is
        none."""
        argument = self._once("cmdline", pid, lambda data: next(iter(parse_cmdline(data)), ""))
        return (argument.rpartition("/")[2] if argument.startswith("/") else argument) or self.name(pid)

    def _once(self, file: str, pid: int, read: Callable[[bytes], str]) -> str:
        if (file, pid) not in self._names:
            try:
                self._names[file, pid] = read(self._kernel.files.read(f"/proc/{pid}/{file}"))
            except UNREADABLE:
                self._names[file, pid] = ""
        return self._names[file, pid]
