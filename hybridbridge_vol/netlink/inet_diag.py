"""Sockets of SCTP, MPTCP and SMC as sock_diag answers them: in the form of inet_diag (net/ipv4/inet_diag.c,
net/sctp/diag.c, net/mptcp/mptcp_diag.c, net/smc/smc_diag.c; include/uapi/linux/inet_diag.h, smc_diag.h)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.attribute_text import Attributes, Schema, one_of
from hybridbridge_vol.netlink.messages import attribute_list, attributes
from hybridbridge_vol.netlink.sock_diag import AF_INET, AF_INET6
from hybridbridge_vol.procfs.net import Endpoint, address_text

_HEAD = struct.Struct("<BBBB")
_ID = struct.Struct(">HH16s16s")
_LOCALS, _PEERS = 12, 13
_STORAGE_SIZE = 128
"""Bytes of struct sockaddr_storage, in which SCTP gives each of its addresses."""
MAX_ADDRESSES = 1024
"""Addresses of one association that are read: more than any machine has."""


class InetDiag(NamedTuple):
    """struct inet_diag_msg."""

    family: int
    state: int
    """TCP_*; of an association of SCTP its own (include/uapi/linux/sctp.h, enum sctp_sstat_state)."""
    timer: int
    retransmits: int
    local: Endpoint
    remote: Endpoint
    interface: int
    cookie: int
    expires_ms: int
    rx_queue: int
    tx_queue: int
    """Of a socket that listens, how many connections may wait (net/ipv4/tcp_diag.c); /proc/net has 0."""
    uid: int
    inode: int
    is_association: bool
    """Of SCTP: it has peers, and belongs to the endpoint that was answered before it."""
    locals: tuple[str, ...]
    """All own addresses of an endpoint or association of SCTP."""
    peers: tuple[str, ...]
    rest: Attributes = ()
    """All other attributes (`DETAILS`)."""


DETAILS = Schema(
    "meminfo:raw info:raw vegas:raw congestion:s tos:x tclass:x skmem:raw shutdown:closed dctcp:raw protocol "
    "v6only locals:raw peers:raw - fwmark:x bbr:raw class_id:x md5:raw ulp:raw bpf_storage:raw cgroup "
    "sockopt:x",
    {"closed": one_of("none", "receives no more", "sends no more", "neither sends nor receives")},
)
"""INET_DIAG_*, by the names that ss gives them."""


def parse_inet_diag(body: bytes) -> InetDiag:
    """A message of inet_diag, sctp_diag or mptcp_diag. Raises struct.error or ValueError."""
    family, state, timer, retransmits = _HEAD.unpack_from(body)
    local, remote, interface, cookie = _id(family, body, _HEAD.size)
    (expires, received, sent, uid, inode) = struct.unpack_from("<5I", body, 52)
    found = attributes(body[72:])
    return InetDiag(
        family, state, timer, retransmits, local, remote, interface, cookie, expires, received, sent, uid,
        inode, _PEERS in found, _addresses(found.get(_LOCALS, b"")), _addresses(found.get(_PEERS, b"")),
        tuple(item for item in attribute_list(body[72:]) if item[0] not in (_LOCALS, _PEERS)),
    )  # fmt: skip


def _id(family: int, body: bytes, offset: int) -> tuple[Endpoint, Endpoint, int, int]:
    """struct inet_diag_sockid: both ends, interface, cookie. ValueError for another family."""
    sport, dport, source, destination = _ID.unpack_from(body, offset)
    interface, cookie = struct.unpack_from("<IQ", body, offset + _ID.size)
    size = {AF_INET: 4, AF_INET6: 16}.get(family)
    if size is None:
        raise ValueError("neither IPv4 nor IPv6")
    return (
        Endpoint(address_text(source[:size]), sport),
        Endpoint(address_text(destination[:size]), dport),
        interface,
        cookie,
    )


def _addresses(data: bytes) -> tuple[str, ...]:
    """An array of struct sockaddr_storage."""
    found = []
    for start in range(0, min(len(data), _STORAGE_SIZE * MAX_ADDRESSES) - _STORAGE_SIZE + 1, _STORAGE_SIZE):
        (family,) = struct.unpack_from("<H", data, start)
        if family == AF_INET:
            found.append(address_text(data[start + 4 : start + 8]))
        elif family == AF_INET6:
            found.append(address_text(data[start + 8 : start + 24]))
    return tuple(found)


class SmcDiag(NamedTuple):
    """struct smc_diag_msg: a socket of SMC; `mode` is 0 for SMC-R, 1 fallen back to TCP, 2 for SMC-D."""

    family: int
    state: int
    """enum smc_state (net/smc/smc.h): 1 active, 2 init, 7 closed, 10 listening, 20 ... closing."""
    mode: int
    shutdown: int
    local: Endpoint
    remote: Endpoint
    interface: int
    cookie: int
    uid: int
    inode: int


def parse_smc_diag(body: bytes) -> SmcDiag:
    """A message of smc_diag. Raises struct.error or ValueError."""
    family, state, mode, shutdown = _HEAD.unpack_from(body)
    inner = family if family in (AF_INET, AF_INET6) else AF_INET
    local, remote, interface, cookie = _id(inner, body, _HEAD.size)
    uid, inode = struct.unpack_from("<IQ", body, 52)
    return SmcDiag(family, state, mode, shutdown, local, remote, interface, cookie, uid, inode)
