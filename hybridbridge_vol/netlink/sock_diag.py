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
    """A table of sockets that sock_diag answers: its request's body, the modules that answer it in the order
    in which they are needed, and the module of its protocol ("": always built in), without which there is no
    such socket."""

    name: str
    request: bytes
    diag_modules: tuple[str, ...]
    protocol_module: str = ""

    def source(self, net_of: int | None = None) -> str:
        """The name of its answer, in the network namespace of a process."""
        return f"sock_diag {self.name}" + ("" if net_of is None else f" of {net_of}")


def _inet(family: int, protocol: int) -> bytes:
    """struct inet_diag_req_v2: any extension, any state, any address; a protocol beyond 8 bits in an
    attribute."""
    request = struct.pack("<BBBxI48x", family, protocol & 0xFF, 0xFF, _ALL_STATES)
    if protocol > 0xFF:
        request += struct.pack("<HHI", 8, _INET_DIAG_REQ_PROTOCOL, protocol)
    return request


def _smc() -> bytes:
    """struct smc_diag_req: every extension."""
    return struct.pack("<BxxB48x", AF_SMC, 0xFF)


UNIX = Table("unix", struct.pack("<BBHIIIQ", AF_UNIX, 0, 0, _ALL_STATES, 0, _EVERYTHING, 0), ("unix_diag",))
VSOCK = Table(
    "vsock", struct.pack("<BBHIIIQ", AF_VSOCK, 0, 0, _ALL_STATES, 0, 0, 0), ("vsock_diag",), "vsock"
)
XDP = Table("xdp", struct.pack("<BBHIIQ", AF_XDP, 0, 0, 0, _XDP_SHOW, 0), ("xsk_diag",))
TIPC = Table("tipc", struct.pack("<BBHI", AF_TIPC, 0, 0, _ALL_STATES), ("tipc_diag",), "tipc")
SMC = Table("smc", _smc(), ("smc_diag",), "smc")
MPTCP = Table("mptcp", _inet(AF_INET, IPPROTO_MPTCP), ("inet_diag", "mptcp_diag"))
MPTCP6 = Table("mptcp6", _inet(AF_INET6, IPPROTO_MPTCP), ("inet_diag", "mptcp_diag"))
SCTP = Table("sctp", _inet(AF_INET, IPPROTO_SCTP), ("inet_diag", "sctp_diag"), "sctp")
SCTP6 = Table("sctp6", _inet(AF_INET6, IPPROTO_SCTP), ("inet_diag", "sctp_diag"), "sctp")
