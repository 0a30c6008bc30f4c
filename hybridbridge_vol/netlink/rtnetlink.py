"""The messages of rtnetlink(7): links, addresses, neighbours, routes and rules, in and out of bytes.

Sources: include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h (Linux 5.10
to 6.12).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.netlink.attribute_text import Attributes
from hybridbridge_vol.netlink.messages import attribute_list, attributes
from hybridbridge_vol.netlink.messages import parsed as messages_of
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE = 18, 22, 26, 30, 34
AF_INET, AF_INET6 = 2, 10
IFLA_EXT_MASK = struct.pack("<HHI", 8, 29, 0)


def request_body(kind: int, family: int = 0) -> bytes:
    """The body of a request for all objects of a kind and a family (0: of all families), without
    attributes."""
    return struct.pack("<B", family) + bytes(
        {RTM_GETLINK: 15, RTM_GETADDR: 7, RTM_GETROUTE: 11, RTM_GETNEIGH: 11, RTM_GETRULE: 11}[kind]
    )


def string(data: bytes) -> str:
    """An attribute that is a string ended by NUL."""
    return text(data.split(b"\0")[0])


def number(data: bytes) -> int:
    """An attribute that is a number of any width."""
    return int.from_bytes(data, "little")


def hardware(data: bytes) -> str:
    """A hardware address; one of 4 or 16 bytes is that of a tunnel's end."""
    return address_text(data) if len(data) in (4, 16) else ":".join(f"{byte:02x}" for byte in data)


def proxy_body(family: int) -> bytes:
    """The body of a request for the neighbours of a family that the machine answers for (struct ndmsg with
    NTF_PROXY)."""
    return struct.pack("<B9xBx", family, 0x08)


class Link(NamedTuple):
    """An interface. What the kernel did not answer is None."""

    ifindex: int
    name: str
    type: int
    """ARPHRD_*."""
    flags: int
    """IFF_*, with the three that /sys does not show: running, lower up, dormant."""
    mtu: int | None
    qdisc: str | None
    state: int | None
    """IF_OPER_*."""
    group: int | None
    queue: int | None
    address: str | None
    broadcast: str | None
    peer: int | None
    """Index of the interface it lies on or is paired with, in `peer_namespace` if that is not None."""
    peer_namespace: int | None
    master: int | None
    counters: tuple[int, ...] | None
    """struct rtnl_link_stats64: packets received and sent, bytes, errors, dropped, multicast, collisions,
    …"""
    alias: str | None = None
    altnames: tuple[str, ...] = ()
    kind: str | None = None
    info: Attributes = ()
    """What the driver says of the link: the attributes of its kind."""
    port_kind: str | None = None
    port_info: Attributes = ()
    """What its master's driver says of it."""
    rest: Attributes = ()
    """All other attributes, without the counters and those of single protocols."""
    address_mode: int | None = None
    """IN6_ADDR_GEN_MODE_*: how IPv6 makes addresses of it (include/uapi/linux/if_link.h)."""


def parse_link(body: bytes) -> Link:
    """RTM_NEWLINK. Raises struct.error."""
    _family, kind, ifindex, flags, _change = struct.unpack_from("<BxHiII", body)
    found = attributes(body[16:])
    stats, info = found.get(23, b""), attributes(found.get(18, b""))

    def maybe(attribute: int, read: Callable[[bytes], T]) -> T | None:
        return read(found[attribute]) if attribute in found else None

    return Link(
        ifindex, string(found.get(3, b"")), kind, flags, maybe(4, number), maybe(6, string),
        maybe(16, number), maybe(27, number), maybe(13, number), maybe(1, hardware), maybe(2, hardware),
        maybe(5, number), maybe(37, number), maybe(10, number),
        struct.unpack(f"<{len(stats) // 8}Q", stats[: len(stats) // 8 * 8]) if len(stats) >= 80 else None,
        maybe(20, string), tuple(string(name) for _kind, name in attribute_list(found.get(52, b""))),
        string(info[1]) if 1 in info else None, tuple(attribute_list(info.get(2, b""))),
        string(info[4]) if 4 in info else None, tuple(attribute_list(info.get(5, b""))),
        tuple(item for item in _rest(body[16:], _LINK_FIELDS) if item != _NO_MAP), _address_mode(found),
    )  # fmt: skip


_LINK_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 10, 13, 16, 18, 20, 23, 26, 27, 37, 52))
"""IFLA_*: what has a field of its own, and IFLA_STATS, which is IFLA_STATS64 in 32 bits. Of IFLA_AF_SPEC, the
settings of protocols (/proc/sys/net), only how IPv6 makes addresses is kept."""
_NO_MAP = (14, bytes(32))
"""IFLA_MAP of a device without memory or ports of its own."""
_IFLA_INET6_ADDR_GEN_MODE = 8


def _address_mode(found: dict[int, bytes]) -> int | None:
    inside = attributes(attributes(found.get(26, b"")).get(AF_INET6, b""))
    mode = inside.get(_IFLA_INET6_ADDR_GEN_MODE)
    return None if mode is None else number(mode)


def _rest(data: bytes, fields: frozenset[int]) -> Attributes:
    """The attributes that have no field of their own."""
    return tuple(item for item in attribute_list(data) if item[0] not in fields)


class Address(NamedTuple):
    """An address of an interface."""

    ifindex: int
    family: int
    address: str
    prefix: int
    peer: str | None
    """The other end of a point-to-point link."""
    broadcast: str | None
    scope: int
    flags: int
    """IFA_F_*."""
    label: str | None
    valid: int | None
    """Seconds that it is valid and preferred; None: for ever."""
    preferred: int | None
    rest: Attributes = ()


FOREVER = 0xFFFFFFFF


def parse_address(body: bytes) -> Address:
    """RTM_NEWADDR. Raises struct.error or ValueError."""
    family, prefix, flags, scope, ifindex = struct.unpack_from("<BBBBI", body)
    found = attributes(body[8:])
    far = address_text(found[1]) if 1 in found else None
    near = address_text(found[2]) if 2 in found else far
    if near is None:
        raise ValueError("no address")
    valid: int | None = None
    preferred: int | None = None
    if len(found.get(6, b"")) >= 8:
        preferred, valid = struct.unpack_from("<II", found[6])
    return Address(
        ifindex, family, near, prefix, far if far != near else None,
        address_text(found[4]) if 4 in found else None, scope, number(found[8]) if 8 in found else flags,
        string(found[3]) if 3 in found else None, None if valid == FOREVER else valid,
        None if preferred == FOREVER else preferred, _rest(body[8:], frozenset((1, 2, 3, 4, 6, 8))),
    )  # fmt: skip


class Neighbour(NamedTuple):
    """A neighbour of IPv4 or IPv6."""

    ifindex: int
    family: int
    address: str
    lladdr: str | None
    state: int
    """NUD_*."""
    flags: int
    """NTF_*."""
    rest: Attributes = ()


def parse_neighbour(body: bytes) -> Neighbour:
    """RTM_NEWNEIGH. Raises struct.error or ValueError."""
    family, ifindex, state, flags, _type = struct.unpack_from("<BxxxiHBB", body)
    found = attributes(body[12:])
    return Neighbour(
        ifindex,
        family,
        address_text(found.get(1, b"")),
        hardware(found[2]) if 2 in found else None,
        state,
        flags,
        _rest(body[12:], frozenset((1, 2))),
    )


class NetRoute(NamedTuple):
    """A route of any table."""

    family: int
    type: int
    """RTN_*: 1 unicast, 2 local, 3 broadcast, 5 multicast, 6 blackhole, …"""
    destination: str | None
    """None: the default route."""
    prefix: int
    source: str | None
    source_prefix: int
    table: int
    protocol: int
    scope: int
    flags: int
    """RTNH_F_* and RTM_F_*."""
    hops: tuple[Hop, ...]
    """Where it leads to; several if it is shared between them."""
    preferred_source: str | None
    metric: int | None
    expires: int | None
    """Seconds; None: never."""
    preference: int | None
    """Of a router, RFC 4191: 0 medium, 1 high, 3 low."""
    tos: int = 0
    error: int = 0
    """An errno, negative, if it leads nowhere."""
    rest: Attributes = ()


class Hop(NamedTuple):
    """A next hop."""

    gateway: str | None
    ifindex: int | None
    flags: int = 0
    weight: int = 1
    rest: Attributes = ()


def parse_net_route(body: bytes) -> NetRoute:
    """RTM_NEWROUTE. Raises struct.error or ValueError."""
    family, prefix, source_prefix, tos, table, protocol, scope, kind, flags = struct.unpack_from(
        "<BBBBBBBBI", body
    )
    found = attributes(body[12:])
    hops = tuple(_hops(found[9])) if 9 in found else ()
    if not hops:
        hops = (Hop(_gateway(found), number(found[4]) if 4 in found else None),)
    expires, error = None, 0
    if len(found.get(12, b"")) >= 16:  # struct rta_cacheinfo
        expires, error = struct.unpack_from("<ii", found[12], 8)
        expires = expires // 100 or None
    return NetRoute(
        family, kind, address_text(found[1]) if 1 in found else None, prefix,
        address_text(found[2]) if 2 in found else None, source_prefix,
        number(found[15]) if 15 in found else table, protocol, scope, flags, hops,
        address_text(found[7]) if 7 in found else None, number(found[6]) if 6 in found else None, expires,
        number(found[20]) if 20 in found else None, tos, error, _rest(body[12:], _ROUTE_FIELDS),
    )  # fmt: skip


_ROUTE_FIELDS = frozenset((1, 2, 4, 5, 6, 7, 9, 12, 15, 18, 20))
"""RTA_*: what has a field of its own."""
FAMILIES = {AF_INET: "inet", AF_INET6: "inet6"}


def _gateway(found: dict[int, bytes]) -> str | None:
    if 18 in found:  # RTA_VIA: of another family, which stands before it
        family = number(found[18][:2])
        return f"{FAMILIES.get(family, family)} {address_text(found[18][2:])}"
    return address_text(found[5]) if 5 in found else None


def _hops(data: bytes) -> Iterator[Hop]:
    """struct rtnexthop, each with attributes of its own."""
    offset = 0
    while offset + 8 <= len(data):
        length, flags, weight, ifindex = struct.unpack_from("<HBBi", data, offset)
        if length < 8 or offset + length > len(data):
            return
        inner = data[offset + 8 : offset + length]
        yield Hop(_gateway(attributes(inner)), ifindex, flags, weight + 1, _rest(inner, _ROUTE_FIELDS))
        offset += length + 3 & ~3


class Rule(NamedTuple):
    """A rule that says which table is looked at."""

    family: int
    priority: int
    source: str | None
    source_prefix: int
    destination: str | None
    destination_prefix: int
    incoming: str | None
    outgoing: str | None
    mark: int | None
    table: int
    action: int
    """FR_ACT_*: 1 look into the table, 6 blackhole, …"""
    flags: int
    """FIB_RULE_*: 2 it holds for what does not match."""
    tos: int = 0
    mask: int | None = None
    """Of the mark: the bits that count."""
    target: int | None = None
    """Of goto: the priority of the rule to go on with."""
    rest: Attributes = ()


def parse_rule(body: bytes) -> Rule:
    """RTM_NEWRULE. Raises struct.error or ValueError."""
    family, to_length, from_length, tos, table, _res1, _res2, action, flags = struct.unpack_from(
        "<BBBBBBBBI", body
    )
    found = attributes(body[12:])
    return Rule(
        family, number(found.get(6, b"")), address_text(found[2]) if 2 in found else None, from_length,
        address_text(found[1]) if 1 in found else None, to_length, string(found[3]) if 3 in found else None,
        string(found[17]) if 17 in found else None, number(found[10]) if 10 in found else None,
        number(found[15]) if 15 in found else table, action, flags, tos,
        number(found[16]) if 16 in found else None, number(found[4]) if 4 in found else None,
        tuple(item for item in _rest(body[12:], _RULE_FIELDS) if item not in _SAYS_NOTHING),
    )  # fmt: skip


_RULE_FIELDS = frozenset((1, 2, 3, 4, 6, 10, 15, 16, 17))
"""FRA_*: what has a field of its own."""
_SAYS_NOTHING = ((13, b"\xff" * 4), (14, b"\xff" * 4), (28, b"\xff" * 2), (29, b"\xff" * 2))
"""FRA_SUPPRESS_IFGROUP and FRA_SUPPRESS_PREFIXLEN of -1: nothing is suppressed; FRA_SPORT_MASK and
FRA_DPORT_MASK: every bit of a port counts."""


T = TypeVar("T")
_ANSWERS: dict[int, int] = {
    kind: kind - 2 for kind in (RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE)
}
"""The kind of the messages that answer a request (RTM_NEW*)."""


def parsed(kind: int, data: bytes, parse: Callable[[bytes], T]) -> Iterator[tuple[T | ParseError, Source]]:
    """What the messages of an answer to a request of `kind` say, or that one makes no sense, and where each
    stands."""
    return messages_of(f"rtnetlink {kind}", (_ANSWERS[kind],), data, parse)
