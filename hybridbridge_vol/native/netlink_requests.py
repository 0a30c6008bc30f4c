"""Which netlink requests of a program only ask, and which modules answer them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from hybridbridge_vol.netlink import conntrack, xfrm
from hybridbridge_vol.netlink.generic import GENL_ID_CTRL
from hybridbridge_vol.netlink.requests import (
    NETLINK_AUDIT,
    NETLINK_GENERIC,
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NETLINK_SOCK_DIAG,
    NETLINK_XFRM,
    NetlinkRequest,
)

_HEADER = struct.Struct("<IHH")
_HEADER_SIZE = 16
_FIRST_RTM, _RTM_GET = 16, 2
"""Of each kind of thing rtnetlink(7) has NEW, DEL, GET and SET, in this order from 16 on."""
_SOCK_DESTROY = 21  # include/uapi/linux/sock_diag.h
_XFRM_GETS = frozenset((18, 21, 31, 35, 37, 40))
"""XFRM_MSG_GETSA, GETPOLICY, GETAE, GETSADINFO, GETSPDINFO, GETDEFAULT: include/uapi/linux/xfrm.h."""
_CONNTRACK, _EXPECT, _IPSET, _ACCT, _TIMEOUT, _HELPER, _NFTABLES, _COMPAT, _HOOK = (
    1,
    2,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
)
"""NFNL_SUBSYS_*: include/uapi/linux/netfilter/nfnetlink.h."""
_NETFILTER_GETS = {
    _CONNTRACK: frozenset((1, 4, 5, 6, 7)),
    _EXPECT: frozenset((1, 3)),
    _IPSET: frozenset((1, 7, 8, 12, 13, 14, 15)),
    _ACCT: frozenset((1,)),
    _TIMEOUT: frozenset((1, 4)),
    _HELPER: frozenset((1,)),
    _NFTABLES: frozenset((1, 4, 7, 10, 13, 16, 19, 23)),
    _COMPAT: frozenset((0,)),
    _HOOK: frozenset((0,)),
}
"""Of each subsystem, the messages that ask. Those that set counters to zero (..._CTRZERO, ..._RESET) are not
among them."""
_AUDIT_GETS = frozenset((1000, 1010, 1013, 1019))
"""AUDIT_GET, SIGNAL_INFO, LIST_RULES, GET_FEATURE: include/uapi/linux/audit.h."""
_DUMP = 0x300  # NLM_F_DUMP, include/uapi/linux/netlink.h
_GENERIC_GETS = {
    b"mptcp_pm": frozenset((3, 6)),
    b"ethtool": frozenset((
        1, 2, 4, 6, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 28, 29, 31, 32, 33, 34, 36, 38, 39, 41, 42,
    )),
}  # fmt: skip
"""Of families of generic netlink, the commands that ask for one thing: MPTCP_PM_CMD_GET_*, ETHTOOL_MSG_*_GET
(include/uapi/linux/mptcp.h, ethtool_netlink.h)."""
_NEEDING = {
    (NETLINK_NETFILTER, _CONNTRACK): conntrack.CONNECTIONS,
    (NETLINK_NETFILTER, _EXPECT): conntrack.EXPECTATIONS,
    (NETLINK_XFRM, 0): xfrm.STATES,
}


def only_asks(protocol: int, message: bytes, families: Callable[[], Mapping[int, bytes]]) -> bool:
    """Whether a message consists of requests that change nothing. Of protocols that are not known here no
    request is known to do so. `families` gives the names of the families of generic netlink: of those, a
    request for all of a kind asks, and so do the commands that are known to."""
    at = 0
    while at + _HEADER_SIZE <= len(message):
        size, kind, flags = _HEADER.unpack_from(message, at)
        if protocol == NETLINK_GENERIC and kind != GENL_ID_CTRL:
            command = message[at + _HEADER_SIZE : at + _HEADER_SIZE + 1]
            asks = flags & _DUMP == _DUMP or set(command) <= _GENERIC_GETS.get(
                families().get(kind, b""), set()
            )
        else:
            asks = _asks(protocol, kind)
        if not asks:
            return False
        if size < _HEADER_SIZE:
            break
        at += (size + 3) & ~3
    return True


def _asks(protocol: int, kind: int) -> bool:
    if protocol == NETLINK_ROUTE:
        return kind < _FIRST_RTM or kind & 3 == _RTM_GET
    if protocol == NETLINK_SOCK_DIAG:
        return kind != _SOCK_DESTROY
    if protocol == NETLINK_XFRM:
        return kind in _XFRM_GETS
    if protocol == NETLINK_NETFILTER:
        return kind & 0xFF in _NETFILTER_GETS.get(kind >> 8, ())
    if protocol == NETLINK_AUDIT:
        return kind in _AUDIT_GETS
    return protocol == NETLINK_GENERIC


def needed_for(protocol: int, message: bytes) -> NetlinkRequest | None:
    """A request whose modules answer a message, too; None if it needs none that may be missing."""
    if len(message) < _HEADER_SIZE:
        return None
    _size, kind, _flags = _HEADER.unpack_from(message)
    return _NEEDING.get((protocol, kind >> 8))
