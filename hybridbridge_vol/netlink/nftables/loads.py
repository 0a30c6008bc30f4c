"""Expressions that put something into a register, by their names in the kernel (net/netfilter/nft_*.c)."""

from __future__ import annotations

from hybridbridge_vol.netlink.nftables.data_types import (
    BOOLEAN,
    BY_NAME,
    HOST_INTEGER,
    INTEGER,
    RAW,
    STRING,
)
from hybridbridge_vol.netlink.nftables.headers import (
    BASES,
    CT,
    LINK,
    META,
    NETWORK,
    RT,
    SOCKET,
    UNQUALIFIED,
    exists_text,
    extension_field,
    field_at,
    field_text,
)
from hybridbridge_vol.netlink.nftables.messages import Attributes, number
from hybridbridge_vol.netlink.nftables.values import Part, size_of

_FIB_FLAGS = ((1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif"))
_FIB_PRESENT = 32
"""NFTA_FIB_F_*."""
_FIB_RESULTS = {
    1: ("oif", BY_NAME["iface_index"]),
    2: ("oifname", BY_NAME["ifname"]),
    3: ("type", BY_NAME["fib_addrtype"]),
}
_TIME = 30
_META_BASES = {1: LINK, 15: LINK, 16: NETWORK, 8: -2}
"""Keys of meta that say which header follows: protocol, nfproto, l4proto, iiftype."""
_XFRM = {
    1: ("daddr", BY_NAME["ipv4_addr"]), 2: ("saddr", BY_NAME["ipv4_addr"]), 3: ("daddr",
    BY_NAME["ipv6_addr"]),
    4: ("saddr", BY_NAME["ipv6_addr"]), 5: ("reqid", HOST_INTEGER), 6: ("spi", HOST_INTEGER),
}  # fmt: skip
_DIRECTION = {0: "original ", 1: "reply "}


def payload_part(data: Attributes, headers: dict[int, str]) -> Part:
    """A field, by the headers that are known; or bits by their place."""
    base, offset, size = number(data.get(2)), number(data.get(3)), number(data.get(4))
    return payload_bits(base, 8 * offset, 8 * size, headers)


def payload_bits(base: int, start: int, bits: int, headers: dict[int, str]) -> Part:
    """The same by bits."""
    header = headers.get(base, "th" if base == 2 else "")
    at = start
    if base == LINK and header == "vlan":
        header, at = ("vlan", start - 112) if start >= 112 else ("ether", start)
    found = field_at(header, at, bits) if header else None
    size = (bits + 7) // 8
    if found is not None:
        return Part(field_text(header, found), found.type, size, header, base, at, bits, "payload")
    layer = BASES[base] if base < len(BASES) else str(base)
    return Part(f"@{layer},{start},{bits}", RAW, size, header, base, at, bits, "payload")


def meta_part(key: int) -> Part:
    """NFTA_META_KEY."""
    name, kind = META.get(key, (f"key-{key}", INTEGER))
    text = name if key in UNQUALIFIED else f"meta {name}"
    size = 8 if key == _TIME else size_of(kind)
    return Part(text, kind, size, base=_META_BASES.get(key, -1), origin="meta", key=key)


def ct_part(data: Attributes) -> Part:
    """NFTA_CT_KEY and NFTA_CT_DIRECTION."""
    key = number(data.get(2))
    name, kind = CT.get(key, (f"key-{key}", INTEGER))
    direction = _DIRECTION.get(number(data[3]), "") if 3 in data else ""
    size = {13: 16, 14: 8, 15: 8, 16: 8, 17: 2, 6: 16}.get(key, size_of(kind))
    return Part(f"ct {direction}{name}", kind, size, origin="ct", key=key)


def exthdr_part(data: Attributes) -> Part:
    """A field of an extension header or TCP option, or whether there is one (NFTA_EXTHDR_*)."""
    kind, offset, size = number(data.get(2)), number(data.get(3)), number(data.get(4))
    flags, operation = number(data.get(5)), number(data.get(6))
    if flags & 1:
        return Part(exists_text(operation, kind), BOOLEAN, 1, origin="exthdr")
    text, type_ = extension_field(operation, kind, 8 * offset, 8 * size)
    return Part(text, type_, size, base=operation, start=8 * offset, bits=8 * size, origin="exthdr", key=kind)


def is_symmetric_hash(data: Attributes) -> bool:
    """NFTA_HASH_TYPE: the kernel's own hash of the packet's ends, of no field."""
    return number(data.get(7)) == 1


def hash_part(data: Attributes, hashed: str | None) -> Part:
    """NFTA_HASH_*, of the text of what is hashed: nft_hash.c stores a number of the machine."""
    text = f"{'symhash' if hashed is None else f'jhash {hashed}'} mod {number(data.get(4))}"
    if hashed is not None and 5 in data:
        text += f" seed 0x{number(data[5]):x}"
    if number(data.get(6)):
        text += f" offset {number(data.get(6))}"
    return Part(text, HOST_INTEGER, 4, origin="hash")


def simple_part(kind: str, data: Attributes) -> Part | None:
    """An expression without more to it; None if it is none of these."""
    maker = _SIMPLE.get(kind)
    return None if maker is None else maker(data)


def _socket(data: Attributes) -> Part:
    key = number(data.get(1))
    name, kind = SOCKET.get(key, (f"key-{key}", INTEGER))
    level = f" level {number(data[3])}" if 3 in data else ""
    size = {0: 1, 2: 1, 3: 8}.get(key, 4)
    return Part(f"socket {name}{level}", kind, size, origin="socket")


def _rt(data: Attributes) -> Part:
    name, kind = RT.get(number(data.get(2)), ("?", INTEGER))
    return Part(f"rt {name}", kind, {"integer": 2, "boolean": 1}.get(kind.name, size_of(kind)), origin="rt")


def _fib(data: Attributes) -> Part:
    result, flags = number(data.get(2)), number(data.get(3))
    keys = " . ".join(name for bit, name in _FIB_FLAGS if flags & bit)
    name, kind = _FIB_RESULTS.get(result, (str(result), INTEGER))
    if flags & _FIB_PRESENT:
        kind = BOOLEAN
    return Part(f"fib {keys} {name}", kind, 16 if kind.name == "ifname" else size_of(kind), origin="fib")


def _numgen(data: Attributes) -> Part:
    word = {0: "inc", 1: "random"}.get(number(data.get(3)), "?")
    offset = f" offset {number(data[4])}" if number(data.get(4)) else ""
    return Part(f"numgen {word} mod {number(data.get(2))}{offset}", HOST_INTEGER, 4, origin="numgen")


def _osf(data: Attributes) -> Part:
    ttl = {0: "", 1: "ttl loose ", 2: "ttl skip "}.get(number(data.get(2)), "")
    what = "version" if number(data.get(3)) & 1 else "name"
    return Part(f"osf {ttl}{what}", STRING, 16, origin="osf")


def _xfrm(data: Attributes) -> Part:
    direction = {0: "in", 1: "out"}.get(number(data.get(3)), "?")
    name, kind = _XFRM.get(number(data.get(2)), ("?", INTEGER))
    spot = f" spnum {number(data[4])}" if number(data.get(4)) else ""
    family = {"ipv4_addr": "ip ", "ipv6_addr": "ip6 "}.get(kind.name, "")
    return Part(f"ipsec {direction}{spot} {family}{name}", kind, size_of(kind), origin="xfrm")


def _tunnel(data: Attributes) -> Part:
    word, kind = {0: ("path", BOOLEAN), 1: ("id", INTEGER)}.get(number(data.get(1)), ("?", INTEGER))
    return Part(f"tunnel {word}", kind, size_of(kind), origin="tunnel")


_SIMPLE = {
    "socket": _socket, "rt": _rt, "fib": _fib, "numgen": _numgen, "osf": _osf, "xfrm": _xfrm,
    "tunnel": _tunnel,
}  # fmt: skip
_REGISTERS = {
    "payload": (1, 5), "meta": (1, 3), "ct": (1, 4), "exthdr": (1, 7), "socket": (2, 0), "rt": (1, 0),
    "fib": (1, 0),
    "numgen": (1, 0), "osf": (1, 0), "xfrm": (1, 0), "tunnel": (2, 0), "immediate": (1, 0), "hash": (2, 0),
    "bitwise": (2, 0), "byteorder": (2, 0), "lookup": (3, 0),
}  # fmt: skip


def target_register(kind: str, data: Attributes) -> int | None:
    """The register that an expression fills, if it fills one."""
    attribute = _REGISTERS.get(kind, (0, 0))[0]
    return number(data[attribute]) if attribute in data else None


def source_register(kind: str, data: Attributes) -> int | None:
    """The register that an expression stores somewhere, if it does."""
    attribute = _REGISTERS.get(kind, (0, 0))[1]
    return number(data[attribute]) if attribute and attribute in data else None
