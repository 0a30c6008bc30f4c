"""Sockets of vsock, XDP and TIPC as sock_diag answers them (net/vmw_vsock/diag.c, net/xdp/xsk_diag.c,
net/tipc/diag.c and socket.c; include/uapi/linux/vm_sockets_diag.h, xdp_diag.h, tipc_netlink.h)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attributes

_VSOCK = struct.Struct("<BBBBIIIIIQ")
_XDP = struct.Struct("<BBxxIQ")
_XDP_INFO, _XDP_UID, _XDP_UMEM = 1, 2, 5
_TIPC_SOCK = 2


class VsockDiag(NamedTuple):
    """struct vsock_diag_msg. A CID of 0xffffffff is any."""

    family: int
    type: int
    state: int
    """TCP_*."""
    shutdown: int
    local_cid: int
    local_port: int
    remote_cid: int
    remote_port: int
    inode: int
    cookie: int


def parse_vsock_diag(body: bytes) -> VsockDiag:
    """A message of vsock_diag. Raises struct.error."""
    return VsockDiag(*_VSOCK.unpack_from(body))


class XdpDiag(NamedTuple):
    """struct xdp_diag_msg and its attributes; `interface` and `queue` are None if it is not bound."""

    type: int
    inode: int
    cookie: int
    interface: int | None
    queue: int | None
    uid: int | None
    umem: int | None
    """Id of its memory for packets; None if it has none."""


def parse_xdp_diag(body: bytes) -> XdpDiag:
    """A message of xsk_diag. Raises struct.error."""
    _family, kind, inode, cookie = _XDP.unpack_from(body)
    found = attributes(body[_XDP.size :])
    interface, queue = struct.unpack_from("<II", found[_XDP_INFO]) if _XDP_INFO in found else (0, 0)
    return XdpDiag(
        kind, inode, cookie, interface or None, queue if interface else None,
        _number(found, _XDP_UID), _number(found, _XDP_UMEM, 4),
    )  # fmt: skip


class TipcDiag(NamedTuple):
    """A socket of TIPC (`tipc_sk_fill_sock_diag`). `reference` is its port, `node` its machine's address;
    `peer` is node and port of the other end of a connection."""

    type: int
    state: int
    """SS_* of TIPC: enum in net/tipc/socket.c, by the numbers of TCP_*."""
    inode: int
    uid: int
    cookie: int
    node: int
    reference: int
    peer: tuple[int, int] | None
    received: int
    sent: int
    has_publications: bool


def parse_tipc_diag(body: bytes) -> TipcDiag:
    """A message of tipc_diag, all of it attributes. Raises ValueError."""
    outer = attributes(body)
    if _TIPC_SOCK not in outer:
        raise ValueError("no socket")
    found = attributes(outer[_TIPC_SOCK])
    connection = attributes(found.get(3, b""))
    counts = attributes(found.get(5, b""))
    peer = None
    if 3 in found:
        peer = _number(connection, 2) or 0, _number(connection, 3) or 0
    return TipcDiag(
        _number(found, 6) or 0, _number(found, 9) or 0, _number(found, 7) or 0, _number(found, 8) or 0,
        _number(found, 10) or 0, _number(found, 1) or 0, _number(found, 2) or 0, peer,
        _number(counts, 1) or 0, _number(counts, 2) or 0, 4 in found,
    )  # fmt: skip


def _number(found: dict[int, bytes], kind: int, size: int = 8) -> int | None:
    """A number at the beginning of an attribute; None if it is not there."""
    return int.from_bytes(found[kind][:size], "little") if kind in found else None
