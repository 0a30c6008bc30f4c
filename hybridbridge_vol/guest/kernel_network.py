"""What can be asked about the network of a guest's kernel, as types. `guest.kernel` has the other facilities,
and says what the calls raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hybridbridge_vol.guest.values import HeldSocket, TlsAnswer

if TYPE_CHECKING:
    from hybridbridge_vol.netlink.requests import NetlinkRequest
    from hybridbridge_vol.netlink.sock_diag import Table


class RouteTables(Protocol):
    """The routing tables, by rtnetlink(7)."""

    def dump(self, kind: int, body: bytes) -> bytes:
        """The answer to a request for all entries of a kind (RTM_GET*; `body` follows the header): its
        messages, one after the other. EndlessFile if it does not end."""


class SocketTables(Protocol):
    """The sockets, by sock_diag(7)."""

    def dump(self, table: Table, net_of: int | None = None) -> bytes:
        """All sockets of a table in the network namespace of the process `net_of`, by default the
        session's: the kernel's messages, one after the other; none where the protocol's module is not
        loaded. EndlessFile if they do not end; OSError with ENOENT if no module can answer."""

    def has_answers(self, table: Table) -> bool:
        """Whether the guest itself could have asked for a table: what answers was loaded, or is built in."""

    def held(self, pid: int, fd: int) -> HeldSocket:
        """The state of the socket that a descriptor of a process leads to. OSError if it cannot be had."""

    def namespace(self, pid: int, fd: int) -> str:
        """The network namespace that the socket of a descriptor lies in, which need not be its process's, as
        links of /proc/PID/ns name it: `net:[4026531833]`. OSError if that cannot be said."""

    def tls(self, pid: int, fd: int) -> list[TlsAnswer]:
        """The directions in which the kernel encrypts the socket that a descriptor of a process leads to.
        OSError if that cannot be said."""

    def kernel_inodes(self, path: str) -> set[int]:
        """The inodes of those sockets of a table (/proc/PID/net/tcp, tcp6, udp, udp6, raw, raw6) that the
        kernel made for itself: no process ever had them. OSError if that cannot be said."""


class Netlink(Protocol):
    """Any netlink protocol of the guest's kernel."""

    def dump(self, request: NetlinkRequest, net_of: int | None = None) -> bytes:
        """The answer to a request for all of a kind, in the network namespace of the process `net_of`, by
        default the session's: the kernel's messages, one after the other. EndlessFile; OSError with the
        kernel's errno, or with ENOENT if a module that would answer is neither loaded nor to be had."""


class PacketTables(Protocol):
    """The tables of iptables, ip6tables and arptables (the legacy ones), by getsockopt(2)."""

    def option(self, family: int, name: int, content: bytes, size: int, net_of: int | None = None) -> bytes:
        """The answer of a socket option of the filters of a protocol family (PF_INET, PF_INET6), of at most
        `size` bytes; `content` is the beginning of what the caller hands over. OSError."""
