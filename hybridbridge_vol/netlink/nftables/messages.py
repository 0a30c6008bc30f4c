"""Requests and answers of nf_tables (include/uapi/linux/netfilter/nf_tables.h, Linux 5.10 to 7.2).

A message begins with struct nfgenmsg: family, version, resource id. Numbers in attributes are big-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.netlink.messages import attribute_list, attributes
from hybridbridge_vol.netlink.requests import NETLINK_NETFILTER, NetlinkRequest
from hybridbridge_vol.procfs.pid import text

_SUBSYSTEM = 10 << 8
NEWTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWOBJ, NEWFLOWTABLE = (
    _SUBSYSTEM | number for number in (0, 3, 6, 9, 12, 18, 22)
)
_GETTABLE, _GETCHAIN, _GETRULE, _GETSET, _GETSETELEM, _GETOBJ, _GETFLOWTABLE = (
    _SUBSYSTEM | number for number in (1, 4, 7, 10, 13, 19, 23)
)
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
INET, IP, ARP, NETDEV, BRIDGE, IP6 = 1, 2, 3, 5, 7, 10
"""NFPROTO_*, include/uapi/linux/netfilter.h."""
_NFGENMSG_SIZE = 4
MAX_NESTED = 1 << 16
"""Attributes of one list that are read."""

Attributes = dict[int, bytes]


def _request(name: str, kind: int, body: bytes = bytes(_NFGENMSG_SIZE)) -> NetlinkRequest:
    return NetlinkRequest(
        f"nf_tables {name}", NETLINK_NETFILTER, kind, body, needs="nf_tables", built_in="nft_register_expr"
    )


TABLES = _request("tables", _GETTABLE)
CHAINS = _request("chains", _GETCHAIN)
RULES = _request("rules", _GETRULE)
SETS = _request("sets", _GETSET)
OBJECTS = _request("objects", _GETOBJ)
FLOWTABLES = _request("flowtables", _GETFLOWTABLE)


def elements_of(family: int, table: bytes, name: bytes) -> NetlinkRequest:
    """The request for the elements of a set."""
    body = struct.pack("<BBH", family, 0, 0) + attribute(1, table) + attribute(2, name)
    return _request(f"elements {family} {text(table)} {text(name)}", _GETSETELEM, body)


def attribute(kind: int, data: bytes) -> bytes:
    """A string as an attribute, ended by a NUL."""
    ended = data + b"\0"
    return struct.pack("<HH", 4 + len(ended), kind) + ended + bytes(-len(ended) % 4)


def number(data: bytes | None) -> int:
    """A big-endian number; 0 for an attribute that is not there."""
    return int.from_bytes(data or b"", "big")


def signed(data: bytes | None) -> int:
    """The same with a sign."""
    return int.from_bytes(data or b"", "big", signed=True)


def name(data: bytes | None) -> str:
    """A string as the kernel has it, up to its NUL."""
    return text((data or b"").split(b"\0")[0])


def elements_in(data: bytes | None) -> list[bytes]:
    """The contents of a list (NFTA_LIST_ELEM)."""
    found: list[bytes] = []
    for _kind, content in attribute_list(data or b""):
        if len(found) >= MAX_NESTED:
            break
        found.append(content)
    return found


def user_data(data: bytes | None) -> dict[int, bytes]:
    """What nft keeps for itself: type, length and content, a byte each for the first two
    (libnftnl/udata.h)."""
    found: dict[int, bytes] = {}
    offset, data = 0, data or b""
    while offset + 2 <= len(data) and offset + 2 + data[offset + 1] <= len(data):
        found[data[offset]] = data[offset + 2 : offset + 2 + data[offset + 1]]
        offset += 2 + data[offset + 1]
    return found


def _family(body: bytes) -> int:
    if len(body) < _NFGENMSG_SIZE:
        raise ValueError("no struct nfgenmsg")
    return body[0]


class Expression(NamedTuple):
    """An expression of a rule: its name in the kernel and its attributes by number."""

    kind: str
    data: Attributes


def expressions(data: bytes | None) -> tuple[Expression, ...]:
    """A list of expressions."""
    return tuple(expression(item) for item in elements_in(data))


def expression(data: bytes) -> Expression:
    """One expression (NFTA_EXPR_NAME, NFTA_EXPR_DATA)."""
    found = attributes(data)
    return Expression(name(found.get(1)), attributes(found.get(2, b"")))


class Table(NamedTuple):
    """`flags`: 1 dormant, 2 owned by a process, 4 kept when that ends."""

    family: int
    name: str
    flags: int
    handle: int
    comment: str | None
    owner: int


def parse_table(body: bytes) -> Table:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    return Table(
        _family(body), name(found.get(1)), number(found.get(2)), number(found.get(4)),
        _comment(found.get(6), 0), number(found.get(7)),
    )  # fmt: skip


def _comment(data: bytes | None, kind: int) -> str | None:
    found = user_data(data).get(kind)
    return None if found is None else name(found)


class Chain(NamedTuple):
    """`hook` is None for a chain that only others lead to. `policy`: 0 drop, 1 accept. `counters`: packets
    and bytes, if it counts."""

    family: int
    table: str
    name: str
    handle: int
    hook: int | None
    priority: int
    devices: tuple[str, ...]
    policy: int | None
    kind: str
    flags: int
    counters: tuple[int, int] | None
    comment: str | None


def parse_chain(body: bytes) -> Chain:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    hook = attributes(found[4]) if 4 in found else {}
    devices = [name(hook[3])] if 3 in hook else [name(item) for item in elements_in(hook.get(4))]
    counters = attributes(found[8]) if 8 in found else None
    return Chain(
        _family(body), name(found.get(1)), name(found.get(3)), number(found.get(2)),
        number(hook.get(1)) if hook else None, signed(hook.get(2)), tuple(devices),
        number(found[5]) if 5 in found else None, name(found.get(7)), number(found.get(10)),
        None if counters is None else (number(counters.get(2)), number(counters.get(1))),
        _comment(found.get(12), 0),
    )  # fmt: skip


class Rule(NamedTuple):
    family: int
    table: str
    chain: str
    handle: int
    expressions: tuple[Expression, ...]
    comment: str | None
    is_compatible: bool
    """Made by iptables-nft (NFTA_RULE_COMPAT)."""


def parse_rule(body: bytes) -> Rule:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    return Rule(
        _family(body), name(found.get(1)), name(found.get(2)), number(found.get(3)),
        expressions(found.get(4)),
        _comment(found.get(7), 0), 5 in found,
    )  # fmt: skip


ANONYMOUS, CONSTANT, INTERVAL, MAP, TIMEOUT, EVAL, OBJECT, CONCAT, EXPRESSIONS = (
    0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100,
)  # fmt: skip
"""NFT_SET_*."""


class Set(NamedTuple):
    """`key_type` and `data_type` are nft's numbers of types, 6 bits each where they are joined; lengths in
    bytes, times in milliseconds."""

    family: int
    table: str
    name: str
    handle: int
    flags: int
    key_type: int
    key_size: int
    data_type: int
    data_size: int
    object_type: int
    timeout: int
    gc_interval: int
    size: int
    fields: tuple[int, ...]
    expressions: tuple[Expression, ...]
    user_data: dict[int, bytes]


def parse_set(body: bytes) -> Set:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    description = attributes(found.get(9, b""))
    fields = [number(attributes(item).get(1)) for item in elements_in(description.get(2))]
    made = expressions(found.get(18)) or ((expression(found[17]),) if 17 in found else ())
    return Set(
        _family(body), name(found.get(1)), name(found.get(2)), number(found.get(16)), number(found.get(3)),
        number(found.get(4)), number(found.get(5)), number(found.get(6)), number(found.get(7)),
        number(found.get(15)), number(found.get(11)), number(found.get(12)), number(description.get(1)),
        tuple(fields), made, user_data(found.get(13)),
    )  # fmt: skip


INTERVAL_END, CATCHALL = 1, 2
"""NFT_SET_ELEM_*."""


class Data(NamedTuple):
    """struct nft_data as an attribute: a value, or a verdict with its chain."""

    value: bytes | None
    verdict: int
    chain: str


def parse_data(data: bytes | None) -> Data | None:
    """NFTA_DATA_VALUE or NFTA_DATA_VERDICT; None if there is neither."""
    found = attributes(data or b"")
    if 1 in found:
        return Data(found[1], 0, "")
    if 2 in found:
        verdict = attributes(found[2])
        return Data(None, signed(verdict.get(1)), name(verdict.get(2)))
    return None


class Element(NamedTuple):
    """Times in milliseconds; None where it has none."""

    key: bytes | None
    key_end: bytes | None
    data: Data | None
    object: str | None
    flags: int
    timeout: int | None
    expires: int | None
    expressions: tuple[Expression, ...]
    comment: str | None


def parse_elements(body: bytes) -> list[Element]:
    """The elements in a message (NFTA_SET_ELEM_LIST_ELEMENTS)."""
    found = []
    for item in elements_in(attributes(body[_NFGENMSG_SIZE:]).get(3)):
        one = attributes(item)
        key, end = parse_data(one.get(1)), parse_data(one.get(10))
        made = expressions(one.get(11)) or ((expression(one[7]),) if 7 in one else ())
        found.append(
            Element(
                key.value if key else None, end.value if end else None, parse_data(one.get(2)),
                name(one[9]) if 9 in one else None, number(one.get(3)),
                number(one[4]) if 4 in one else None, number(one[5]) if 5 in one else None, made,
                _comment(one.get(6), 0),
            )
        )  # fmt: skip
    return found


class Object(NamedTuple):
    """A counter, quota, limit, helper ... that has a name: `kind` is NFT_OBJECT_*."""

    family: int
    table: str
    name: str
    kind: int
    handle: int
    data: Attributes
    comment: str | None


def parse_object(body: bytes) -> Object:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    return Object(
        _family(body), name(found.get(1)), name(found.get(2)), number(found.get(3)), number(found.get(6)),
        attributes(found.get(4, b"")), _comment(found.get(8), 0),
    )  # fmt: skip


class Flowtable(NamedTuple):
    """`flags`: 1 offload, 2 counter."""

    family: int
    table: str
    name: str
    handle: int
    hook: int
    priority: int
    devices: tuple[str, ...]
    flags: int


def parse_flowtable(body: bytes) -> Flowtable:
    """Raises ValueError if there is no header."""
    found = attributes(body[_NFGENMSG_SIZE:])
    hook = attributes(found.get(3, b""))
    return Flowtable(
        _family(body), name(found.get(1)), name(found.get(2)), number(found.get(5)), number(hook.get(1)),
        signed(hook.get(2)), tuple(name(item) for item in elements_in(hook.get(3))), number(found.get(7)),
    )  # fmt: skip
