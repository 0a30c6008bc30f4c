"""Tracked connections, and those that are expected, as ctnetlink answers them
(include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h; Linux 5.10 to 7.2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attributes
from hybridbridge_vol.netlink.nftables.protocol_numbers import PROTOCOLS
from hybridbridge_vol.netlink.requests import NETLINK_NETFILTER, NetlinkRequest
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

_CONNTRACK, _EXPECT = 1 << 8, 2 << 8
NEW_CONNECTION, NEW_EXPECTATION = _CONNTRACK, _EXPECT
_MODULES = ("nfnetlink", "nf_conntrack_netlink")
CONNECTIONS = NetlinkRequest(
    "conntrack", NETLINK_NETFILTER, _CONNTRACK | 1, bytes(4), _MODULES, "nf_conntrack", "nf_conntrack_in"
)
EXPECTATIONS = NetlinkRequest(
    "conntrack expect", NETLINK_NETFILTER, _EXPECT | 1, bytes(4), _MODULES, "nf_conntrack", "nf_conntrack_in"
)
TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
_SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
)  # fmt: skip
_DCCP_STATES = (
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID",
)  # fmt: skip
_STATES = {1: TCP_STATES, 2: _DCCP_STATES, 3: _SCTP_STATES}
"""By the kind of CTA_PROTOINFO."""
STATUS = (
    (1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED"), (16, "SRC_NAT"), (32, "DST_NAT"),
    (64, "SEQ_ADJUST"), (128, "SRC_NAT_DONE"), (256, "DST_NAT_DONE"), (512, "DYING"), (1024, "FIXED_TIMEOUT"),
    (2048, "TEMPLATE"), (4096, "UNTRACKED"), (8192, "HELPER"), (16384, "OFFLOAD"), (32768, "HW_OFFLOAD"),
)  # fmt: skip
"""IPS_*."""
SEEN_REPLY, ASSURED = 2, 4


class Tuple(NamedTuple):
    """One direction of a connection. Ports are None where the protocol has none; of ICMP there are an id, a
    type and a code instead."""

    source: str
    destination: str
    protocol: int
    source_port: int | None
    destination_port: int | None
    icmp: tuple[int, int, int] | None
    zone: int | None

    @property
    def protocol_name(self) -> str:
        return {58: "icmpv6"}.get(self.protocol, PROTOCOLS.get(self.protocol, "unknown"))


class Connection(NamedTuple):
    """`timeout` in seconds; `start_ns`, `stop_ns` in nanoseconds since the epoch; counters are packets and
    bytes, None where none are kept."""

    family: int
    original: Tuple
    reply: Tuple
    status: int
    state: str | None
    timeout: int | None
    mark: int | None
    sent: tuple[int, int] | None
    received: tuple[int, int] | None
    zone: int | None
    id: int
    use: int | None
    helper: str | None
    secctx: str | None
    start_ns: int | None
    stop_ns: int | None
    labels: str | None
    master: Tuple | None


class Expectation(NamedTuple):
    """A connection that a helper waits for; `mask` says which parts of `expected` count."""

    family: int
    expected: Tuple
    mask: Tuple
    master: Tuple
    timeout: int | None
    id: int
    flags: int
    kind: int
    zone: int | None
    helper: str | None
    function: str | None


def _number(found: dict[int, bytes], kind: int) -> int | None:
    return int.from_bytes(found[kind], "big") if kind in found else None


def _address(found: dict[int, bytes], four: int, six: int) -> str:
    data = found.get(four) or found.get(six) or b""
    return address_text(data) if len(data) in (4, 16) else "?"


def parse_tuple(data: bytes) -> Tuple:
    """CTA_TUPLE_*."""
    found = attributes(data)
    address, protocol = attributes(found.get(1, b"")), attributes(found.get(2, b""))
    at = 7 if 7 in protocol or 8 in protocol else 4
    icmp = None
    if {at, at + 1, at + 2} & protocol.keys():
        kind, code, number = (_number(protocol, each) or 0 for each in (at + 1, at + 2, at))
        icmp = kind, code, number
    return Tuple(
        _address(address, 1, 3), _address(address, 2, 4), _number(protocol, 1) or 0, _number(protocol, 2),
        _number(protocol, 3), icmp, _number(found, 3),
    )  # fmt: skip


def _counters(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    found = attributes(data)
    return _number(found, 1) or _number(found, 3) or 0, _number(found, 2) or _number(found, 4) or 0


def _state(data: bytes | None) -> str | None:
    for kind, content in attributes(data or b"").items():
        number = _number(attributes(content), 1)
        names = _STATES.get(kind, ())
        if number is not None:
            return names[number] if number < len(names) else str(number)
    return None


def _string(data: bytes | None) -> str | None:
    return None if data is None else text(data.split(b"\0")[0])


def parse_connection(body: bytes) -> Connection:
    """Raises struct.error."""
    found = attributes(body[4:])
    if not body or not {1, 2} <= found.keys():
        raise struct.error("a connection without its ends")
    times = attributes(found.get(20, b""))
    labels = found.get(22)
    return Connection(
        body[0], parse_tuple(found[1]), parse_tuple(found[2]), _number(found, 3) or 0, _state(found.get(4)),
        _number(found, 7), _number(found, 8), _counters(found.get(9)), _counters(found.get(10)),
        _number(found, 18), _number(found, 12) or 0, _number(found, 11),
        _string(attributes(found.get(5, b"")).get(1)), _string(attributes(found.get(19, b"")).get(1)),
        _number(times, 1), _number(times, 2), None if labels is None or not any(labels) else labels.hex(),
        parse_tuple(found[14]) if 14 in found else None,
    )  # fmt: skip


def parse_expectation(body: bytes) -> Expectation:
    """Raises struct.error."""
    found = attributes(body[4:])
    if not body or not {1, 2, 3} <= found.keys():
        raise struct.error("an expectation without its ends")
    return Expectation(
        body[0], parse_tuple(found[2]), parse_tuple(found[3]), parse_tuple(found[1]), _number(found, 4),
        _number(found, 5) or 0, _number(found, 8) or 0, _number(found, 9) or 0, _number(found, 7),
        _string(found.get(6)), _string(found.get(11)),
    )  # fmt: skip
