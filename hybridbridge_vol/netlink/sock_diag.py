"""Requests to sock_diag(7), one for each table of sockets (include/uapi/linux/sock_diag.h, unix_diag.h,
inet_diag.h, vm_sockets_diag.h, xdp_diag.h, tipc_sockets_diag.h, smc_diag.h).

Its answers are messages of numbers and of names with their lengths: no name can be taken for anything else.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SOCK_DIAG_BY_FAMILY = 20
AF_UNIX, AF_INET, AF_INET6, AF_TIPC, AF_VSOCK, AF_SMC, AF_XDP = 1, 2, 10, 30, 40, 43, 44
IPPROTO_SCTP, IPPROTO_MPTCP = 132, 262
_ALL_STATES = 0xFFFF_FFFF
_EVERYTHING = 0x7F
"""UDIAG_SHOW_*: name, inode of its file, peer, what waits to be accepted, queues, memory, user."""
_XDP_SHOW = 0x1F
_INET_DIAG_REQ_PROTOCOL = 3


class Table(NamedTuple):
    """A table of sockets that sock_diag answers: its family, its request's body, the modules that answer it
    in the order in which they are needed. There are no such sockets where the kernel has not registered the
    family, where it lacks the symbol `needs`, or where the module `needs_module` is not loaded."""

    name: str
    family: int
    request: bytes
    diag_modules: tuple[str, ...]
    needs: str = "sock_diag_register"
    needs_module: str = ""
    counted_as: bytes = b""
    """The protocol's name in /proc/net/protocols, if the kernel counts these sockets there."""

    def source(self, net_of: int | None = None) -> str:
        """The name of its answer, in the network namespace of a process."""
        return f"sock_diag {self.name}" + ("" if net_of is None else f" of {net_of}")


def _inet(family: int, protocol: int, extensions: int = 0xFF) -> bytes:
    """struct inet_diag_req_v2: these extensions, any state, any address; a protocol beyond 8 bits in an
    attribute."""
    request = struct.pack("<BBBxI48x", family, protocol & 0xFF, extensions, _ALL_STATES)
    if protocol > 0xFF:
        request += struct.pack("<HHI", 8, _INET_DIAG_REQ_PROTOCOL, protocol)
    return request


def _smc() -> bytes:
    """struct smc_diag_req: every extension."""
    return struct.pack("<BxxB48x", AF_SMC, 0xFF)


def _plain(family: int, states: int = _ALL_STATES, show: int = 0) -> bytes:
    """struct unix_diag_req and vsock_diag_req: in these states, any inode."""
    return struct.pack("<BBHIIIQ", family, 0, 0, states, 0, show, 0)


UNIX = Table("unix", AF_UNIX, _plain(AF_UNIX, show=_EVERYTHING), ("unix_diag",))
VSOCK = Table("vsock", AF_VSOCK, _plain(AF_VSOCK), ("vsock_diag",))
XDP = Table(
    "xdp", AF_XDP, struct.pack("<BBHIIQ", AF_XDP, 0, 0, 0, _XDP_SHOW, 0), ("xsk_diag",), counted_as=b"XDP"
)
TIPC = Table("tipc", AF_TIPC, struct.pack("<BBHI", AF_TIPC, 0, 0, _ALL_STATES), ("tipc_diag",))
SMC = Table("smc", AF_SMC, _smc(), ("smc_diag",))
_OF_MPTCP = ("inet_diag", "mptcp_diag")
MPTCP = Table("mptcp", AF_INET, _inet(AF_INET, IPPROTO_MPTCP), _OF_MPTCP, "mptcp_proto_init")
MPTCP6 = Table("mptcp6", AF_INET6, _inet(AF_INET6, IPPROTO_MPTCP), _OF_MPTCP, "mptcp_proto_v6_init")
_OF_SCTP = ("inet_diag", "sctp_diag")
SCTP = Table("sctp", AF_INET, _inet(AF_INET, IPPROTO_SCTP), _OF_SCTP, needs_module="sctp")
SCTP6 = Table("sctp6", AF_INET6, _inet(AF_INET6, IPPROTO_SCTP), _OF_SCTP, needs_module="sctp")
_SMALL = 0xB8
"""Extensions of a request, as bits: congestion control, TOS, traffic class, shutdown; without those that ss
shows by other options. The mark, the class and the control group come by themselves."""


def _of_file(name: str, protocol: int, module: str) -> dict[str, Table]:
    """The tables of a protocol that /proc/net lists too, for what it does not show."""
    return {
        f"{name}{suffix}": Table(
            f"{name}{suffix}", family, _inet(family, protocol, _SMALL), ("inet_diag", module)
        )
        for suffix, family in (("", AF_INET), ("6", AF_INET6))
    }


OF_FILES = (
    _of_file("tcp", 6, "tcp_diag")
    | _of_file("udp", 17, "udp_diag")
    | _of_file("udplite", 136, "udp_diag")
    | _of_file("raw", 255, "raw_diag")
)
"""By the names of the files."""
OF_FILES_WHOLE = {
    file: table._replace(name=f"{file} in full", request=table.request[:2] + b"\xff" + table.request[3:])
    for file, table in OF_FILES.items()
}
"""The same with every extension: struct tcp_info, and the memory of each socket."""
ALL_TABLES = (
    UNIX, VSOCK, XDP, TIPC, SMC, MPTCP, MPTCP6, SCTP, SCTP6, *OF_FILES.values(), *OF_FILES_WHOLE.values(),
)  # fmt: skip
